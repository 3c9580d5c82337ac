"""What a connection is made of, what can be asked of it, and what the C side's answers mean."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NoReturn, overload

from .._native import CData, ffi, lib
from . import certificates, ciphers, peercert
from .arguments import host, valid_mtu, valid_timers
from .callbacks import Link
from .constants import DTLSProtocol
from .context import DTLSContext
from .errors import (
    DTLSError,
    DTLSWantReadError,
    DTLSWantWriteError,
    DTLSZeroReturnError,
    again,
    alert_text,
    certificate_refused,
    from_fault,
    make,
)
from .session import DTLSSession


class Association:
    """What a `Connection` is made of, and what can be asked of it without moving it on."""

    def __init__(
        self,
        context: DTLSContext,
        server_side: bool,
        server_hostname: str | None,
        session: DTLSSession | None,
        peer: str,
        fileno: int,
    ) -> None:
        if not isinstance(context, DTLSContext):
            raise TypeError(f"context is a DTLSContext, not {type(context).__name__}")
        check_side(context, server_side, server_hostname)
        name, is_address = (None, False) if server_hostname is None else host(server_hostname)
        check_session(session, context, server_side, name)
        context._freeze()
        self._context = context
        self._server_side = bool(server_side)
        self._server_hostname = name
        self._peer = peer or (name or "")
        self._failure: DTLSError | None = None
        self._link = Link(context._log_keys)
        self._handle = ffi.new_handle(self._link)
        conn = lib.dtlsffi_conn_new(context._ctx, self._server_side, fileno, self._handle)
        if conn == ffi.NULL:
            raise from_fault(self._peer)
        self._conn = ffi.gc(conn, lib.dtlsffi_conn_free)
        if name is not None:
            self._set_host(name, is_address)
        if session is not None and lib.SSL_set_session(lib.dtlsffi_conn_ssl(conn), session._session) != 1:
            raise ValueError("the session cannot be used")
        self._apply_timers(context.retransmission)
        if context.mtu is not None:
            self.mtu = context.mtu

    def _set_host(self, name: str, is_address: bool) -> None:
        """What to ask the server for, and what its certificate has to say."""
        ssl_object = lib.dtlsffi_conn_ssl(self._conn)
        text = name.encode("ascii")
        ok = True
        if not is_address:  # RFC 6066 section 3: no addresses in SNI
            ok = lib.SSL_set_tlsext_host_name(ssl_object, text) == 1
        if self._context.check_hostname:
            if is_address:
                ok = ok and lib.X509_VERIFY_PARAM_set1_ip_asc(lib.SSL_get0_param(ssl_object), text) == 1
            else:
                ok = ok and lib.SSL_set1_host(ssl_object, text) == 1
        if not ok:
            raise ValueError(f"server_hostname cannot be {name!r}")

    def __repr__(self) -> str:
        """Name the side, the peer and the state."""
        side = "server" if self._server_side else "client"
        return f"<Connection {side}{self._peer and f' {self._peer!r}'} {self._state()}>"

    def _state(self) -> str:
        if self._failure is not None:
            return f"failed: {self._failure.reason}"
        return str(self.version()) if self.is_established else "handshake not finished"

    # ---- errors ----

    def _after(self, answer: int) -> None:
        """Raises what ended the connection, or was parked by a callback; passes over what has not."""
        self._link.collect()
        if answer >= 0 or answer in HARMLESS:
            return
        if answer == lib.DTLSFFI_CLOSED and self.is_established:
            return
        self._raise(answer)

    def _raise(self, answer: int) -> NoReturn:
        """Raises the exception for a negative answer of the C side."""
        if answer == lib.DTLSFFI_FAULT:
            error = self._fault()
            if isinstance(error, DTLSError):
                self._failure = error
            raise error
        if answer == lib.DTLSFFI_FAILED and self._failure is not None:
            raise again(self._failure)
        kind, reason, words = ANSWERS[answer]
        raise make(kind, reason, words)

    def _fault(self) -> OSError:
        code = lib.dtlsffi_fault_last().verify_code
        error = from_fault(self._peer)
        if not isinstance(error, DTLSError) or error.reason != "CERTIFICATE_VERIFY_FAILED":
            return error
        return certificate_refused(code, self._verify_words(code), self._peer)

    def _verify_words(self, code: int) -> str:
        if code == lib.X509_V_ERR_HOSTNAME_MISMATCH:
            return f"Hostname mismatch, certificate is not valid for '{self._server_hostname}'."
        if code == lib.X509_V_ERR_IP_ADDRESS_MISMATCH:
            return f"IP address mismatch, certificate is not valid for '{self._server_hostname}'."
        return ciphers.text(lib.X509_verify_cert_error_string(code))

    def alert_held(self) -> str | None:
        """The plaintext alert that is held back until the timer runs out, in words, or None."""
        alert = lib.dtlsffi_conn_alert_held(self._conn)
        return None if alert < 0 else alert_text(alert)

    # ---- what is known ----

    @contextmanager
    def _locked(self) -> Iterator[CData]:
        """The SSL, for a look at it while no other thread moves it."""
        answer = lib.dtlsffi_conn_lock(self._conn)
        if answer != 0:
            self._raise(answer)
        try:
            yield lib.dtlsffi_conn_ssl(self._conn)
        finally:
            lib.dtlsffi_conn_unlock(self._conn)

    @property
    def context(self) -> DTLSContext:
        """The context it was made from."""
        return self._context

    @property
    def peer(self) -> str:
        """What errors call the other side."""
        return self._peer or "the peer"

    @property
    def server_side(self) -> bool:
        """Whether it takes the server's part."""
        return self._server_side

    @property
    def server_hostname(self) -> str | None:
        """The name asked for, in its ASCII form (IDNA), or None."""
        return self._server_hostname

    @property
    def is_established(self) -> bool:
        """Whether the handshake is finished."""
        return bool(lib.dtlsffi_conn_established(self._conn))

    @property
    def mtu(self) -> int:
        """The ceiling for a datagram's UDP payload, in bytes; may be set at any time, from 208 to 65527."""
        return int(lib.dtlsffi_conn_mtu(self._conn))

    @mtu.setter
    def mtu(self, mtu: int) -> None:
        answer = lib.dtlsffi_conn_set_mtu(self._conn, valid_mtu(mtu))
        if answer != 0:
            self._raise(answer)

    @property
    def data_mtu(self) -> int | None:
        """The largest data that `send` takes, in bytes: what fits into `mtu`, and into a record.

        None before the handshake is finished, since it depends on the cipher.
        """
        return int(lib.dtlsffi_conn_data_mtu(self._conn)) or None

    @property
    def retransmission(self) -> tuple[float, float, float]:
        """The handshake's timer, as `DTLSContext.retransmission`; setting it takes effect with the next flight."""
        return self._timers

    @retransmission.setter
    def retransmission(self, timers: tuple[float, float, float]) -> None:
        self._apply_timers(valid_timers(timers))

    def _apply_timers(self, timers: tuple[float, float, float]) -> None:
        first, factor, longest = self._timers = timers
        lib.dtlsffi_conn_set_timers(self._conn, round(first * 1e6), factor, round(longest * 1e6))

    def version(self) -> str | None:
        """The version spoken, such as `"DTLSv1.2"`, or None before the handshake is finished."""
        if not self.is_established:
            return None
        with self._locked() as ssl_object:
            return ciphers.text(lib.SSL_get_version(ssl_object))

    def cipher(self) -> tuple[str, str, int] | None:
        """The cipher suite: name, the version that defined it, bits of secret; None before there is one."""
        with self._locked() as ssl_object:
            cipher = lib.SSL_get_current_cipher(ssl_object)
            return None if cipher == ffi.NULL else ciphers.summary(cipher)

    def shared_ciphers(self) -> list[tuple[str, str, int]] | None:
        """A server's view of the suites that both sides allow, in the client's order; None for a client."""
        if not self._server_side:
            return None
        with self._locked() as ssl_object:
            theirs, ours = lib.SSL_get_client_ciphers(ssl_object), lib.SSL_get_ciphers(ssl_object)
            if theirs == ffi.NULL:
                return None
            offered = [lib.sk_SSL_CIPHER_value(theirs, i) for i in range(lib.sk_SSL_CIPHER_num(theirs))]
            return [ciphers.summary(cipher) for cipher in offered if lib.sk_SSL_CIPHER_find(ours, cipher) >= 0]

    @overload
    def getpeercert(self, binary_form: Literal[False] = False) -> dict[str, Any] | None: ...
    @overload
    def getpeercert(self, binary_form: Literal[True]) -> bytes | None: ...
    @overload
    def getpeercert(self, binary_form: bool) -> dict[str, Any] | bytes | None: ...
    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """The peer's certificate: a dict as `ssl` gives it, or DER where `binary_form`; None if there is none.

        The dict is empty where the certificate was not verified. Raises ValueError before the handshake is finished.
        """
        if not self.is_established:
            raise ValueError("handshake not done yet")
        with self._locked() as ssl_object:
            x509 = lib.SSL_get1_peer_certificate(ssl_object)
        if x509 == ffi.NULL:
            return None
        x509 = certificates.certificate(x509)
        if binary_form:
            return certificates.encode(x509)
        return {} if self._context.verify_mode is ssl.CERT_NONE else peercert.decode(x509)

    @property
    def session(self) -> DTLSSession | None:
        """The session, for a later connection to resume; None before there is one. Its lifetime is the server's."""
        if not self.is_established:
            return None
        with self._locked() as ssl_object:
            session = lib.SSL_get1_session(ssl_object)
        return None if session == ffi.NULL else DTLSSession(session, self._context, self._server_hostname)

    @property
    def session_reused(self) -> bool:
        """Whether an earlier session was resumed."""
        with self._locked() as ssl_object:
            return bool(lib.SSL_session_reused(ssl_object))

    def statistics(self) -> dict[str, int]:
        """Counters since the beginning: datagrams, bytes and records in and out, retransmissions, and what was dropped.

        `dropped_junk` counts datagrams that hold nothing of DTLS; `dropped_replayed` and `dropped_unauthenticated`
        application records that were seen before, or whose MAC did not fit, as far as that can be seen from outside
        of OpenSSL; `dropped_unsent` handshake datagrams that the kernel would not take; `alerts_held` plaintext
        alerts that were held back.
        """
        counters = lib.dtlsffi_conn_stats(self._conn)
        return {name: int(getattr(counters, name)) for name in COUNTERS}


