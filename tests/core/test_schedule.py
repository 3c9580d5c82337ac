"""dtlsffi.core.schedule."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dtlsffi.core.endpoint_connection import NEVER
from dtlsffi.core.schedule import Schedule


def somebody() -> Any:
    return SimpleNamespace(_due=float("inf"), gone=False)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
def test_everybody_is_looked_at_once_and_in_time(times: list[float]) -> None:
    """The earliest time counts, and each connection comes once."""
    schedule, all_of_them = Schedule(), [somebody() for _ in times]
    for who, when in zip(all_of_them, times, strict=True):
        schedule.add(who, when + 1)
        schedule.add(who, when)
        schedule.add(who, when + 2)
    assert schedule.first() == min(times)
    seen = [id(who) for now in sorted(times) for who in schedule.due(now)]
    assert sorted(seen) == sorted(map(id, all_of_them))
    assert list(schedule.due(1000)) == []
    assert schedule.first() == NEVER


def test_who_is_gone_is_not_looked_at() -> None:
    """Nor waited for."""
    schedule, who = Schedule(), somebody()
    schedule.add(who, 1)
    who.gone = True
    assert schedule.first() == NEVER
    assert list(schedule.due(2)) == []
