"""What a failed handshake leaves to the garbage collector: nothing, through every door.

Each keeps some hundred kB of OpenSSL's, of which the garbage collector knows nothing. Whom strangers speak to cannot
wait for it; without a GIL it comes seldom.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

import dtlsffi
import dtlsffi.anyio
import dtlsffi.asyncio
from dtlsffi.core.association import Association
from dtlsffi.testing import Authority
from tests.doors.accepting import LOOPBACK
from tests.helpers import HOST


def living(sides: tuple[bool, ...]) -> list[Association]:
    found = (found for found in gc.get_objects() if isinstance(found, Association))
    return [connection for connection in found if connection._server_side in sides]


@contextmanager
def without_garbage_collector(sides: tuple[bool, ...] = (False, True)) -> Iterator[None]:
    """Whatever connections of a client (False) or server (True) there are at the end have been there before."""
    gc.collect()
    before = {id(connection) for connection in living(sides)}
    gc.disable()
    try:
        yield
        assert [left for left in living(sides) if id(left) not in before] == []
    finally:
        gc.enable()


@pytest.fixture
def stranger() -> dtlsffi.DTLSContext:
    """A client's context that trusts somebody else."""
    return Authority().client_context()


def expect_refusal(call: Callable[..., Any], *arguments: Any, **more: Any) -> None:
    """Without pytest.raises(), which keeps the exception."""
    try:
        call(*arguments, **more)
    except dtlsffi.DTLSError:
        return
    raise AssertionError("it was not refused")


def test_of_sockets(
    udp_pair: tuple[socket.socket, socket.socket],
    stranger: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    both: Callable[..., list[Any]],
) -> None:
    """On both sides."""
    with without_garbage_collector():
        both(
            lambda: expect_refusal(stranger.wrap_socket, udp_pair[0], server_hostname=HOST),
            lambda: expect_refusal(server_context.wrap_socket, udp_pair[1], server_side=True),
        )


def test_of_a_listener(stranger: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext) -> None:
    """On both sides."""
    server_context.retransmission = (0.05, 2.0, 1.0)  # an alert that nobody has signed is believed after that
    with without_garbage_collector():
        with dtlsffi.create_server(LOOPBACK, context=server_context) as listener:
            expect_refusal(
                dtlsffi.create_connection, listener.getsockname(), context=stranger, server_hostname=HOST, timeout=10
            )
            conn, _ = listener.accept()
            conn.settimeout(10)
            expect_refusal(conn.do_handshake)
        del conn, listener  # whose timers know a connection for a while


async def fail(connect: Callable[..., Any], port: int, stranger: dtlsffi.DTLSContext) -> None:
    """An attempt of a client's."""
    try:
        await connect("127.0.0.1", port, context=stranger, server_hostname=HOST)
    except dtlsffi.DTLSError:
        return
    raise AssertionError("it was not refused")


def test_of_asyncio(stranger: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext) -> None:
    """The client's side."""

    async def main(port: int) -> None:
        with without_garbage_collector((False,)):
            await fail(dtlsffi.asyncio.connect, port, stranger)
            await asyncio.sleep(0)

    with dtlsffi.create_server(LOOPBACK, context=server_context) as listener:
        asyncio.run(main(listener.getsockname()[1]))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_of_anyio(backend: str, stranger: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext) -> None:
    """The client's side, likewise."""

    async def main(port: int) -> None:
        with without_garbage_collector((False,)):
            await fail(dtlsffi.anyio.connect, port, stranger)
            await anyio.lowlevel.checkpoint()

    with dtlsffi.create_server(LOOPBACK, context=server_context) as listener:
        anyio.run(main, listener.getsockname()[1], backend=backend)