COUNTERS: tuple[str, ...] = tuple(name for name, _ in ffi.typeof("dtlsffi_stats").fields)
HARMLESS = (lib.DTLSFFI_WANT_READ, lib.DTLSFFI_WANT_WRITE, lib.DTLSFFI_TOO_LARGE, lib.DTLSFFI_SHUT)

ANSWERS: dict[int, tuple[type[DTLSError], str, str]] = {
    lib.DTLSFFI_WANT_READ: (DTLSWantReadError, "WANT_READ", "nothing yet: a datagram or the timer has to come first"),
    lib.DTLSFFI_WANT_WRITE: (DTLSWantWriteError, "WANT_WRITE", "nothing was sent: the socket's send buffer is full"),
    lib.DTLSFFI_CLOSED: (DTLSZeroReturnError, "ZERO_RETURN", "the peer has closed the connection"),
    lib.DTLSFFI_SHUT: (DTLSZeroReturnError, "PROTOCOL_IS_SHUTDOWN", "the connection is closed: close() was called"),
    lib.DTLSFFI_NOT_READY: (DTLSWantReadError, "HANDSHAKE_NOT_FINISHED", "the handshake is not finished"),
    lib.DTLSFFI_FAILED: (DTLSError, "FAILED", "the connection has failed earlier"),
    lib.DTLSFFI_FORKED: (
        DTLSError,
        "USED_AFTER_FORK",
        "the connection belongs to the parent process: two processes that go on with it would reuse its nonces; "
        "connect anew after fork",
    ),
    lib.DTLSFFI_REENTERED: (DTLSError, "REENTERED", "a callback cannot move its own connection on"),
}


