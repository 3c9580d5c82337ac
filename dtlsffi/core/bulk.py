"""Records by the batch over a connected socket: for the doors that have one connection each."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

from .._native import address_of, calls, ffi, lib
from .batches import Batch, Buffer, batches, not_received
from .connection import Connection
from .errors import DatagramTooLarge, DTLSError, DTLSWantReadError, DTLSZeroReturnError, make


class Bulk:
    """The socket given to a `Connection` as `fileno`, as one that takes and gives many datagrams in one call.

    From the first `receive` on the kernel may join datagrams that come in, so nobody else can read from the socket;
    `release` ends that. Under `lock`, which a thread may take again, each record goes to one thread.
    """

    def __init__(self, connection: Connection, fileno: int, lock: AbstractContextManager[object]) -> None:
        self._connection = connection
        self._udp = ffi.new("dtlsffi_udp *")
        self._at = address_of(self._udp)
        lib.dtlsffi_udp_prepare(self._udp, fileno, False, True, False)
        self._queue: list[bytes] = []
        self._joins = False  # the kernel has been asked to join datagrams
        self.reads = False
        """Whether all that comes in comes through here."""
        self._lock = lock

    def send(self, buffers: Iterable[Buffer]) -> int:
        """Sends each buffer as one record in one datagram; how many are gone. Raises what `send` does if none is."""
        return self._connection._send_batch(buffers, self._at)

    def receive(self, most: int) -> list[bytes]:
        """Up to `most` records; `Connection.read`'s errors where there is none."""
        with self._lock:
            queue = self._queue or self._fill()
            self._queue = queue[most:]
        return queue if len(queue) <= most else queue[:most]

    def read(self, limit: int) -> bytes:
        """One record of at most `limit` bytes; `DatagramTooLarge` where it is larger, and it stays."""
        with self._lock:
            if not self._queue:
                self._queue = self._fill()
            if len(self._queue[0]) <= limit:
                return self._queue.pop(0)
            length = len(self._queue[0])
        words = f"the next record has {length} bytes, more than the {limit} asked for; it is kept for a call"
        raise make(DatagramTooLarge, "RECORD_TOO_LARGE", f"{words} with more room")

    def pending(self) -> int:
        """How many bytes the next `read` can give without a look at the socket."""
        return next((len(record) for record in self._queue[:1]), 0)

    def _fill(self) -> list[bytes]:
        """Takes what the socket has, a batch at the most: one record at least."""
        records = [] if self.reads else self._begin()
        if not self._joins:
            self._join()
        batch = batches.take()
        try:
            while not records:
                count = lib.dtlsffi_udp_receive(self._udp, batch.memory)
                if count < 0:
                    raise not_received(count, self._connection.peer)
                records = self._open(batch) if count else self._rest()
                if not records and count == 0:
                    self._why_nothing()
        finally:
            batches.give_back(batch)
        return records

    def _begin(self) -> list[bytes]:
        """Has all that comes in come through here from now on; what has come before, and was not handed out."""
        self.reads = True
        self._connection.forbid_reading()
        return self._rest()

    def _join(self) -> None:
        """Has the kernel join datagrams from now on, unless a thread that reads without us waits for the next still."""
        if not self._connection.is_waited_for:
            lib.dtlsffi_udp_prepare(self._udp, self._udp.fd, False, True, True)
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

    def _why_nothing(self) -> None:
        if lib.dtlsffi_conn_closed(self._connection._conn):
            raise make(DTLSZeroReturnError, "ZERO_RETURN", "the peer has closed the connection")
        raise make(DTLSWantReadError, "WANT_READ", "nothing yet: a datagram or the timer has to come first")

    def release(self) -> None:
        """Has the kernel hand out each datagram by itself again."""
        lib.dtlsffi_udp_release(self._udp)

    def statistics(self) -> dict[str, int]:
        """Datagrams that the kernel has cut from longer messages, and joined to such, so far; whether it still may."""
        udp = self._udp
        return {
            "datagrams_segmented": udp.segmented, "datagrams_joined": udp.joined, "gso": udp.segments, "gro": udp.joins,
        }  # fmt: skip
