"""What the tests of doors share: event loops to run in, a listener, and addresses where nobody answers."""

from __future__ import annotations

import asyncio
import socket
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import dtlsffi
from dtlsffi.server import DTLSListener, create_server
from tests.doors.accepting import Both, Pair, accept, connect
from tests.doors.loops import LOOPBACK, GoTo, Runner, anyio_runner, turns

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


@pytest.fixture
def listener(server_context: dtlsffi.DTLSContext) -> Iterator[DTLSListener]:
    """One on a free port, whose calls take 10 seconds at most."""
    with create_server((LOOPBACK, 0), context=server_context) as made:
        made.settimeout(10)
        yield made


@pytest.fixture
def pair(listener: DTLSListener, client_context: dtlsffi.DTLSContext, both: Both) -> Iterator[Pair]:
    """A client and the listener's connection with it."""
    client, server = both(
        lambda: connect(listener.getsockname(), client_context),
        lambda: accept(listener),
    )
    with client, server:
        server.do_handshake()
        yield client, server


@pytest.fixture
def free_port() -> int:
    """A UDP port where nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK, 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def nobody(free_port: int) -> tuple[str, int]:
    """An address where nobody listens."""
    return LOOPBACK, free_port


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """Somebody who never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK, 0))
        yield sock


@pytest.fixture
def go_to(monkeypatch: pytest.MonkeyPatch) -> GoTo:
    """Has connect() go to these addresses, in this order."""

    def replace(*addresses: Any) -> None:
        families = [socket.AF_INET6 if ":" in address[0] else socket.AF_INET for address in addresses]
        ways = [
            ((family, socket.SOCK_DGRAM, 0, "", address), None)
            for family, address in zip(families, addresses, strict=True)
        ]
        monkeypatch.setattr("dtlsffi.binding.routes", lambda *_: ways)

    return replace
