"""What a connection is made of, and what the C side's answers mean."""

from __future__ import annotations

import hashlib
import logging
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from operator import index
from typing import Any, NoReturn

from .._native import CData, Holder, address_of, calls, ffi, lib, text
from .arguments import check_is, host, valid_mtu
from .callbacks import Parking
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
from .pins import Fingerprints, Keys, Pins, pins_of
from .session import DTLSSession

logger = logging.getLogger("dtlsffi.handshake")
DESCRIPTOR_MAX = 0x7FFFFFFF


class Association(Parking, Holder):
    """One SSL with everything around it, and what its callbacks need to know.

    Slots, so that what every record needs of a connection stands in one place in memory. A peer that says nothing costs
    what is in them, so they hold no more than what cannot be had from elsewhere.
    """

    __slots__ = (
        "_choosing", "_conn", "_context", "_failure", "_handle", "_origin", "_parked", "_peer", "_pins",
        "_psk_identity", "_raised", "_refusal", "_rules", "_served_as", "_server_hostname", "_server_side", "_timers",
    )  # fmt: skip

    def __init__(
        self,
        context: DTLSContext,
        server_side: bool,
        server_hostname: str | None,
        session: DTLSSession | None,
        peer: str,
        fileno: int,
        pins: Pins | None,
    ) -> None:
        check_context(context)
        calls.claim(self)
        check_side(context, server_side, server_hostname, pins)
        check_resumes(session, context, server_side)
        name, is_address = (None, False) if server_hostname is None else host(server_hostname)
        check_descriptor(fileno)
        context._freeze()
        self._rules = rules_of(context, pins, server_side)
        if session is not None:
            session._check(context, name, self._rules)
        self._context = context
        self._server_side = bool(server_side)
        self._server_hostname = name
        self._peer = peer
        self._failure: DTLSError | None = None
        self._parked = None
        self._raised = 0  # the id of what a callback has raised in the last call
        self._origin = context  # the one it began with: sessions are its matter, whatever a name has chosen
        self._choosing = False  # whether an sni_callback is just being asked
        self._pins = pins
        self._psk_identity: bytes | None = None  # the last one that a key was found for
        self._refusal: str | None = None  # why we refused a certificate, where OpenSSL has no words for it
        self._served_as: Callable[[], Any] | None = None  # a weak reference to the door that has it
        self._handle = ffi.new_handle(weakref.ref(self)) if context._asks or pins is not None else ffi.NULL
        self._conn = conn = lib.dtlsffi_conn_new(context._ctx, self._server_side, fileno, self._handle)
        if conn == ffi.NULL:
            raise from_fault(Association._who(self), lib.dtlsffi_fault_last())
        calls.hold(self, address_of(conn))
        if name is not None:
            self._set_host(name, is_address, check=context.check_hostname and pins is None)
        if session is not None:
            set_session(lib.dtlsffi_conn_ssl(conn), session)
        self._timers = context._timers
        if context._certificate_types is not None or pins is not None:
            self._apply_rules()

    def _set_host(self, name: str, is_address: bool, *, check: bool) -> None:
        """What to ask the server for, and what its certificate has to say."""
        ssl_object = lib.dtlsffi_conn_ssl(self._conn)
        text = name.encode("ascii")
        ok = True
        if not is_address:  # RFC 6066 section 3: no addresses in SNI
            ok = lib.SSL_set_tlsext_host_name(ssl_object, text) == 1
        if check:
            param = lib.SSL_get0_param(ssl_object)
            if is_address:
                ok = ok and lib.X509_VERIFY_PARAM_set1_ip_asc(param, text) == 1
            else:
                ok = ok and lib.X509_VERIFY_PARAM_set1_host(param, text, len(text)) == 1
        if not ok:
            lib.ERR_clear_error()
            raise ValueError(f"server_hostname cannot be {name!r}")

    def _apply_rules(self) -> None:
        """What the context, and the pins, want to see of the peer."""
        if self._context._certificate_types is not None:
            self._set_certificate_types(*self._context._certificate_types)
        if self._pins is not None:
            lib.dtlsffi_conn_set_pinned(self._conn)
        if self._server_side:  # see conn.c
            lib.SSL_set_session_id_context(lib.dtlsffi_conn_ssl(self._conn), self._rules, len(self._rules))

    def _set_certificate_types(self, own: bytes, peer: bytes) -> None:
        ssl_object = lib.dtlsffi_conn_ssl(self._conn)
        server, client = (own, peer) if self._server_side else (peer, own)
        if not (
            lib.SSL_set1_server_cert_type(ssl_object, server, len(server)) == 1
            and lib.SSL_set1_client_cert_type(ssl_object, client, len(client)) == 1
        ):
            raise MemoryError

    def _set_mtu(self, mtu: int) -> None:
        answer = lib.dtlsffi_conn_set_mtu(self._conn, valid_mtu(mtu))
        if answer != 0:
            self._raise(answer)

    def _set_timers(self, timers: tuple[float, float, float]) -> None:
        first, factor, longest = self._timers = timers
        lib.dtlsffi_conn_set_timers(self._conn, round(first * 1e6), factor, round(longest * 1e6))

    def _adopt(self, context: DTLSContext) -> None:
        """Goes on with another context: what an sni_callback may do."""
        check_context(context)
        if not self._choosing:
            raise ValueError("the context can be changed by a server's sni_callback only")
        check_side(context, self._server_side, None, None)
        context._freeze()
        with self._locked():
            has_psk, traces = context._psk_server is not None, context.trace is not None
            if lib.dtlsffi_conn_adopt(self._conn, context._ctx, has_psk, traces) != 1:
                raise MemoryError
        self._context = context
        self._rules = rules_of(context, self._pins, self._server_side)
        self._apply_rules()

    def _resume(self, session: DTLSSession) -> None:
        """Has a client's handshake, which has not begun yet, resume a session."""
        check_resumes(session, self._context, self._server_side)
        session._check(self._context, self._server_hostname, self._rules)
        with self._locked() as ssl_object:
            if not lib.SSL_in_before(ssl_object):
                raise ValueError("Cannot set session after handshake.")
            set_session(ssl_object, session)

    def _make_session(self, session: CData) -> DTLSSession:
        """A session of this connection's, whose reference is taken over."""
        return DTLSSession(session, self._origin, self._server_hostname, self._rules)

    def __repr__(self) -> str:
        """Name the side, the peer and the state."""
        side = "server" if self._server_side else "client"
        who = self._who()
        return f"<Connection {side}{who and f' {who!r}'} {self._state()}>"

    def _who(self) -> str:
        """What errors call the other side; "" where nobody has said."""
        return self._peer or self._server_hostname or ""

    def _subject(self) -> Any:
        """Whom callbacks get: the door that has this connection (None where it is gone), or the connection itself."""
        return self if self._served_as is None else self._served_as()

    def _state(self) -> str:
        if self._failure is not None:
            return f"failed: {self._failure.reason}"
        if not self.is_established:
            return "handshake not finished"
        with self._locked() as ssl_object:
            return text(lib.SSL_get_version(ssl_object))

    def _locked(self) -> AbstractContextManager[CData]:
        """The SSL, for a look at it while no other thread moves it."""
        return calls.locked(self, lib.dtlsffi_conn_ssl(self._conn))

    # ---- errors ----

    def _after(self, answer: int) -> None:
        """Raises what ended the connection, or was parked by a callback; passes over what has not."""
        if answer == lib.DTLSFFI_FAULT:
            raise self._faulted()
        self._collect()
        if answer >= 0 or answer in HARMLESS:
            return
        if answer == lib.DTLSFFI_CLOSED and self.is_established:
            return
        self._raise(answer)

    def _faulted(self) -> BaseException:
        """What a fault is; raises what a callback has raised instead, where that is what it comes from."""
        error = self._fault()
        if isinstance(error, DTLSError):
            self._fail(error)
        self._collect()
        return error

    def _collect(self) -> None:
        """Raises what was parked; tells the context's store what must not be resumed any more."""
        if self._origin._session_removed is not None:
            self._origin._tell_removed()
        self._raised = 0 if self._parked is None else id(self._parked)
        if self._parked is not None:
            super()._collect()

    def is_callbacks(self, error: BaseException) -> bool:
        """Whether an exception is what a callback has raised, and not what became of it."""
        return id(error) == self._raised

    def _fail(self, error: DTLSError) -> None:
        """The end of the connection, and why: for later calls, and for whoever looks into the log."""
        self._failure = again(error)  # which nobody raises: it knows no frame, which would know the connection
        side = "server" if self._server_side else "client"
        stage = "connection" if self.is_established else "handshake"
        parked = self._parked
        cause = "" if parked is None else f" (because a callback raised {type(parked).__name__})"
        logger.debug("%s: the %s with %s failed: %s%s", side, stage, self._who() or "the peer", error, cause)

    def _error(self, answer: int) -> OSError:
        """The exception for a negative answer of the C side."""
        if answer == lib.DTLSFFI_FAULT:
            return self._fault()
        if answer == lib.DTLSFFI_FAILED and self._failure is not None:
            return again(self._failure)
        kind, reason, words = ANSWERS[answer]
        return make(kind, reason, words)

    def _raise(self, answer: int) -> NoReturn:
        """Raises it."""
        raise self._error(answer)

    def _fault(self) -> OSError:
        fault = lib.dtlsffi_conn_fault(self._conn)
        code = fault.verify_code
        error = from_fault(self._who(), fault, established=self.is_established)
        if not isinstance(error, DTLSError):
            return error
        if error.reason in REFUSALS and self._server_side and self._refusal is not None:
            who = self._who()
            return make(DTLSError, error.reason, f"{self._refusal}{who and f' (peer: {who})'}")
        if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE" and not self._server_side:
            who = self._who() or "the server"
            words = f"{who} has shown no certificate, so that the pin cannot be checked: its suite may be one with keys"
            return make(DTLSError, error.reason, words)
        if error.reason != "CERTIFICATE_VERIFY_FAILED":
            return error
        return certificate_refused(code, self._verify_words(code), self._who())

    def _verify_words(self, code: int) -> str:
        if code == lib.X509_V_ERR_HOSTNAME_MISMATCH:
            return f"Hostname mismatch, certificate is not valid for '{self._server_hostname}'."
        if code == lib.X509_V_ERR_IP_ADDRESS_MISMATCH:
            return f"IP address mismatch, certificate is not valid for '{self._server_hostname}'."
        if code == lib.X509_V_ERR_CERT_REJECTED and self._refusal is not None:
            return self._refusal
        return text(lib.X509_verify_cert_error_string(code))

    def alert_held(self) -> str | None:
        """The plaintext alert that is held back until the timer runs out, in words, or None."""
        alert = lib.dtlsffi_conn_alert_held(self._conn)
        return None if alert < 0 else alert_text(alert)


