"""How an endpoint takes datagrams from its socket by the batch, and sends records by the batch.

C finds connections by itself, moves their handshakes on, and hands out what they have received. Whatever else has come
(strangers, hellos, what pretends to be either) is looked at one by one, as if it had come without a socket.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from .._native import CData, address_of, calls, ffi, lib
from .address import key as key_of
from .admission import Admission
from .batches import Batch, Buffer, batches, not_received, refused, socket_statistics, ways
from .cookies import is_fragment, is_whole_hello
from .endpoint_connection import NEVER, EndpointConnection
from .errors import DTLSWantReadError, DTLSZeroReturnError

BUDGET = 8
"""Steps of handshakes in one pump, each of which may take a millisecond: records of others are taken in between."""
RESERVED = 4
"""How many of them are for datagrams that have waited, where some have."""
WAITING = 256
"""Datagrams that may wait for that: what is more is lost, and said again."""
ADDRESS: Any = ffi.typeof("dtlsffi_address *")
STRANGER = struct.Struct(f"IIII{lib.DTLSFFI_HELLO_RANDOM}s")
"""A `dtlsffi_stranger`: all of a batch taken apart at once cost less than the attributes of one."""
c_pump, c_send = calls.pump, calls.send
COUNT, FULL, STRANGERS, ODD, GO_ON = (
    lib.DTLSFFI_PUMP_COUNT, lib.DTLSFFI_PUMP_FULL, lib.DTLSFFI_PUMP_STRANGERS, lib.DTLSFFI_PUMP_ODD,
    lib.DTLSFFI_PUMP_MORE,
)  # fmt: skip
QUIET: int = COUNT | FULL
"""Nothing but records of established connections."""
MESSAGE_MAX: int = lib.DTLSFFI_MESSAGE_MAX
GRACE = 1.0
"""Seconds for which nobody is held to be silent while the socket has more than has been taken: its owner has slept,"""
SOON = 0.05
"""and looks again after so long."""
LINGER = 100
"""Milliseconds."""
WARM = 1.5
"""Seconds for which a connection that is silent keeps OpenSSL's buffers, so that once a second is often enough,"""
TIDY = 1.0
"""with so many between two looks for those that are,"""
WARM_AT_MOST = 16384
"""where no more than so many do, with some 10 kB of memory each: table.c."""
MANY = 8192
"""Records that wait in one list at the most: more are handed out by connection, each of which has its limit."""


