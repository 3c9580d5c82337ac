"""How a blocking call waits: the caller's deadline and the retransmission timer meet, and the nearer one counts."""

from __future__ import annotations

import math
import select
import time


class Deadline:
    """When a call has to be over, by the monotonic clock."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self._end = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        """Seconds left, at least 0, or None for ever."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self._end is not None and time.monotonic() >= self._end


def shorter(*durations: float | None) -> float | None:
    """The shortest of some durations, where None is for ever."""
    finite = [duration for duration in durations if duration is not None]
    return min(finite) if finite else None


def poll(waiting: dict[int, int], duration: float | None) -> set[int]:
    """Waits until one of the descriptors is ready for its events; returns those that are."""
    poller = select.poll()
    for descriptor, events in waiting.items():
        poller.register(descriptor, events)
    # Rounded up: a timer that is polled a little early is polled again and again.
    milliseconds = None if duration is None else math.ceil(duration * 1000)
    return {descriptor for descriptor, _ in poller.poll(milliseconds)}
