"""Who may come in: what an endpoint does about the ClientHellos of strangers. RFC 6347 sections 4.2.1 and 4.2.8."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from .._native import CData, ffi, lib
from .connection import Connection
from .context import DTLSContext
from .cookies import make_jar
from .endpoint_connection import EndpointConnection
from .errors import DTLSError, DTLSWantReadError, DTLSWantWriteError, make

HELLO_NONE: int = lib.DTLSFFI_HELLO_NONE
HELLO_PROVEN: int = lib.DTLSFFI_HELLO_PROVEN
HELLO_FRAGMENT: int = lib.DTLSFFI_HELLO_FRAGMENT


class Admission:
    """The half of an `Endpoint` that lets clients in, or does not."""

    _connections: dict[bytes, EndpointConnection]
    _replacing: dict[bytes, EndpointConnection]
    _accepted: list[EndpointConnection]
    _counts: Counter[str]
    _udp: CData
    v6_socket: bool

    def __init__(
        self,
        context: DTLSContext | None,
        cookies: bool,
        cookie_secret: bytes | None,
        max_pending: int,
        max_connections: int,
    ) -> None:
        self._context, self._cookies = context, cookies
        self._jar = make_jar(cookie_secret)
        self._max_pending, self._max_connections = max_pending, max_connections
        self._pending = 0
        self._unproven = 0  # pending handshakes whose address is not proved
        self._reply = ffi.new("uint8_t[]", lib.DTLSFFI_HELLO_VERIFY_REQUEST)
        self._hello_random = ffi.new("uint8_t[32]")

    # ---- what the other half does ----

    def _start(self, connection: EndpointConnection, now: float) -> None:
        raise NotImplementedError

    def _slow_down(self, connection: EndpointConnection) -> None:
        raise NotImplementedError

    def _feed(self, connection: EndpointConnection, data: bytes, local: CData | None, now: float) -> None:
        raise NotImplementedError

    def _after(self, connection: EndpointConnection, now: float, move: Callable[[], object]) -> None:
        raise NotImplementedError

    def _send(self, datagram: bytes, packed: CData, local: CData) -> None:
        raise NotImplementedError

    def _end(self, connection: EndpointConnection, error: BaseException) -> None:
        raise NotImplementedError

    def _forget(self, connection: EndpointConnection) -> None:
        raise NotImplementedError

    def _transmit(self, connection: EndpointConnection) -> None:
        raise NotImplementedError

    # ---- hellos ----

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
            self._slow_down(older)  # what is encrypted may be for either of them now
            abandoned = self._replacing.pop(key, None)
            self._replacing[key] = connection
        else:
            abandoned = self._connections.pop(key, None)
            self._connections[key] = connection
        if abandoned is not None:
            self._end(abandoned, make(DTLSError, "REPLACED", "the client has begun again"))
        connection._set_local(local)
        self._start(connection, now)
        if older is None or not older.is_established:
            self._accepted.append(connection)
        return connection

    def _server_context(self) -> DTLSContext:
        if self._context is None:
            raise ValueError("an endpoint without a context has no server's side")
        return self._context

    def _begin(self, connection: EndpointConnection, data: bytes, now: float, *, proven: bool) -> None:
        if proven:
            answer = lib.dtlsffi_conn_begin(connection._conn, data, len(data))
            self._after(connection, now, lambda: connection._after(answer))
            if not connection.gone:
                self._after(connection, now, lambda: handshake_step(connection))
        else:
            self._feed(connection, data, None, now)


def handshake_step(connection: Connection) -> None:
    """One step of a handshake, of which nothing need be told as long as it goes on."""
    with suppress(DTLSWantReadError, DTLSWantWriteError):
        connection.do_handshake()
