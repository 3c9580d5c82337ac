"""What each failure of a callback looks like, on both sides. Those of certificates are in tests/bad_certificates.py."""

from __future__ import annotations

import gc
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

import dtlsffi
from dtlsffi.testing import Authority
from tests.core.test_callbacks import Situation
from tests.helpers import HOST, wait_for


class BrokenError(Exception):
    """What the callback raises."""


@dataclass
class Failure:
    """The end of a handshake whose callback raised."""

    side: str
    """Whose callback it is."""
    reason: str
    """What later calls on that side say."""
    words: str
    """Likewise."""
    alert: str
    """What the other side hears."""
    code: int = 0
    """verify_code"""


FAILURES: dict[str, Failure] = {
    "psk_client": Failure("client", "PSK_IDENTITY_NOT_FOUND", "psk identity not found", "handshake_failure (alert 40)"),
    "psk_server": Failure("server", "INTERNAL_ERROR", "internal error", "internal_error (alert 80)"),
    "sni": Failure("server", "CALLBACK_FAILED", "callback failed", "handshake_failure (alert 40)"),
    "verify": Failure("client", "CERTIFICATE_VERIFY_FAILED", "unspecified certificate", "internal_error (alert 80)", 1),
    "ocsp_server": Failure("server", "CLIENTHELLO_TLSEXT", "clienthello tlsext", "internal_error (alert 80)"),
    "ocsp_client": Failure("client", "OCSP_CALLBACK_FAILURE", "ocsp callback failure", "internal_error (alert 80)"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_callback_that_raises_ends_its_handshake(kind: str, authority: Authority) -> None:
    """Its own exception first; then a DTLSError with a reason; an alert for the other side."""
    expected = FAILURES[kind]

    def broken(_: Any) -> None:
        raise BrokenError("out of order")

    link = Situation(authority, kind, broken).link()
    with pytest.raises(BrokenError, match="out of order"):
        link.shake_hands()
    ours, theirs = (link.client, link.server) if expected.side == "client" else (link.server, link.client)
    assert not ours.is_established
    for _ in range(2):
        with pytest.raises(dtlsffi.DTLSError) as caught:
            ours.do_handshake()
        assert (caught.value.reason, caught.value.library) == (expected.reason, "SSL")
        assert str(caught.value).startswith(f"[SSL: {expected.reason}] ")
        assert expected.words in str(caught.value)
        assert getattr(caught.value, "verify_code", 0) == expected.code
        assert isinstance(caught.value, dtlsffi.DTLSCertVerificationError) is (expected.code != 0)
    for datagram in ours.datagrams_to_send():
        theirs.receive_datagram(datagram)
    assert str(theirs.alert_held()).startswith(expected.alert)


@pytest.mark.parametrize("kind", ["trace", "session_new"])
def test_a_callback_that_is_only_told_does_not_end_anything(kind: str, authority: Authority) -> None:
    """Its exception is heard of, and the handshake may go on."""
    raised: list[bool] = []

    def broken_once(_: Any) -> None:
        if not raised:
            raised.append(True)
            raise BrokenError("out of order")

    link = Situation(authority, kind, broken_once).link()
    with pytest.raises(BrokenError):
        link.shake_hands()
    link.settle()
    if not link.client.is_established:
        link.shake_hands()
    link.client.send(b"hello")
    link.settle()
    assert link.received[link.server] == [b"hello"]


@pytest.mark.parametrize("kind", FAILURES)
def test_it_leaves_nothing_to_the_garbage_collector(kind: str, authority: Authority) -> None:
    """Neither side, once nobody has it any more."""

    def broken(_: Any) -> None:
        raise BrokenError

    def fail() -> list[weakref.ref[Any]]:
        link = Situation(authority, kind, broken).link()
        with suppress(BrokenError):
            link.shake_hands()
        for side in (link.client, link.server):
            with suppress(dtlsffi.DTLSError):
                side.do_handshake()
        return [weakref.ref(link.client), weakref.ref(link.server)]

    gc.disable()
    try:
        assert [side() for side in fail()] == [None, None]
    finally:
        gc.enable()


def test_a_handshake_that_openssl_gives_up_says_why(authority: Authority) -> None:
    """In the words of the one that its caller gives up."""
    client = authority.client_context()
    client.retransmission = (0.001, 1.0, 0.001)
    connection = dtlsffi.Connection(client, server_hostname=HOST)
    with pytest.raises(dtlsffi.DTLSWantReadError):
        connection.do_handshake()
    with pytest.raises(dtlsffi.HandshakeTimeout, match=r"datagrams sent\): nothing came back: is it a DTLS server"):
        while True:
            wait_for(connection)
