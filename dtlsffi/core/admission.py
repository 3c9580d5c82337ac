"""Who may come in: what an endpoint does about the ClientHellos of strangers. RFC 6347 sections 4.2.1 and 4.2.8."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import NoReturn, cast

from .._native import CData, ffi, lib
from .assembling import Assemblies
from .context import DTLSContext
from .cookies import is_whole_hello, make_jar
from .endpoint_connection import EndpointConnection
from .errors import DTLSError, make
from .pending import Pending, host_of
from .pins import Pins

logger = logging.getLogger("dtlsffi.server")
HELLO_NONE: int = lib.DTLSFFI_HELLO_NONE
HELLO_BAD: int = lib.DTLSFFI_HELLO_BAD
HELLO_PROVEN: int = lib.DTLSFFI_HELLO_PROVEN
HELLO_FRAGMENT: int = lib.DTLSFFI_HELLO_FRAGMENT
RANDOM = 32


RESTART = 0.25
"""Seconds that a client which has begun again has to let pass before it may do so once more: each handshake is answered
with more than it takes to ask."""


class Admission:
    """The half of an `Endpoint` that lets clients in, or does not."""

    _hurries = False  # there is no time for another step of a handshake just now

    def __init__(
        self,
        context: DTLSContext | None,
        cookies: bool,
        cookie_secret: bytes | None,
        max_pending: int,
        max_connections: int,
        pins: Pins | None,
    ) -> None:
        self._connections: dict[bytes, EndpointConnection] = {}  # by their peers' addresses
        self._replacing: dict[bytes, EndpointConnection] = {}  # handshakes of clients that begin again
        self._accepted: list[EndpointConnection] = []
        self._counts: Counter[str] = Counter()
        self._context, self._cookies = context, cookies
        self._pins = pins  # of those who come in
        self._jar = make_jar(cookie_secret)
        self._max_connections = max_connections
        self._pending = Pending(max_pending)
        self._assemblies = Assemblies()
        self._reply = ffi.new("uint8_t[]", lib.DTLSFFI_HELLO_VERIFY_REQUEST)
        self._hello_random = ffi.new("uint8_t[]", lib.DTLSFFI_HELLO_RANDOM)

    def __reduce__(self) -> NoReturn:
        """Neither be pickled nor copied: two would have the one table of connections."""
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    @property
    def is_full(self) -> bool:
        """Whether there is no place for one more connection: `max_connections`."""
        return len(self._connections) >= self._max_connections

    # ---- what the other half does ----

    _start: Callable[[EndpointConnection, float], None]
    _place: Callable[[EndpointConnection], None]
    _displace: Callable[[EndpointConnection], None]
    _feed: Callable[[EndpointConnection, bytes, CData | None, float], None]
    _defer: Callable[[bytes, CData, CData, bytes], None]
    _after: Callable[[EndpointConnection, float, Callable[[], object]], None]
    _send: Callable[[bytes, CData, CData], None]
    _end: Callable[[EndpointConnection, BaseException], None]
    _forget: Callable[[EndpointConnection], None]

    # ---- hellos ----

    # What has been dealt with is True where it was much work, and False where it was little; None is for a connection.

    def _hello_untrusted(self, data: bytes, packed: CData, local: CData, key: bytes, now: float) -> bool | None:
        """Deals with what seems to be a ClientHello, or a fragment of one."""
        what = lib.dtlsffi_hello_look_untrusted(self._jar, packed, data, len(data), self._reply, self._hello_random)
        if what in (HELLO_NONE, HELLO_BAD):
            self._counts["dropped_junk"] += 1
            return False
        if what == HELLO_FRAGMENT:
            return self._fragment(data, packed, local, key, now)
        proof = ffi.buffer(self._hello_random)[:]
        if what > 0 and self._cookies and not self._is_said_again(key, proof):
            self._counts["cookies_sent"] += 1
            self._send(ffi.buffer(self._reply, what)[:], packed, local)
            return True
        return self._hello(data, packed, local, key, now, proof, proven=what == HELLO_PROVEN)

    def _is_said_again(self, key: bytes, proof: bytes) -> bool:
        """Whether a connection has begun with this hello: OpenSSL knows what to do."""
        random, made = proof[:RANDOM], proof[RANDOM:]
        return any(there is not None and there._is_of(random, made) for there in self._at(key))

    def _hello(
        self, data: bytes, packed: CData, local: CData, key: bytes, now: float, proof: bytes, *, proven: bool
    ) -> bool | None:
        """The same for one with its random and the time of its cookie, whole or the first fragment of it."""
        random, made = proof[:RANDOM], proof[RANDOM:]
        if self._is_said_again(key, proof):
            return None
        if not is_whole_hello(data):
            self._assemblies.begin(key, data, proof, now, proven=proven)
            return self._fragment(data, packed, local, key, now)
        if self._has_precedence(key, random) or self._is_too_soon(key, random, now):
            return True
        connection = self._admit(packed, local, key, now)
        if connection is not None:
            connection._random, connection._cookie_made = random, made
            self._begin(connection, data, now, proven=proven)
        return True

    def _fragment(self, data: bytes, packed: CData, local: CData, key: bytes, now: float) -> bool | None:
        """The same for a fragment: one of a hello that is being put together, or is said again."""
        if key in self._assemblies:
            found = self._assemblies.add(key, data)
            if found is None:
                return False
            whole, assembly = found
            if self._hurries:
                self._defer(whole, packed, local, assembly.proof if assembly.proven else b"")
                return False
            return self._hello(whole, packed, local, key, now, assembly.proof, proven=assembly.proven)
        if any(there is not None and there._server_side and not there.is_established for there in self._at(key)):
            return None
        self._counts["dropped_unknown"] += 1  # of one that has been asked for its cookie, most of the time
        return False

    def _at(self, key: bytes) -> tuple[EndpointConnection | None, EndpointConnection | None]:
        return self._connections.get(key), self._replacing.get(key)

    def _has_precedence(self, key: bytes, random: bytes) -> bool:
        """Whether a client's hello is passed over since we are shaking hands with it as our server.

        Both have begun at the same time then: whose ClientHello has the lower random stays the client.
        """
        ours = self._connections.get(key)
        if ours is None or ours._server_side or ours.is_established:
            return False
        if ours._random <= random:
            self._counts["dropped_unknown"] += 1
            return True
        self._end(ours, make(DTLSError, "REPLACED", "the peer has begun a connection with us at the same time"))
        return False

    def _is_too_soon(self, key: bytes, random: bytes, now: float) -> bool:
        """Whether the client has begun another handshake but just now: hellos that are overheard may be said again."""
        begun = [
            there._begun
            for there in self._at(key)
            if there is not None and not there.is_established and there._is_restart and there._random != random
        ]
        if not begun or now >= max(begun) + RESTART:
            return False
        self._counts["refused_pending"] += 1
        return True

    def _make_room(self, key: bytes) -> bool:
        """Sees that one more handshake may begin; whether it may."""
        if self._pending.has_room() or self._evict(key):
            return True
        self._counts["refused_pending"] += 1
        return False

    def _evict(self, key: bytes, *, with_its_place: bool = False) -> bool:
        """Has somebody's handshake make room for the one from an address; whether there is one that has to.

        One that is to replace an older connection has no place of its own among all that there may be.
        """
        leaves = self._pending.who_makes_room(host_of(key))
        if leaves is None or (with_its_place and self._connections.get(leaves._key) is not leaves):
            return False
        self._counts["evicted"] += 1
        self._end(leaves, make(DTLSError, "EVICTED", "too many handshakes are going on: this one had to make room"))
        return True

    def _admit(self, packed: CData, local: CData, key: bytes, now: float) -> EndpointConnection | None:
        """A new server's connection, if there is room for one; beside an older one of the same address, if any."""
        # Who has not proved more than an address keeps nobody out.
        if self.is_full and key not in self._connections and not self._evict(key, with_its_place=True):
            self._refuse()
            return None
        if not self._make_room(key):
            return None
        connection = EndpointConnection(
            self, packed, key, cast(DTLSContext, self._context), server_side=True, verify_fingerprint=self._pins
        )
        for there in (self._replacing.get(key), self._connections.get(key)):
            if there is not None and not there.is_established:
                connection._is_restart = True
                self._end(there, make(DTLSError, "REPLACED", "the client has begun again"))
        older = self._connections.get(key)
        if older is None:
            self._connections[connection._key] = connection
        else:
            self._displace(older)  # what is encrypted may be for either of them now
            self._replacing[connection._key] = connection
        connection._set_local(local)
        self._start(connection, now)
        if older is None:
            self._place(connection)
            self._accepted.append(connection)
        return connection

    def _refuse(self) -> None:
        """Counts somebody for whom there is no place; the owner hears of the first."""
        if not self._counts["refused_connections"]:
            logger.warning(
                "there are %d connections (max_connections), so newcomers are refused; idle_timeout, where it is set, "
                "ends those of which nothing has come for so long",
                self._max_connections,
            )
        self._counts["refused_connections"] += 1

    def _begin(self, connection: EndpointConnection, data: bytes, now: float, *, proven: bool) -> None:
        if proven:
            answer = lib.dtlsffi_conn_begin(connection._conn, data, len(data))
            self._after(connection, now, lambda: connection._after(answer))
        else:
            self._feed(connection, data, None, now)
