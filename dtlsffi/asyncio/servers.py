"""A server to await: each client gets a task of its own when its handshake is finished."""

from __future__ import annotations

import asyncio
import logging
import socket
from asyncio.trsock import TransportSocket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..awaiting import AwaitedConnection
from ..binding import Binding
from ..core.arguments import check_handler
from ..core.association import check_side
from ..core.context import DTLSContext
from ..core.limits import ServerLimits
from ..made import Made
from ..turning import ServerFace
from .connections import DTLSConnection, Port

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["DTLSServer", "serve"]

logger = logging.getLogger("dtlsffi.server")
Handler = Callable[[DTLSConnection], Awaitable[object]]


async def serve(
    handler: Handler,
    host: str | None = None,
    port: int | None = None,
    *,
    context: DTLSContext,
    sock: socket.socket | None = None,
    family: int | None = None,
    reuse_port: bool = False,
    dualstack_ipv6: bool = False,
    **limits: Unpack[ServerLimits],
) -> DTLSServer:
    """A server on a UDP port, for any number of clients: `await handler(conn)` in a task for each of them.

    `host` is `""` or None for all addresses, `port` 0 for any that is free; or `sock` is a UDP socket that is bound,
    and used up. `family` follows from the host unless given; `dualstack_ipv6` takes IPv4 in, too; with `reuse_port`
    processes share the port, and need one `cookie_secret`; when one of them starts or ends, the kernel assigns peers to
    sockets anew, which breaks most connections. `limits` are `Endpoint`'s, by name: `cookies` (bool),
    `cookie_secret` (bytes), `max_pending`, `max_connections`, `max_queue` (numbers), `handshake_timeout` and
    `idle_timeout` (seconds), `verify_fingerprint` and `verify_public_key` (what every client has to show).

    The handler is called when a client's handshake is finished; when it ends, its connection is closed. What it raises
    goes to the loop's exception handler, or to the log where the peer is to blame, and ends nothing else.

    Raises OSError where the address cannot be had; TypeError, ValueError or OverflowError for senseless arguments.
    """
    check_handler(handler)
    check_side(context, True, None, None)
    bind = Binding(host, port, sock, family, reuse_port, dualstack_ipv6)
    loop = asyncio.get_running_loop()
    port_of = partial(ServerPort, loop, context=context, **limits)
    return DTLSServer._create(await bind.open(loop.getaddrinfo, port_of), handler)


class ServerPort(Port):
    """A port whose connections go to a server."""

    server: DTLSServer

    def claimed(self, door: AwaitedConnection) -> None:
        """Gives a client to the handler."""
        self.server._begin(door)


class DTLSServer(Made, ServerFace[DTLSConnection]):
    """What `serve` returns: an asynchronous context manager; its end closes the server, and waits for the handlers."""

    _made_by = "dtlsffi.asyncio.serve()"
    _port: ServerPort
    _handler: Handler
    _tasks: set[asyncio.Task[None]]
    _waiting: list[asyncio.Task[Any] | None]  # handlers in wait_closed()

    @classmethod
    def _create(cls, port: Any, handler: Handler) -> DTLSServer:
        self = cls.__new__(cls)
        self._port, self._handler, self._tasks, self._waiting = port, handler, set(), []
        port.server = self
        return self

    def _begin(self, door: Any) -> None:
        task = self._port.loop.create_task(self._handle(door), name=f"dtlsffi handler of {door.peer}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: door.close())  # one that was cancelled before it has begun closes nothing

    async def _handle(self, conn: DTLSConnection) -> None:
        try:
            async with conn:
                with conn._excused():
                    await self._handler(conn)
        except Exception as error:  # noqa: BLE001 - a handler, or a callback at the end, ends its own connection only
            self._complain(conn, error)

    def _complain(self, conn: DTLSConnection, error: Exception) -> None:
        self._port.loop.call_exception_handler(
            {"message": f"the handler of {conn.peer} failed", "exception": error, "connection": conn}
        )

    @property
    def sockets(self) -> tuple[TransportSocket, ...]:
        """The UDP socket, as asyncio's servers show theirs; none after `close`."""
        return (TransportSocket(self._port.sock),) if self.is_serving() else ()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop it serves in."""
        return self._port.loop

    def is_serving(self) -> bool:
        """Whether it is open."""
        return not self._port.ended

    async def wait_closed(self) -> None:
        """Waits until it is closed and all handlers have ended; a handler's own task, for those that do not wait here.

        What a handler has wait here in another task, as `asyncio.wait_for` does before Python 3.12, waits for that
        handler.
        """
        task = asyncio.current_task()
        excused = self._waiting if task in self._tasks else []
        excused.append(task)
        try:
            while (others := self._tasks.difference(excused)) or self.is_serving():
                if others:
                    await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await self._port.until_ended()
        finally:
            excused.remove(task)

    async def serve_forever(self) -> None:
        """Waits until somebody closes it; closes it, and waits for the handlers, when cancelled.

        Raises OSError where the socket has been lost.
        """
        try:
            await self._port.until_ended()
        finally:
            self.close()
            await self.wait_closed()
        if self._port.trouble is not None:
            raise self._port.trouble

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it, and wait for the handlers."""
        self.close()
        await self.wait_closed()
