"""What the doors of event loops have in common: a port that is turned by its loop, and connections that await it."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import warnings
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .core import errors
from .core.arguments import checked_max
from .core.batches import Buffer
from .core.context import DTLSContext
from .core.endpoint import Endpoint
from .core.endpoint_connection import EndpointConnection
from .core.knowledge import Knowledge

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger("dtlsffi.server")
FAIR = 64  # records sent by connections of one port before others in the loop have their turn
BATCHES = 4  # taken from the socket before somebody else has a turn


class AwaitedPort(Endpoint):
    """A UDP socket and the endpoint behind it. Its loop calls `turn` whenever the socket or the timer is ready.

    The socket is used up. Connections that somebody has taken are known only weakly, so that those can be forgotten.
    `connected` says that the socket is connected to the one peer there is: what ICMP says is meant for that one, and
    the socket is closed when its connection has ended.
    """

    def __init__(
        self, sock: socket.socket, context: DTLSContext | None, *, connected: bool = False, **limits: Any
    ) -> None:
        super().__init__(context, fileno=sock.fileno(), v6_socket=sock.family == socket.AF_INET6, **limits)
        sock.setblocking(False)
        self.sock = socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.name = self.sock.getsockname()
        self.process = os.getpid()
        self.connected = connected
        self.trouble: OSError | None = None
        self.ended = False
        self.sent = 0  # records, since others have had their turn
        self.unclaimed: dict[EndpointConnection, AwaitedConnection] = {}
        self.left: deque[EndpointConnection] = deque()  # forgotten by everybody, and to be let go of

    # ---- what each loop does in its own way ----

    def make_door(self, connection: EndpointConnection) -> AwaitedConnection:
        """What stands before a new connection."""
        raise NotImplementedError

    def claimed(self, door: AwaitedConnection) -> None:
        """A client has finished its handshake: here is its connection."""
        raise NotImplementedError

    def clock(self) -> float:
        """The time, in seconds."""
        raise NotImplementedError

    def wake(self) -> None:
        """Has the loop turn the port soon; from any thread."""
        raise NotImplementedError

    async def room(self) -> None:
        """Waits until the socket's send buffer has room."""
        raise NotImplementedError

    async def give_way(self) -> None:
        """Lets others in the loop have their turn, where not every call does."""

    # ---- what happens ----

    def is_others_turn(self, records: int) -> bool:
        """Whether others go before so many are sent: who only sends keeps the loop from nobody."""
        self.sent += records
        if self.sent <= FAIR:
            return False
        self.sent = records
        return True

    def _start(self, connection: EndpointConnection, now: float) -> None:
        """Gives each connection its door before anything happens to it, so that callbacks get that."""
        self.unclaimed[connection] = self.make_door(connection)
        super()._start(connection, now)

    def turn(self, now: float) -> None:
        """Takes what has come, does what is due, tells whom it concerns. It is to be turned again with `get_timer`.

        Each batch is told of at once: what is answered goes out, and is dealt with, while the next one comes in.
        """
        refusals: list[OSError] = []
        batches = BATCHES
        try:
            while batches and not self.ended and self._take_batch(now, refusals):
                batches -= 1
                self.tell()
                now = self.clock()
        finally:  # also where Ctrl-C has come, or something that a callback has raised
            if not self.ended:
                self._see_to_the_rest(now, refusals)

    def _take_batch(self, now: float, refusals: list[OSError]) -> bool:
        """Takes a batch, or notes why not; whether there may be more."""
        if self.sock.fileno() < 0:  # another socket may have its number
            refusals.append(OSError(errno.EBADF, "somebody has closed the socket"))
            return False
        try:
            return self.pump(now)
        except OSError as error:  # the kernel tells it first, but what has come before it is there still
            refusals.append(error.with_traceback(None))
            return True

    def _see_to_the_rest(self, now: float, refusals: list[OSError]) -> None:
        if refusals:
            self._refused(refusals[-1])
        if self.left or self.look_at() <= now:
            self.handle_timers(now)
            self.let_go()
        self._accepted.clear()  # doors are claimed instead
        self.tell()

    def tell(self) -> None:
        """Tells whom it concerns."""
        for connection in self.ready():
            self._tell(connection)

    def _tell(self, connection: EndpointConnection) -> None:
        door = connection.door
        if connection in self.unclaimed and (connection.is_established or connection.gone):
            del self.unclaimed[connection]
            if connection.failure is not None:
                logger.info("%s did not finish its handshake: %s", connection.peer, connection.failure)
            elif connection.is_established and door is not None:
                self.claimed(door)
        if door is not None:
            door._moved()
        if self.connected and connection.gone:
            self.end()

    def let_go(self) -> None:
        """Closes connections that everybody has forgotten, and a client's socket with the only one."""
        while self.left:
            try:
                self.left.popleft().close()
            finally:
                if self.connected:
                    self.end()

    def _refused(self, error: OSError) -> None:
        """What the socket has raised: its own end, or what ICMP says of a peer."""
        if error.errno in (errno.EBADF, errno.ENOTSOCK):
            self.trouble = error
            self._udp.fd = -1  # the number may be somebody else's by now
            self.end()
        elif self.connected:
            for connection in self.connections:
                if not connection.is_established:
                    words = f"{os.strerror(error.errno or 0)} ({connection.peer})"
                    self._end(connection, OSError(error.errno, words))
                elif (door := connection.door) is not None:
                    door._refusal = error
                    self._ready[connection] = None

    def begin(self, address: Any, now: float, **arguments: Any) -> Any:
        """A client's connection, whose handshake has just begun; the arguments are `Endpoint.connect`'s."""
        connection = self.connect(address, now, **arguments)
        if connection.gone:  # there is no way to that address, for instance
            self.wake()
        return self.unclaimed.pop(connection)

    def abandon(self) -> None:
        """Ends an attempt. One that has been finished meanwhile, which nobody has seen, gets its close_notify."""
        try:
            if not self.ended:
                with suppress(Exception):  # a callback's: there is nobody any more to be told
                    self.turn(self.clock())
        finally:
            self.end()

    def end(self) -> None:
        """Closes every connection, and the socket."""
        if self.ended:
            return
        self.ended = True
        try:
            if self.process == os.getpid():
                self._end_all()
        finally:
            self.sock.close()

    def _end_all(self) -> None:
        doors = [connection.door for connection in (*self.connections, *self.ready())]
        try:
            self.close()
        finally:
            self.accepted()
            self.get_timer(0.0)  # which forgets connections that are gone: now, not when the garbage collector comes
            self.unclaimed.clear()
            for door in doors:
                if door is not None:
                    door._moved()

    def __del__(self) -> None:
        """Warn, as sockets do."""
        if not getattr(self, "ended", True) and self.process == os.getpid():
            self.ended = True
            try:
                self.close()
            finally:
                self.sock.close()
            if not self.left:  # otherwise it has been said already
                warnings.warn(f"unclosed DTLS port {self.name}", ResourceWarning, source=self, stacklevel=2)


