"""What lets a client resume: RFC 5246 section 7.3, RFC 5077."""

from __future__ import annotations

from .._native import CData, ffi, lib

__all__ = ["DTLSSession"]


class DTLSSession:
    """A session that a later connection of the same context may resume; after `ssl.SSLSession`.

    It is had from `Connection.session`, never made. Whoever holds it can take over the identity it was made with.
    """

    __slots__ = ("_context", "_server_hostname", "_session")

    def __init__(self, session: CData, context: object, server_hostname: str | None) -> None:
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
