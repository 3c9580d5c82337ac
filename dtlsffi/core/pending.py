"""Handshakes that are not finished: how many there may be, whose they are, and who has to make room."""

from __future__ import annotations

from operator import itemgetter

from .endpoint_connection import EndpointConnection

UNPROVEN_TIMEOUT = 3.0
"""Seconds in which a client whose ClientHello comes in fragments has to prove its address."""


class Pending:
    """Clients that are shaking hands, in the order in which they came; half of the room is for proven addresses.

    Where there is no room, those make some who have not proved their addresses, the oldest first; then the oldest of
    the host that has the most, if that has more than the newcomer's own. Our own handshakes with servers only count.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._proven: dict[EndpointConnection, None] = {}
        self._unproven: dict[EndpointConnection, None] = {}
        self._ours: set[EndpointConnection] = set()
        self._by_host: dict[bytes, int] = {}  # of those that are proven

    def __len__(self) -> int:
        """All of them."""
        return len(self._proven) + len(self._unproven) + len(self._ours)

    def __contains__(self, connection: EndpointConnection) -> bool:
        """Whether it is one of them."""
        return connection in self._proven or connection in self._unproven or connection in self._ours

    def add(self, connection: EndpointConnection, *, proven: bool) -> None:
        """One that begins."""
        if not connection._server_side:
            self._ours.add(connection)
        elif proven:
            self._proven[connection] = None
            where = host(connection)
            self._by_host[where] = self._by_host.get(where, 0) + 1
        else:
            self._unproven[connection] = None

    def discard(self, connection: EndpointConnection) -> None:
        """One that has finished, or failed."""
        if not connection._server_side:
            self._ours.discard(connection)
        elif connection in self._proven:
            del self._proven[connection]
            where = host(connection)
            left = self._by_host.pop(where) - 1
            if left:
                self._by_host[where] = left
        else:
            self._unproven.pop(connection, None)

    def is_unproven(self, connection: EndpointConnection) -> bool:
        """Whether it may be anybody's."""
        return connection in self._unproven

    def prove(self, connection: EndpointConnection) -> None:
        """It has shown a cookie."""
        self.discard(connection)
        self.add(connection, proven=True)

    def has_room(self, *, proven: bool) -> bool:
        """Whether one more may begin as things are."""
        whole = len(self._proven) + len(self._unproven)
        return whole < self._most and (proven or len(self._unproven) < max(1, self._most // 2))

    def who_makes_room(self, newcomer: bytes, *, proven: bool) -> EndpointConnection | None:
        """Who has to go where there is no room for one more of the host `newcomer`; None: nobody does."""
        if self._unproven:
            return next(iter(self._unproven))
        if not proven or not self._by_host:
            return None
        greedy, count = max(self._by_host.items(), key=itemgetter(1))
        if count <= self._by_host.get(newcomer, 0) + 1:
            return None
        return next(connection for connection in self._proven if host(connection) == greedy)


def host(connection: EndpointConnection) -> bytes:
    """What counts as one host."""
    return host_of(connection._key)


def host_of(key: bytes) -> bytes:
    """An IPv4 address, or the half of an IPv6 address that names a network: of the other half one has many."""
    return key[:8]  # of an IPv4 address the first four, and zeros
