"""Handshakes that are not finished: how many there may be, whose they are, and who has to make room."""

from __future__ import annotations

from operator import itemgetter

from .endpoint_connection import EndpointConnection


class Pending:
    """Clients that are shaking hands, in the order in which they came.

    Where there is no room, the oldest of the host that has the most makes some, if that has more than the newcomer's
    own. Our own handshakes with servers only count.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._theirs: dict[EndpointConnection, None] = {}
        self._ours: set[EndpointConnection] = set()
        self._by_host: dict[bytes, int] = {}

    def __len__(self) -> int:
        """All of them."""
        return len(self._theirs) + len(self._ours)

    def add(self, connection: EndpointConnection) -> None:
        """One that begins."""
        if connection._server_side:
            self._theirs[connection] = None
            where = host(connection)
            self._by_host[where] = self._by_host.get(where, 0) + 1
        else:
            self._ours.add(connection)

    def discard(self, connection: EndpointConnection) -> None:
        """One that has finished, or failed."""
        if not connection._server_side:
            self._ours.discard(connection)
        elif connection in self._theirs:
            del self._theirs[connection]
            where = host(connection)
            left = self._by_host.pop(where) - 1
            if left:
                self._by_host[where] = left

    def has_room(self) -> bool:
        """Whether one more client may begin as things are."""
        return len(self._theirs) < self._most

    def who_makes_room(self, newcomer: bytes) -> EndpointConnection | None:
        """Who has to go where there is no room for one more of the host `newcomer`; None: nobody does."""
        greedy, count = max(self._by_host.items(), key=itemgetter(1), default=(b"", 0))
        if count <= self._by_host.get(newcomer, 0) + 1:
            return None
        return next(connection for connection in self._theirs if host(connection) == greedy)


def host(connection: EndpointConnection) -> bytes:
    """What counts as one host."""
    return host_of(connection._key)


def host_of(key: bytes) -> bytes:
    """An IPv4 address, or the half of an IPv6 address that names a network: of the other half one has many."""
    return key[:8]  # of an IPv4 address the first four, and zeros
