"""A client's connection to await, and the UDP port beneath all that asyncio does here."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ..awaiting import AwaitedConnection
from ..binding import made_of, open_client, ways
from ..core.association import check_client, identity_of
from ..core.context import DTLSContext
from ..core.endpoint_connection import NEVER, EndpointConnection
from ..core.errors import DTLSCertVerificationError
from ..core.limits import ClientLimits
from ..core.pins import Fingerprints, Keys
from ..core.session import DTLSSession
from ..ordering import ATTEMPT_DELAY
from ..turning import AwaitedPort

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["DTLSConnection", "connect"]

CLOCK = 0.001  # seconds that the clock of every loop can tell apart: uvloop's has milliseconds


class Port(AwaitedPort):
    """A UDP socket in an event loop, and the endpoint behind it. The timers ride the loop's clock."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, context: DTLSContext | None, **more: Any
    ) -> None:
        super().__init__(sock, context, **more)
        self.loop = loop
        self._timer: asyncio.Handle | None = None
        self._looks_at = 0.0
        self._for_room: list[Callable[[], object]] = []
        self._for_end: list[asyncio.Future[None]] = []
        self._descriptor = self.sock.fileno()
        try:
            loop.add_reader(self._descriptor, self.look)
        except BaseException:  # a loop that cannot
            super().end()
            raise

    def make_door(self, connection: EndpointConnection) -> AwaitedConnection:
        """A connection to await."""
        return DTLSConnection._create(self, connection)

    def clock(self) -> float:
        """The loop's."""
        return self.loop.time()

    def look(self) -> None:
        """Does what there is to do."""
        try:
            self.turn(self.loop.time())
        finally:
            self._set_timer()

    def _set_timer(self) -> None:
        due, handle = NEVER if self.ended else self.look_at(), self._timer
        if handle is not None:
            if self._looks_at <= due != NEVER:
                return  # early enough: it is set anew then
            handle.cancel()
            self._timer = None
        if due != NEVER:
            self._looks_at = max(due, self.loop.time() + CLOCK)
            self._timer = self.loop.call_at(self._looks_at, self._timer_fires)

    def _timer_fires(self) -> None:
        self._timer = None
        self.look()

    def start(self, address: Any, **arguments: Any) -> Any:
        """A client's connection, whose handshake has just begun; the arguments are `Endpoint.connect`'s."""
        door = super().start(address, **arguments)
        self._set_timer()
        return door

    def wake(self) -> None:
        """Has the loop look soon; from any thread, a finalizer's for instance."""
        try:
            self.loop.call_soon_threadsafe(self.look)
        except RuntimeError:  # there is no loop any more
            self.end()

    async def give_way(self) -> None:
        """A turn of the loop."""
        await asyncio.sleep(0)

    async def room(self) -> None:
        """Waits until the socket's send buffer has room."""
        waiter = self.loop.create_future()
        self.when_room(lambda: tell([waiter]))
        await waiter

    def has_room(self) -> bool:
        """Whether the socket's send buffer has room: for close_notify, say, which is sent once."""
        poller = select.poll()
        poller.register(self._descriptor, select.POLLOUT)
        return bool(poller.poll(0))

    def when_room(self, call: Callable[[], object]) -> None:
        """Calls when the socket's send buffer has room, or the port has ended: once."""
        if not self._for_room:
            self.loop.add_writer(self._descriptor, self._has_room)
        if call not in self._for_room:
            self._for_room.append(call)

    def _has_room(self) -> None:
        self.loop.remove_writer(self._descriptor)
        self._tell_of_room()

    def _tell_of_room(self) -> None:
        calls, self._for_room = self._for_room, []
        for call in calls:
            call()

    async def until_ended(self) -> None:
        """Waits until it has ended."""
        if not self.ended:
            waiter = self.loop.create_future()
            self._for_end.append(waiter)
            try:
                await waiter
            finally:
                self._for_end.remove(waiter)

    def end(self) -> None:
        """Closes every connection, and the socket."""
        if self.ended:
            return
        if self.process == os.getpid():  # a child's loop is its parent's, too
            with suppress(RuntimeError):  # uvloop's way of saying that it is closed; then it watches nothing
                self.loop.remove_reader(self._descriptor)
                self.loop.remove_writer(self._descriptor)
        try:
            super().end()
        finally:
            self._set_timer()
            self._tell_of_room()
            tell(self._for_end)


def tell(waiters: list[asyncio.Future[None]]) -> None:
    """Ends the waiting of those who have not given up, and whose loop goes on."""
    for waiter in waiters:
        if not waiter.done() and not waiter.get_loop().is_closed():
            waiter.set_result(None)


