"""dtlsffi.core.callbacks."""

from __future__ import annotations

import ssl
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import dtlsffi
from dtlsffi.core.callbacks import Parking, Password, adapted
from dtlsffi.testing import Authority, MemoryLink
from tests.helpers import FAST, HOST, handshake, record

KEY = bytes(16)


def test_the_first_exception_is_kept_and_raised_once() -> None:
    """The later ones only follow from it."""
    parking = Parking()
    parking._collect()
    parking._park(LookupError("first"))
    parking._park(ValueError("second"))
    with pytest.raises(LookupError, match="first"):
        parking._collect()
    parking._collect()


def test_a_password_that_fits_exactly_is_taken() -> None:
    """One byte more is not."""
    assert Password("x" * 1024).answer(1024) == b"x" * 1024
    with pytest.raises(ValueError, match="longer than 1024 bytes"):
        Password("x" * 1025).answer(1024)


def test_a_password_is_text_of_any_script() -> None:
    """In UTF-8, as in ssl."""
    assert Password("пароль").answer(1024) == "пароль".encode()


# ---- what a callback may do to its own connection ----


class Situation:
    """A client and a server of which one has a callback that does something."""

    def __init__(self, authority: Authority, kind: str, act: Callable[[Any], None]) -> None:
        self.acted = 0
        self.client, self.server = authority.client_context(), authority.server_context(HOST)
        self.client.retransmission = self.server.retransmission = FAST

        def call(connection: Any) -> None:
            self.acted += 1
            act(connection)

        getattr(self, kind)(call)

    def psk_client(self, call: Callable[[Any], None]) -> None:
        self.with_psk(lambda _hint, connection: call(connection) or ("me", KEY), lambda _identity: KEY)  # type: ignore[func-returns-value]

    def psk_server(self, call: Callable[[Any], None]) -> None:
        self.with_psk(lambda _hint: ("me", KEY), lambda _identity, connection: call(connection) or KEY)  # type: ignore[func-returns-value]

    def with_psk(self, ours: Any, theirs: Any) -> None:
        self.client.set_ciphers("PSK-AES128-GCM-SHA256")
        self.client.set_psk_client_callback(ours)
        self.server.set_psk_server_callback(theirs)

    def sni(self, call: Callable[[Any], None]) -> None:
        self.server.sni_callback = lambda connection, *_: call(connection)

    def verify(self, call: Callable[[Any], None]) -> None:
        self.client.verify_callback = lambda connection, check: call(connection) is None and check.ok

    def trace(self, call: Callable[[Any], None]) -> None:
        self.client.trace = lambda connection, _: call(connection)

    def ocsp_server(self, call: Callable[[Any], None]) -> None:
        self.client.set_ocsp_client_callback(lambda *_: True)
        self.server.set_ocsp_server_callback(call)  # type: ignore[arg-type]

    def ocsp_client(self, call: Callable[[Any], None]) -> None:
        self.client.set_ocsp_client_callback(lambda connection, _: call(connection) is None)

    def session_new(self, call: Callable[[Any], None]) -> None:
        self.client.set_session_callbacks(new=lambda connection, _: call(connection))

    def link(self) -> MemoryLink:
        return handshake(self.client, self.server)


