"""When something has to be done about which connection."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator

from .endpoint_connection import NEVER, EndpointConnection


class Schedule:
    """Connections by the time of their next timer. Who is looked at too early is put in again by whoever looks."""

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, EndpointConnection]] = []
        """What there is, the earliest first: nothing is to be done before that, and perhaps not then."""
        self._number = itertools.count()

    def sweep(self, living: int) -> None:
        """Lets go of those who have gone, once what they have left is much more than what `living` ones need."""
        if len(self.heap) > 4 * living + 64:
            self.heap = [entry for entry in self.heap if entry[0] == entry[2]._due and not entry[2].gone]
            heapq.heapify(self.heap)

    def add(self, connection: EndpointConnection, when: float) -> None:
        """Sees that a connection is looked at by then; nothing where it will be looked at earlier."""
        if when < connection._due:
            connection._due = when
            heapq.heappush(self.heap, (when, next(self._number), connection))

    def _pop(self) -> EndpointConnection | None:
        """Takes the first one off: the connection that it is for, if it still is."""
        when, _, connection = heapq.heappop(self.heap)
        if when != connection._due:
            return None
        connection._due = NEVER
        return None if connection.gone else connection

    def first(self) -> float:
        """The next time; NEVER if there is none."""
        while self.heap:
            when, _, connection = self.heap[0]
            if when == connection._due and not connection.gone:
                return when
            self._pop()
        return NEVER

    def due(self, now: float) -> Iterator[EndpointConnection]:
        """Takes those whose time has come."""
        while self.heap and self.heap[0][0] <= now:
            connection = self._pop()
            if connection is not None:
                yield connection
