"""dtlsffi.asyncio.servers: handlers that close their server."""

from __future__ import annotations

import asyncio
import os

import pytest

import dtlsffi
from dtlsffi.asyncio import DTLSConnection, serve
from tests.doors.loops import LOOPBACK, Runner, dial, echo, serving


def test_handlers_that_come_later_are_waited_for(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Whoever waits since before there was any."""
    ended: list[str] = []

    async def handler(conn: DTLSConnection) -> None:
        await conn.recv()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ended.append("ended")

    async def main() -> None:
        server = await serve(handler, LOOPBACK, 0, context=server_context)
        waiting = asyncio.ensure_future(server.wait_closed())
        await asyncio.sleep(0)
        async with await dial(server.getsockname(), client_context):
            while not server.connections:
                await asyncio.sleep(0)
            server.close()
            await waiting
            assert ended == ["ended"]

    run(main)


def test_a_handler_may_close_its_server_and_wait(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """For all the others, and not for itself."""
    ended: list[str] = []
    told: list[str] = []

    async def handler(conn: DTLSConnection) -> None:
        if await conn.recv() == b"close":
            server.close()
            await server.wait_closed()
            ended.append("closed")
        else:
            told.append("waits")
            ended.append((await conn.recv()).decode())

    async def main() -> None:
        nonlocal server
        server = await serve(handler, LOOPBACK, 0, context=server_context)
        async with (
            await dial(server.getsockname(), client_context) as one,
            await dial(server.getsockname(), client_context) as two,
        ):
            await one.send(b"wait")
            while not told:
                await asyncio.sleep(0)
            await two.send(b"close")
            await server.wait_closed()
            assert ended == ["", "closed"]

    server: dtlsffi.asyncio.DTLSServer
    run(main)


def test_a_handler_that_never_begins_closes_its_connection(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Its task was cancelled before its first step."""

    async def main() -> None:
        async with serving(server_context, echo) as server:
            begin = server._begin

            def begin_and_cancel(door: object) -> None:
                begin(door)
                for task in server._tasks:
                    task.cancel()

            server._begin = begin_and_cancel  # type: ignore[method-assign]
            async with await dial(server.getsockname(), client_context) as client:
                assert await client.recv() == b""

    run(main)


def test_it_shows_its_socket_as_asyncios_servers_do(run: Runner, server_context: dtlsffi.DTLSContext) -> None:
    """For code that asks for the port in that way."""

    async def main() -> None:
        async with serving(server_context, echo) as server:
            (sock,) = server.sockets
            assert sock.getsockname() == server.getsockname()
            assert server.get_loop() is asyncio.get_running_loop()
        assert server.sockets == ()

    run(main)


def test_a_lost_socket_ends_serve_forever_with_an_error(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """So that whoever runs the program hears of it."""

    async def main() -> None:
        server = await serve(echo, LOOPBACK, 0, context=server_context)
        serving_ = asyncio.ensure_future(server.serve_forever())
        async with await dial(server.getsockname(), client_context):
            os.close(server._port.sock.fileno())
            server._port.look()
            with pytest.raises(OSError, match="EBADF|Bad file descriptor|closed the socket"):
                await serving_

    run(main)
