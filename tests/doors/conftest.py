"""The loops that the tests of event loops run in."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.doors.loops import Runner, anyio_runner, turns

__all__ = ["turns"]


def make_uvloop() -> asyncio.AbstractEventLoop:
    uvloop = pytest.importorskip("uvloop")  # CPython's only
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Runner:
    """Runs a coroutine in each kind of loop."""
    return Runner(asyncio.new_event_loop if request.param == "asyncio" else make_uvloop)


@pytest.fixture(params=["asyncio", "trio"])
def anyrun(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Runs a coroutine on each of anyio's backends."""
    return anyio_runner(request.param)


@pytest.fixture
def warned() -> Iterator[Callable[[], list[str]]]:
    """What a call of it returns was warned of since the last call: each ResourceWarning up to its first address."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)

        def take() -> list[str]:
            messages = [str(warning.message).partition(" with ")[0].partition(" (")[0] for warning in caught]
            caught.clear()
            return messages

        yield take
