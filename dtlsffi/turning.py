"""A UDP port that its event loop turns, with the endpoint behind it: what those of all event loops have in common."""

from __future__ import annotations

import errno
import logging
import os
import socket
import warnings
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .binding import scoped
from .core.context import DTLSContext
from .core.endpoint import Endpoint
from .core.endpoint_connection import EndpointConnection
from .core.errors import from_errno, in_words
from .core.limits import ServerLimits

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .awaiting import AwaitedConnection

D = TypeVar("D")  # a connection as its loop has it
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
        self,
        sock: socket.socket,
        context: DTLSContext | None,
        *,
        connected: bool = False,
        **limits: Unpack[ServerLimits],
    ) -> None:
        super().__init__(context, fileno=sock.fileno(), **limits)
        sock.setblocking(False)
        self.sock = socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self._udp.connected = connected
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
        try:
            if self.left or self.look_at() <= now:
                self.handle_timers(now)
                self.let_go()
        finally:  # also where a callback has raised something: whoever has been ended is to hear of it
            self._accepted.clear()  # doors are claimed instead
            self.tell()

    def tell(self) -> None:
        """Tells whom it concerns."""
        for connection in self.ready():
            self._tell(connection)

    def _tell(self, connection: EndpointConnection) -> None:
        door = connection._subject()
        if connection in self.unclaimed and (connection.is_established or connection.gone):
            del self.unclaimed[connection]
            if connection.failure is not None:
                logger.info("%s did not finish its handshake: %s", connection.peer, in_words(connection.failure))
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
                connection.follow_path()
                if not connection.is_established:
                    if error.errno != errno.EMSGSIZE:  # else its flight is sent again, in smaller datagrams
                        self._end(connection, from_errno(error.errno or 0, connection.peer))
                elif (door := connection._subject()) is not None:
                    door._refusal = from_errno(error.errno or 0, connection.peer)
                    self._ready[connection] = None

    def start(self, address: Any, **arguments: Any) -> Any:
        """A client's connection, whose handshake has just begun; the arguments are `Endpoint.connect`'s."""
        connection = self.connect(address, self.clock(), **arguments)
        if connection.gone:  # there is no way to that address, for instance
            self.wake()
        return self.unclaimed.pop(connection)

    async def reach(self, address: Any, **arguments: Any) -> Any:
        """The same when its handshake is finished; the port ends where that fails."""
        try:
            conn = self.start(scoped(address), **arguments)
            await conn._finish_handshake()
        except BaseException:
            self.abandon()
            raise
        return conn

    def abandon(self) -> None:
        """Ends an attempt. One that has been finished meanwhile, which nobody has seen, gets its close_notify."""
        try:
            if not self.ended:
                with suppress(Exception):  # a callback's: there is nobody any more to be told
                    self.turn(self.clock())
                for connection in self.connections:
                    if not connection.is_established:  # whoever has given up is told nothing else of why
                        connection._unfinished(round(self.clock() - connection._begun, 1))
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
            with suppress(OSError):  # somebody else has closed it
                self.sock.close()

    def _end_all(self) -> None:
        doors = [connection._subject() for connection in (*self.connections, *self.ready())]
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


class ServerFace(Generic[D]):
    """What a server shows of its port."""

    _port: Any

    @property
    def connections(self) -> list[D]:
        """The connections whose handlers are running."""
        doors = (connection._subject() for connection in self._port.connections if connection.is_established)
        return [door for door in doors if door is not None]

    def getsockname(self) -> Any:
        """The address it is bound to."""
        return self._port.name

    def statistics(self) -> dict[str, int]:
        """`Endpoint.statistics`."""
        counters: dict[str, int] = self._port.statistics()
        return counters

    def close(self) -> None:
        """Closes all connections with close_notify, and the socket; nobody is waited for. Handlers see the end."""
        self._port.end()

    def __repr__(self) -> str:
        """Name the address."""
        return f"<{type(self).__name__} {self._port.name}{', closed' if self._port.ended else ''}>"
