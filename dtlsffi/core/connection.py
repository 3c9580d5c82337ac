"""One DTLS association, without any I/O of its own: RFC 6347.

Five things happen to a `Connection`: `receive_datagram`, `send`, `handle_timer`, `do_handshake`, `close`. After any of
them its owner takes what there is to take: `datagrams_to_send`, `data_received`, `events_received`, `get_timer`.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NoReturn, overload

from .._native import CData, ffi, lib
from . import certificates, ciphers, peercert
from .callbacks import Link
from .constants import DTLSProtocol
from .context import DTLSContext, c_string, valid_mtu, valid_timers
from .errors import (
    DatagramTooLarge,
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
from .events import AlertReceived, CloseReceived, Event, HandshakeCompleted, MTUChanged
from .session import DTLSSession

__all__ = ["Connection"]

Buffer = bytes | bytearray | memoryview

RECORD_MAX: int = lib.DTLSFFI_RECORD_MAX
MORE: int = lib.DTLSFFI_MORE
WANT_READ: int = lib.DTLSFFI_WANT_READ

# Plaintext comes out of C in scratch memory that is taken from here for one call, so that there are as many pieces of
# it as calls at one time, not as many as connections. list.pop() and list.append() are atomic.
inboxes: list[CData] = []


def take_inbox() -> CData:
    """A piece of scratch memory, to be given back with `inboxes.append`."""
    try:
        return inboxes.pop()
    except IndexError:
        return ffi.new("dtlsffi_inbox *")


class Connection:
    """A DTLS association with one peer, made from a `DTLSContext`; nothing of it touches a network or a clock.

    `server_side` says which part it takes in the handshake. `server_hostname` is the name (or IP address) that a client
    asks for (SNI, RFC 6066 section 3) and that the certificate must be for. `session` is one to resume.
    `peer` is what errors call the other side. `fileno` is for `dtlsffi`'s own doors: a connected, non-blocking UDP
    socket that carries the datagrams in place of memory.

    Raises ValueError or TypeError where the arguments do not fit the context. Any thread may call any method.
    After `fork` the child's copy raises `DTLSError`: two processes must never encrypt under the same nonce.
    """

    def __init__(
        self,
        context: DTLSContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        session: DTLSSession | None = None,
        peer: str = "",
        fileno: int = -1,
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
        self._received: list[bytes] = []
        self._link = Link(context._log_keys)
        self._handle = ffi.new_handle(self._link)
        conn = lib.dtlsffi_conn_new(context._ctx, self._server_side, fileno, self._handle)
        if conn == ffi.NULL:
            raise from_fault(self._peer)
        self._conn = ffi.gc(conn, lib.dtlsffi_conn_free)
        self._outbox = lib.dtlsffi_conn_outbox(conn)
        self._fileno = fileno
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

    # ---- the five things that happen ----

    def receive_datagram(self, data: Buffer) -> None:
        """Takes one datagram from the wire, whatever it is.

        What is not for this connection is counted and dropped. Raises `DTLSError` where the datagram ends the
        connection, and again in every later call.
        """
        if not data:
            return
        inbox = take_inbox()
        try:
            with readable(data) as view:
                answer = lib.dtlsffi_conn_receive(self._conn, view, len(view), inbox)
                self._collect(inbox)
                while answer >= MORE:
                    answer = lib.dtlsffi_conn_receive(self._conn, ffi.NULL, 0, inbox)
                    self._collect(inbox)
        finally:
            inboxes.append(inbox)
        self._after(answer)

    def _collect(self, inbox: CData) -> None:
        """Copies the plaintext out of the scratch memory."""
        start = inbox.data
        for index in range(inbox.count):
            length = inbox.length[index]
            self._received.append(ffi.buffer(start, length)[:])
            start += length

    def do_handshake(self) -> None:
        """Moves the handshake on as far as it goes without waiting: SSL_do_handshake(3).

        Raises `DTLSWantReadError` while it is not finished, `DTLSCertVerificationError` or another `DTLSError` where
        it has failed.
        """
        answer = lib.dtlsffi_conn_handshake(self._conn)
        self._after(answer)
        if answer < 0:
            self._raise(answer)

    def send(self, data: Buffer) -> int:
        """Encrypts `data` into one record in one datagram; returns its length.

        Raises ValueError for empty data (DTLS cannot tell an empty record from none), `DatagramTooLarge` above
        `data_mtu`, `DTLSWantReadError` before the handshake is finished, `DTLSZeroReturnError` after `close`.
        """
        if type(data) is bytes:
            answer = lib.dtlsffi_conn_send(self._conn, data, len(data))
        else:
            with readable(data) as view:
                answer = lib.dtlsffi_conn_send(self._conn, view, len(view))
        if answer <= 0:
            self._not_sent(answer, memoryview(data).nbytes)
        return answer

    def _not_sent(self, answer: int, length: int) -> NoReturn:
        if length == 0:
            raise ValueError("an empty datagram cannot be sent: DTLS has no empty record to carry it")
        if answer == lib.DTLSFFI_TOO_LARGE:
            raise make(DatagramTooLarge, "DTLS_MESSAGE_TOO_BIG", self._too_large_words(length))
        if answer == lib.DTLSFFI_NOT_READY:
            raise make(DTLSWantReadError, "HANDSHAKE_NOT_FINISHED", "data can be sent after the handshake only")
        self._raise(answer)

    def _too_large_words(self, length: int) -> str:
        if length > RECORD_MAX:
            return f"{length} bytes do not fit into one datagram: a record holds at most {RECORD_MAX} (RFC 6347)"
        return (
            f"{length} bytes do not fit into one datagram: with an mtu of {self.mtu} it carries {self.data_mtu} "
            "(data_mtu); send less, or raise mtu if the path carries more"
        )

    def handle_timer(self) -> None:
        """Tells that `get_timer` has run out: the last flight is sent again (RFC 6347 section 4.2.4).

        Does nothing if it has not. Raises `HandshakeTimeout` after the twelfth loss in a row, and `DTLSError` where
        the peer has sent nothing but an alert (it was held back, since anybody can send one).
        """
        self._after(lib.dtlsffi_conn_handle_timer(self._conn))

    def close(self) -> None:
        """Sends close_notify, once, and nothing after it: RFC 5246 section 7.2.1. Nobody is waited for."""
        answer = lib.dtlsffi_conn_shutdown(self._conn)
        if answer == lib.DTLSFFI_REENTERED:
            self._raise(answer)

    # ---- what there is to take ----

    def datagrams_to_send(self) -> list[bytes]:
        """Takes the datagrams that have to go to the peer now, in their order."""
        outbox = self._outbox
        if outbox.count == 0:
            return []
        with self._locked():
            whole = ffi.buffer(outbox.data, outbox.used)[:]
            lengths = ffi.unpack(outbox.length, outbox.count)
            lib.dtlsffi_conn_outbox_clear(self._conn)
        if len(lengths) == 1:
            return [whole]
        datagrams = []
        start = 0
        for length in lengths:
            datagrams.append(whole[start : start + length])
            start += length
        return datagrams

    def data_received(self) -> list[bytes]:
        """Takes the plaintext received so far: one bytes object a record, in the order of their arrival."""
        received, self._received = self._received, []
        return received

    def events_received(self) -> list[Event]:
        """Takes what has happened beside data since the last call: `dtlsffi.core.events`."""
        flags = lib.dtlsffi_conn_events(self._conn)
        if not flags:
            return []
        events: list[tuple[int, Event]] = [
            (lib.DTLSFFI_EVENT_MTU, MTUChanged(lib.dtlsffi_conn_flight_mtu(self._conn))),
            (lib.DTLSFFI_EVENT_ESTABLISHED, HandshakeCompleted()),
            (lib.DTLSFFI_EVENT_ALERT, AlertReceived(lib.dtlsffi_conn_alert_received(self._conn))),
            (lib.DTLSFFI_EVENT_CLOSED, CloseReceived()),
        ]
        return [event for flag, event in events if flags & flag]

    def get_timer(self) -> float | None:
        """Seconds until `handle_timer` is due, or None while nothing is waited for: DTLSv1_get_timeout(3).

        OpenSSL reckons by the wall clock, so make it a deadline of your own, monotonic clock at once.
        """
        microseconds = lib.dtlsffi_conn_timer(self._conn)
        return None if microseconds < 0 else microseconds / 1e6

    # ---- for the doors that read from a socket ----

    def read(self, limit: int = RECORD_MAX) -> bytes:
        """Reads one record of at most `limit` bytes from the socket given as `fileno`.

        Raises `DTLSWantReadError` where there is none yet, `DTLSZeroReturnError` after the peer's close_notify, and
        `DatagramTooLarge` where the record is larger; it stays there for the next call.
        """
        inbox = take_inbox()
        try:
            answer = lib.dtlsffi_conn_read(self._conn, inbox.data, RECORD_MAX, limit)
            if answer > 0:
                return ffi.buffer(inbox.data, answer)[:]
        finally:
            inboxes.append(inbox)
        return self._not_read(answer, limit)

    def read_into(self, buffer: bytearray | memoryview, size: int) -> int:
        """`read` into the first `size` bytes of `buffer`; returns the record's length."""
        with ffi.from_buffer("uint8_t[]", buffer, require_writable=True) as view:
            answer: int = lib.dtlsffi_conn_read(self._conn, view, size, size)
        if answer <= 0:
            self._not_read(answer, size)
        return answer

    def _not_read(self, answer: int, limit: int) -> NoReturn:
        self._after(answer)
        if answer == lib.DTLSFFI_TOO_LARGE:
            raise make(
                DatagramTooLarge,
                "RECORD_TOO_LARGE",
                f"the next record has {self.pending()} bytes, more than the {limit} asked for; it is kept for a call "
                "with more room",
            )
        self._raise(answer)

    def pending(self) -> int:
        """How many bytes the next `read` can give without a new datagram."""
        return int(lib.dtlsffi_conn_pending(self._conn))

    def detach(self) -> None:
        """Lets go of the socket given as `fileno`; whatever needs it raises OSError (EBADF) from now on."""
        lib.dtlsffi_conn_detach(self._conn)

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


@contextmanager
def readable(data: Buffer) -> Iterator[CData]:
    """The bytes of any contiguous buffer, without a copy; TypeError for anything else."""
    try:
        view = ffi.from_buffer("uint8_t[]", data)
    except TypeError:
        raise TypeError(f"data is bytes or a buffer of them, not {type(data).__name__}") from None
    with view:
        yield view


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


def host(server_hostname: str) -> tuple[str, bool]:
    """A host name as ASCII, and whether it is an IP address; TypeError or ValueError where it is neither."""
    if not isinstance(server_hostname, str):
        raise TypeError(f"server_hostname is a str, not {type(server_hostname).__name__}")
    try:
        return str(ipaddress.ip_address(server_hostname.partition("%")[0])), True
    except ValueError:
        pass
    if not server_hostname or server_hostname.startswith("."):
        raise ValueError("server_hostname cannot be an empty string or start with a leading dot.")
    if "\0" in server_hostname:
        raise ValueError("server_hostname must not contain a NUL character")
    try:
        name = server_hostname.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ValueError(f"server_hostname {server_hostname!r} is no host name: {error}") from None
    return c_string(name, "server_hostname").decode("ascii"), False
