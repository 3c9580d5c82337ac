"""The door of trio and of asyncio through anyio: `connect`, and `serve` with a task for each client.

A client has no task of its own: whoever waits for it reads from the socket and minds the timers, and others wait for
that one. A server's `serve` does this for all its connections.
"""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import SocketAttribute, TaskStatus, UnreliableObjectStream
from anyio.streams.tls import TLSAttribute

from .awaiting import AwaitedConnection, is_cancelled
from .binding import Binding, made_of, open_client, ways
from .core import errors
from .core.arguments import check_handler
from .core.association import check_client, check_side, identity_of
from .core.batches import Buffer
from .core.context import DTLSContext
from .core.endpoint_connection import EndpointConnection
from .core.limits import ClientLimits, ServerLimits
from .core.pins import Fingerprints, Keys
from .core.session import DTLSSession
from .ordering import ATTEMPT_DELAY
from .turning import AwaitedPort, ServerFace

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["DTLSAttribute", "DTLSServerPort", "DTLSStream", "connect", "serve"]

logger = logging.getLogger("dtlsffi.server")
PAUSE = 0.1  # seconds without looking at a socket behind which something has just failed


class Port(AwaitedPort):
    """A UDP socket that is turned by whoever waits for it; the timers ride anyio's clock."""

    def __init__(self, sock: socket.socket, context: DTLSContext | None, **more: Any) -> None:
        super().__init__(sock, context, **more)
        self._descriptor = self.sock.fileno()
        self.led = False  # somebody turns it just now
        self._followers: list[anyio.Event] = []  # of whom the first turns it next
        self._writing = anyio.Lock()

    def make_door(self, connection: EndpointConnection) -> AwaitedConnection:
        """A stream."""
        return DTLSStream._create(self, connection)

    def claimed(self, door: AwaitedConnection) -> None:
        """Nobody: a client has no clients."""

    def clock(self) -> float:
        """The one of the loop that runs."""
        return anyio.current_time()

    async def wait(self) -> None:
        """Waits until the socket or the timer is ready, and does what there is to do."""
        timer = self.get_timer(anyio.current_time())
        with suppress(anyio.ClosedResourceError), anyio.move_on_after(math.inf if timer is None else timer):
            await (anyio.wait_readable(self.sock) if self.sock.fileno() >= 0 else anyio.lowlevel.checkpoint())
        self.turn(anyio.current_time())

    def glance(self) -> None:
        """Does what there is to do without waiting, where nobody waits: who only sends has to hear of the end, too."""
        if not self.led:
            self.turn(anyio.current_time())

    async def follow(self, waiters: list[anyio.Event]) -> None:
        """Waits until something may have happened: by turning the port, or for the one who does."""
        if not self.led:
            self.led = True
            try:
                await self.wait()
            finally:
                self.led = False
                self.wake()
            return
        event = anyio.Event()
        for queue in (waiters, self._followers):
            queue.append(event)
        try:
            await event.wait()
        finally:
            for queue in (waiters, self._followers):
                queue.remove(event)
            self.wake()  # it may have been this one's turn, and perhaps it has what it wanted, or is cancelled

    def wake(self) -> None:
        """Has the next one turn the port, where nobody does; where there is nobody, what is forgotten is let go of."""
        if self.led:
            return
        if self._followers:
            self._followers[0].set()
        else:
            self.let_go()

    async def room(self) -> None:
        """Waits until the socket's send buffer has room."""
        async with self._writing:
            if self.sock.fileno() >= 0:
                with suppress(anyio.ClosedResourceError):
                    await anyio.wait_writable(self.sock)

    def end(self) -> None:
        """Closes every connection, and the socket."""
        if not self.ended:
            if self.process == os.getpid():  # a child's loop is its parent's, too
                with suppress(Exception):  # outside of any loop, where a finalizer may be, nobody waits
                    anyio.notify_closing(self._descriptor)
            super().end()
            for event in self._followers:
                event.set()


class ServerPort(Port):
    """A port whose connections go to a handler."""

    new: Callable[[Any], object]

    async def wait(self) -> None:
        """The same; what a callback raises is logged, and ends nobody else."""
        try:
            await super().wait()
        except Exception:
            logger.exception("something went wrong behind %s, which goes on", self.sock)
            await anyio.sleep(PAUSE)

    def claimed(self, door: AwaitedConnection) -> None:
        """Gives a client to the handler."""
        self.new(door)


class DTLSServerPort(ServerFace["DTLSStream"]):
    """What `serve` tells its task group of. When it is closed, `serve` returns as soon as its handlers have ended."""

    def __init__(self, port: ServerPort) -> None:
        self._port = port