REFUSALS = ("PSK_IDENTITY_NOT_FOUND", "CALLBACK_FAILED")
"""What OpenSSL calls it where a callback of a server's has said no."""
HARMLESS = (lib.DTLSFFI_WANT_READ, lib.DTLSFFI_WANT_WRITE, lib.DTLSFFI_TOO_LARGE, lib.DTLSFFI_SHUT)

ANSWERS: dict[int, tuple[type[DTLSError], str, str]] = {
    lib.DTLSFFI_WANT_READ: (DTLSWantReadError, "WANT_READ", "nothing yet: a datagram or the timer has to come first"),
    lib.DTLSFFI_WANT_WRITE: (DTLSWantWriteError, "WANT_WRITE", "nothing was sent: the socket's send buffer is full"),
    lib.DTLSFFI_CLOSED: (DTLSZeroReturnError, "ZERO_RETURN", "the peer has closed the connection"),
    lib.DTLSFFI_SHUT: (
        DTLSZeroReturnError,
        "PROTOCOL_IS_SHUTDOWN",
        "the connection is closed: close() or shutdown() was called",
    ),
    lib.DTLSFFI_NOT_READY: (DTLSWantReadError, "HANDSHAKE_NOT_FINISHED", "the handshake is not finished"),
    lib.DTLSFFI_FAILED: (DTLSError, "FAILED", "the connection has failed earlier"),
    lib.DTLSFFI_FORKED: (
        DTLSError,
        "USED_AFTER_FORK",
        "the connection belongs to the parent process: two processes that go on with it would reuse its nonces; "
        "connect anew after fork",
    ),
    lib.DTLSFFI_REENTERED: (DTLSError, "REENTERED", "a callback cannot send or receive on its own connection"),
}


