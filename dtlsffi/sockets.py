"""The blocking door: DTLS over one connected UDP socket, with the manners of `ssl.SSLSocket`."""

from __future__ import annotations

import _socket
import errno
import os
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from .binding import check_open
from .core.address import named
from .core.arguments import checked_max
from .core.batches import Buffer
from .core.carrier import WANT_READ, Carrier, equip_socket
from .core.connection import Connection
from .core.context import DTLSContext
from .core.errors import DTLSError, DTLSWantWriteError, DTLSZeroReturnError, HandshakeTimeout, make
from .lingering import Lingering, T
from .made import Door
from .manners import Manners, room_in, size_of
from .waiting import Deadline

__all__ = ["DTLSSocket"]

Socket = socket.socket  # whatever somebody puts into its place later, as gevent does


class DTLSSocket(Lingering, Manners, Door, Socket):
    """A UDP socket that speaks DTLS with one peer; from `DTLSContext.wrap_socket` or `create_connection`.

    It is a `socket.socket`, and has the methods of `ssl.SSLSocket`. One `send` is one record in one datagram, and one
    `recv` returns one record. A timeout covers a whole call, with all its retransmissions; in non-blocking mode
    (`settimeout(0)`) calls raise `DTLSWantReadError`, and `get_timer` and `handle_timer` say when the handshake has to
    be moved on. One thread may send while another receives.
    """

    _made_by = "DTLSContext.wrap_socket() or dtlsffi.create_connection()"

    @classmethod
    def _create(
        cls, sock: socket.socket, context: DTLSContext, *, do_handshake_on_connect: bool, **arguments: Any
    ) -> DTLSSocket:
        """Over a UDP socket, which is used up; `arguments` are `Connection`'s."""
        if not issubclass(Socket, _socket.socket):
            raise RuntimeError(
                "socket.socket was replaced (by gevent, eventlet?) before dtlsffi was imported: import dtlsffi first, "
                "or use a DTLSListener (neither is possible with eventlet), an Endpoint or a Connection"
            )
        peer = peer_of(sock)
        timeout = sock.gettimeout()
        if do_handshake_on_connect and timeout == 0 and peer is not None:
            raise ValueError("do_handshake_on_connect should not be specified for non-blocking sockets")
        name = "" if peer is None else describe(peer, arguments["server_hostname"])
        connection = Connection(context, peer=name, fileno=sock.fileno(), **arguments)
        kind = (sock.family, sock.type, sock.proto)
        self = cls.__new__(cls)
        Socket.__init__(self, *kind, fileno=sock.detach())
        Socket.settimeout(self, None)  # nothing waits but what is to: the rest says MSG_DONTWAIT
        self._connection = connection
        self._carrier = Carrier(connection, self.fileno(), threading.RLock())
        connection._serve_as(self)
        self._timeout = timeout
        self._handshake_lock = threading.RLock()  # a callback that tries to is told that it cannot
        self._shakes, self._met = do_handshake_on_connect, peer is not None
        self._ready = self._ended = self._left = False
        self._waiting = []
        self._process = os.getpid()
        if self._shakes and self._met:
            try:
                self.do_handshake()
            except BaseException:
                self.close()
                raise
        return self

    # Slots, since Python is slow to find any other attribute of what inherits from a socket.
    __slots__ = (
        "_carrier", "_connection", "_ended", "_handshake_lock", "_left", "_met", "_process", "_ready", "_shakes",
        "_timeout", "_waiting",
    )  # fmt: skip
    _carrier: Carrier
    _handshake_lock: Any
    _met: bool  # it is connected to its peer
    _ready: bool  # the handshake is finished
    _shakes: bool  # the handshake follows when it is connected
    _process: int

    # ---- waiting ----

    def get_timer(self) -> float | None:
        """Seconds until `handle_timer` is due, or None: for use without blocking."""
        return self._connection.get_timer()

    def handle_timer(self) -> None:
        """Sends the last flight again if its timer has run out: `Connection.handle_timer`."""
        self._check_open()
        self._connection.handle_timer()

    # ---- the handshake ----

    def connect(self, address: Any) -> None:
        """Connects a client's UDP socket that was not when it was wrapped, and shakes hands, as `ssl.SSLSocket` does.

        Without blocking, or where it was wrapped with `do_handshake_on_connect=False`, `do_handshake` is left to do.
        Raises ValueError if it is connected already, OSError where there is no way to `address` (and may be called
        again then), and what `do_handshake` raises, which may be called again.
        """
        with self._handshake_lock:
            self._check_open()
            if self._met:
                raise ValueError(f"attempt to connect already-connected {type(self).__name__}!")
            if self._process != os.getpid():
                raise make(DTLSError, "USED_AFTER_FORK", "the socket belongs to the parent process: make one anew")
            super().connect(address)
            peer = peer_name(self)
            if peer is None:
                raise OSError(errno.EADDRNOTAVAIL, f"there is no port 0 to connect to ({address!r})")
            self._carrier.meet(describe(peer, self.server_hostname))
            self._met = True
        if self._shakes and self._timeout != 0:
            self.do_handshake()

    def connect_ex(self, address: Any) -> int:
        """`connect`, but returns the number of an OSError that is the system's; 0 where there is none."""
        try:
            self.connect(address)
        except (DTLSError, socket.gaierror):
            raise
        except OSError as error:
            if error.errno is None:
                raise
            return error.errno
        return 0

    def do_handshake(self, block: bool = False) -> None:
        """Finishes the handshake; raises `HandshakeTimeout` when the timeout, with all retransmissions, has expired.

        Without blocking it does one step, and raises `DTLSWantReadError` until it is finished. With `block` a
        non-blocking socket waits without limit, as in `ssl`. Raises `DTLSCertVerificationError` or another `DTLSError`
        where it fails, and ConnectionRefusedError where nothing listens; it may be tried again then.
        """
        self._check_open()
        self._shake_hands(Deadline(None if block and self._timeout == 0 else self._timeout))

    def _check_met(self) -> None:
        if not self._met:
            raise OSError(errno.ENOTCONN, f"this {type(self).__name__} is not connected: call its connect() first")

    def _shake_hands(self, deadline: Deadline) -> None:
        if self._ready:
            return
        self._check_met()
        left = deadline.left()
        if not self._handshake_lock.acquire(timeout=-1 if left is None else left):
            self._give_up(deadline)
        try:
            if not self._ready:  # by another thread, meanwhile
                self._retry(self._connection.do_handshake, deadline)
                self._carrier.allow()
                self._ready = True
        except TimeoutError as error:
            if isinstance(error, HandshakeTimeout) or self._connection.is_callbacks(error):
                raise
            self._give_up(deadline)
        finally:
            self._handshake_lock.release()

    def _give_up(self, deadline: Deadline) -> NoReturn:
        error = self._connection._unfinished(deadline.timeout)
        try:
            raise error from None
        finally:
            del error  # it knows this frame, which would keep it and the socket until the garbage collector comes

    def _ready_within(self, deadline: Deadline, flags: int) -> None:
        """What every call that moves data begins with: as in ssl, the handshake if it has not been done."""
        self._check_flags(flags)
        if not self._ready:
            self._check_open()
            self._shake_hands(deadline)

    # ---- data ----

    def send(self, data: Any, flags: int = 0) -> int:
        """Sends `data`, a bytes-like object, as one record in one datagram; returns its length.

        Raises `DatagramTooLarge` above `data_mtu`, ValueError for nothing, TimeoutError where the socket's buffer
        stays full, ConnectionRefusedError where the last datagram found nobody listening (the connection goes on).
        It does not read from the socket: only `recv` notices that the peer has closed.
        """
        raise NotImplementedError  # socket_methods.c

    def _send(self, data: Any, flags: int = 0) -> int:
        """`send`, whatever is in its way."""
        deadline = Deadline(self._timeout)
        self._ready_within(deadline, flags)
        return self._retry(lambda: self._connection.send(data), deadline)

    def _sent(self, answer: int, data: Any) -> int:
        """`send`, where C has got an answer that is no length, or a callback has raised something."""
        try:
            return self._connection._sent(answer, [data])
        except DTLSWantWriteError:
            if self._timeout == 0:
                raise
        return self._send(data)

    def _send_some(self, buffers: list[Buffer], deadline: Deadline) -> int:
        return self._retry(lambda: self._carrier.send(buffers), deadline)

    def recv(self, bufsize: int | None = None, flags: int = 0) -> bytes:
        """Receives one record, whole; `b""` after the peer's close_notify.

        A record of more than `bufsize` bytes raises `DatagramTooLarge`, and is kept for the next call. Raises
        TimeoutError, and ConnectionRefusedError where our last datagram found nobody listening (the connection
        goes on).
        """
        raise NotImplementedError  # socket_methods.c

    def _recv(self, bufsize: int | None = None, flags: int = 0) -> bytes:
        """`recv`, whatever is in its way."""
        limit = size_of(bufsize)
        if limit == 0:
            self._check_call(flags)
            return b""
        return self._receive(lambda: self._carrier.read(limit), b"", flags)

    def _not_received(self, answer: int, limit: int, begin: float) -> bytes:
        """`recv`, where C has got no record, or a callback has raised something; it has waited since `begin`."""
        return self._go_on(lambda: self._carrier.read(limit), b"", answer, limit, begin)

    def _receive(self, read: Callable[[], T], end: T, flags: int = 0, begin: float | None = None) -> T:
        """What `read` returns, or `end` after the peer's close_notify."""
        deadline = Deadline(self._timeout, begin)
        try:
            self._ready_within(deadline, flags)
            return self._retry(read, deadline)
        except DTLSZeroReturnError:
            self._check_open()  # otherwise it is our own end
            return end

    def _go_on(self, read: Callable[[], T], end: T, answer: int, limit: int, begin: float) -> T:
        """`_receive`, unless C has said more than that there is nothing yet, or a callback has raised something."""
        try:
            if answer != WANT_READ or self._connection._parked is not None:
                self._carrier.not_read(answer, limit)
        except DTLSZeroReturnError:
            self._check_open()
            return end
        return self._receive(read, end, begin=begin)

    def recv_many(self, max: int = 1024) -> list[bytes]:  # noqa: A002 - what it is
        """Receives what is there, at least one record and `max` at the most; `[]` where `recv` gives `b""`.

        From the first call on the kernel may coalesce datagrams (UDP_GRO), so nobody else can read from the descriptor
        until `unwrap` or `detach`. Raises what `recv` does.
        """
        most = checked_max(max)
        return self._receive(partial(self._carrier.receive, most), [])

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """`recv` into a writable buffer, into its first `nbytes` bytes where given; returns the record's length."""
        raise NotImplementedError  # socket_methods.c

    def _recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """`recv_into`, whatever is in its way."""
        size = room_in(buffer, nbytes).nbytes
        if size == 0:
            self._check_call(flags)
            return 0
        return self._receive(lambda: self._carrier.read_into(buffer, size), 0, flags)

    def _not_received_into(self, answer: int, buffer: Any, size: int, begin: float) -> int:
        """`_not_received` of `recv_into`."""
        return self._go_on(lambda: self._carrier.read_into(buffer, size), 0, answer, size, begin)

    def pending(self) -> int:
        """How many bytes `recv` can give at once, without looking at the socket."""
        return self._carrier.pending()

    def statistics(self) -> dict[str, int]:
        """`Connection.statistics`, and what the kernel has cut for `send_many` and joined for `recv_many`."""
        return super().statistics() | self._carrier.statistics()

    # ---- the end ----

    def unwrap(self) -> socket.socket:
        """Ends DTLS with close_notify, without waiting for the peer's, and returns the plain UDP socket.

        If another thread waits in `recv` at that moment, it is woken, and the plain socket can no longer receive: the
        system has no other way to wake it.
        """
        self._check_open()
        kind = (self.family, self.type, self.proto)
        timeout = self._timeout
        plain = socket.socket(*kind, fileno=self.detach())
        plain.settimeout(timeout)
        return plain

    def _say_goodbye(self) -> None:
        self._check_met()
        self._connection.close()

    def _end_receiving(self) -> None:
        self._check_met()
        self._ended = True
        self._carrier.forbid_reading()
        if self._process == os.getpid():  # see _leave()
            Socket.shutdown(self, socket.SHUT_RD)

    def _leave(self, wake: int = socket.SHUT_RDWR) -> None:
        """Says goodbye, wakes whoever waits, and lets go of the descriptor while it is still ours."""
        self._left = True
        try:
            self._connection.close()
        finally:
            self._carrier.release()
            # A child's copy must not shut down the socket that its parent goes on using.
            if (self._waiting or self._carrier.is_waited_for) and self._process == os.getpid():
                Socket.shutdown(self, wake)

    def close(self) -> None:
        """Sends close_notify, once, and closes the socket without waiting for the peer. Later calls raise OSError."""
        if self.fileno() >= 0:
            try:
                self._leave()
            finally:
                super().close()

    def detach(self) -> int:
        """Ends DTLS as `unwrap` does, and returns the descriptor, which is the caller's to close."""
        self._check_open()
        self._leave(socket.SHUT_RD)
        descriptor = super().detach()
        os.set_blocking(descriptor, self._timeout is None)
        return descriptor


equip_socket(DTLSSocket)
DTLSContext.dtlssocket_class = DTLSSocket


def peer_of(sock: socket.socket) -> Any:
    """What a UDP socket is connected to; None if nothing. ValueError or OSError for one that cannot be wrapped."""
    check_open(sock)
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) != socket.SOCK_DGRAM:
        raise ValueError(f"DTLS needs a UDP socket (SOCK_DGRAM), not {sock.type.name}; for TCP there is the ssl module")
    if isinstance(sock, DTLSSocket):
        raise ValueError("the socket speaks DTLS already")
    return peer_name(sock)


def peer_name(sock: socket.socket) -> Any:
    """What a socket is connected to, or None."""
    try:
        return sock.getpeername()
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
    return None


def describe(address: Any, name: str | None) -> str:
    """A peer's address for a message, with the name it goes by."""
    if not isinstance(address, tuple):  # of a local socket
        return name or str(address) or "the peer"
    return named(address, name)