class DTLSAttribute(anyio.TypedAttributeSet):
    """What a DTLS stream knows beyond anyio's own attributes."""

    connection: DTLSStream = anyio.typed_attribute()
    """The stream itself, with every method of `Knowledge`: what can be asked of any connection."""
    data_mtu: int = anyio.typed_attribute()
    """The largest data that `send` takes, in bytes."""
    mtu: int = anyio.typed_attribute()
    """The ceiling for a datagram's UDP payload, in bytes."""
    psk_identity: str | None = anyio.typed_attribute()
    """The identity of the pre-shared key in use."""
    session: DTLSSession | None = anyio.typed_attribute()
    """The session, for a later connection to resume."""
    session_reused: bool = anyio.typed_attribute()
    """Whether an earlier session was resumed."""
    srtp_profile: str | None = anyio.typed_attribute()
    """The SRTP protection profile agreed on."""
    statistics: dict[str, int] = anyio.typed_attribute()
    """The counters of the connection."""


class DTLSStream(AwaitedConnection, UnreliableObjectStream[bytes]):
    """A connection under trio or asyncio; from `connect`, or given to `serve`'s handler.

    It is an `anyio.abc.UnreliableObjectStream`, since UDP loses and reorders what it carries: one `send` is one record
    in one datagram, one `receive` returns one record, and raises `anyio.EndOfStream` after the peer's close_notify,
    `anyio.ClosedResourceError` after `aclose`, and `anyio.BrokenResourceError` from what has ended the connection
    otherwise. `recv` has the manners of `ssl`.
    """

    _made_by = "dtlsffi.anyio.connect()"
    _waiters: list[anyio.Event]
    _port: Port

    async def _pause(self) -> None:
        await self._port.follow(self._waiters)

    async def _await_data(self) -> None:
        await anyio.lowlevel.checkpoint()
        await super()._await_data()

    def _moved(self) -> None:
        for event in self._waiters:
            event.set()

    def _closed_error(self) -> Exception:
        return anyio.ClosedResourceError(f"this {type(self).__name__} is closed")

    @contextmanager
    def _as_broken(self) -> Iterator[None]:
        """What has ended the connection is anyio's exception."""
        try:
            yield
        except OSError as error:
            if self._ending() is None:
                raise
            raise anyio.BrokenResourceError(str(error)) from error

    async def send(self, item: Buffer) -> int:  # type: ignore[override]
        """Sends `item`, a bytes-like object, as one record in one datagram; returns its length.

        Waits only while the socket's send buffer is full. Raises `DatagramTooLarge` above `data_mtu`, ValueError for
        nothing, ConnectionRefusedError where the last datagram found nobody listening (the connection goes on),
        `anyio.ClosedResourceError` after `aclose`, `anyio.BrokenResourceError` where it has ended otherwise.
        """
        await anyio.lowlevel.checkpoint()
        self._port.glance()
        with self._as_broken():
            return await super().send(item)

    async def send_many(self, buffers: Iterable[Buffer]) -> int:
        """Sends each of some buffers as `send` does, in as few calls as the kernel allows; returns how many have gone.

        That is fewer than given where one fails, as one that is too large does. If none was sent, it raises what `send`
        does. A call that is cancelled may have sent some.
        """
        await anyio.lowlevel.checkpoint()
        self._port.glance()
        with self._as_broken():
            return await super().send_many(buffers)

    async def receive(self) -> bytes:
        """Receives one record, whole. A call that is cancelled has taken nothing."""
        with self._as_broken():
            try:
                await self._await_data()
            except errors.DTLSZeroReturnError as end:
                raise anyio.EndOfStream from end
        return self._connection._records.pop(0)

    async def __anext__(self) -> bytes:
        """The next record."""
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Sends close_notify, once; nobody is waited for. A client's own UDP socket is closed, too."""
        self.close()
        await anyio.lowlevel.checkpoint()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The typed attributes of sockets, of TLS and of DTLS: `anyio.TypedAttributeProvider`."""
        return {
            SocketAttribute.family: lambda: self._port.sock.family,
            SocketAttribute.local_address: lambda: self.getsockname()[:2],
            SocketAttribute.local_port: lambda: self.getsockname()[1],
            SocketAttribute.raw_socket: lambda: self._port.sock,
            SocketAttribute.remote_address: lambda: self.getpeername()[:2],
            SocketAttribute.remote_port: lambda: self.getpeername()[1],
            TLSAttribute.alpn_protocol: self.selected_alpn_protocol,
            TLSAttribute.channel_binding_tls_unique: self.get_channel_binding,
            TLSAttribute.cipher: self.cipher,
            TLSAttribute.peer_certificate: self.getpeercert,
            TLSAttribute.peer_certificate_binary: lambda: self.getpeercert(True),
            TLSAttribute.server_side: lambda: self.server_side,
            TLSAttribute.shared_ciphers: self.shared_ciphers,
            TLSAttribute.ssl_object: lambda: self,
            TLSAttribute.standard_compatible: lambda: True,
            TLSAttribute.tls_version: self.version,
            DTLSAttribute.connection: lambda: self,
            DTLSAttribute.data_mtu: lambda: self.data_mtu,
            DTLSAttribute.mtu: lambda: self.mtu,
            DTLSAttribute.psk_identity: lambda: self.psk_identity,
            DTLSAttribute.session: lambda: self.session,
            DTLSAttribute.session_reused: lambda: self.session_reused,
            DTLSAttribute.srtp_profile: self.selected_srtp_profile,
            DTLSAttribute.statistics: self.statistics,
        }


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
) -> DTLSStream:
    """Connects to a server, and finishes the handshake: arguments and errors are those of `dtlsffi.asyncio.connect`."""
    arguments = identity_of(host, context, server_hostname, session, verify_fingerprint, verify_public_key)
    check_client(**arguments)
    port_of = partial(Port, context=None, connected=True, **limits)

    async def attempt(place: Any, source: Any) -> DTLSStream:
        stream: DTLSStream = await made_of(open_client(place, source), port_of).reach(place[4], **arguments)
        return stream

    return await Race(attempt).winner(await ways(anyio.getaddrinfo, (host, port), local_addr, family))


class Race:
    """Attempts at several addresses, each begun when the last has failed or had its time: RFC 8305."""

    def __init__(self, attempt: Callable[[Any, Any], Awaitable[DTLSStream]]) -> None:
        self._attempt = attempt
        self._won: DTLSStream | None = None
        self._failure: BaseException = OSError("getaddrinfo returns an empty list")
        self._final = False

    async def winner(self, ways: list[tuple[Any, Any]]) -> DTLSStream:
        """The first to finish its handshake; raises the last failure where all have failed."""
        try:
            async with anyio.create_task_group() as group:
                for way in ways:
                    over = anyio.Event()
                    group.start_soon(self._try, way, over, group.cancel_scope)
                    with anyio.move_on_after(ATTEMPT_DELAY):
                        await over.wait()
        except BaseException:
            if self._won is not None:
                self._won.close()
            raise
        return self._hand_over()

    def _hand_over(self) -> DTLSStream:
        """The winner, which is kept no longer: a loop may keep the race for a while, in the traceback of its end."""
        won, self._won = self._won, None
        if won is None:
            try:
                raise self._failure
            finally:
                del self._failure  # it knows frames that know this
        return won

    async def _try(self, way: tuple[Any, Any], over: anyio.Event, scope: anyio.CancelScope) -> None:
        try:
            conn = await self._attempt(*way)
        except Exception as error:  # noqa: BLE001 - raised by winner()
            if not self._final:
                self._failure = error
            if isinstance(error, errors.DTLSCertVerificationError):
                self._final = True
                scope.cancel()
        else:
            if self._won is None:
                self._won = conn
                scope.cancel()
            else:
                conn.close()
        finally:
            over.set()


async def serve(
    handler: Callable[[DTLSStream], Awaitable[object]],
    local_host: str | None = None,
    local_port: int | None = None,
    *,
    context: DTLSContext,
    sock: socket.socket | None = None,
    family: int | None = None,
    reuse_port: bool = False,
    dualstack_ipv6: bool = False,
    task_status: TaskStatus[DTLSServerPort] = anyio.TASK_STATUS_IGNORED,
    **limits: Unpack[ServerLimits],
) -> None:
    """Serves any number of clients on a UDP port, until cancelled: `await handler(stream)` in a task for each.

    The arguments are those of `dtlsffi.asyncio.serve`. `await group.start(...)` returns a `DTLSServerPort`, with
    `getsockname()`, `connections`, `statistics()` and `close()`. The handler is called when a client's handshake is
    finished; when it ends, its stream is closed. What it raises is logged (`dtlsffi.server`) and ends nothing else.
    When `serve` is cancelled, all connections are closed with close_notify.

    Raises OSError where the address cannot be had; TypeError, ValueError or OverflowError for senseless arguments.
    """
    check_handler(handler)
    check_side(context, True, None, None)
    bind = Binding(local_host, local_port, sock, family, reuse_port, dualstack_ipv6)
    port = await bind.open(anyio.getaddrinfo, partial(ServerPort, context=context, **limits))
    try:
        async with anyio.create_task_group() as group:
            port.new = lambda stream: group.start_soon(handle, handler, stream)
            port.led = True
            task_status.started(DTLSServerPort(port))
            while not port.ended:
                await port.wait()
    finally:
        port.end()
    if port.trouble is not None:
        raise port.trouble


async def handle(handler: Callable[[DTLSStream], Awaitable[object]], stream: DTLSStream) -> None:
    """One client, to its end."""
    try:
        async with stream:
            try:
                with stream._excused():
                    await handler(stream)
            except anyio.get_cancelled_exc_class():
                if is_cancelled():
                    raise
                logger.exception("the handler of %s was cancelled by something of its own", stream.peer)
    except Exception:
        logger.exception("the handler of %s failed", stream.peer)
