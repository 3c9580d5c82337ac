"""The end of one peer is nobody else's: what callbacks raise then, handlers' own failures, handlers that wait."""

from __future__ import annotations

import asyncio
import copy
import logging
import socket
from typing import Any

import anyio
import pytest

import dtlsffi
import dtlsffi.asyncio
from dtlsffi.anyio import DTLSStream
from dtlsffi.asyncio import DTLSConnection, DTLSDatagramProtocol, create_dtls_endpoint
from dtlsffi.core.errors import DTLSZeroReturnError, make
from dtlsffi.testing import Authority
from tests.doors.loops import LOOPBACK, Runner, dial, echo, serving
from tests.doors.streams import AnyRun
from tests.doors.streams import dial as dial_stream
from tests.doors.streams import serving as serving_streams
from tests.doors.traps import Trap
from tests.helpers import HOST


@pytest.mark.parametrize("end", ["handler", "silence"])
def test_anyios_serve_outlives_what_a_callback_raises(
    end: str,
    anyrun: AnyRun,
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When one of its clients is said goodbye to: the others go on."""
    trap = Trap(server_context, once=True)
    over = anyio.Event()

    async def handler(stream: DTLSStream) -> None:
        try:
            async for data in stream:
                if data == b"leave":
                    trap.armed = True
                    break
                await stream.send(data)
        finally:
            over.set()

    async def main() -> None:
        more = {"idle_timeout": 0.5} if end == "silence" else {}
        async with serving_streams(server_context, handler, **more) as server:
            other = await dial_stream(server.getsockname(), client_context)
            one = await dial_stream(server.getsockname(), client_context)
            await one.send(b"leave" if end == "handler" else b"x")
            while end == "silence" and not over.is_set():
                trap.armed = True
                await anyio.sleep(0.1)
                trap.armed = False
                await other.send(b"still here")
                assert await other.receive() == b"still here"
            await over.wait()
            await other.send(b"x")
            assert await other.receive() == b"x"
            await one.aclose()
            await other.aclose()

    with caplog.at_level(logging.CRITICAL if end == "silence" else logging.ERROR):
        anyrun(main)
    if end == "handler":
        assert "the handler of 127.0.0.1" in caplog.text
        assert "ZeroDivisionError" in caplog.text


def test_who_is_ended_hears_of_it_whatever_a_callback_raises(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Though there is no timer any more that would have the loop look again."""
    for context in (client_context, server_context):
        context.retransmission = (60, 1, 60)  # nothing is said twice: the first that is traced is the end
    trap = Trap(server_context, once=True)
    ended: asyncio.Queue[bytes] = asyncio.Queue()

    async def handler(conn: DTLSConnection) -> None:
        await conn.send(b"here")
        trap.armed = True
        await ended.put(await conn.recv())

    async def main() -> None:
        async with (
            serving(server_context, handler, idle_timeout=0.1) as server,
            await dial(server.getsockname(), client_context) as client,
        ):
            assert await client.recv() == b"here"
            assert await asyncio.wait_for(ended.get(), 5) == b""
        assert [type(problem["exception"]) for problem in run.problems] == [ZeroDivisionError]
        run.problems.clear()

    run(main)


def foreign() -> Exception:
    return make(dtlsffi.DTLSError, "SOMETHING", "of another connection")


def test_a_handlers_own_failure_is_not_its_peers(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """A proxy's with its upstream, which may be a DTLSError, too."""

    async def handler(conn: DTLSConnection) -> None:
        while await conn.recv():
            pass
        raise foreign()

    async def main() -> None:
        async with serving(server_context, handler) as server:
            await (await dial(server.getsockname(), client_context)).aclose()
            while not run.problems:
                await asyncio.sleep(0)
        assert "of another connection" in str(run.problems.pop()["exception"])

    run(main)


def test_a_handlers_own_failure_is_not_its_peers_under_anyio(
    anyrun: AnyRun,
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nor is a stream of its own that is broken; that its peer's has ended is."""
    kinds: list[Any] = [foreign, anyio.BrokenResourceError, anyio.EndOfStream, None]

    async def handler(stream: DTLSStream) -> None:
        kind = kinds[len(started)]
        started.append(kind)
        try:
            while True:
                await stream.receive()
        except anyio.EndOfStream:
            if kind is None:
                raise
        raise kind()

    started: list[Any] = []

    def told() -> list[logging.LogRecord]:  # a loop that is debugged tells that it is slow, too
        return [entry for entry in caplog.records if entry.name == "dtlsffi.server"]

    async def main() -> None:
        async with serving_streams(server_context, handler) as server:
            for number in range(4):
                stream = await dial_stream(server.getsockname(), client_context)
                while len(started) == number:
                    await anyio.sleep(0.001)
                await stream.aclose()
            while len(told()) < 4:
                await anyio.sleep(0.001)

    with caplog.at_level(logging.INFO, "dtlsffi.server"):
        anyrun(main)
    levels = [entry.levelno for entry in told()]
    assert sorted(levels) == [logging.INFO, logging.ERROR, logging.ERROR, logging.ERROR]


def test_handlers_do_not_wait_for_one_another(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Several that close their server and wait; whoever else waits, waits for them."""
    ended: list[None] = []
    begun: list[None] = []

    async def handler(conn: DTLSConnection) -> None:
        begun.append(None)
        await conn.recv()
        server.close()
        await server.wait_closed()
        ended.append(None)

    async def main() -> None:
        nonlocal server
        async with serving(server_context, handler) as server:
            clients = [await dial(server.getsockname(), client_context) for _ in range(3)]
            while len(begun) < 3:
                await asyncio.sleep(0)
            server.close()
            await asyncio.wait_for(server.wait_closed(), 5)
            assert len(ended) == 3
            for client in clients:
                await client.aclose()

    server: dtlsffi.asyncio.DTLSServer
    run(main)


def test_waiting_in_vain_leaves_nothing_behind(run: Runner, server_context: dtlsffi.DTLSContext) -> None:
    """Whoever gives up is forgotten."""

    async def main() -> None:
        async with serving(server_context, echo) as server:
            for _ in range(3):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(server.wait_closed(), 0.001)
            assert server._port._for_end == []

    run(main)


class Told(DTLSDatagramProtocol):
    """A protocol that remembers who has come."""

    def __init__(self) -> None:
        self.peers: list[Any] = []

    def peer_connected(self, addr: Any) -> None:
        self.peers.append(addr)


def test_a_closing_transport_takes_nobody_in(
    run: Runner, client_context: dtlsffi.DTLSContext, authority: Authority, silent: socket.socket
) -> None:
    """While it waits for a handshake of its own, whose datagram is to go out first."""
    context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS)
    identity = authority.issue(HOST)
    context.load_cert_chain(identity.certificate, identity.key)
    context.check_hostname = False
    context.verify_mode = dtlsffi.CERT_NONE

    async def main() -> None:
        transport, protocol = await create_dtls_endpoint(Told, (LOOPBACK, 0), context=context, handshake_timeout=1)
        transport.sendto(b"late", silent.getsockname())
        transport.close()
        async with await dial(transport.get_extra_info("sockname"), client_context) as client:
            assert await client.recv() == b""
        assert protocol.peers == []
        while not transport._port.ended:
            await asyncio.sleep(0.01)

    run(main)


def test_an_end_is_known_again() -> None:
    """By what it is and says, in groups too; and by what was raised from it."""
    end = make(DTLSZeroReturnError, "ZERO_RETURN", "the peer has closed the connection")
    for error, is_it in (
        (end, True),
        (copy.copy(end), True),
        (foreign(), False),
        (OSError(9, "x"), False),
        (ExceptionLike([end]), True),
    ):
        assert dtlsffi.core.errors.is_end(error, end) is is_it
    assert not dtlsffi.core.errors.is_end(ExceptionLike([end, foreign()]), end)
    translated = RuntimeError()
    translated.__cause__ = end
    assert dtlsffi.core.errors.is_end(translated, end)


class ExceptionLike(Exception):
    """What a task group raises."""

    def __init__(self, exceptions: list[Exception]) -> None:
        super().__init__()
        self.exceptions = exceptions
