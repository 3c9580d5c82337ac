"""Many connections behind one UDP port: whom a datagram is for, who may come in, who has to go.

Datagrams come in by `receive_datagram`, or by the batch from a socket by `pump`. After either of them, and after
`handle_timers`, the owner takes what there is: `accepted`, `ready`, `datagrams_to_send` (where there is no socket),
`get_timer`.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from typing import Any

from .._native import CData, ffi, lib
from . import address as addresses
from .arguments import checked_limits
from .connection import Buffer, Connection
from .context import DTLSContext
from .cookies import make_jar, seems_hello
from .endpoint_connection import NEVER, EndpointConnection
from .errors import DTLSError, DTLSWantReadError, HandshakeTimeout, make
from .events import CloseReceived
from .pins import Fingerprints, Keys
from .schedule import Schedule
from .session import DTLSSession

__all__ = ["Endpoint"]

HELLO_NONE: int = lib.DTLSFFI_HELLO_NONE
HELLO_PROVEN: int = lib.DTLSFFI_HELLO_PROVEN
HELLO_FRAGMENT: int = lib.DTLSFFI_HELLO_FRAGMENT


class Endpoint:
    """One UDP port for any number of peers, as a server with `context`, as a client by `connect`, or both.

    `fileno` is a non-blocking UDP socket, bound and not connected, which stays its owner's; without one datagrams are
    handed over by `receive_datagram` and `datagrams_to_send`. Times are seconds of a monotonic clock of the owner's.

    A client has to prove its address by a cookie before anything is kept for it (RFC 6347 section 4.2.1), unless
    `cookies` is false: then something else has to have proved it. `cookie_secret` (bytes, at least 16) lets processes
    and hosts check each other's cookies; without it each endpoint has its own.

    Limits: `max_pending` handshakes that are not finished (half of them at most by clients whose ClientHello comes in
    fragments, which have yet to prove their address), `max_connections` in all, `max_queue` records that wait in
    one connection, `handshake_timeout` and `idle_timeout` in seconds (None: never idle for too long). What is refused
    is counted in `statistics`.
    """

    def __init__(
        self,
        context: DTLSContext | None = None,
        *,
        fileno: int = -1,
        v6_socket: bool = False,
        cookies: bool = True,
        cookie_secret: bytes | None = None,
        max_pending: int = 1000,
        max_connections: int = 100_000,
        max_queue: int = 256,
        handshake_timeout: float = 30.0,
        idle_timeout: float | None = None,
    ) -> None:
        if context is not None and not isinstance(context, DTLSContext):
            raise TypeError(f"context is a DTLSContext or None, not {type(context).__name__}")
        checked_limits(max_pending, max_connections, max_queue, handshake_timeout, idle_timeout)
        self.v6_socket = v6_socket
        self._context, self._fileno, self._cookies = context, fileno, cookies
        self._jar = make_jar(cookie_secret)
        self._passed_over = ffi.new("int *")
        self._max_pending, self._max_connections, self.max_queue = max_pending, max_connections, max_queue
        self._handshake_timeout, self._idle_timeout = handshake_timeout, idle_timeout
        self._connections: dict[bytes, EndpointConnection] = {}
        self._replacing: dict[bytes, EndpointConnection] = {}
        self._pending = 0
        self._unproven = 0  # pending handshakes whose address is not proved
        self._schedule = Schedule()
        self._accepted: list[EndpointConnection] = []
        self._ready: dict[EndpointConnection, None] = {}
        self._out: list[tuple[bytes, Any]] = []
        self._counts: Counter[str] = Counter()
        self._reply = ffi.new("uint8_t[]", lib.DTLSFFI_HELLO_VERIFY_REQUEST)
        self._hello_random = ffi.new("uint8_t[32]")
        self._batch = ffi.new("dtlsffi_batch *") if fileno >= 0 else ffi.NULL
        self._nowhere = ffi.new("dtlsffi_address *")
        if fileno >= 0:
            lib.dtlsffi_udp_prepare(fileno)

    # ---- what comes in ----

    def pump(self, now: float) -> bool:
        """Takes what the socket has, a batch at the most; whether there may be more. Raises the socket's OSError."""
        batch = self._batch
        count = lib.dtlsffi_udp_receive(self._fileno, batch)
        if count < 0:
            raise OSError(-count, f"{os.strerror(-count)} (the endpoint's socket)")
        if self._cookies and self._context is not None:
            self._answer_strangers(batch, count)
        for index in range(count):
            length = batch.length[index]
            if length == ANSWERED:
                continue
            if length == 0:
                self._counts["dropped_truncated"] += 1
                continue
            data = ffi.buffer(batch.data[index], length)[:]
            self._receive(data, ffi.addressof(batch.senders, index), ffi.addressof(batch.receivers, index), now)
        return bool(count == lib.DTLSFFI_BATCH)

    def _answer_strangers(self, batch: CData, count: int) -> None:
        """What is done about ClientHellos without a cookie: all in C."""
        answered = lib.dtlsffi_udp_answer_untrusted(
            self._fileno, self.v6_socket, self._jar, batch, count, self._no_room(proven=False), self._passed_over
        )
        passed_over = self._passed_over[0]
        self._counts.update(
            datagrams_received=answered + passed_over,
            cookies_sent=answered,
            datagrams_sent=answered,
            dropped_flood=passed_over,
        )

    def receive_datagram(self, data: Buffer, address: Any, now: float) -> None:
        """Takes one datagram that came from `address`. Whatever it is, nothing is raised: `ready` tells of failures."""
        if data:
            self._receive(bytes(data), addresses.pack(address), self._nowhere, now)

    def _receive(self, data: bytes, packed: CData, local: CData, now: float) -> None:
        self._counts["datagrams_received"] += 1
        key = addresses.key(packed)
        if self._context is not None and seems_hello(data) and self._hello_untrusted(data, packed, local, key, now):
            return
        connection, newer = self._connections.get(key), self._replacing.get(key)
        if connection is None and newer is None:
            self._counts["dropped_unknown"] += 1
            return
        if newer is not None:
            self._feed(newer, data, local, now)
        if connection is not None and (newer is None or data[3:5] != b"\0\0"):
            self._feed(connection, data, local, now)

    def _hello_untrusted(self, data: bytes, packed: CData, local: CData, key: bytes, now: float) -> bool:
        """Deals with what seems to be a ClientHello; whether that was all there is to do with it."""
        what = lib.dtlsffi_hello_look_untrusted(self._jar, packed, data, len(data), self._reply, self._hello_random)
        if what == HELLO_NONE:
            self._counts["dropped_junk"] += 1
            return True
        if what == HELLO_FRAGMENT:
            return self._fragment(data, packed, local, key, now)
        random = bytes(ffi.buffer(self._hello_random))
        if any(there is not None and there._random == random for there in self._at(key)):
            return False  # sent again: OpenSSL knows what to do
        if what > 0 and self._cookies:
            self._counts["cookies_sent"] += 1
            self._send(ffi.buffer(self._reply, what)[:], packed, local)
            return True
        connection = self._admit(packed, local, key, now, proven=what == HELLO_PROVEN)
        if connection is not None:
            connection._random = random
            self._begin(connection, data, now, proven=what == HELLO_PROVEN)
        return True

    def _at(self, key: bytes) -> tuple[EndpointConnection | None, EndpointConnection | None]:
        return self._connections.get(key), self._replacing.get(key)

    def _fragment(self, data: bytes, packed: CData, local: CData, key: bytes, now: float) -> bool:
        """A ClientHello too large for one datagram: OpenSSL puts it together, and asks for the cookie itself."""
        for there in self._at(key):
            if there is not None and there._server_side and not there.is_established:
                return False
        connection = self._admit(packed, local, key, now, proven=False)
        if connection is not None:
            if self._cookies:
                lib.dtlsffi_conn_ask_cookie(connection._conn, self._jar, packed)
            self._feed(connection, data, local, now)
        return True

    def _no_room(self, *, proven: bool) -> bool:
        """Whether there are as many handshakes going on as may be: half of the room is for proven addresses."""
        return self._pending >= self._max_pending or (
            self._cookies and not proven and self._unproven >= self._max_pending // 2
        )

    def _admit(self, packed: CData, local: CData, key: bytes, now: float, *, proven: bool) -> EndpointConnection | None:
        """A new server's connection, if there is room for one; beside an older one of the same address, if any."""
        if self._no_room(proven=proven):
            self._counts["refused_pending"] += 1
            return None
        if len(self._connections) >= self._max_connections and key not in self._connections:
            self._counts["refused_connections"] += 1
            return None
        copy = ffi.new("dtlsffi_address *", packed[0])
        connection = EndpointConnection(self, copy, self._server_context(), server_side=True)
        connection._unproven = not proven
        older = self._connections.get(key)
        if older is not None and older.is_established:
            abandoned = self._replacing.pop(key, None)
            self._replacing[key] = connection
        else:
            abandoned = self._connections.pop(key, None)
            self._connections[key] = connection
        if abandoned is not None:
            self._end(abandoned, make(DTLSError, "REPLACED", "the client has begun again"))
        ffi.memmove(connection._local, local, ffi.sizeof("dtlsffi_address"))
        self._start(connection, now)
        if older is None or not older.is_established:
            self._accepted.append(connection)
        return connection

    def _server_context(self) -> DTLSContext:
        if self._context is None:
            raise ValueError("an endpoint without a context has no server's side")
        return self._context

    def _start(self, connection: EndpointConnection, now: float) -> None:
        self._pending += 1
        self._unproven += connection._unproven
        connection._last_seen = now
        connection._deadline = now + self._handshake_timeout
        self._schedule.add(connection, self._when(connection, now))

    def _begin(self, connection: EndpointConnection, data: bytes, now: float, *, proven: bool) -> None:
        if proven:
            answer = lib.dtlsffi_conn_begin(connection._conn, data, len(data))
            self._after(connection, now, lambda: connection._after(answer))
            if not connection.gone:
                self._after(connection, now, lambda: handshake_step(connection))
        else:
            self._feed(connection, data, connection._local, now)

    def _feed(self, connection: EndpointConnection, data: bytes, local: CData, now: float) -> None:
        if local.family:
            ffi.memmove(connection._local, local, ffi.sizeof("dtlsffi_address"))
        connection._last_seen = now
        self._after(connection, now, lambda: connection.receive_datagram(data))

    def _after(self, connection: EndpointConnection, now: float, move: Any) -> None:
        """Moves a connection on, and sees what came of it."""
        try:
            move()
        except BaseException as error:  # noqa: BLE001 - a callback's, too: they are the connection's
            self._transmit(connection)
            self._end(connection, error)
            return
        self._transmit(connection)
        self._look(connection, now)

    def _look(self, connection: EndpointConnection, now: float) -> None:
        """Takes what there is to take from a connection."""
        for record in connection.data_received():
            if len(connection.received) < self.max_queue:
                connection.received.append(record)
            else:
                self._counts["dropped_queue_full"] += 1
            self._ready[connection] = None
        if not connection._completed:
            if connection.is_established:
                self._complete(connection)
            self._schedule.add(connection, self._when(connection, now))
        if CloseReceived() in connection.events_received():
            connection.peer_closed = True
            self._ready[connection] = None

    def _no_longer_pending(self, connection: EndpointConnection) -> None:
        self._pending -= 1
        self._unproven -= connection._unproven

    def _complete(self, connection: EndpointConnection) -> None:
        connection._completed = True
        connection._due = NEVER  # its timers are over
        self._no_longer_pending(connection)
        self._counts["handshakes_completed"] += 1
        self._ready[connection] = None
        if self._replacing.get(connection._key) is connection:
            del self._replacing[connection._key]
            older = self._connections.pop(connection._key, None)
            if older is not None:  # RFC 6347 section 4.2.8: the client has lost its state, and has proved it
                self._counts["replaced"] += 1
                self._end(older, make(DTLSError, "REPLACED", "the peer has begun a new connection from this address"))
            self._connections[connection._key] = connection
            self._accepted.append(connection)

    # ---- as a client ----

    def connect(
        self,
        address: Any,
        now: float,
        *,
        context: DTLSContext,
        server_hostname: str | None = None,
        session: DTLSSession | None = None,
        verify_fingerprint: Fingerprints | None = None,
        verify_public_key: Keys | None = None,
    ) -> EndpointConnection:
        """Begins a handshake with the server at `address`; the arguments are `Connection`'s.

        Raises ValueError where there is a connection with that address already, or no room for one.
        """
        packed = addresses.pack(address)
        key = addresses.key(packed)
        if key in self._connections:
            raise ValueError(f"there is a connection with {address} already")
        if len(self._connections) >= self._max_connections:
            raise ValueError(f"there are {self._max_connections} connections already (max_connections)")
        connection = EndpointConnection(
            self,
            packed,
            context,
            server_hostname=server_hostname,
            session=session,
            verify_fingerprint=verify_fingerprint,
            verify_public_key=verify_public_key,
        )
        self._connections[key] = connection
        self._start(connection, now)
        self._after(connection, now, lambda: handshake_step(connection))
        return connection

    # ---- time ----

    def _when(self, connection: EndpointConnection, now: float) -> float:
        """When there is something to be done about a connection."""
        if connection._completed:
            return NEVER if self._idle_timeout is None else connection._last_seen + self._idle_timeout
        timer = connection.get_timer()
        return connection._deadline if timer is None else min(connection._deadline, now + timer)

    def get_timer(self, now: float) -> float | None:
        """Seconds until `handle_timers` is due, or None."""
        first = self._schedule.first()
        while first is not None and self._when(first[1], now) == NEVER:
            first[1]._due = NEVER  # there is nothing to be done about it any more
            first = self._schedule.first()
        return None if first is None else max(0.0, first[0] - now)

    def handle_timers(self, now: float) -> None:
        """Sends flights again, and ends what has taken too long or has been silent for too long."""
        for connection in self._schedule.due(now):
            self._run_out(connection, now)

    def _run_out(self, connection: EndpointConnection, now: float) -> None:
        if not connection._completed:
            if now >= connection._deadline:
                words = f"the handshake with {connection.peer} did not finish within {self._handshake_timeout} s"
                self._end(connection, make(HandshakeTimeout, "HANDSHAKE_TIMEOUT", words))
            elif connection.get_timer() == 0:
                self._after(connection, now, connection.handle_timer)
        elif now >= self._when(connection, now):
            self._counts["expired"] += 1
            connection.peer_closed = True
            self._ready[connection] = None
            connection.close()
        if not connection.gone:
            self._schedule.add(connection, self._when(connection, now))

    # ---- what goes out ----

    def _transmit(self, connection: EndpointConnection) -> int:
        """Sends what a connection has to send; the errno of what the kernel would not take, or 0."""
        number = 0
        for datagram in connection.datagrams_to_send():
            number = self._send(datagram, connection._packed, connection._local) or number
        return number

    def _send(self, datagram: bytes, packed: CData, local: CData) -> int:
        if self._fileno < 0:
            self._out.append((datagram, addresses.unpack(packed, self.v6_socket)))
        else:
            number = -lib.dtlsffi_udp_send(self._fileno, self.v6_socket, packed, local, datagram, len(datagram))
            if number:
                self._counts["dropped_unsent"] += 1
                return int(number)
        self._counts["datagrams_sent"] += 1
        return 0

    def datagrams_to_send(self) -> list[tuple[bytes, Any]]:
        """Takes the datagrams that have to go out now, each with its address; none where there is a socket."""
        out, self._out = self._out, []
        return out

    # ---- what there is to take ----

    def accepted(self) -> list[EndpointConnection]:
        """Takes the connections that clients have begun since the last call; their handshakes are not finished yet."""
        accepted, self._accepted = self._accepted, []
        return accepted

    def ready(self) -> list[EndpointConnection]:
        """Takes the connections to which something has happened: data, the end of the handshake, or their own end."""
        ready, self._ready = list(self._ready), {}
        return ready

    def find(self, address: Any) -> EndpointConnection | None:
        """The connection with a peer's address, finished or not; None where there is none."""
        return self._connections.get(addresses.key(addresses.pack(address)))

    @property
    def connections(self) -> list[EndpointConnection]:
        """All there are, with handshakes finished or not."""
        return [*self._connections.values(), *self._replacing.values()]

    def statistics(self) -> dict[str, int]:
        """Counters since the beginning, and how many connections (`connections`) and handshakes (`pending`) there are.

        Dropped: `dropped_unknown` (no connection with that address), `dropped_junk` (a ClientHello that is none),
        `dropped_flood` (ClientHellos of strangers, when more came than could be answered), `dropped_truncated`,
        `dropped_queue_full`, `dropped_unsent`. Refused: `refused_pending`, `refused_connections`.
        """
        return {name: self._counts[name] for name in COUNTERS} | {
            "connections": len(self._connections) + len(self._replacing),
            "pending": self._pending,
        }

    # ---- the end ----

    def _end(self, connection: EndpointConnection, error: BaseException) -> None:
        """Something else than a close_notify has ended it."""
        if connection.failure is None:
            connection.failure = error
        if not connection._completed:
            self._counts["handshakes_failed"] += 1
        self._ready[connection] = None
        self._forget(connection)

    def _forget(self, connection: EndpointConnection) -> None:
        if connection.gone:
            return
        connection.gone = True
        if not connection._completed:
            self._no_longer_pending(connection)
        for table in (self._connections, self._replacing):
            if table.get(connection._key) is connection:
                del table[connection._key]

    def close(self) -> None:
        """Closes every connection with close_notify. The socket is its owner's to close."""
        for connection in self.connections:
            connection.close()


ANSWERED: int = lib.DTLSFFI_ANSWERED
COUNTERS = (
    "datagrams_received", "datagrams_sent", "cookies_sent", "handshakes_completed", "handshakes_failed",
    "replaced", "expired", "dropped_unknown", "dropped_junk", "dropped_flood", "dropped_truncated",
    "dropped_queue_full", "dropped_unsent", "refused_pending", "refused_connections",
)  # fmt: skip


def handshake_step(connection: Connection) -> None:
    """One step of a handshake, of which nothing need be told as long as it goes on."""
    with suppress(DTLSWantReadError):
        connection.do_handshake()
