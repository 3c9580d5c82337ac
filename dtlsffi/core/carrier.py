"""The connected socket that carries a connection's datagrams: for the doors that have one connection each."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import NoReturn

from .._native import CData, address_of, calls, ffi, lib
from .batches import Batch, Buffer, Pool, batches, not_received, socket_statistics
from .connection import RECORD_MAX, Connection
from .errors import DTLSError, too_large

WANT_READ: int = lib.DTLSFFI_WANT_READ
equip_socket = calls.equip_socket
"""Puts methods that are in C into the places of those that stand for them in a class whose `_connection` is one."""
rooms: Pool[CData] = Pool(lambda: ffi.new("uint8_t[]", RECORD_MAX))
"""For one record each, while it is read."""


class Carrier:
    """The socket given to a `Connection` as `fileno`: read by the record, or by the batch.

    From the first `receive` on all that comes in comes through that, and the kernel may join datagrams, so nobody else
    can read from the socket; `release` ends it. Under `lock`, which a thread may take again, each record goes to one
    thread.
    """

    def __init__(self, connection: Connection, fileno: int, lock: AbstractContextManager[object]) -> None:
        self._connection = connection
        self._udp = ffi.new("dtlsffi_udp *")
        self._at = address_of(self._udp)
        lib.dtlsffi_udp_prepare(self._udp, fileno, True, False)
        self._queue: list[bytes] = []
        self._joins = False  # the kernel has been asked to join datagrams
        self._batches = False  # all that comes in comes by the batch
        self._lock = lock

    def meet(self, peer: str) -> None:
        """The socket has been connected only now: to `peer`, as errors call it."""
        self._connection._peer = peer
        lib.dtlsffi_conn_meet(self._connection._conn)

    def allow(self) -> None:
        """Lets a DTLSSocket's methods go on in C: the handshake is finished. DTLS 1.3 has a timer to mind."""
        connection = self._connection
        connection._after(lib.dtlsffi_conn_open_kept(connection._conn))
        reads = connection.version() != "DTLSv1.3"
        lib.dtlsffi_conn_allow(connection._conn, lib.DTLSFFI_MAY_SEND | reads * lib.DTLSFFI_MAY_READ)

    def forbid_reading(self) -> None:
        """Has `recv` and `recv_into` ask Python again: something else takes what comes, or nothing is to come."""
        lib.dtlsffi_conn_forbid(self._connection._conn, lib.DTLSFFI_MAY_READ)

    @property
    def is_waited_for(self) -> bool:
        """Whether some thread waits for a datagram in a DTLSSocket's `recv` or `recv_into`."""
        return bool(lib.dtlsffi_conn_waiting(self._connection._conn))

    def send(self, buffers: Iterable[Buffer]) -> int:
        """Sends each buffer as one record in one datagram; how many are gone. Raises what `send` does if none is."""
        return self._connection._send_batch(buffers, self._at)

    # ---- one record ----

    def read(self, limit: int = RECORD_MAX) -> bytes:
        """Reads one record of at most `limit` bytes.

        Raises `DTLSWantReadError` where there is none yet, `DTLSZeroReturnError` after the peer's close_notify, and
        `DatagramTooLarge` where the record is larger; it stays there for the next call.
        """
        if self._batches:
            return self._take(limit)
        memory = rooms.take()
        try:
            return ffi.buffer(memory, self._read_to(memory, RECORD_MAX, limit))[:]
        finally:
            rooms.give_back(memory)

    def read_into(self, buffer: bytearray | memoryview, size: int) -> int:
        """`read` into the first `size` bytes of `buffer`; returns the record's length."""
        with ffi.from_buffer("uint8_t[]", buffer, require_writable=True) as view:
            size = min(size, len(view))  # which somebody may have made shorter meanwhile
            if not self._batches:
                return self._read_to(view, size, size)
            data = self._take(size)
            ffi.memmove(view, data, len(data))
        return len(data)

    def _read_to(self, memory: CData, size: int, limit: int) -> int:
        """Reads a record of at most `limit` bytes into so many; returns its length."""
        connection = self._connection
        answer: int = lib.dtlsffi_conn_read(connection._conn, memory, size, limit)
        if answer > 0 and connection._parked is not None:
            lib.dtlsffi_conn_keep_record(connection._conn, memory, answer)
            connection._collect()
            answer = lib.dtlsffi_conn_read(connection._conn, memory, size, limit)  # another thread has raised it
        if answer <= 0:
            self.not_read(answer, limit)
        return answer

    def not_read(self, answer: int, limit: int) -> NoReturn:
        """Raises what the C side's answer to a `read` means, where that is no record."""
        self._connection._after(answer)
        if answer == lib.DTLSFFI_TOO_LARGE:
            raise too_large(self.pending(), limit)
        self._connection._raise(answer)

    def _take(self, limit: int) -> bytes:
        """The next record of a batch."""
        with self._lock:
            if not self._queue:
                self._queue = self._fill()
            if len(self._queue[0]) > limit:
                raise too_large(len(self._queue[0]), limit)
            return self._queue.pop(0)

    def pending(self) -> int:
        """How many bytes the next `read` can give without a look at the socket."""
        for record in self._queue[:1]:
            return len(record)
        return int(lib.dtlsffi_conn_pending(self._connection._conn))

    # ---- many ----

    def receive(self, most: int) -> list[bytes]:
        """Up to `most` records; `read`'s errors where there is none."""
        with self._lock:
            queue = self._queue or self._fill()
            self._queue = queue[most:]
        return queue if len(queue) <= most else queue[:most]

    def _fill(self) -> list[bytes]:
        """Takes what the socket has, a batch at the most: one record at least."""
        records = [] if self._batches else self._begin()
        if not self._joins:
            self._join()
        batch = batches.take()
        try:
            while not records:
                count = lib.dtlsffi_udp_receive(self._udp, batch.memory)
                if count < 0:
                    lib.dtlsffi_conn_follow_path(self._connection._conn)  # it may be news of that
                    raise not_received(count, self._connection.peer)
                records = self._open(batch) if count else self._rest()
                if not records and count == 0:
                    closed = lib.dtlsffi_conn_closed(self._connection._conn)
                    self._connection._raise(lib.DTLSFFI_CLOSED if closed else WANT_READ)
        finally:
            batches.give_back(batch)
        return records

    def _begin(self) -> list[bytes]:
        """Has all that comes in come through here from now on; what has come before, and was not handed out."""
        self._batches = True
        self.forbid_reading()
        return self._rest()

    def _join(self) -> None:
        """Has the kernel join datagrams from now on, unless a thread that reads without us waits for the next still."""
        if not self.is_waited_for:
            lib.dtlsffi_udp_prepare(self._udp, self._udp.fd, True, True)
            self._joins = True

    def _open(self, batch: Batch) -> list[bytes]:
        """The records of a batch."""
        records: list[bytes] = []
        return self._after(calls.receive_batch(self._connection, batch.at, records), records)

    def _rest(self) -> list[bytes]:
        """Those that have waited since the last datagram."""
        records: list[bytes] = []
        return self._after(calls.receive_rest(self._connection, records), records)

    def _after(self, answer: int, records: list[bytes]) -> list[bytes]:
        """Raises what has come instead of records, or of some of them: these are for the next call, or the end is."""
        try:
            self._connection._after(answer)
        except DTLSError:
            if not records:  # else it is raised when they have been read
                raise
        except BaseException:  # a callback's, which is not the connection's end
            self._queue += records
            raise
        return records

    # ---- the end ----

    def release(self) -> None:
        """Lets go of the socket, which gives each datagram by itself again; what needs it raises OSError (EBADF)."""
        lib.dtlsffi_conn_detach(self._connection._conn)
        lib.dtlsffi_udp_release(self._udp)

    def statistics(self) -> dict[str, int]:
        """What the kernel does for it: `socket_statistics`."""
        return socket_statistics(self._udp)