KINDS = ["psk_client", "psk_server", "sni", "verify", "trace", "ocsp_server", "ocsp_client", "session_new"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_callback_may_close_its_connection(kind: str, authority: Authority) -> None:
    """Which takes effect when it has returned: the handshake is over, and later calls say why."""
    situation = Situation(authority, kind, lambda connection: connection.close())
    link = situation.link()
    closed = link.server if kind in ("psk_server", "sni", "ocsp_server") else link.client
    with suppress(dtlsffi.DTLSError):
        link.client.do_handshake()
    with suppress(dtlsffi.DTLSError):
        link.run_until(lambda: situation.acted > 0, within=10)
    assert situation.acted
    with pytest.raises(dtlsffi.DTLSZeroReturnError, match="close"):
        closed.send(b"x")
    if kind == "session_new":  # comes when the handshake is all but over: the peer hears close_notify
        link.settle()
        assert dtlsffi.CloseReceived() in link.server.events_received()
        return
    with pytest.raises(dtlsffi.DTLSZeroReturnError, match="close"):
        closed.do_handshake()
    with pytest.raises(dtlsffi.DTLSZeroReturnError, match="close"):
        closed.handle_timer()
        closed.do_handshake()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "act",
    [
        lambda connection: connection.send(b"x"),
        lambda connection: connection.do_handshake(),
        lambda connection: connection.receive_datagram(b"\x16" * 20),
    ],
    ids=["send", "do_handshake", "receive_datagram"],
)
def test_a_callback_cannot_move_its_connection_on(kind: str, act: Callable[[Any], None], authority: Authority) -> None:
    """The attempt is an exception, in the callback and then in the call it came from."""
    situation = Situation(authority, kind, act)
    with pytest.raises(dtlsffi.DTLSError, match="a callback cannot send or receive on its own connection"):
        situation.link().shake_hands()
    assert situation.acted


@pytest.mark.parametrize("kind", KINDS)
def test_a_callback_may_look_at_its_connection(kind: str, authority: Authority) -> None:
    """As far as anything is known."""

    def look(connection: Any) -> None:
        assert connection.version() is None
        connection.cipher()
        connection.statistics()
        assert connection.mtu == 1200
        repr(connection)

    if kind == "session_new":  # comes when the handshake is all but over
        return
    situation = Situation(authority, kind, look)
    for context in (situation.client, situation.server):
        context.retransmission = (60, 1, 60)  # nothing is said again after the handshake
    situation.link().shake_hands()
    assert situation.acted


@pytest.mark.parametrize("kind", KINDS)
def test_a_callback_may_hold_the_last_reference(kind: str, authority: Authority) -> None:
    """And drop it: the call that goes on has its own."""
    held: list[Any] = []
    situation = Situation(authority, kind, lambda _: held.clear())
    link = situation.link()
    held += [link.client, link.server]
    client, server = weakref.proxy(link.client), weakref.proxy(link.server)
    link.client, link.server = client, server
    link.received = {}
    with suppress(ReferenceError, dtlsffi.DTLSWantReadError, KeyError):
        held[0].do_handshake()
        for _ in range(10):
            for datagram in client.datagrams_to_send():
                held[1].receive_datagram(datagram)
            for datagram in server.datagrams_to_send():
                held[0].receive_datagram(datagram)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_callback_raises_comes_out_once(kind: str, authority: Authority) -> None:
    """Whatever it is, KeyboardInterrupt included; and it is not printed."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    link = Situation(authority, kind, interrupt).link()
    with pytest.raises(KeyboardInterrupt):
        link.shake_hands()


def test_callbacks_get_what_they_require() -> None:
    """The last argument only where there is no default for it."""
    calls: list[tuple[Any, ...]] = []
    adapted(lambda one: calls.append((one,)))(1, 2)
    adapted(lambda one, two: calls.append((one, two)))(1, 2)
    adapted(lambda one, two=None: calls.append((one, two)))(1, 2)
    adapted(lambda *all_of_them: calls.append(all_of_them))(1, 2)
    adapted({1: "x"}.get)(1, 2)
    assert calls == [(1,), (1, 2), (1, None), (1,)]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_that_a_callback_leaves_behind_are_not_the_connections(kind: str, authority: Authority) -> None:
    """Python's ssl leaves one in OpenSSL's queue, where SSL_get_error(3) would find it."""

    def clumsy(_: object) -> None:
        with suppress(ValueError):
            ssl.Purpose.fromname("no such purpose")

    situation = Situation(authority, kind, clumsy)
    link = situation.link()
    link.shake_hands()
    assert situation.acted
    link.server.receive_datagram(record(23, bytes(40), epoch=1))
    link.client.send(b"still here")
    link.settle()
    assert link.received[link.server] == [b"still here"]
