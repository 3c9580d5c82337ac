"""How a DTLSSocket waits: for its socket, for the retransmission timer, for its deadline."""

from __future__ import annotations

import errno
import select
from collections.abc import Callable
from typing import TypeVar

from .core.connection import Connection
from .core.errors import DTLSWantReadError, DTLSWantWriteError, DTLSZeroReturnError, make
from .waiting import Deadline, poll, shorter

T = TypeVar("T")


class Lingering:
    """The part of a `DTLSSocket` that knows its descriptor."""

    _connection: Connection
    _ended: bool  # shutdown() has stopped us from receiving
    _left: bool  # close(), unwrap() or detach() has begun
    _waiting: list[None]  # one for each thread that polls the socket: a list is safe where a number is not
    _timeout: float | None
    fileno: Callable[[], int]

    def _check_open(self) -> None:
        if self._left or self.fileno() < 0:
            raise OSError(errno.EBADF, "this DTLSSocket is closed")

    def _wait(self, events: int, deadline: Deadline) -> None:
        """Waits for the socket, the timer or the deadline, and moves the timer on; TimeoutError after the deadline."""
        timer = Deadline(self._connection.get_timer())
        self._waiting.append(None)
        try:
            descriptor = self.fileno()  # another thread may close it
            ready = poll({descriptor: events}, shorter(deadline.left(), timer.left())) if descriptor >= 0 else None
        finally:
            self._waiting.pop()
        self._check_open()
        if timer.is_over():
            try:
                self._connection.handle_timer()
            except ConnectionRefusedError:
                if not ready:  # else what had come before, which may be all that is missing, is looked at first
                    raise
        if not ready and deadline.is_over():
            raise deadline.timed_out()

    def _retry(self, operation: Callable[[], T], deadline: Deadline) -> T:
        """Calls `operation` until it needs to wait no more."""
        while True:
            self._check_open()
            late = deadline.is_over()
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
            if late:  # what has come by then has been looked for; others may keep the socket ready, and empty
                raise deadline.timed_out()
            self._wait(events, deadline)