class AwaitedConnection(Knowledge):
    """A connection whose calls are awaited. What is received waits here; a call that is cancelled has taken nothing."""

    _ends: tuple[type[BaseException], ...] = (errors.DTLSError,)  # what only the end of a connection raises
    _refusal: OSError | None = None  # what ICMP said, for the next call
    _closed = True

    def __init__(self, port: Any, connection: EndpointConnection) -> None:
        self._port: Any = port
        self._connection = connection
        self._closed = False
        connection.serve_as(self)

    @property
    def _association(self) -> EndpointConnection:
        return self._connection

    # ---- what each loop does in its own way ----

    async def _pause(self) -> None:
        """Waits until something may have happened."""
        raise NotImplementedError

    def _moved(self) -> None:
        """Something has happened: whoever waits has a look."""
        raise NotImplementedError

    def _closed_error(self) -> Exception:
        return OSError(errno.EBADF, f"this {type(self).__name__} is closed")

    # ---- waiting ----

    def _check(self) -> None:
        if self._closed:
            raise self._closed_error()
        if self._port.trouble is not None:
            raise OSError(errno.EBADF, f"the socket is closed ({self.peer})") from self._port.trouble
        if self._refusal is not None:
            try:
                raise self._refusal
            finally:
                self._refusal = None

    def _check_on(self) -> None:
        """The same, and raises what has ended the connection."""
        self._check()
        ending = self._ending()
        try:
            if ending is not None:
                raise ending
        finally:
            del ending  # it knows this frame, which would keep it and the connection until the garbage collector comes

    def _ending(self) -> BaseException | None:
        trouble: OSError | None = self._port.trouble
        return self._connection.ending() if trouble is None else errors.again(trouble)

    def _is_its_end(self, error: BaseException) -> bool:
        """Whether what a handler has raised is but what has ended the connection, and no fault of its own."""
        ending = self._ending()
        if ending is None:
            return False
        several = getattr(error, "exceptions", None)  # of a task group
        if several:
            return all(self._is_its_end(each) for each in several)
        if isinstance(error, self._ends):
            return True
        return any(errors.is_again(each, ending) for each in (error, error.__cause__, error.__context__) if each)

    async def _finish_handshake(self) -> None:
        while not self.is_established:
            self._check_on()
            await self._pause()
        if self._connection.failure is not None:
            raise self._connection.ending() or AssertionError

    async def _await_data(self) -> None:
        """Waits until a record is there; raises what ended the connection where none will come."""
        while not self._connection._records:
            self._check_on()
            await self._pause()
        self._check()

    # ---- data ----

    async def send(self, data: Buffer) -> int:
        """Sends `data`, a bytes-like object, as one record in one datagram; returns its length.

        Waits only while the socket's send buffer is full. That the peer has closed is told by `recv`. Raises
        `DatagramTooLarge` above `data_mtu`, ValueError for nothing, `DTLSZeroReturnError` after the end,
        ConnectionRefusedError where the last datagram found nobody listening (the connection goes on), and what ended
        the connection otherwise.
        """
        if self._port.is_others_turn(1):
            await self._port.give_way()
        while True:
            self._check()
            try:
                return self._connection.send(data)
            except errors.DTLSWantWriteError:
                await self._port.room()

    async def send_many(self, buffers: Iterable[Buffer]) -> int:
        """Sends each of some buffers as `send` does, in as few calls as the kernel allows; returns how many there were.

        What raises has sent those before it.
        """
        items = list(buffers)
        if self._port.is_others_turn(len(items)):
            await self._port.give_way()
        done = 0
        while done < len(items):
            self._check()
            try:
                done += self._connection.send_many(items[done:])
            except errors.DTLSWantWriteError:
                await self._port.room()
        return done

    async def recv(self) -> bytes:
        """Receives one record, whole; `b""` after the peer's close_notify, or its silence for `idle_timeout`.

        A call that is cancelled has taken nothing. Raises ConnectionRefusedError where our last datagram found nobody
        listening (the connection goes on), what ended the connection, and OSError (EBADF) after `close`.
        """
        try:
            await self._await_data()
        except errors.DTLSZeroReturnError:
            return b""
        return self._connection._records.pop(0)

    async def recv_many(self, max: int = 64) -> list[bytes]:  # noqa: A002 - what it is
        """Receives what is there, at least one record and `max` at the most; `[]` where `recv` gives `b""`."""
        most = checked_max(max)
        try:
            await self._await_data()
        except errors.DTLSZeroReturnError:
            return []
        received = self._connection._records
        taken = received[:most]
        del received[:most]
        return taken

    def __aiter__(self) -> Self:
        """Receive until the end."""
        return self

    async def __anext__(self) -> bytes:
        """The next record."""
        data = await self.recv()
        if not data:
            raise StopAsyncIteration
        return data

    def pending(self) -> int:
        """How many bytes the next `recv` can give at once; 0 where it would wait."""
        received = self._connection._records
        return len(received[0]) if received else 0

    def getpeername(self) -> Any:
        """The peer's address."""
        return self._connection.address

    def getsockname(self) -> Any:
        """The address of the UDP socket beneath, which a server's connections share."""
        return self._port.name

    # ---- the end ----

    def close(self) -> None:
        """Sends close_notify, once, and nothing after it; nobody is waited for. Whoever waits, and later calls, fail.

        A client's own UDP socket is closed, too.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if self._port.process == os.getpid():
                self._say_goodbye()
        finally:
            if self._port.connected:
                self._port.end()

    def _say_goodbye(self) -> None:
        try:
            self._connection.close()
        finally:
            self._moved()

    async def aclose(self) -> None:
        """`close`."""
        self.close()

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.aclose()

    def __repr__(self) -> str:
        """Name the peer."""
        return f"<{type(self).__name__} with {self.peer}{', closed' if self._closed else ''}>"

    def __del__(self) -> None:
        """Warn, as sockets do, and have it closed; this may happen in any thread."""
        if self._closed or self._connection.gone or self._port.ended or self._port.process != os.getpid():
            return
        words = f"unclosed {self!r}"
        self._closed = True
        self._port.left.append(self._connection)
        self._port.wake()
        warnings.warn(words, ResourceWarning, source=self, stacklevel=2)


def is_cancelled() -> bool:
    """Whether the task itself has been cancelled, and not what it waits for: asyncio has one word for both."""
    try:
        task: Any = asyncio.current_task()
    except RuntimeError:  # trio's
        return True
    return bool(getattr(task, "cancelling", lambda: 1)() > 0)  # before 3.11 nobody knows
