"""How a blocking call waits: the caller's deadline and the retransmission timer meet, and the nearer one counts."""

from __future__ import annotations

import errno
import math
import select
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from .core.arguments import NUMBERS, check_is

if TYPE_CHECKING:
    from typing_extensions import Self


class Deadline:
    """When a call has to be over, by the monotonic clock; it has begun now, or at `begin`."""

    __slots__ = ("_end", "timeout")

    def __init__(self, timeout: float | None, begin: float | None = None) -> None:
        self.timeout = timeout
        self._end = None if timeout is None else (time.monotonic() if begin is None else begin) + timeout

    def left(self) -> float | None:
        """Seconds left, at least 0, or None for ever."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self._end is not None and time.monotonic() >= self._end

    def timed_out(self) -> TimeoutError:
        """What a call raises that has waited until then."""
        return TimeoutError(errno.ETIMEDOUT, f"timed out after {self.timeout} s")


def shorter(*durations: float | None) -> float | None:
    """The shortest of some durations, where None is for ever."""
    finite = [duration for duration in durations if duration is not None]
    return min(finite) if finite else None


def new_poller() -> select.poll:
    """What waits for descriptors; RuntimeError where somebody has taken it away."""
    if not hasattr(select, "poll"):
        raise RuntimeError(
            "select.poll was taken away (by eventlet?): without it there are Endpoint and Connection only"
        )
    return select.poll()


def poll(waiting: dict[int, int], duration: float | None) -> set[int]:
    """Waits until one of the descriptors is ready for its events; returns those that are."""
    poller = new_poller()
    for descriptor, events in waiting.items():
        poller.register(descriptor, events)
    return {descriptor for descriptor, _ in poller.poll(milliseconds(duration))}


def milliseconds(duration: float | None) -> int | None:
    """Seconds as poll(2) takes them, an hour at the most, since it cannot count to a month.

    Rounded up: a timer that is polled a little early is polled again and again.
    """
    return None if duration is None else min(math.ceil(duration * 1000), 3_600_000)


class Patience:
    """The methods that every socket has: how long calls wait, and what `with` does."""

    _timeout: float | None = None
    close: Callable[[], None]

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __reduce__(self) -> NoReturn:
        """Neither be pickled nor copied, as sockets are not."""
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    @property
    def timeout(self) -> float | None:
        """`gettimeout()`."""
        return self._timeout

    def gettimeout(self) -> float | None:
        """The timeout in seconds, None to block for ever, 0.0 not to block."""
        return self._timeout

    def settimeout(self, value: float | None) -> None:
        """Sets the timeout of each call in seconds; None blocks for ever, 0 never. ValueError for a negative one."""
        if value is not None:
            check_is(value, NUMBERS, "a timeout is a number of seconds or None")
            value = float(value)
            if not value >= 0:
                raise ValueError(f"Timeout value out of range: {value} (seconds, at least 0)")
            if value > threading.TIMEOUT_MAX:
                raise OverflowError(f"timeout value is too large: {value} seconds; None is for ever")
        self._timeout = value

    def setblocking(self, flag: bool) -> None:
        """`settimeout(None)` or `settimeout(0)`."""
        self._timeout = None if flag else 0.0

    def getblocking(self) -> bool:
        """Whether calls may wait."""
        return self._timeout != 0
