"""What lets a client resume: RFC 5246 section 7.3, RFC 5077."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from .._native import CData, ffi, lib
from . import certificates
from .arguments import exactly

if TYPE_CHECKING:
    from .context import DTLSContext

__all__ = ["DTLSSession"]

RULES = 32  # bytes that stand for how the peer was verified


class DTLSSession:
    """A session that a later connection of the same context may resume; after `ssl.SSLSession`.

    It is had from `Connection.session`, or from the bytes of one. Whoever holds it can take over the identity it was
    made with, and decrypt what was sent under it.
    """

    __slots__ = ("_context", "_rules", "_server_hostname", "_session")

    def __init__(self, session: CData, context: object | None, server_hostname: str | None, rules: bytes) -> None:
        self._session = ffi.gc(session, lib.SSL_SESSION_free)
        self._context = context
        self._server_hostname = server_hostname
        self._rules = rules

    def __eq__(self, other: object) -> bool:
        """Whether both are the same session, by their id."""
        return isinstance(other, DTLSSession) and self.id == other.id

    def __reduce__(self) -> NoReturn:
        """Neither be pickled nor copied: `to_bytes` is for those who mean it."""
        raise TypeError(f"cannot pickle {type(self).__name__!r} object: to_bytes() makes bytes of it")

    def __hash__(self) -> int:
        """Hash the id."""
        return hash(self.id)

    @property
    def id(self) -> bytes:
        """The session's id; with a ticket, one the client made up."""
        length = ffi.new("unsigned int *")
        data = lib.SSL_SESSION_get_id(self._session, length)
        return bytes(ffi.buffer(data, length[0]))

    @property
    def time(self) -> int:
        """When it began, in seconds since 1970."""
        return int(lib.SSL_SESSION_get_time(self._session))

    @property
    def timeout(self) -> int:
        """How long it is good for, in seconds."""
        return int(lib.SSL_SESSION_get_timeout(self._session))

    @property
    def ticket_lifetime_hint(self) -> int:
        """How long the server means to honour its ticket, in seconds; 0 if it does not say."""
        return int(lib.SSL_SESSION_get_ticket_lifetime_hint(self._session))

    @property
    def has_ticket(self) -> bool:
        """Whether the server gave a ticket: RFC 5077."""
        return bool(lib.SSL_SESSION_has_ticket(self._session))

    def to_bytes(self) -> bytes:
        """The session as DER, for another process or a later one: i2d_SSL_SESSION(3). Keep it as secret as a key."""
        copy = ffi.gc(copied(self._session), lib.SSL_SESSION_free)
        name = b"" if self._server_hostname is None else self._server_hostname.encode("ascii")
        if lib.SSL_SESSION_set1_ticket_appdata(copy, self._rules + name, len(self._rules + name)) != 1:
            raise MemoryError
        return certificates.der(lib.i2d_SSL_SESSION, copy, "a session")

    @classmethod
    def from_bytes(cls, data: bytes) -> DTLSSession:
        """The session that `to_bytes` made bytes of; ValueError where it is none.

        It can be resumed for the same host, with a context whose rules of verification are those it was made under.
        """
        exact = exactly(data, "data")
        lib.ERR_clear_error()
        begin = ffi.from_buffer(exact)
        rest = ffi.new("const unsigned char **", begin)
        session = lib.d2i_SSL_SESSION(ffi.NULL, rest, len(exact))
        lib.ERR_clear_error()
        if session == ffi.NULL:
            raise ValueError("data is no session of DTLS: it takes what DTLSSession.to_bytes() gave")
        made = cls(session, None, None, b"")
        if rest[0] != ffi.cast("const unsigned char *", begin) + len(exact):
            raise ValueError("data is more than a session: it takes what DTLSSession.to_bytes() gave")
        if lib.SSL_SESSION_get_protocol_version(session) >> 8 != 0xFE:
            raise ValueError("data is a session of TLS, not of DTLS")
        kept, length = ffi.new("void **"), ffi.new("size_t *")
        if lib.SSL_SESSION_get0_ticket_appdata(session, kept, length) == 1:
            appdata = ffi.buffer(kept[0], length[0])[:]
            made._rules, name = appdata[:RULES], appdata[RULES:]
            made._server_hostname = name.decode("ascii", "backslashreplace") or None
        return made

    def _check(self, context: DTLSContext, name: str | None, rules: bytes) -> None:
        """Raises ValueError where it cannot be resumed with `context` for a host: by ssl's rules, and by its name."""
        if self._rules != rules:
            raise ValueError(
                "the session was made under other rules of verification (verify_mode, authorities, flags, pins), "
                "and would bypass these"
            )
        if context.check_hostname and self._server_hostname != name:
            raise ValueError(f"session was made with {self._server_hostname!r}, not with {name!r}")


def copied(session: CData) -> CData:
    """A session of its own: OpenSSL links the one it has into its context's cache, and unlinks it from no other."""
    copy = lib.SSL_SESSION_dup(session)
    if copy == ffi.NULL:
        raise MemoryError
    return copy
