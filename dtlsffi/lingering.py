"""How a DTLSSocket waits: for its socket, for the retransmission timer, for its deadline."""

from __future__ import annotations

import errno
import select
from collections.abc import Callable
from typing import TypeVar

from .core.connection import Connection
from .core.errors import DTLSWantReadError, DTLSWantWriteError, DTLSZeroReturnError, make
from .waiting import Deadline, milliseconds, poll, shorter

LULLS = 8  # calls that wait before they look, once one has looked in vain
T = TypeVar("T")


class Lingering:
    """The part of a `DTLSSocket` that knows its descriptor."""

    _connection: Connection
    _ended: bool  # shutdown() has stopped us from receiving
    _waiting: int  # threads in poll()
    _lulls: int  # calls that are to wait before they look
    _pollers: list[select.poll]
    fileno: Callable[[], int]

    def _check_open(self) -> None:
        if self.fileno() < 0:
            raise OSError(errno.EBADF, "this DTLSSocket is closed")

    def _wait(self, events: int, deadline: Deadline) -> None:
        """Waits for the socket, the timer or the deadline, and moves the timer on; TimeoutError after the deadline."""
        timer = Deadline(self._connection.get_timer())
        self._waiting += 1
        try:
            ready = poll({self.fileno(): events}, shorter(deadline.left(), timer.left()))
        finally:
            self._waiting -= 1
        self._check_open()
        if timer.is_over():
            self._connection.handle_timer()
        if not ready and deadline.is_over():
            raise TimeoutError(errno.ETIMEDOUT, f"timed out after {deadline.timeout} s")

    def _retry(self, operation: Callable[[], T], deadline: Deadline) -> T:
        """Calls `operation` until it needs to wait no more."""
        while True:
            self._check_open()
            try:
                return operation()
            except DTLSWantReadError:
                events = select.POLLIN
                if self._ended:
                    raise make(DTLSZeroReturnError, "PROTOCOL_IS_SHUTDOWN", "shutdown() was called") from None
                if deadline.timeout == 0:
                    raise
            except DTLSWantWriteError:
                events = select.POLLOUT
                if deadline.timeout == 0:
                    raise
            self._wait(events, deadline)

    def _quick_read(self, deadline: Deadline, limit: int) -> bytes | None:
        """A record, where there is no timer to be minded; None where one has to wait longer for it.

        Where calls have had to wait of late, they do so first: to look in vain costs more than to wait for nothing.
        """
        if self._lulls and deadline.timeout != 0:
            self._lulls -= 1
            self._wait_quickly(deadline)
        data = self._connection.try_read(limit)
        if data is None:
            self._lulls = LULLS
        return data

    def _wait_quickly(self, deadline: Deadline) -> None:
        try:
            poller = self._pollers.pop()
        except IndexError:
            poller = select.poll()
            poller.register(self.fileno(), select.POLLIN)
        self._waiting += 1
        try:
            poller.poll(milliseconds(deadline.left()))
        finally:
            self._waiting -= 1
            self._pollers.append(poller)
