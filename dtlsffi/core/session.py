"""What lets a client resume: RFC 5246 section 7.3, RFC 5077."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._native import CData, ffi, lib
from . import certificates
from .arguments import host

if TYPE_CHECKING:
    from .context import DTLSContext

__all__ = ["DTLSSession"]


class DTLSSession:
    """A session that a later connection of the same context may resume; after `ssl.SSLSession`.

    It is had from `Connection.session`, or from the bytes of one. Whoever holds it can take over the identity it was
    made with, and decrypt what was sent under it.
    """

    __slots__ = ("_context", "_server_hostname", "_session")

    def __init__(self, session: CData, context: object | None, server_hostname: str | None) -> None:
        self._session = ffi.gc(session, lib.SSL_SESSION_free)
        self._context = context
        self._server_hostname = server_hostname

    def __eq__(self, other: object) -> bool:
        """Whether both are the same session, by their id."""
        return isinstance(other, DTLSSession) and self.id == other.id

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
        return certificates.der(lib.i2d_SSL_SESSION, self._session, "a session")

    @classmethod
    def from_bytes(cls, data: bytes) -> DTLSSession:
        """The session that `to_bytes` made bytes of; ValueError where it is none.

        Any context of clients may resume it, if the certificate in it would do for that context and host: take it
        from a trustworthy place only.
        """
        lib.ERR_clear_error()
        session = lib.d2i_SSL_SESSION(ffi.NULL, ffi.new("const unsigned char **", ffi.from_buffer(data)), len(data))
        lib.ERR_clear_error()
        if session == ffi.NULL:
            raise ValueError("data is no session of DTLS: it takes what DTLSSession.to_bytes() gave")
        if lib.SSL_SESSION_get_protocol_version(session) >> 8 != 0xFE:
            lib.SSL_SESSION_free(session)
            raise ValueError("data is a session of TLS, not of DTLS")
        return cls(session, None, None)

    def _fits(self, context: DTLSContext, name: str | None) -> str | None:
        """Why it cannot be resumed with `context` for the host `name`, or None if it can: ssl's rules, and the host."""
        if self._context is not None and self._context is not context:
            return "Session refers to a different DTLSContext."
        if not context.check_hostname or name is None:
            return None
        made_for = self._server_hostname
        if self._context is None:
            stored = lib.SSL_SESSION_get0_hostname(self._session)
            made_for = None if stored == ffi.NULL else ffi.string(stored).decode("ascii", "backslashreplace")
            if made_for is None and self._is_for(context, name):
                return None
        return None if made_for == name else f"session was made with {made_for!r}, not with {name!r}"

    def _is_for(self, context: DTLSContext, name: str) -> bool:
        """Whether the server's certificate in it is for `name`; also where there was none to check (PSK)."""
        x509 = lib.SSL_SESSION_get0_peer(self._session)
        if x509 == ffi.NULL:
            return True
        text, is_address = host(name)
        encoded = text.encode("ascii")
        if is_address:
            return bool(lib.X509_check_ip_asc(x509, encoded, 0) == 1)
        return bool(lib.X509_check_host(x509, encoded, 0, context._host_flags(), ffi.NULL) == 1)
