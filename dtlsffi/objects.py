"""The door without a socket: DTLS between two `MemoryBIO`s, for code written to `ssl.SSLObject`."""

from __future__ import annotations

import operator
from collections import deque
from typing import Any, NoReturn, overload

from .core.arguments import check_is, writable
from .core.batches import Buffer, WritableBuffer
from .core.connection import Connection
from .core.context import DTLSContext
from .core.errors import DTLSWantReadError, make, too_large
from .core.events import CloseReceived
from .made import Door

__all__ = ["DTLSObject", "MemoryBIO"]


class MemoryBIO:
    """Datagrams on their way between a `DTLSObject` and whoever carries them: `ssl.MemoryBIO`, in whole datagrams.

    There is no end of file: datagrams have none.
    """

    def __init__(self) -> None:
        self._datagrams: deque[bytes] = deque()

    @property
    def pending(self) -> int:
        """The length of the next datagram in bytes, 0 if there is none."""
        return len(self._datagrams[0]) if self._datagrams else 0

    def write(self, datagram: Buffer) -> int:
        """Puts one datagram in; returns its length. An empty one carries nothing, and is passed over."""
        data = bytes(memoryview(datagram))
        if data:
            self._datagrams.append(data)
        return len(data)

    def read(self, n: int = -1) -> bytes:
        """Takes the next datagram out, whole, or `b""` if there is none.

        Raises `DatagramTooLarge` where it has more than `n` bytes; it is kept.
        """
        if operator.index(n) == 0 or not self._datagrams:
            return b""
        if 0 < n < self.pending:
            raise too_large(self.pending, n, "datagram")
        return self._datagrams.popleft()


class DTLSObject(Door):
    """DTLS without I/O, with the methods of `ssl.SSLObject`; from `DTLSContext.wrap_bio`.

    What comes from the wire goes into `incoming`, what is in `outgoing` has to go there. Calls that need something of
    the peer's raise `DTLSWantReadError` until it is there. UDP loses datagrams, so during a handshake `get_timer` says
    after how many seconds `handle_timer` has to be called, which sends the last flight again.
    """

    _made_by = "DTLSContext.wrap_bio()"
    _incoming: MemoryBIO
    _outgoing: MemoryBIO
    _received: deque[bytes]
    _closed: bool

    @classmethod
    def _create(cls, incoming: MemoryBIO, outgoing: MemoryBIO, context: DTLSContext, **arguments: Any) -> DTLSObject:
        """Between two `MemoryBIO`s; `arguments` are `Connection`'s."""
        for name, bio in (("incoming", incoming), ("outgoing", outgoing)):
            check_is(bio, MemoryBIO, f"{name} is a dtlsffi.MemoryBIO, which keeps datagrams apart")
        self = cls.__new__(cls)
        self._connection = Connection(context, **arguments)
        self._connection._serve_as(self)
        self._incoming, self._outgoing = incoming, outgoing
        self._received = deque()
        self._closed = False
        return self

    def _pump(self) -> None:
        """Takes what has come in, gives what has to go out; raises what ends the connection."""
        try:
            while self._incoming.pending:
                self._connection.receive_datagram(self._incoming.read())
        finally:
            self._received.extend(self._connection.data_received())
            self._closed = self._closed or CloseReceived() in self._connection.events_received()
            self._flush()

    def _flush(self) -> None:
        for datagram in self._connection.datagrams_to_send():
            self._outgoing.write(datagram)

    def get_timer(self) -> float | None:
        """Seconds until `handle_timer` is due, or None: `Connection.get_timer`."""
        return self._connection.get_timer()

    def handle_timer(self) -> None:
        """Sends the last flight again if its timer has run out: `Connection.handle_timer`."""
        try:
            self._connection.handle_timer()
        finally:
            self._flush()

    def do_handshake(self) -> None:
        """Moves the handshake on; raises `DTLSWantReadError` while it is not finished, a `DTLSError` if it fails."""
        self._pump()
        try:
            self._connection.do_handshake()
        finally:
            self._flush()

    @overload
    def read(self, len: int | None = None, buffer: None = None) -> bytes: ...

    @overload
    def read(self, len: int | None, buffer: WritableBuffer) -> int: ...

    @overload
    def read(self, len: int | None = None, *, buffer: WritableBuffer) -> int: ...

    def read(self, len: int | None = None, buffer: Any = None) -> bytes | int:  # noqa: A002
        """Takes one record, whole: as bytes, or into `buffer`, whose length counts, and then returns the record's.

        `b""` (or 0) after the peer's close_notify, and where `len` is 0. Raises `DTLSWantReadError` where there is none
        yet, `DatagramTooLarge` where it has more than `len` bytes (it is kept), and ValueError for a negative `len`.
        """
        if buffer is None:
            if len is not None and len < 0:
                raise ValueError("size should not be negative")
            return b"" if len == 0 else self._take(len)
        view = writable(buffer, "read")
        record = self._take(len if len and 0 < len <= view.nbytes else view.nbytes)
        length = memoryview(record).nbytes
        view[:length] = record
        return length

    def _take(self, limit: int | None) -> bytes:
        """The next record, of at most `limit` bytes; `b""` after the peer's close_notify."""
        if not self._received:
            self.do_handshake()
        if limit is not None and self.pending() > limit:
            raise too_large(self.pending(), limit)
        if self._received:
            return self._received.popleft()
        if self._closed:
            return b""
        raise make(DTLSWantReadError, "WANT_READ", "nothing yet: a datagram has to come first")

    def write(self, data: Buffer) -> int:
        """Sends `data` as one record in one datagram; returns its length. Raises what `Connection.send` raises."""
        if not self.is_established:
            self.do_handshake()
        try:
            return self._connection.send(data)
        finally:
            self._flush()

    def pending(self) -> int:
        """The length of the next record that `read` can take without a new datagram, 0 if there is none."""
        return len(self._received[0]) if self._received else 0

    def update_keys(self, *, request_peer: bool = False) -> None:
        """Encrypts with new keys from now on: `Connection.update_keys`."""
        try:
            self._connection.update_keys(request_peer=request_peer)
        finally:
            self._flush()

    def unwrap(self) -> None:
        """Sends close_notify, once; nobody is waited for."""
        self._connection.close()
        self._flush()

    def verify_client_post_handshake(self) -> NoReturn:
        """Raises NotImplementedError: there is no such thing before DTLS 1.3."""
        raise NotImplementedError("Post-handshake authentication is not implemented for DTLS")


DTLSContext.dtlsobject_class = DTLSObject
