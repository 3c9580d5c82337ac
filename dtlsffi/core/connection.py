"""One DTLS association, without any I/O of its own: RFC 6347.

Five things happen to a `Connection`: `receive_datagram`, `send`, `handle_timer`, `do_handshake`, `close`. After any of
them its owner takes what there is to take: `datagrams_to_send`, `data_received`, `events_received`, `get_timer`.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from typing import NoReturn

from .._native import calls, lib
from .association import Association, logger
from .batches import Buffer
from .context import DTLSContext
from .errors import DatagramTooLarge, DTLSWantReadError, HandshakeTimeout, make
from .events import AlertReceived, CloseReceived, Event, HandshakeCompleted, MTUChanged
from .knowledge import Knowledge
from .pins import Fingerprints, Keys, pins_of
from .session import DTLSSession

__all__ = ["Connection"]

RECORD_MAX: int = lib.DTLSFFI_RECORD_MAX

EVENT_ESTABLISHED, EVENT_ALERT, EVENT_CLOSED, EVENT_MTU = (
    lib.DTLSFFI_EVENT_ESTABLISHED, lib.DTLSFFI_EVENT_ALERT, lib.DTLSFFI_EVENT_CLOSED, lib.DTLSFFI_EVENT_MTU,
)  # fmt: skip


class Connection(Association, Knowledge):
    """A DTLS association with one peer, made from a `DTLSContext`; nothing of it touches a network or a clock.

    `server_side` says which part it takes in the handshake. `server_hostname` is the name (or IP address) that a client
    asks for (SNI, RFC 6066 section 3) and that the certificate must be for. `session` is one to resume.
    `peer` is what errors call the other side. `fileno` is for `dtlsffi`'s own sockets: a connected, non-blocking UDP
    socket that datagrams are read from and sent to directly (`core/carrier.py`).

    `verify_fingerprint` authenticates the peer by its certificate alone, with no authority and no host name, as WebRTC
    does: it is one of these fingerprints, each as in SDP (`"sha-256 AB:CD:..."`, RFC 8122). `verify_public_key` does so
    by its public key, of a certificate or raw (RFC 7250): a file name, contents (PEM or DER), an object of
    `cryptography`, or several. With either of them a server asks for a certificate, too.

    Raises ValueError or TypeError where the arguments do not fit the context. Any thread may call any method.
    After `fork` the child's copy raises `DTLSError`: two processes must never encrypt under the same nonce.
    """

    __slots__ = ()

    def __init__(
        self,
        context: DTLSContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        session: DTLSSession | None = None,
        peer: str = "",
        fileno: int = -1,
        verify_fingerprint: Fingerprints | None = None,
        verify_public_key: Keys | None = None,
    ) -> None:
        pins = pins_of(verify_fingerprint, verify_public_key)
        Association.__init__(self, context, server_side, server_hostname, session, peer, fileno, pins)

    @property
    def _association(self) -> Association:
        return self

    def _serve_as(self, door: object) -> None:
        """Has callbacks get `door`, which holds this connection, in its place."""
        self._served_as = weakref.ref(door)

    # ---- the five things that happen ----

    def receive_datagram(self, data: Buffer, /) -> None:
        """Takes one datagram from the wire, whatever it is.

        What is not for this connection is counted and dropped. Raises `DTLSError` where the datagram ends the
        connection, and again in every later call.
        """
        raise NotImplementedError  # methods.c

    def receive_datagrams(self, datagrams: Iterable[Buffer]) -> None:
        """`receive_datagram` for each of some datagrams, in one go; raises what the first that ends it does."""
        answer = calls.receive_all(self, datagrams)
        if answer < 0 or self._origin._session_removed is not None or self._parked is not None:
            self._after(answer)

    def do_handshake(self) -> None:
        """Moves the handshake on as far as it goes without waiting: SSL_do_handshake(3).

        Raises `DTLSWantReadError` while it is not finished, `DTLSCertVerificationError` or another `DTLSError` where
        it has failed.
        """
        answer = self._step()
        if answer < 0:
            raise self._error(answer)

    def _step(self) -> int:
        """`do_handshake`, but a negative answer of the C side's where it is not finished."""
        answer: int = lib.dtlsffi_conn_handshake(self._conn)
        self._after(answer)
        return answer

    def send(self, data: Buffer, /) -> int:
        """Encrypts `data` into one record in one datagram; returns its length.

        Raises ValueError for empty data (DTLS cannot tell an empty record from none), `DatagramTooLarge` above
        `data_mtu`, `DTLSWantReadError` before the handshake is finished, `DTLSZeroReturnError` after `close`.
        """
        raise NotImplementedError  # methods.c

    def send_many(self, buffers: Iterable[Buffer]) -> int:
        """`send` for each of some buffers, in one go; returns how many have become datagrams.

        That is fewer than there are when the next is too large. Where none has, it raises what `send` does.
        """
        if type(buffers) is not list:
            buffers = list(buffers)
        return self._sent(calls.send_all(self, buffers), buffers)

    def _send_batch(self, buffers: Iterable[Buffer], udp: int) -> int:
        """The same over a socket, a `dtlsffi_udp` by its address, in as few calls as the kernel allows."""
        if type(buffers) is not list:
            buffers = list(buffers)
        return self._sent(calls.send_many(self, udp, buffers), buffers)

    def _sent(self, answer: int, buffers: list[Buffer]) -> int:
        if answer < 0 or (answer == 0 and buffers):
            self._not_sent(answer, buffers[0] if buffers else None)
        if self._parked is not None:
            self._collect()
        return answer

    def _not_sent(self, answer: int, data: Buffer | None) -> NoReturn:
        length = -1 if data is None else memoryview(data).nbytes
        if length == 0:
            raise ValueError("an empty datagram cannot be sent: DTLS has no empty record to carry it")
        if answer == lib.DTLSFFI_TOO_LARGE:
            raise make(DatagramTooLarge, "DTLS_MESSAGE_TOO_BIG", self._too_large_words(length))
        if answer == lib.DTLSFFI_NOT_READY:
            raise make(DTLSWantReadError, "HANDSHAKE_NOT_FINISHED", "data can be sent after the handshake only")
        self._after(answer)
        self._raise(answer)

    def _too_large_words(self, length: int) -> str:
        if length > RECORD_MAX:
            return f"{length} bytes do not fit into one datagram: a record holds at most {RECORD_MAX} (RFC 6347)"
        if length <= (self.data_mtu or 0):
            return f"the path does not carry a datagram with {length} bytes of data"
        return (
            f"{length} bytes do not fit into one datagram: with an mtu of {self.mtu} it carries {self.data_mtu} "
            "(data_mtu); send less, or raise mtu if the path carries more"
        )

    def handle_timer(self) -> None:
        """To be called when `get_timer` has run out: sends the last flight again (RFC 6347 section 4.2.4).

        Does nothing if it has not run out. Raises `HandshakeTimeout` after the thirteenth loss in a row, and
        `DTLSError` where the peer has sent nothing but an alert (it was held back, since anybody can send one).
        """
        self._after(lib.dtlsffi_conn_handle_timer(self._conn))

    def close(self) -> None:
        """Sends close_notify, once, and nothing after it: RFC 5246 section 7.2.1. Does not wait for the peer.

        An unfinished handshake is given up silently. When called in a callback of this connection, it takes effect
        after the callback has returned.
        """
        lib.dtlsffi_conn_shutdown(self._conn)
        self._collect()

    def update_keys(self, *, request_peer: bool = False) -> None:
        """Encrypts with new keys from now on, and may have the peer do so, too: RFC 8446 section 4.6.3.

        Raises ValueError unless DTLS 1.3 is spoken, and what `send` raises.
        """
        if self.version() != "DTLSv1.3":
            raise ValueError(f"keys can be updated in DTLS 1.3 only, not in {self.version() or 'a handshake'}")
        answer = lib.dtlsffi_conn_update_keys(self._conn, request_peer)
        self._after(answer)
        if answer < 0:
            self._raise(answer)

    def _fault(self) -> OSError:
        """The same, and where OpenSSL has given a handshake up by itself, what can be said of why."""
        error = super()._fault()
        if isinstance(error, HandshakeTimeout):
            return self._given_up("nothing that was sent again was answered", error.reason)
        return error

    def _unfinished(self, seconds: float | None) -> HandshakeTimeout:
        """The exception for a handshake that has not finished in time."""
        error = self._given_up(f"it did not finish within {seconds} s", "HANDSHAKE_TIMEOUT")
        logger.debug("%s: %s", "server" if self.server_side else "client", error)
        return error

    def _given_up(self, what: str, reason: str) -> HandshakeTimeout:
        """One for a handshake that is not finished, with what can be said of why."""
        alert, counters, unsent = self.alert_held(), self.statistics(), lib.dtlsffi_conn_unsent(self._conn)
        if alert is not None:
            why = f"the last that came was an alert that nobody signed: {alert}"
        elif unsent:
            why = f"the system refused to send {counters['dropped_unsent']} more: {os.strerror(unsent)}"
        elif 0 < counters["datagrams_received"] <= counters["dropped_junk"]:
            why = f"datagrams came, but none of DTLS ({counters['dropped_junk']}): is the port right?"
        elif counters["datagrams_received"]:
            why = f"datagrams came ({counters['datagrams_received']}), but not all that the handshake needs"
            if self.uses_psk():
                why += "; the two sides may have different pre-shared keys"
        else:
            why = "nothing came back: is it a DTLS server, is the port right, does a firewall drop UDP?"
        return make(
            HandshakeTimeout,
            reason,
            f"the handshake with {self.peer} timed out: {what} ({counters['datagrams_sent']} datagrams sent): {why}",
        )

    # ---- what there is to take ----

    def datagrams_to_send(self) -> list[bytes]:
        """Returns the datagrams to be sent to the peer now, each once, in their order."""
        raise NotImplementedError  # methods.c

    def data_received(self) -> list[bytes]:
        """Returns the records received since the last call, one bytes object each, in the order of their arrival."""
        raise NotImplementedError  # methods.c

    def events_received(self) -> list[Event]:
        """Returns the events (handshake, alert, close, MTU) since the last call: `dtlsffi.core.events`."""
        flags = lib.dtlsffi_conn_events(self._conn)
        if not flags:
            return []
        events: list[Event] = []
        if flags & EVENT_MTU:
            events.append(MTUChanged(lib.dtlsffi_conn_flight_mtu(self._conn)))
        if flags & EVENT_ESTABLISHED:
            events.append(HandshakeCompleted())
        if flags & EVENT_ALERT:
            events.append(AlertReceived(lib.dtlsffi_conn_alert_received(self._conn)))
        if flags & EVENT_CLOSED:
            events.append(CloseReceived())
        return events

    def get_timer(self) -> float | None:
        """Seconds until `handle_timer` is due, or None while nothing is waited for: DTLSv1_get_timeout(3).

        OpenSSL uses the wall clock: turn the answer into a deadline by a monotonic clock at once.
        """
        microseconds = lib.dtlsffi_conn_timer(self._conn)
        return None if microseconds < 0 else microseconds / 1e6


calls.equip(Connection)
