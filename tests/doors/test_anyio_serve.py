"""dtlsffi.anyio: serve(), its handlers, its sockets, its end."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute

import dtlsffi
from dtlsffi.anyio import DTLSServerPort, DTLSStream, serve
from dtlsffi.core.errors import make
from tests.doors.loops import LOOPBACK, anyio_runner
from tests.doors.streams import AnyRun, dial, echo, serving, settled


def test_a_handlers_exception_is_logged_and_ends_its_stream_only(
    anyrun: AnyRun,
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With a traceback; where the peer is to blame, it is a line at level INFO."""

    async def handler(stream: DTLSStream) -> None:
        async for data in stream:
            if data == b"broken":
                stream._port._end(stream._connection, make(dtlsffi.DTLSError, "BROKEN", "for once"))
            await stream.send(b"%d" % (10 // int(data)))

    async def main() -> None:
        async with (
            serving(server_context, handler) as server,
            await dial(server.getsockname(), client_context) as one,
            await dial(server.getsockname(), client_context) as two,
        ):
            await one.send(b"0")
            with pytest.raises(anyio.EndOfStream):
                await one.receive()
            await two.send(b"5")
            assert await two.receive() == b"2"
            (stream,) = server.connections
            server._port._end(stream._connection, make(dtlsffi.DTLSError, "BROKEN", "for once"))
            stream._moved()
            await settled()

    with caplog.at_level(logging.INFO, "dtlsffi.server"):
        anyrun(main)
    records = [record for record in caplog.records if record.name == "dtlsffi.server"]
    assert [record.levelno for record in records] == [logging.ERROR, logging.INFO]
    assert records[0].exc_info is not None
    assert records[0].exc_info[0] is ZeroDivisionError
    assert "the handler of 127.0.0.1:" in records[0].getMessage()
    assert "BROKEN" in records[1].getMessage()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio's tasks do not tell who was cancelled")
def test_a_handler_that_is_cancelled_by_something_of_its_own_ends_nothing_else(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, caplog: pytest.LogCaptureFixture
) -> None:
    """A task that it has waited for, and that somebody has cancelled: anyio's group would take it for its own end."""

    async def handler(stream: DTLSStream) -> None:
        async for data in stream:
            if data == b"cancel":
                job = asyncio.ensure_future(asyncio.sleep(60))
                asyncio.get_running_loop().call_soon(job.cancel)
                await job
            await stream.send(data)

    async def main() -> None:
        async with (
            serving(server_context, handler) as server,
            await dial(server.getsockname(), client_context) as one,
            await dial(server.getsockname(), client_context) as two,
        ):
            await one.send(b"cancel")
            with pytest.raises(anyio.EndOfStream):
                await one.receive()
            await two.send(b"5")
            assert await two.receive() == b"5"

    anyio_runner("asyncio")(main)
    assert "was cancelled by something of its own" in caplog.text


def test_a_serve_that_is_cancelled_closes_all(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Handlers are cancelled, clients get close_notify; the port is free again."""
    ended: list[str] = []

    async def handler(stream: DTLSStream) -> None:
        try:
            await stream.send(b"welcome")
            await anyio.sleep(math.inf)
        except anyio.get_cancelled_exc_class():
            ended.append("cancelled")
            raise

    async def main() -> None:
        async with serving(server_context, handler) as server:
            address = server.getsockname()
            assert server.statistics()["connections"] == 0
            client = await dial(address, client_context)
            assert await client.receive() == b"welcome"
        async with client:
            with pytest.raises(anyio.EndOfStream):
                await client.receive()
        assert ended == ["cancelled"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(address)

    anyrun(main)


def test_serve_with_a_socket_or_an_address(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """A bound socket is used up; dual-stack takes both families; what makes no sense is raised as it is."""

    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for error, words, arguments in (
                (ValueError, "cannot take the server's side", {"local_port": 0, "context": client_context}),
                (TypeError, "context is a DTLSContext", {"local_port": 0, "context": None}),
                (ValueError, "and not both", {}),
                (ValueError, "and not both", {"local_port": 0, "sock": sock}),
                (ValueError, "not bound", {"sock": sock}),
                (ValueError, "sock is bound", {"sock": sock, "reuse_port": True}),
                (ValueError, "max_pending", {"local_port": 0, "max_pending": 0}),
                (OSError, "while attempting to bind", {"local_host": "192.0.2.1", "local_port": 0}),
            ):
                with pytest.raises(error, match=words):
                    await serve(echo, **{"context": server_context} | arguments)
            sock.bind((LOOPBACK, 0))
            for arguments in ({"sock": sock}, {"local_port": 0, "dualstack_ipv6": True}):
                async with anyio.create_task_group() as group:

                    async def run(*, task_status: Any, arguments: Any = arguments) -> None:
                        await serve(echo, context=server_context, task_status=task_status, **arguments)

                    port = (await group.start(run)).getsockname()[1]
                    for host in (LOOPBACK,) if "sock" in arguments else (LOOPBACK, "::1"):
                        async with await dial((host, port), client_context) as client:
                            await client.send(b"x")
                            assert await client.receive() == b"x"
                    group.cancel_scope.cancel()
            assert sock.fileno() == -1

    anyrun(main)


def test_a_lost_socket_is_what_serve_raises(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """EBADF, even where a handler has closed it while serve() waits for it."""
    failures: list[OSError] = []

    async def handler(stream: DTLSStream) -> None:
        stream.extra(SocketAttribute.raw_socket).close()
        stream._port.turn(anyio.current_time())

    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((LOOPBACK, 0))
            address = sock.getsockname()

            async def run() -> None:
                try:
                    await serve(handler, sock=sock, context=server_context)
                except OSError as error:
                    failures.append(error)

            async with anyio.create_task_group() as group:
                group.start_soon(run)
                with suppress(ConnectionRefusedError):  # it may be slower than the handler
                    await (await dial(address, client_context)).aclose()

    anyrun(main)
    assert [(error.errno, error.strerror) for error in failures] == [(errno.EBADF, "somebody has closed the socket")]


def test_serve_can_be_ended_by_its_port(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Which knows who is there, and nothing that could break the server; `serve` returns when handlers have ended."""
    heard: list[bytes] = []

    async def handler(stream: DTLSStream) -> None:
        await stream.send(b"here")
        heard.append(await stream.recv())

    async def main() -> None:
        async with anyio.create_task_group() as group:
            port = await group.start(partial(serve, handler, LOOPBACK, 0, context=server_context))
            assert isinstance(port, DTLSServerPort)
            assert repr(port) == f"<DTLSServerPort {port.getsockname()}>"
            async with await dial(port.getsockname(), client_context) as client:
                assert await client.recv() == b"here"
                (stream,) = port.connections
                assert stream.getpeername() == client.getsockname()
                assert not {"pump", "turn", "abandon", "recv_many"} & set(dir(port))
                port.close()
                assert await client.recv() == b""
        assert port.statistics()["connections"] == 0
        assert repr(port).endswith(", closed>")
        assert heard == [b""]

    anyrun(main)