class Draining(Admission):
    """The part of an `Endpoint` that its socket is for."""

    def _open(self, fileno: int, v6_socket: bool, max_queue: int) -> None:
        """Makes the most of a socket, if there is one."""
        self.v6_socket, self.max_queue = v6_socket, max_queue
        self._ready: dict[EndpointConnection, None] = {}  # of which there is news
        self._arrived: list[tuple[EndpointConnection, bytes]] = []
        self._tidy_at = NEVER
        self._udp = ffi.new("dtlsffi_udp *")
        self._udp.fd = fileno
        self._has_socket = fileno >= 0
        self._udp_at = address_of(self._udp)
        self._table = Table(WARM_AT_MOST)
        self._table_at = address_of(self._table.table)
        self._odd: list[EndpointConnection | None] = []  # to whom something else than data has happened in a pump
        self._slots: list[EndpointConnection | None] = []  # by the number that the table has for them
        self._free_slots: list[int] = []
        self._pumping = False
        self._behind_since = NEVER  # there has been more in the socket than was taken
        self._left: list[tuple[int, EndpointConnection]] = []  # who has gone in a pump, with the number they had
        self._waiting: deque[tuple[bytes, CData, CData, bytes]] = deque()  # for a step of their handshakes
        if fileno >= 0:
            lib.dtlsffi_udp_prepare(self._udp, fileno, False, True)
            self.v6_socket = bool(self._udp.v6)

    def _linger(self) -> None:
        """Has each close_notify wait for room in the socket's send buffer, but not again where one has in vain."""
        self._udp.linger, self._udp.in_vain = LINGER, False

    def _socket_statistics(self) -> dict[str, int]:
        """The part of `statistics` that any UDP socket of this package has."""
        return socket_statistics(self._udp)

    def _ways(self) -> dict[str, int]:
        """The part of that which is true of each connection."""
        return ways(self._udp)

    # ---- what the rest does ----

    _receive: Callable[[bytes, CData, CData, float, bytes], bool]
    _look: Callable[[EndpointConnection, float], None]

    # ---- in ----

    def pump(self, now: float) -> bool:
        """Receives one batch of datagrams from the socket and processes them; returns whether there may be more.

        Of handshakes only a few steps are done in each call, so that data of other peers need not wait for all of them.
        Raises the socket's OSError.
        """
        batch, waiting = batches.take(), self._waiting
        outer, self._pumping = self._pumping, True
        try:
            came = c_pump(
                self._table_at, self._udp_at, batch.at, BUDGET - RESERVED if waiting else BUDGET, now, self._slots,
                self._arrived, self._odd,
            )  # fmt: skip
            if came > QUIET or came < 0 or waiting or self._odd:
                came = self._see_about(came, batch, now)
        finally:
            self._pumping = outer
            batches.give_back(batch)
            if self._left and not outer:
                self._bury()
        if came and (self._tidy_at == NEVER or len(self._arrived) > MANY):
            self._notice(now)
        more = came > COUNT or bool(waiting)
        if not more:
            self._behind_since = NEVER
        elif self._behind_since == NEVER:
            self._behind_since = now
        return more

    def _may_have_come(self, now: float) -> bool:
        """Whether what is missed may wait in the socket yet: when its owner has slept, but not for ever in a flood."""
        return self._behind_since != NEVER and now < self._behind_since + GRACE

    def _bury(self) -> None:
        """Nothing knows those any more who have gone in a pump."""
        self._free_slots += [slot for slot, _ in self._left]
        self._left.clear()

    def _notice(self, now: float) -> None:
        """Something has come."""
        self._warm(now)
        if len(self._arrived) > MANY:
            self._hand_out()

    def _see_about(self, came: int, batch: Batch, now: float) -> int:
        """What has come beside records of established connections: to them, and for others; or what has failed."""
        if came < 0:
            self._counts["socket_errors"] += 1
            raise not_received(came, "the endpoint's socket")
        interrupts: list[BaseException] = []  # Ctrl-C, raised when the rest of the batch has had its turn
        while came & (ODD | GO_ON) or self._odd:
            if came & ODD or self._odd:
                answer = batch.memory.answer if came & ODD else 0
                came &= ~ODD
                attempt(partial(self._see_to, answer, now), interrupts)
            else:
                more = c_pump(self._table_at, self._udp_at, batch.at, -1, now, self._slots, self._arrived, self._odd)
                came = came & QUIET | more
        for _, gone in self._left[:]:  # closed by a callback, and what that or its own has raised is still to be told
            if gone._parked is not None:
                attempt(partial(self._after, gone, now, gone._collect), interrupts)
        if came & STRANGERS or self._waiting:
            self._meet(batch.memory, now)
        raise_first(interrupts)
        return came & QUIET

    def _see_to(self, answer: int, now: float) -> None:
        """Those to whom something else than data has happened; what the last has failed with is still to be had."""
        odd = self._odd
        if answer < 0 and (failed := odd.pop()) is not None:
            self._after(failed, now, lambda: failed._after(answer))
        odd.reverse()
        while odd:
            connection = odd.pop()
            if connection is None:
                continue
            if connection._parked is not None or connection._origin._session_removed is not None:
                self._after(connection, now, connection._collect)
            else:
                self._look(connection, now)

    def _hand_out(self) -> None:
        """Gives each connection what has arrived for it."""
        if not self._arrived:
            return
        ready, lost = self._ready, 0
        for connection, record in self.recv_many():
            if not connection._hand_over(record):
                lib.dtlsffi_conn_stats(connection._conn).dropped_queue_full += 1
                lost += 1
            ready[connection] = None
        self._counts["dropped_queue_full"] += lost

    def recv_many(self) -> list[tuple[EndpointConnection, bytes]]:
        """Returns the records received since the last call, each with its connection, in the order of their arrival.

        They are handed out once: `ready` does not list their connections for them, nor does `received` have them.
        """
        if self._pumping:  # a callback asks, and C adds to this very list
            arrived = self._arrived[:]
            self._arrived.clear()
        else:
            arrived, self._arrived = self._arrived, []
        return arrived

    def _meet(self, batch: CData, now: float) -> None:
        """What is left of a batch: strangers, handshakes, and what pretends to be either."""
        counts = self._counts
        if self._udp.fd < 0:  # a callback has closed the endpoint
            return
        if batch.stranger_count and self._context is not None and self._cookies:
            expected = self._assemblies.are_waited_for(now)
            lib.dtlsffi_strangers_answer_untrusted(self._udp, self._jar, batch, expected)
        counts["cookies_sent"] += batch.answered
        counts["dropped_flood"] += batch.passed_over
        counts["dropped_junk"] += batch.malformed
        left = self._go_on(now, RESERVED + batch.steps) if self._waiting else batch.steps
        if batch.stranger_count:
            try:
                self._meet_each(batch, now, left)
            finally:
                self._hurries = False

    def _meet_each(self, batch: CData, now: float, left: int) -> None:
        """Those that are left, while there is time; fragments in any case, which are soon dealt with."""
        whole, senders, receivers = ffi.buffer(batch.data), batch.senders, batch.receivers
        for message, offset, length, proven, random in STRANGER.iter_unpack(
            ffi.buffer(batch.strangers, batch.stranger_count * STRANGER.size)
        ):
            if self._udp.fd < 0:  # a callback has closed the endpoint now
                return
            start = message * MESSAGE_MAX + offset
            data, packed, local = whole[start : start + length], senders + message, receivers + message
            proof = random if proven else b""
            self._hurries = left <= 0
            if left > 0 or is_fragment(data):
                left -= self._receive(data, packed, local, now, proof)
            elif proven or self._is_proven(data, packed):
                self._defer(data, packed, local, proof)
            else:
                self._counts["dropped_flood"] += 1

    def _defer(self, data: bytes, packed: CData, local: CData, proof: bytes) -> None:
        """Has a datagram wait for a step of its handshake."""
        if len(self._waiting) < WAITING:
            self._waiting.append((data, ffi.new(ADDRESS, packed[0]), ffi.new(ADDRESS, local[0]), proof))
        else:
            self._counts["dropped_flood"] += 1

    def _is_proven(self, data: bytes, packed: CData) -> bool:
        """Whether a datagram comes from an address that is proved, or needs no proof."""
        return key_of(packed) in self._connections or (not self._cookies and is_whole_hello(data))

    def _go_on(self, now: float, left: int = BUDGET) -> int:
        """Gives datagrams that have waited to their handshakes; how many more steps there is time for."""
        while left > 0 and self._waiting:
            data, packed, local, proof = self._waiting.popleft()
            left -= self._receive(data, packed, local, now, proof)
        return left

    # ---- which connections C knows ----

    def _warm(self, now: float) -> None:
        """Somebody has OpenSSL's buffers, which are to be given back when nobody needs them any more."""
        if self._tidy_at == NEVER:
            self._tidy_at = now + WARM

    def _place(self, connection: EndpointConnection) -> None:
        """Has C find the connection by itself from now on. Not where each record may ask something of Python."""
        if not self._has_socket or self._table.freed or connection._slot >= 0 or connection.gone:
            return
        if connection._context._trace is not None:
            return
        slot = self._free_slots.pop() if self._free_slots else len(self._slots)
        if slot == len(self._slots):
            self._slots.append(None)
        if lib.dtlsffi_table_put(self._table.table, connection._conn, slot) != 1:
            self._free_slots.append(slot)  # without memory it goes the slow way
            return
        connection._slot, self._slots[slot] = slot, connection

    def _displace(self, connection: EndpointConnection) -> None:
        """Has every datagram for it looked at here."""
        slot = connection._slot
        if slot < 0 or self._table.freed:
            return
        lib.dtlsffi_table_remove(self._table.table, connection._conn)
        connection._slot, self._slots[slot] = -1, None
        if self._pumping:  # C may be at this very connection, and its number stands for what has arrived
            self._left.append((slot, connection))
        else:
            self._free_slots.append(slot)

    # ---- out ----

    def send_many(self, items: Iterable[tuple[EndpointConnection, Buffer]]) -> int:
        """Sends data by many connections: one record in one datagram each, in as few calls as the kernel allows.

        Returns how many of the items are dealt with, in their order: fewer than there are when the socket's send buffer
        is full, or an item is too large. Items of connections that have ended are passed over, and counted
        (`dropped_unsent`). Where nothing is dealt with, it raises what `EndpointConnection.send` does for the first.
        """
        if type(items) is not list:
            items = list(items)
        if len(items) == 1 and self._has_socket:
            ((connection, data),) = items
            # Why one is not gone is found out below: that costs more, which pays where there are many.
            if type(data) is bytes and c_send(connection, data, self._udp_at) > 0:
                return 1
        if not self._has_socket:
            return self._send_each(items)
        if not items:
            return 0
        answer = calls.send_by_many(self._udp_at, items)
        if answer < 0:
            refused(answer, items[0][0].peer)
        return answer

    def _send_each(self, items: list[tuple[EndpointConnection, Buffer]]) -> int:
        """The same into memory."""
        done = 0
        try:
            for connection, data in items:
                over = connection.gone or connection.failure is not None
                try:
                    if not over:
                        connection.send(data)
                except (DTLSZeroReturnError, DTLSWantReadError):
                    over = True
                self._udp.dropped_unsent += over
                done += 1
        except (OSError, ValueError):
            if not done:
                raise
        return done


def attempt(call: Callable[[], object], raised: list[BaseException]) -> None:
    """Calls, and keeps what it raises."""
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - for whoever has the list
        raised.append(error)


def raise_first(raised: list[BaseException]) -> None:
    """Raises what was kept first, if anything was."""
    if raised:
        try:
            raise raised[0]
        finally:
            raised.clear()  # they know this frame


class Table:
    """Which connection a datagram is for, as C knows it."""

    def __init__(self, warm_at_most: int) -> None:
        table = lib.dtlsffi_table_new(warm_at_most)
        if table == ffi.NULL:
            raise MemoryError
        self.freed = False
        """Whether the garbage collector has freed it, which it may do before it calls others' finalizers."""
        self.table = ffi.gc(table, self._free)

    def _free(self, table: CData) -> None:
        self.freed = True
        lib.dtlsffi_table_free(table)
