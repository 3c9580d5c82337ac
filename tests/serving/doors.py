"""The doors of a server: ways of waiting, each made to run the same handler.

A door that cannot be imported, since something optional is not installed, is left out of `DOORS`.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import dtlsffi
from dtlsffi.server import DTLSListener
from tests.serving.served import Handler, Served, echo


@dataclass
class Place:
    """Where a server is to be, and under which limits (`Endpoint`'s)."""

    context: dtlsffi.DTLSContext
    host: str
    port: int
    sock: socket.socket | None
    limits: dict[str, Any] = field(default_factory=dict)


class Door:
    """One way of waiting."""

    has_connections = True
    """Whether there is an object, and a handler, for each connection."""

    def run(self, place: Place, served: Served) -> None:
        """Serves until it is told to stop."""
        raise NotImplementedError

    @contextmanager
    def serving(
        self,
        context: dtlsffi.DTLSContext,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        sock: socket.socket | None = None,
        handler: Handler = echo,
        **limits: Any,
    ) -> Iterator[Served]:
        """A server in a thread of its own, which sends everything back unless there is another handler.

        `sock` is a bound UDP socket in place of host and port, and is used up.
        """
        served = Served(handler)
        thread = threading.Thread(target=self._run, args=(Place(context, host, port, sock, limits), served))
        thread.start()
        try:
            served.address  # noqa: B018 - waits for it
            yield served
        finally:
            served.stop()
            thread.join()
        if served.failure is not None:
            raise served.failure

    def _run(self, place: Place, served: Served) -> None:
        try:
            self.run(place, served)
        except BaseException as error:  # noqa: BLE001 - raised in the test
            served.failed(error)


# ---- threads ----


class Gate(threading.Event):
    """A threading.Event for those who say await."""

    async def wait(self) -> None:  # type: ignore[override]
        """Blocks."""
        super().wait()


class Blocking:
    """A connection that blocks, for those who say await."""

    def __init__(self, conn: dtlsffi.DTLSServerConnection) -> None:
        self._conn = conn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)

    async def send(self, data: bytes) -> int:
        return self._conn.send(data)

    async def recv(self) -> bytes:
        return self._conn.recv()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while record := self._conn.recv():
            yield record


def run_through(coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine that waits for nothing but by blocking."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise RuntimeError("it waits for an event loop, and there is none")


class Threads(Door):
    """create_server() and serve_forever(): a thread for each connection."""

    def run(self, place: Place, served: Served) -> None:
        def attend(conn: dtlsffi.DTLSServerConnection, _address: Any) -> None:
            conn.do_handshake()
            run_through(served.attend(Blocking(conn)))

        with self.listener(place) as listener:
            served.opened(
                listener.getsockname(),
                statistics=listener.statistics,
                stop=listener.shutdown,
                gate=Gate(),
                soon=lambda call: call(),
            )
            listener.serve_forever(attend)

    @staticmethod
    def listener(place: Place) -> DTLSListener:
        if place.sock is not None:
            return DTLSListener._create(place.sock, place.context, **place.limits)
        return dtlsffi.create_server((place.host, place.port), context=place.context, **place.limits)


# ---- event loops ----


class AsyncIO(Door):
    """dtlsffi.asyncio.serve(): a task for each connection."""

    def run(self, place: Place, served: Served) -> None:
        asyncio.run(self.serve(place, served))

    async def serve(self, place: Place, served: Served) -> None:
        server = await import_module("dtlsffi.asyncio").serve(served.attend, *where(place), **how(place))
        stop = asyncio.Event()
        async with server:
            served.opened(
                server.getsockname(),
                statistics=server.statistics,
                stop=stop.set,
                gate=asyncio.Event(),
                soon=asyncio.get_running_loop().call_soon_threadsafe,
            )
            await stop.wait()
            server.close()
            await server.wait_closed()


class AsyncIOProtocol(Door):
    """dtlsffi.asyncio.create_dtls_endpoint(), with an ordinary DatagramProtocol."""

    has_connections = False

    def run(self, place: Place, served: Served) -> None:
        asyncio.run(self.serve(place, served))

    async def serve(self, place: Place, served: Served) -> None:
        stop = asyncio.Event()
        address = None if place.sock else (place.host, place.port)
        transport, _ = await import_module("dtlsffi.asyncio").create_dtls_endpoint(
            lambda: EchoProtocol(stop), local_addr=address, **how(place)
        )
        served.opened(
            transport.get_extra_info("sockname"),
            statistics=transport.statistics,
            stop=transport.close,
            gate=asyncio.Event(),
            find=transport.get_connection,
            soon=asyncio.get_running_loop().call_soon_threadsafe,
        )
        await stop.wait()


class EchoProtocol(asyncio.DatagramProtocol):
    """Sends everything back; tells when its transport has closed."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._transport.sendto(data, addr)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop.set()


class AnyIO(Door):
    """dtlsffi.anyio.serve(), over one backend or another."""

    def __init__(self, backend: str) -> None:
        self._backend = backend

    def run(self, place: Place, served: Served) -> None:
        import_module("anyio").run(self.serve, place, served, backend=self._backend)

    async def serve(self, place: Place, served: Served) -> None:
        anyio = import_module("anyio")

        async def start(*, task_status: Any) -> None:
            door = import_module("dtlsffi.anyio")
            await door.serve(served.attend, *where(place), task_status=task_status, **how(place))

        async with anyio.create_task_group() as tasks:
            server = await tasks.start(start)
            served.opened(
                server.getsockname(),
                statistics=server.statistics,
                stop=tasks.cancel_scope.cancel,
                gate=anyio.Event(),
                soon=self._soon(),
            )

    def _soon(self) -> Callable[[Callable[[], object]], object]:
        if self._backend == "asyncio":
            return asyncio.get_running_loop().call_soon_threadsafe
        token = import_module("trio").lowlevel.current_trio_token()
        return lambda call: token.run_sync_soon(call)


def where(place: Place) -> tuple[str | None, int | None]:
    """Host and port, or none where there is a socket."""
    return (None, None) if place.sock else (place.host, place.port)


def how(place: Place) -> dict[str, Any]:
    """The arguments by name."""
    return {"context": place.context, "sock": place.sock, **place.limits}


def importable(*names: str) -> bool:
    """Whether all of these modules are there."""
    try:
        for name in names:
            import_module(name)
    except ImportError:
        return False
    return True


DOORS: dict[str, Door] = {"blocking": Threads()}
if importable("dtlsffi.asyncio"):
    DOORS |= {"asyncio": AsyncIO(), "asyncio-protocol": AsyncIOProtocol()}
if importable("dtlsffi.anyio"):
    DOORS |= {f"anyio-{backend}": AnyIO(backend) for backend in ("asyncio", "trio") if importable(backend)}