class DTLSConnection(AwaitedConnection):
    """A connection in an event loop; from `connect`, or given to `serve`'s handler.

    One `send` is one record in one datagram, one `recv` returns one record; `async for` receives until the end. It is
    an asynchronous context manager, and tells what is known of the peer in the words of `ssl.SSLSocket`. For timeouts
    there is `asyncio.timeout`: what is cancelled has lost nothing.
    """

    _made_by = "dtlsffi.asyncio.connect()"
    _waiters: list[asyncio.Future[None]]

    async def _pause(self) -> None:
        waiter = self._port.loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)

    def _moved(self) -> None:
        tell(self._waiters)


async def connect(
    host: str,
    port: int,
    *,
    context: DTLSContext,
    server_hostname: str | None = None,
    local_addr: tuple[str, int] | None = None,
    session: DTLSSession | None = None,
    verify_fingerprint: Fingerprints | None = None,
    verify_public_key: Keys | None = None,
    family: int = 0,
    **limits: Unpack[ClientLimits],
) -> DTLSConnection:
    """Connects to a server, and finishes the handshake.

    All of the host's addresses are tried, each 0.25 s after the last while that one has not finished, and the first
    to do so wins (RFC 8305). `server_hostname` is the host unless given. `local_addr` is where to send from. `session`
    is one to resume. `verify_fingerprint` and `verify_public_key` are `Connection`'s. `limits` are `Endpoint`'s, by
    name: `handshake_timeout` (30 seconds unless given), `idle_timeout` (seconds), `max_queue` (records).

    Raises `DTLSCertVerificationError` as soon as the certificate of one address fails verification, otherwise what the
    last address failed with: `HandshakeTimeout`, ConnectionRefusedError, another `DTLSError` or OSError.
    """
    arguments = identity_of(host, context, server_hostname, session, verify_fingerprint, verify_public_key)
    conn: DTLSConnection = await reach(Port, (host, port), local_addr, family, arguments, limits)
    return conn


async def reach(
    make_port: Callable[..., Port],
    address: tuple[str, int],
    local_addr: tuple[str, int] | None,
    family: int,
    arguments: dict[str, Any],
    limits: ClientLimits,
    *,
    reuse_port: bool = False,
) -> Any:
    """A connection with the first of a host's addresses to finish its handshake."""
    loop = asyncio.get_running_loop()
    check_client(**arguments)
    port_of = partial(make_port, loop, context=None, connected=True, **limits)

    async def attempt(place: Any, source: Any) -> Any:
        port = made_of(open_client(place, source, reuse_port=reuse_port), port_of)
        return await port.reach(place[4], **arguments)

    return await first_of(attempt(*way) for way in await ways(loop.getaddrinfo, address, local_addr, family))


async def first_of(attempts: Iterator[Coroutine[Any, Any, Any]]) -> Any:
    """What the first of some attempts to succeed returns, each begun when the last has failed or had its time."""
    failures: list[BaseException] = []
    running: set[asyncio.Task[Any]] = set()
    more, won = True, None
    try:
        while more or running:
            following = next(attempts, None)
            more = following is not None
            if following is not None:
                running.add(asyncio.ensure_future(following))
            if running:
                done, running = await asyncio.wait(
                    running, timeout=ATTEMPT_DELAY if more else None, return_when=asyncio.FIRST_COMPLETED
                )
                won = take_first(done, failures)
                running |= done
                if won is not None:
                    return won
                if failures and isinstance(failures[-1], DTLSCertVerificationError):
                    break
        raise failures.pop() if failures else OSError("getaddrinfo returns an empty list")
    finally:
        try:
            await leave(running)
        except BaseException:  # a cancellation: nobody gets it
            if won is not None:
                won.close()
            raise


def take_first(done: set[asyncio.Task[Any]], failures: list[BaseException]) -> Any:
    """What one of some tasks has returned, or None; those before it have failed, and so ends all: no certificate."""
    while done:
        task = done.pop()
        error = task.exception()
        if error is None:
            return task.result()
        failures.append(error)
        if isinstance(error, DTLSCertVerificationError):
            return None
    return None


async def leave(tasks: set[asyncio.Task[Any]]) -> None:
    """Ends attempts that nobody waits for any more, and closes what they may have brought."""
    for task in tasks:
        if task.done():
            put_away(task)  # now: gather() need not wait for it
        else:
            task.add_done_callback(put_away)
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def put_away(task: asyncio.Task[Any]) -> None:
    """Closes what a task has brought."""
    outcome = None if task.cancelled() or task.exception() is not None else task.result()
    if isinstance(outcome, AwaitedConnection):
        outcome.close()
