"""What a listener has accepted: connections behind one UDP port, which its engine moves on."""

from __future__ import annotations

import os
import socket
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from .core import errors
from .core.arguments import checked_max
from .core.batches import Buffer
from .core.connection import Connection
from .core.endpoint_connection import EndpointConnection
from .made import Served
from .manners import Manners, room_in, size_of
from .waiting import Deadline

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["DTLSServerConnection"]

T = TypeVar("T")


class DTLSServerConnection(Manners, Served):
    """One peer of a `DTLSListener`, with the methods of `DTLSSocket` that need no socket of their own.

    `DTLSListener.accept` returns it before its handshake is finished: `do_handshake`, or the first `send` or `recv`,
    waits for that. One `send` is one record in one datagram, and one `recv` returns one record. A timeout covers a
    whole call; without blocking calls raise `DTLSWantReadError`. Any thread may call any method. Callbacks run in the
    listener's thread, `trace` also in one that sends, and cannot wait.
    """

    _made_by = "DTLSListener.accept()"
    _connection: EndpointConnection
    _engine: Engine
    _changed: threading.Condition
    _ready: bool  # the handshake is finished
    _ended: bool  # shutdown() has stopped us from receiving
    _told: bool  # that it is over: all that came before has been handed out
    _rooms: int  # how often there was room again in the socket's send buffer
    _listener: object = None  # kept for as long as somebody has its connection
    _closed = True

    @classmethod
    def _create(cls, connection: EndpointConnection, engine: Engine) -> DTLSServerConnection:
        self = cls.__new__(cls)
        self._connection, self._engine = connection, engine
        self._timeout = socket.getdefaulttimeout()
        self._changed = threading.Condition()
        self._ready = self._ended = self._told = self._closed = False
        self._rooms = 0
        connection._serve_as(self)
        return self

    def _moved(self, *, room: bool = False) -> None:
        """The listener's thread tells that something has happened."""
        with self._changed:
            self._ready = self._ready or self._connection.is_established
            self._told = self._connection._ending() is not None
            self._rooms += room
            self._changed.notify_all()

    def _end(self) -> None:
        """The listener's thread tells that it is over, and that the socket will be closed."""
        self._closed = True
        self._moved()

    def _check_open(self) -> None:
        self._engine.check()
        if self._closed:
            raise self._closed_error() from self._engine.trouble

    def _over(self) -> BaseException | None:
        """What has ended it, if anything has, in the terms of an exception."""
        if self._ended and self._connection.failure is None:
            return errors.make(errors.DTLSZeroReturnError, "PROTOCOL_IS_SHUTDOWN", "the connection is closed")
        return self._connection._ending() if self._told else None

    def _its_end(self, error: BaseException) -> str:
        """The listener's end, too."""
        endings = [self._over(), self._closed_error() if self._engine.stopping else None]
        return str(error) if any(ending is not None and errors.is_end(error, ending) for ending in endings) else ""

    def _until(self, look: Callable[[], T | None], deadline: Deadline) -> T:
        """Waits until `look` finds something; raises what ends the connection, or the waiting."""
        self._check_open()
        with self._changed:
            while True:
                self._check_open()
                over = self._over()  # asked first: what came before the end is found below
                found = look()
                if found is not None:
                    return found
                if over is not None:
                    try:
                        raise over
                    finally:
                        del over  # it knows this frame, and that the connection
                if deadline.timeout == 0:
                    words = "nothing yet: a datagram has to come first"
                    raise errors.make(errors.DTLSWantReadError, "WANT_READ", words)
                self._engine.wait(self._changed, deadline)

    def do_handshake(self, block: bool = False) -> None:
        """Waits until the handshake, which goes on by itself, is finished.

        Raises `HandshakeTimeout` when the timeout is over (it may be tried again, until the listener's
        `handshake_timeout`), without blocking `DTLSWantReadError`, and what the handshake has failed with. `block`
        waits for ever where the connection would not wait at all, as in `ssl`.
        """
        self._ready_within(Deadline(None if block and self._timeout == 0 else self._timeout))

    def _ready_within(self, deadline: Deadline, flags: int = 0) -> None:
        """What every call that moves data begins with."""
        self._check_flags(flags)
        self._check_open()
        if not self._ready:
            try:
                self._until(lambda: self._ready or None, deadline)
            except TimeoutError as error:
                if isinstance(error, errors.HandshakeTimeout) or self._connection.failure is not None:
                    raise  # a callback's, perhaps
                raise self._connection._unfinished(deadline.timeout) from None

    def send(self, data: Buffer, flags: int = 0) -> int:
        """Sends `data`, a bytes-like object, as one record in one datagram; returns its length.

        Raises `DatagramTooLarge` above `data_mtu`, ValueError for nothing, TimeoutError where the socket's buffer
        stays full, `DTLSZeroReturnError` after the end, and what ended the connection.
        """
        deadline = Deadline(self._timeout)
        self._ready_within(deadline, flags)
        return self._when_there_is_room(partial(self._connection.send, data), deadline)

    def _when_there_is_room(self, move: Callable[[], int], deadline: Deadline) -> int:
        """Calls what sends until the socket's send buffer has room for it."""
        while True:
            rooms = self._rooms
            try:
                return move()
            except errors.DTLSWantWriteError:
                if deadline.timeout == 0:
                    raise
            self._engine.blocked.append(self)
            self._engine.wake()
            self._until(partial(self._has_had_room, rooms), deadline)

    def _send_some(self, buffers: list[Buffer], deadline: Deadline) -> int:
        return self._when_there_is_room(partial(self._connection.send_many, buffers), deadline)

    def _has_had_room(self, before: int) -> bool | None:
        """Whether the socket's send buffer had room since then."""
        return self._rooms != before or None

    def recv(self, bufsize: int | None = None, flags: int = 0) -> bytes:
        """Receives one record, whole; `b""` after the peer's close_notify, or its silence for `idle_timeout`.

        A record of more than `bufsize` bytes raises `DatagramTooLarge`, and is kept for the next call. Raises
        TimeoutError, and what ended the connection otherwise.
        """
        limit = size_of(bufsize)
        if limit == 0:
            self._check_call(flags)
            return b""
        return self._receive(partial(self._take, limit), b"", flags)

    def _receive(self, take: Callable[[], T | None], end: T, flags: int = 0) -> T:
        """What `take` finds, sooner or later, or `end` after the peer's close_notify."""
        deadline = Deadline(self._timeout)
        try:
            self._ready_within(deadline, flags)
            return self._until(take, deadline)
        except errors.DTLSZeroReturnError:
            return end

    def recv_many(self, max: int = 1024) -> list[bytes]:  # noqa: A002 - what it is
        """Receives what is there, at least one record and `max` at the most; `[]` where `recv` gives `b""`."""
        return self._receive(partial(self._take_many, checked_max(max)), [])

    def _take_many(self, most: int) -> list[bytes] | None:
        received = self._connection._records
        return [received.pop(0) for _ in range(min(most, len(received)))] or None

    def _take(self, limit: int) -> bytes | None:
        received = self._connection._records
        if received and len(received[0]) > limit:
            raise errors.too_large(len(received[0]), limit)
        return received.pop(0) if received else None

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """`recv` into a writable buffer, into its first `nbytes` bytes where given; returns the record's length."""
        room = room_in(buffer, nbytes)
        data = self.recv(room.nbytes, flags)
        room[: len(data)] = data
        return len(data)

    def statistics(self) -> dict[str, int]:
        """Those of every connection, and whether the listener's socket has datagrams cut and joined: `gso`, `gro`."""
        return super().statistics() | self._engine._ways()

    def getsockname(self) -> Any:
        """The listener's address."""
        return self._engine.sock.getsockname()

    def unwrap(self) -> None:
        """Raises NotImplementedError: the UDP socket is the listener's. `close` or `shutdown` end the connection."""
        raise NotImplementedError("there is no socket of its own to return: close() ends the connection")

    def _end_receiving(self) -> None:
        self._ended = True
        self._moved()

    def _say_goodbye(self) -> None:
        """Has close_notify on its way; nobody needs to let go of the connection for that."""
        Connection.close(self._connection)

    def close(self) -> None:
        """Sends close_notify, once; does not wait for the peer. Whoever waits, and later calls, get OSError (EBADF)."""
        closed, self._closed = self._closed, True
        if closed or self._engine.process != os.getpid():
            return
        try:
            self._moved()
            self._say_goodbye()
        finally:
            self._engine.left.append(self._connection)
            self._engine.wake()

    def __del__(self) -> None:
        """Warn, as sockets do, and have it closed; this may happen in any thread, so nothing is waited for."""
        if not self._closed and self._engine.process == os.getpid():
            words = f"unclosed {self!r}"
            self._closed = True
            self._engine.left.append(self._connection)
            self._engine.wake()
            warnings.warn(words, ResourceWarning, source=self, stacklevel=2)
