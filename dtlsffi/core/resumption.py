"""Sessions and who keeps them: the server's cache, tickets, stores of the application's own. RFC 5246, RFC 5077."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from .._native import CData, ffi, lib
from .arguments import check_callback, check_is, exactly, unsigned
from .callbacks import Parking
from .constants import DTLSProtocol
from .errors import take_fault
from .session import DTLSSession, copied
from .settings import Settings

TICKET_KEY: int = lib.DTLSFFI_TICKET_KEY

Given = Callable[[Any, DTLSSession], object]
Wanted = Callable[[Any, bytes], DTLSSession | bytes | None]
Removed = Callable[[bytes], object]


class Resumption(Settings):
    """The part of `DTLSContext` that is about sessions."""

    def __init__(self, protocol: DTLSProtocol) -> None:
        super().__init__(protocol)
        self._session_new: Given | None = None
        self._session_get: Wanted | None = None
        self._session_removed: Removed | None = None
        self._session_id_context = b""

    # ---- tickets ----

    def set_ticket_keys(self, keys: Sequence[bytes]) -> None:
        """Seals session tickets with the first of `keys`, and accepts those sealed with any of them: RFC 5077.

        A key is 80 random bytes (`os.urandom(80)`): its name (16), a key for HMAC-SHA256 (32), one for AES-256-CBC
        (32), as in nginx. Processes and hosts that share them resume each other's clients. This may be called at any
        time, also while the context is in use: put a new key first, keep the old ones for as long as their tickets
        live (`session_timeout`), and destroy them then, since they decrypt what was sent under their tickets. A ticket
        under a key that is gone leads to a full handshake. Raises ValueError for a key of another length, TypeError
        for what is not bytes.
        """
        self._not_for(DTLSProtocol.PROTOCOL_DTLS_CLIENT, "ticket keys")
        exact = [exactly(key, "a ticket key") for key in keys]
        for key in exact:
            if len(key) != TICKET_KEY:
                raise ValueError(f"a ticket key has {TICKET_KEY} bytes, not {len(key)}")
        names = {key[:16] for key in exact}
        if not exact or len(names) != len(exact):
            raise ValueError("keys holds at least one ticket key, and no two with the same name (their first 16 bytes)")
        lib.ERR_clear_error()
        if lib.dtlsffi_ctx_set_ticket_keys(self._ctx, b"".join(exact), len(exact)) != 1:
            raise take_fault("the ticket keys cannot be used")

    @property
    def num_tickets(self) -> int:
        """How many tickets a server sends after a full handshake of DTLS 1.3: SSL_CTX_set_num_tickets(3).

        Up to DTLS 1.2 it is one, or none with `OP_NO_TICKET`. Raises ValueError when set on a context of clients.
        """
        count: int = lib.SSL_CTX_get_num_tickets(self._ctx)
        return count

    @num_tickets.setter
    def num_tickets(self, count: int) -> None:
        self._changing()
        check_is(count, int, "num_tickets is an int")
        if count < 0:
            raise ValueError("value must be non-negative")
        if self._protocol is DTLSProtocol.PROTOCOL_DTLS_CLIENT:
            raise ValueError("SSLContext is not a server context.")
        if lib.SSL_CTX_set_num_tickets(self._ctx, count) != 1:
            raise take_fault(f"num_tickets cannot be {count}")

    # ---- the cache ----

    @property
    def session_timeout(self) -> int:
        """How long sessions made from now on may be resumed, in seconds; 7200 unless set."""
        seconds: int = lib.SSL_CTX_get_timeout(self._ctx)
        return seconds

    @session_timeout.setter
    def session_timeout(self, seconds: int) -> None:
        self._changing()
        if not 1 <= unsigned(seconds, "session_timeout") <= 7 * 86400:
            raise ValueError(f"session_timeout is 1 second to 7 days (604800), not {seconds}")
        lib.SSL_CTX_set_timeout(self._ctx, seconds)

    @property
    def session_cache_size(self) -> int:
        """How many sessions a server keeps in memory for clients without tickets; 20480 unless set, 0 for none."""
        if lib.SSL_CTX_get_session_cache_mode(self._ctx) & lib.SSL_SESS_CACHE_NO_INTERNAL_STORE:
            return 0
        size: int = lib.SSL_CTX_sess_get_cache_size(self._ctx)
        return size

    @session_cache_size.setter
    def session_cache_size(self, size: int) -> None:
        self._changing()
        if unsigned(size, "session_cache_size") > sys.maxsize:
            raise OverflowError(f"session_cache_size is {sys.maxsize} at most, not {size}")
        none = lib.SSL_SESS_CACHE_NO_INTERNAL_STORE | lib.SSL_SESS_CACHE_NO_INTERNAL_LOOKUP
        mode = lib.SSL_CTX_get_session_cache_mode(self._ctx) & ~none
        lib.SSL_CTX_set_session_cache_mode(self._ctx, mode if size else mode | none)
        lib.SSL_CTX_sess_set_cache_size(self._ctx, size or 1)

    def set_session_callbacks(
        self, *, new: Given | None = None, get: Wanted | None = None, remove: Removed | None = None
    ) -> None:
        """Keeps sessions in a store of the application's own: SSL_CTX_sess_set_get_cb(3).

        `new(connection, session)` is told of a session that can be resumed: on a server for its store (by
        `session.id`; not of one that went to the client in a ticket: see `OP_NO_TICKET`), on a client for a later
        connection. A server asks `get(connection, id)` for a session that its cache does not have: a `DTLSSession`,
        its `to_bytes()`, or None. `remove(id)` is told of one that must not be resumed any more, because its
        connection failed, it is too old, or the cache is full. `session_cache_size = 0` leaves all of it to the
        callbacks. What a callback raises is raised by the call that moved the connection on.
        """
        self._changing()
        for name, callback in (("new", new), ("get", get), ("remove", remove)):
            check_callback(callback, name)
        if self._protocol is DTLSProtocol.PROTOCOL_DTLS_CLIENT and (get or remove):
            raise ValueError("a PROTOCOL_DTLS_CLIENT context has a use for the callback `new` only")
        self._session_new, self._session_get, self._session_removed = new, get, remove
        mode = lib.SSL_CTX_get_session_cache_mode(self._ctx)
        if new is not None and self._protocol is not DTLSProtocol.PROTOCOL_DTLS_SERVER:
            mode |= lib.SSL_SESS_CACHE_CLIENT
        if self._protocol is DTLSProtocol.PROTOCOL_DTLS_CLIENT:  # which would never look there
            mode |= lib.SSL_SESS_CACHE_NO_INTERNAL_STORE
        lib.SSL_CTX_set_session_cache_mode(self._ctx, mode)
        lib.dtlsffi_ctx_ask_sessions(self._ctx, new is not None, get is not None, remove is not None)

    def _session_made(self, connection: Any, session: CData) -> None:
        if self._session_new is not None:
            self._session_new(connection, connection._association._make_session(copied(session)))

    def _session_wanted(self, connection: Any, identifier: bytes) -> CData:
        found = None if self._session_get is None else self._session_get(connection, identifier)
        if found is None:
            return ffi.NULL
        if isinstance(found, (bytes, bytearray, memoryview)):
            found = DTLSSession.from_bytes(found)
        check_is(found, DTLSSession, "`get` returns a DTLSSession, its bytes or None")
        if found.id != identifier:
            raise ValueError("`get` returns the session that has the id it was asked for")
        return copied(found._session)

    def _tell_removed(self) -> None:
        """Tells the callback `remove` what OpenSSL has removed since; raises its first exception when all is told."""
        if self._session_removed is None:
            return
        length = ffi.new("size_t *")
        taken = lib.dtlsffi_ctx_take_removed(self._ctx, length)
        if taken == ffi.NULL:
            return
        identifiers = ffi.buffer(taken, length[0])[:]
        lib.OPENSSL_free(taken)
        parking = Parking()
        while identifiers:
            end = 1 + identifiers[0]
            try:
                self._session_removed(identifiers[1:end])
            except BaseException as error:  # noqa: BLE001 - raised below
                parking._park(error)
            identifiers = identifiers[end:]
        parking._collect()

    @property
    def session_id_context(self) -> bytes:
        """What sets the sessions of one service apart from those of another: up to 32 bytes, none unless set.

        A session is resumed only where this is the same, and where the contexts that it was made with and is resumed
        with verify their peers by the same rules: `verify_mode`, authorities, revocation lists, flags, the presence of
        callbacks, and on a server the suites allowed. Set it where a difference cannot be seen from outside, such as
        that between two verify callbacks, or two that find pre-shared keys.
        """
        return self._session_id_context

    @session_id_context.setter
    def session_id_context(self, identifier: bytes) -> None:
        self._changing()
        if not isinstance(identifier, bytes) or len(identifier) > 32:
            raise ValueError("session_id_context is bytes, at most 32")
        self._session_id_context = identifier

    def session_stats(self) -> dict[str, int]:
        """How often sessions were made and resumed: `ssl.SSLContext.session_stats`."""
        return {
            name: getattr(lib, f"SSL_CTX_sess_{name}")(self._ctx)
            for name in (
                "number", "connect", "connect_good", "connect_renegotiate", "accept", "accept_good",
                "accept_renegotiate", "hits", "misses", "timeouts", "cache_full",
            )
        }  # fmt: skip