def check_context(context: object) -> None:
    """Raises TypeError for what is none."""
    check_is(context, DTLSContext, "context is a DTLSContext")


def check_side(context: DTLSContext, server_side: bool, server_hostname: str | None, pins: Pins | None) -> None:
    """Raises TypeError for no context, ValueError for one that is not for this side, or lacks what that needs."""
    check_context(context)
    if server_side and context._protocol is DTLSProtocol.PROTOCOL_DTLS_CLIENT:
        raise ValueError("a PROTOCOL_DTLS_CLIENT context cannot take the server's side")
    if not server_side and context._protocol is DTLSProtocol.PROTOCOL_DTLS_SERVER:
        raise ValueError("a PROTOCOL_DTLS_SERVER context cannot take the client's side")
    if server_side and server_hostname is not None:
        raise ValueError("server_hostname can only be specified in client mode")
    if not server_side and context.check_hostname and server_hostname is None and pins is None:
        raise ValueError("check_hostname requires server_hostname")


def check_descriptor(fileno: int) -> None:
    """Raises TypeError or ValueError for what is neither a descriptor nor -1."""
    if not -1 <= index(fileno) <= DESCRIPTOR_MAX:
        raise ValueError(f"fileno is a descriptor, or -1 for none, not {fileno}")


def identity_of(
    host: str | None,
    context: DTLSContext,
    server_hostname: str | None,
    session: DTLSSession | None,
    fingerprints: Fingerprints | None,
    keys: Keys | None,
) -> dict[str, Any]:
    """How clients' connections are made, as arguments by name: where no host name is given it is the host's."""
    return {
        "context": context,
        "server_hostname": host if server_hostname is None else server_hostname,
        "session": session,
        "verify_fingerprint": pins_of(fingerprints, keys),
    }


