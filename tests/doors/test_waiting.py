"""dtlsffi.waiting."""

from __future__ import annotations

import select
import socket
import time

import pytest

import dtlsffi
from dtlsffi.waiting import Deadline, milliseconds, poll, shorter


def test_a_deadline_counts_down() -> None:
    """To nothing, and no further."""
    deadline = Deadline(0.02)
    assert 0 < (deadline.left() or 0) <= 0.02
    assert not deadline.is_over()
    while not deadline.is_over():
        pass
    assert deadline.left() == 0


def test_a_deadline_counts_from_where_the_call_began() -> None:
    """Where it has done something before it asked for one."""
    assert Deadline(5, time.monotonic() - 5).is_over()
    assert Deadline(None, time.monotonic() - 5).left() is None


def test_durations_as_the_kernel_takes_them() -> None:
    """Rounded up, since 0 is none at all to poll(2), and none too long to be counted."""
    assert [milliseconds(0.0), milliseconds(0.0011), milliseconds(1e9), milliseconds(None)] == [0, 2, 3_600_000, None]


def test_no_deadline_is_for_ever() -> None:
    """None, as a socket's timeout."""
    assert Deadline(None).left() is None
    assert not Deadline(None).is_over()
    assert Deadline(0).is_over()


@pytest.mark.parametrize(
    ("durations", "expected"),
    [((), None), ((None, None), None), ((None, 3.0), 3.0), ((2.0, None, 1.0), 1.0), ((0.0, 1.0), 0.0)],
)
def test_the_shorter_duration_counts(durations: tuple[float | None, ...], expected: float | None) -> None:
    """And None is longer than any."""
    assert shorter(*durations) == expected


def test_poll_tells_who_is_ready() -> None:
    """Within its time, which it does not cut short."""
    left, right = socket.socketpair()
    with left, right:
        begin = time.monotonic()
        assert poll({left.fileno(): select.POLLIN}, 0.0101) == set()
        assert time.monotonic() - begin >= 0.0101
        right.send(b"x")
        assert poll({left.fileno(): select.POLLIN, right.fileno(): select.POLLIN}, None) == {left.fileno()}
        assert poll({left.fileno(): select.POLLOUT}, 0) == {left.fileno()}


def test_who_has_no_poll_is_told(monkeypatch: pytest.MonkeyPatch, server_context: dtlsffi.DTLSContext) -> None:
    """As eventlet does, which takes it away."""
    monkeypatch.delattr(select, "poll")
    with pytest.raises(RuntimeError, match="select.poll was taken away"):
        dtlsffi.create_server(("127.0.0.1", 0), context=server_context)
