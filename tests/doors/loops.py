"""Event loops to run tests in: asyncio's and uvloop's, and anyio's backends. What is left behind fails the test."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

import dtlsffi
from dtlsffi.asyncio import DTLSConnection, DTLSServer, DTLSTransport, connect, create_dtls_endpoint, serve
from dtlsffi.awaiting import AwaitedConnection
from dtlsffi.turning import AwaitedPort
from tests.helpers import HOST

LOOPBACK = "127.0.0.1"
GoTo = Callable[..., None]
Warned = Callable[[], list[str]]
WITHIN = 60  # seconds for a whole test


def sockets() -> set[str]:
    """The sockets of this process, by inode."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(str(descriptor.readlink()))
    return {name for name in found if name.startswith("socket:")}


class Runner:
    """Runs a coroutine to its end in a loop of its own, which must not have been told of problems but `problems`."""

    def __init__(self, make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.make_loop = make_loop
        self.problems: list[dict[str, Any]] = []

    def __call__(self, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        before = sockets()
        loop = self.make_loop()
        loop.set_exception_handler(lambda _, problem: self.problems.append(problem))
        try:
            result = loop.run_until_complete(asyncio.wait_for(main(), WITHIN))
            self.end(loop)
        finally:
            loop.close()
        assert sockets() <= before, "sockets are left open"
        assert not self.problems, self.problems
        return result

    @staticmethod
    def end(loop: asyncio.AbstractEventLoop) -> None:
        """What asyncio.run does at its end."""
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        assert not left, f"tasks are left running: {left}"

    def take_problems(self) -> list[dict[str, Any]]:
        """What the loop's exception handler was told."""
        taken, self.problems = self.problems, []
        return taken


@asynccontextmanager
async def serving(
    context: dtlsffi.DTLSContext, handler: Callable[[DTLSConnection], Awaitable[object]], **more: Any
) -> AsyncIterator[DTLSServer]:
    """A server on a free port."""
    async with await serve(handler, LOOPBACK, 0, context=context, **more) as server:
        yield server


async def dial(address: Any, context: dtlsffi.DTLSContext, **more: Any) -> DTLSConnection:
    """A client's connection."""
    return await connect(*address[:2], context=context, **{"server_hostname": HOST} | more)


async def echo(conn: DTLSConnection) -> None:
    async for data in conn:
        await conn.send(data)


@asynccontextmanager
async def joined(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, **more: Any
) -> AsyncIterator[tuple[DTLSConnection, DTLSConnection]]:
    """A client's connection and the server's with it, whose handler waits for the end of the block."""
    arrived: asyncio.Future[DTLSConnection] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def handler(conn: DTLSConnection) -> None:
        arrived.set_result(conn)
        await over.wait()

    async with (
        serving(server_context, handler, **more) as server,
        await dial(server.getsockname(), client_context) as c,
    ):
        try:
            yield c, await arrived
        finally:
            over.set()


async def settled() -> None:
    """The loop has gone round, so that every task has begun to wait."""
    for _ in range(5):
        await asyncio.sleep(0)


def vanish(conn: AwaitedConnection) -> None:
    """Closes its port without a close_notify."""
    conn._port._udp.fd = -1
    conn._port.end()


def without_timer(port: Any) -> None:
    """Has the port be turned by its socket alone."""
    port.get_timer = lambda _: None
    if hasattr(port, "_set_timer"):
        port._set_timer()


def in_child(check: Callable[[], object]) -> bool:
    """Whether `check` succeeds in a child of this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there may be threads, of getaddrinfo
        child = os.fork()
    if child == 0:
        status = 1
        with suppress(BaseException):
            check()
            status = 0
        os._exit(status)
    return os.waitpid(child, 0)[1] == 0


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When ports were turned."""
    times: list[float] = []
    turn = AwaitedPort.turn

    def counted(port: AwaitedPort, now: float) -> None:
        times.append(now)
        turn(port, now)

    monkeypatch.setattr(AwaitedPort, "turn", counted)
    return times


def anyio_runner(backend: str) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Runs a coroutine to its end under anyio, which leaves no socket open."""

    def run(main: Callable[[], Awaitable[Any]]) -> Any:
        async def limited() -> Any:
            with anyio.fail_after(WITHIN):
                return await main()

        before = sockets()
        result = anyio.run(limited, backend=backend)
        assert sockets() <= before, "sockets are left open"
        return result

    return run


# ---- protocols ----


class Listening(asyncio.DatagramProtocol):
    """A protocol for plain UDP that keeps what it is told."""

    transport: Any

    def __init__(self) -> None:
        self.made = 0
        self.datagrams: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []
        self.pauses: list[str] = []
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.made += 1

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.datagrams.append((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def pause_writing(self) -> None:
        self.pauses.append("pause")

    def resume_writing(self) -> None:
        self.pauses.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class Echo(Listening):
    """Asyncio's own example of a server."""

    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


async def until(happened: Callable[[], bool]) -> None:
    """Goes round the loop until something has happened."""
    while not happened():
        await asyncio.sleep(0)


L = TypeVar("L", bound=Listening)


@asynccontextmanager
async def closing(transport: DTLSTransport, protocol: L) -> AsyncIterator[tuple[DTLSTransport, L]]:
    """Closes the transport at the end, and waits for its end."""
    try:
        yield transport, protocol
    finally:
        transport.close()
        await until(lambda: bool(protocol.lost))
        await asyncio.sleep(0)
        assert len(protocol.lost) == protocol.made == 1


@asynccontextmanager
async def server_with(
    kind: Callable[[], L], context: dtlsffi.DTLSContext, **more: Any
) -> AsyncIterator[tuple[DTLSTransport, L]]:
    """A server's transport on a free port."""
    arguments = {"local_addr": (LOOPBACK, 0), "context": context} | more
    async with closing(*await create_dtls_endpoint(kind, **arguments)) as pair:
        yield pair


@asynccontextmanager
async def client_of(
    kind: Callable[[], L], server: DTLSTransport, context: dtlsffi.DTLSContext, **more: Any
) -> AsyncIterator[tuple[DTLSTransport, L]]:
    """A client's transport."""
    address = server.get_extra_info("sockname")
    arguments = {"remote_addr": address[:2], "context": context, "server_hostname": HOST} | more
    async with closing(*await create_dtls_endpoint(kind, **arguments)) as pair:
        yield pair
