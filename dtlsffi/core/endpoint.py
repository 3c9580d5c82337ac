"""Many connections behind one UDP port: whom a datagram is for, who may come in, who has to go.

Datagrams come in by `receive_datagram`, or by the batch from a socket by `pump`. After either of them, and after
`handle_timers`, the owner takes what there is: `accepted`, `recv_many`, `ready`, `datagrams_to_send` (where there is no
socket), `get_timer`.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from functools import partial
from types import NoneType
from typing import Any

from .._native import CData, ffi, lib
from . import address as addresses
from .arguments import check_is, checked_time, exactly
from .batches import Buffer
from .connection import Connection
from .context import DTLSContext
from .cookies import seems_hello
from .draining import MANY, SOON, TIDY, WARM, Draining, attempt, raise_first
from .endpoint_connection import NEVER, EndpointConnection
from .errors import DTLSError, from_errno, make
from .limits import check_limits
from .pins import Fingerprints, Keys, pins_of
from .schedule import Schedule
from .session import DTLSSession

__all__ = ["Endpoint"]

logger = logging.getLogger("dtlsffi.server")


class Endpoint(Draining):
    """One UDP port for any number of peers, as a server with `context`, as a client by `connect`, or both.

    `fileno` is a non-blocking UDP socket, bound and not connected. It stays its owner's; until `close` the endpoint
    sets UDP_GRO and IP_PKTINFO on it, and IP_MTU_DISCOVER unless the owner has. Without a socket, datagrams go in and
    out by `receive_datagram` and `datagrams_to_send`; addresses are written there as an AF_INET6 socket does with
    `v6_socket`, IPv4 ones as `::ffff:192.0.2.1`, otherwise as an AF_INET socket does. Times are seconds of the owner's
    monotonic clock.

    A client has to prove its address by a cookie before anything is kept for it (RFC 6347 section 4.2.1), unless
    `cookies` is false: then something else has to have proved it. `cookie_secret` (bytes, at least 16) lets processes
    and hosts check each other's cookies; without it each endpoint has its own. Every client is asked for what
    `verify_fingerprint` or `verify_public_key` name, as by a `Connection` with them.

    Limits: `max_pending` handshakes that are not finished (where there are as many, the busiest host's oldest goes),
    `max_connections` in all, `max_queue` records that wait in one connection, `handshake_timeout` and
    `idle_timeout` in seconds (None: no limit, so peers that vanish silently are kept). What is refused is counted in
    `statistics`; the first client for which there is no place is also logged (`dtlsffi.server`).

    Only one thread at a time may call it, or `close` of its connections: with more threads, hold a lock of your own.
    Any thread may call `send` and `send_many` of a connection.
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
        max_queue: int = 1024,
        handshake_timeout: float = 30.0,
        idle_timeout: float | None = None,
        verify_fingerprint: Fingerprints | None = None,
        verify_public_key: Keys | None = None,
    ) -> None:
        check_is(context, (DTLSContext, NoneType), "context is a DTLSContext or None")
        check_limits(max_pending, max_connections, max_queue, handshake_timeout, idle_timeout)
        pins = pins_of(verify_fingerprint, verify_public_key)
        if pins is not None and context is None:
            raise ValueError("pins are for the clients of a server, and there is no context for them")
        super().__init__(context, cookies, cookie_secret, max_pending, max_connections, pins)
        self._open(fileno, v6_socket, max_queue)
        self._handshake_timeout, self._idle_timeout = handshake_timeout, idle_timeout
        self._out: list[tuple[bytes, Any]] = []
        self._schedule = Schedule()

    # ---- what comes in ----

    def receive_datagram(self, data: Buffer, address: Any, now: float) -> None:
        """Processes one datagram from `address`. No datagram makes it raise: `ready` has what has failed."""
        datagram, packed, now = exactly(data, "data"), addresses.pack(address), checked_time(now)
        if datagram:
            self._counts["datagrams_received"] += 1
            self._receive(datagram, packed, NOWHERE, now)

    def _receive(self, data: bytes, packed: CData, local: CData, now: float, proof: bytes = b"") -> bool:
        """Takes one datagram, a ClientHello where there is a `proof`; whether that was much work."""
        key = addresses.key(packed)
        done: bool | None = None
        if proof:
            done = self._hello(data, packed, local, key, now, proof, proven=True)
        elif self._context is not None and seems_hello(data):
            done = self._hello_untrusted(data, packed, local, key, now)
        if done is not None:
            return done
        if self._hurries:
            self._defer(data, packed, local, b"")
            return False
        connection, newer = self._connections.get(key), self._replacing.get(key)
        if connection is None and newer is None:
            self._counts["dropped_unknown"] += 1
            return False
        if newer is not None:
            self._feed(newer, data, local, now)
        if connection is not None and (newer is None or data[3:5] != b"\0\0"):
            self._feed(connection, data, local, now)
        return True

    def _start(self, connection: EndpointConnection, now: float) -> None:
        self._pending.add(connection)
        connection._begun = now
        lib.dtlsffi_conn_seen(connection._conn, now)
        # Its first step, which is about to come, has this looked after.
        connection._deadline = now + self._handshake_timeout

    def _feed(self, connection: EndpointConnection, data: bytes, local: CData | None, now: float) -> None:
        """Gives a datagram to a connection. What nobody has signed says nothing of where an established peer is."""
        if not connection._completed:
            self._after(connection, now, lambda: connection.receive_datagram(data))
            return
        stats = lib.dtlsffi_conn_stats(connection._conn)
        known = stats.records_received
        self._after(connection, now, lambda: connection.receive_datagram(data))
        if stats.records_received > known:
            connection._set_local(local)
            lib.dtlsffi_conn_seen(connection._conn, now)

    def _after(self, connection: EndpointConnection, now: float, move: Callable[[], object]) -> None:
        """Moves a connection on, and sees what came of it."""
        try:
            move()
        except BaseException as error:
            if connection.server_side and isinstance(error, Exception) and connection.is_callbacks(error):
                stage = "connection" if connection.is_established else "handshake"
                logger.exception("a callback has failed in the %s with %s", stage, connection.peer)
            if connection.is_established:  # to OpenSSL nothing has happened, so that the peer would hear of nothing
                attempt(partial(Connection.close, connection), [])
            self._transmit(connection)
            self._end(connection, error.with_traceback(None))  # whose frames know the connection
            if not isinstance(error, Exception):  # Ctrl-C is for whoever called
                raise
            return
        self._transmit(connection)
        self._look(connection, now)

    def _look(self, connection: EndpointConnection, now: float) -> None:
        """Takes what there is to take from a connection."""
        if connection.gone:
            return
        records = Connection.data_received(connection)
        self._arrived += [(connection, record) for record in records]
        if len(self._arrived) > MANY:
            self._hand_out()
        news = lib.dtlsffi_conn_news(connection._conn)
        if not connection._completed:
            if news & NEWS_ESTABLISHED:
                self._complete(connection, now)
            else:
                self._schedule.add(connection, next_step(connection, (news >> NEWS_TIMER) - 1, now))
        if news & EVENT_CLOSED:
            connection.peer_closed = True
            self._ready[connection] = None

    def _complete(self, connection: EndpointConnection, now: float) -> None:
        self._pending.discard(connection)
        connection._complete()
        self._counts["handshakes_completed"] += 1
        self._ready[connection] = None
        if self._replacing.get(connection._key) is connection:
            del self._replacing[connection._key]
            older = self._connections.pop(connection._key, None)
            if older is not None and older.peer_closed:
                self._forget(older)
            elif older is not None:  # RFC 6347 section 4.2.8: the client has lost its state, and has proved it
                self._counts["replaced"] += 1
                self._end(older, make(DTLSError, "REPLACED", "the peer has begun a new connection from this address"))
            self._connections[connection._key] = connection
            self._accepted.append(connection)
        if connection._context._trace is not None:
            self._displace(connection)  # a name has chosen this context
        self._place(connection)
        lib.dtlsffi_table_settle(connection._conn, now)
        if connection._slot >= 0:
            self._warm(now)
        self._schedule.add(connection, self._when(connection, now))

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

        If the system refuses to send to `address`, the connection has failed at once: `failure` is the OSError.

        Raises ValueError where there is a connection with that address already, or no room for one.
        """
        packed, now = addresses.pack(address), checked_time(now)
        key = addresses.key(packed)
        there = self._connections.get(key)
        if there is not None:
            raise ValueError(f"there is a connection with {address} already")
        if self.is_full:
            raise ValueError(f"there are {self._max_connections} connections already (max_connections)")
        connection = EndpointConnection(
            self,
            packed,
            key,
            context,
            server_hostname=server_hostname,
            session=session,
            verify_fingerprint=verify_fingerprint,
            verify_public_key=verify_public_key,
        )
        self._connections[key] = connection
        self._start(connection, now)
        self._place(connection)
        self._after(connection, now, connection._step)
        connection._random = connection._client_random()
        refused = lib.dtlsffi_conn_unsent(connection._conn)
        if refused and refused not in PASSING and not connection.gone:  # there is no way: to wait would not find one
            self._end(connection, from_errno(refused, connection.peer))
        return connection

    # ---- time ----

    def _when(self, connection: EndpointConnection, now: float) -> float:
        """When there is something to be done about a connection."""
        if not connection._completed:
            return next_step(connection, lib.dtlsffi_conn_timer(connection._conn), now)
        if self._idle_timeout is None:
            return NEVER
        return float(lib.dtlsffi_conn_seen(connection._conn, 0)) + self._idle_timeout

    def get_timer(self, now: float) -> float | None:
        """Seconds until `handle_timers` is due, or None."""
        due = min(self._schedule.first(), self._tidy_at, now if self._waiting else NEVER)
        return None if due == NEVER else max(0.0, due - now)

    def look_at(self) -> float:
        """The time by the owner's clock when `handle_timers` is due. Cheaper than `get_timer`, but may be early."""
        if self._waiting:
            return 0.0
        heap, tidy_at = self._schedule.heap, self._tidy_at
        return heap[0][0] if heap and heap[0][0] < tidy_at else tidy_at

    def handle_timers(self, now: float) -> None:
        """Retransmits flights, continues handshakes that waited, enforces `handshake_timeout` and `idle_timeout`."""
        if now < self.look_at():
            return
        self._go_on(now)
        if self._tidy_at <= now:
            warm = lib.dtlsffi_table_tidy(self._table.table, now - WARM)
            self._tidy_at = now + TIDY if warm else NEVER
        for connection in self._schedule.due(now):
            self._run_out(connection, now)

    def _run_out(self, connection: EndpointConnection, now: float) -> None:
        if not connection._completed and connection.is_established:  # Ctrl-C came before that was seen
            self._look(connection, now)
        late = self._may_have_come(now)
        if not connection._completed:
            if now >= connection._deadline and not late:
                self._end(connection, connection._unfinished(self._handshake_timeout))
            elif connection.get_timer() == 0:
                self._after(connection, now, connection.handle_timer)
        elif now >= self._when(connection, now) and not late:
            self._counts["expired"] += 1
            connection.peer_closed = True
            self._ready[connection] = None
            connection.close()
        if not connection.gone:
            when = self._when(connection, now)
            self._schedule.add(connection, max(when, now + SOON) if late else when)

    # ---- what goes out ----

    def _transmit(self, connection: EndpointConnection) -> None:
        """Takes what a connection has to send, where there is no socket to which it has gone already."""
        if not self._has_socket:
            for datagram in connection.datagrams_to_send():
                self._out.append((datagram, connection.address))
                self._udp.datagrams_sent += 1

    def _send(self, datagram: bytes, packed: CData, local: CData) -> None:
        """Sends what no connection sends. What the kernel does not take is lost, and counted."""
        if not self._has_socket:
            self._out.append((datagram, addresses.unpack(packed, self.v6_socket)))
            self._udp.datagrams_sent += 1
        elif lib.dtlsffi_udp_send(self._udp, packed, local, datagram, len(datagram)):
            self._udp.dropped_unsent += 1

    def datagrams_to_send(self) -> list[tuple[bytes, Any]]:
        """Takes the datagrams that have to go out now, each with its address; none where there is a socket."""
        out, self._out = self._out, []
        return out

    # ---- what there is to take ----

    def accepted(self) -> list[EndpointConnection]:
        """Takes the connections that clients have begun since the last call; their handshakes are not finished yet."""
        if not self._accepted:
            return []
        accepted, self._accepted = self._accepted, []
        return accepted

    def ready(self) -> list[EndpointConnection]:
        """Takes the connections to which something has happened: data, the end of the handshake, or their own end.

        Their data is in their `received`, unless it has been taken by `recv_many`.
        """
        if self._arrived:
            self._hand_out()
        if not self._ready:
            return []
        ready, self._ready = list(self._ready), {}
        return ready

    def find(self, address: Any) -> EndpointConnection | None:
        """The connection with a peer's address, finished or not; None where there is none."""
        return self._connections.get(addresses.key(addresses.pack(address)))

    @property
    def connections(self) -> list[EndpointConnection]:
        """All connections, including those whose handshake is not finished."""
        return [*self._connections.copy().values(), *self._replacing.copy().values()]  # as of one moment

    def statistics(self) -> dict[str, int]:
        """Counters since the beginning, and how many connections (`connections`) and handshakes (`pending`) there are.

        `handshakes_completed` and `handshakes_failed` count those of both sides, `cookies_sent` hellos that were asked
        for one, `replaced` connections whose client has begun anew, `expired` those silent for `idle_timeout`.
        `flights_retransmitted` counts those that handshakes have sent again. Dropped: `dropped_unknown` (no connection
        with that address), `dropped_junk`, `dropped_replayed` and `dropped_unauthenticated` (as of each connection,
        gone ones included; and ClientHellos that are none), `dropped_flood` (ClientHellos of strangers, when more came
        than could be answered), `dropped_truncated`, `dropped_queue_full`, `dropped_unsent`, `dropped_overflow`
        (messages for which the socket's buffer had no room, SO_RCVBUF: with `gro` each may be as many as 64 datagrams).
        Refused: `refused_pending`, `refused_connections`; `evicted` are handshakes that had to make room for others.
        `socket_errors` is what the socket has raised, ICMP's news for instance. `datagrams_segmented` and
        `datagrams_joined` the kernel has cut, or joined; `gso` (UDP_SEGMENT) and `gro` (UDP_GRO) are 1 where it may.
        `dont_fragment` (IP_PMTUDISC_DO) is 1 while nobody may fragment what goes over IPv4: until a path is too narrow.
        """
        udp = self._udp
        return (
            {name: self._counts[name] for name in COUNTERS}
            | self._socket_statistics()
            | {
                "datagrams_received": self._counts["datagrams_received"] + udp.datagrams_received,
                "dropped_truncated": udp.datagrams_cut,
                "dropped_junk": self._counts["dropped_junk"] + udp.dropped_junk,
                "dropped_replayed": udp.dropped_replayed,
                "dropped_unauthenticated": udp.dropped_unauthenticated,
                "datagrams_sent": udp.datagrams_sent,
                "dropped_unsent": udp.dropped_unsent,
                "flights_retransmitted": udp.flights_retransmitted,
                "dont_fragment": udp.whole,
                "connections": len(self._connections) + len(self._replacing),
                "pending": len(self._pending),
            }
        )

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
            self._pending.discard(connection)
        self._displace(connection)
        self._leave_place(connection)
        self._schedule.sweep(len(self._connections) + len(self._replacing))
        lib.dtlsffi_conn_detach(connection._conn)

    def _leave_place(self, connection: EndpointConnection) -> None:
        """Whoever is at its address beside it has it for itself now."""
        key = connection._key
        older, newer = self._at(key)
        if newer is connection:
            del self._replacing[key]
            if older is not None:
                self._place(older)
                seen = lib.dtlsffi_conn_seen(older._conn, 0)
                lib.dtlsffi_table_settle(older._conn, seen)
                self._warm(seen)
        elif older is connection:
            del self._connections[key]
            if newer is not None:
                self._connections[key] = self._replacing.pop(key)
                self._place(newer)
                self._accepted.append(newer)

    def close(self) -> None:
        """Closes every connection with close_notify. The socket is its owner's to close.

        Raises what a callback has raised meanwhile, when all are closed.
        """
        raised: list[BaseException] = []
        self._waiting.clear()  # for a step of a handshake: there is none any more
        self._assemblies.clear()
        self._linger()
        for connection in self.connections:
            attempt(connection.close, raised)
        lib.dtlsffi_udp_release(self._udp)
        raise_first(raised)


def next_step(connection: EndpointConnection, timer: int, now: float) -> float:
    """When a handshake has to be looked at: its timer runs out in so many microseconds (-1: none runs)."""
    return connection._deadline if timer < 0 else min(connection._deadline, now + timer / 1e6)


PASSING = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.ENOMEM, errno.EMSGSIZE)
EVENT_CLOSED: int = lib.DTLSFFI_EVENT_CLOSED
NEWS_ESTABLISHED, NEWS_TIMER = lib.DTLSFFI_NEWS_ESTABLISHED, lib.DTLSFFI_NEWS_TIMER
NOWHERE = ffi.new("dtlsffi_address *")
COUNTERS = (
    "cookies_sent", "handshakes_completed", "handshakes_failed", "replaced", "expired",
    "dropped_unknown", "dropped_junk", "dropped_flood", "dropped_queue_full", "refused_pending",
    "refused_connections", "evicted", "socket_errors",
)  # fmt: skip