def check_side(context: DTLSContext, server_side: bool, server_hostname: str | None) -> None:
    """Raises ValueError where the context is not for this side, or lacks what the side needs: ssl's rules."""
    if server_side and context.protocol is DTLSProtocol.PROTOCOL_DTLS_CLIENT:
        raise ValueError("a PROTOCOL_DTLS_CLIENT context cannot take the server's side")
    if not server_side and context.protocol is DTLSProtocol.PROTOCOL_DTLS_SERVER:
        raise ValueError("a PROTOCOL_DTLS_SERVER context cannot take the client's side")
    if server_side and server_hostname is not None:
        raise ValueError("server_hostname can only be specified in client mode")
    if not server_side and context.check_hostname and server_hostname is None:
        raise ValueError("check_hostname requires server_hostname")


def check_session(session: DTLSSession | None, context: DTLSContext, server_side: bool, name: str | None) -> None:
    """Raises ValueError or TypeError where the session cannot be resumed here: ssl's rules, and the same host."""
    if session is None:
        return
    if not isinstance(session, DTLSSession):
        raise TypeError(f"session is a DTLSSession, not {type(session).__name__}")
    if server_side:
        raise ValueError("session can only be specified in client mode")
    if session._context is not context:
        raise ValueError("Session refers to a different DTLSContext.")
    if context.check_hostname and session._server_hostname != name:
        raise ValueError(f"session was made with {session._server_hostname!r}, not with {name!r}")