def check_client(
    *, context: DTLSContext, server_hostname: str | None, session: DTLSSession | None, verify_fingerprint: Pins | None
) -> None:
    """Raises TypeError or ValueError, by name, where no client's connection can be made of these."""
    if server_hostname is not None:
        host(server_hostname)
    check_side(context, False, server_hostname, verify_fingerprint)
    check_resumes(session, context, False)


def check_resumes(session: DTLSSession | None, context: DTLSContext, server_side: bool) -> None:
    """Raises TypeError for what is neither None nor a session, ValueError for another context's, or on a server."""
    if session is None:
        return
    check_is(session, DTLSSession, "session is a DTLSSession")
    if server_side:
        raise ValueError("session can only be specified in client mode")
    if session._context not in (None, context):
        raise ValueError("Session refers to a different DTLSContext.")


def set_session(ssl_object: CData, session: DTLSSession) -> None:
    """Has an SSL resume a session."""
    if lib.SSL_set_session(ssl_object, session._session) != 1:
        lib.ERR_clear_error()
        raise ValueError("the session cannot be used")


def rules_of(context: DTLSContext, pins: Pins | None, server_side: bool) -> bytes:
    """What stands for the rules by which a connection verifies its peer, in 32 bytes."""
    if pins is None:
        return context._rules_digests[bool(server_side)]
    return hashlib.sha256(context._rules[bool(server_side)] + pins.identifier).digest()
