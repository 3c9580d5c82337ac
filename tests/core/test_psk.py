"""dtlsffi.core.psk."""

from __future__ import annotations

from typing import Any

import pytest

import dtlsffi
from dtlsffi import DTLSContext
from dtlsffi.testing import Authority, MemoryLink
from tests.helpers import FAST, start

KEY = bytes(range(16))


def contexts() -> tuple[DTLSContext, DTLSContext]:
    """A client and a server that know each other by nothing yet."""
    client, server = DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT), DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    client.check_hostname = False
    client.retransmission = server.retransmission = FAST
    return client, server


def connect(client: DTLSContext, server: DTLSContext, **more: Any) -> MemoryLink:
    return MemoryLink(dtlsffi.Connection(client, **more), dtlsffi.Connection(server, server_side=True))


def shaken(client: DTLSContext, server: DTLSContext, **more: Any) -> MemoryLink:
    link = connect(client, server, **more)
    link.shake_hands()
    return link


SUITES = [
    "PSK-AES128-GCM-SHA256",  # Philips Hue
    "PSK-AES128-CCM8:@SECLEVEL=0",  # CoAP: RFC 7252 section 9.1.3.1
    "PSK-CHACHA20-POLY1305",
    "DHE-PSK-AES256-GCM-SHA384",
    "ECDHE-PSK-CHACHA20-POLY1305",
    "ECDHE-PSK-AES128-CBC-SHA256",
]


@pytest.mark.parametrize("suite", SUITES)
def test_two_sides_that_share_a_key_shake_hands(suite: str) -> None:
    """And both know under which identity; no certificate is involved."""
    client, server = contexts()
    for context in (client, server):
        context.set_ciphers(suite)
    client.set_psk_client_callback(lambda hint: (f"client for {hint}", KEY))
    server.set_psk_server_callback({"client for a hint": KEY}.get, "a hint")
    link = shaken(client, server)
    assert (link.client.cipher() or ("",))[0] == suite.partition(":")[0]
    for side in (link.client, link.server):
        assert side.psk_identity == "client for a hint"
        assert side.psk_identity_hint == "a hint"
        assert side.uses_psk()
        assert side.getpeercert() is None
        assert side.peer_fingerprint() is None
        assert side.peer_public_key() is None
        assert side.get_unverified_chain() == side.get_verified_chain() == []
    link.client.send(b"hello")
    link.settle()
    assert link.received[link.server] == [b"hello"]


def identity_of(authority: Authority) -> tuple[bytes, bytes]:
    identity = authority.issue("device.example")
    return identity.certificate, identity.key


def test_psk_suites_are_allowed_by_their_callback(authority: Authority) -> None:
    """Without set_ciphers: before others, forward secrecy first, and no longer when the callback is taken away."""
    client, server = contexts()
    before = client.get_ciphers()
    assert not any("PSK" in suite["name"] for suite in before)
    client.set_psk_client_callback(lambda _hint: ("me", KEY))
    server.set_psk_server_callback(lambda _identity: KEY)
    server.load_cert_chain(*identity_of(authority))  # whoever has a key wants to be known by that
    client.load_verify_locations(cadata=authority.certificate)
    assert shaken(client, server).client.cipher() == ("ECDHE-PSK-CHACHA20-POLY1305", "TLSv1.2", 256)
    other, _ = contexts()
    other.set_psk_client_callback(lambda _hint: ("me", KEY))
    assert all(suite["aead"] for suite in other.get_ciphers())
    other.set_psk_client_callback(None)
    assert other.get_ciphers() == before


def test_ciphers_that_were_chosen_stay() -> None:
    """The callback does not touch them."""
    client, _ = contexts()
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    chosen = client.get_ciphers()
    client.set_psk_client_callback(lambda _hint: ("me", KEY))
    assert client.get_ciphers() == chosen


IDENTITIES: list[tuple[str | bytes | None, str]] = [
    ("", ""),
    (None, ""),
    ("x" * 128, "x" * 128),
    ("Gerät 7", "Gerät 7"),
    (b"\xff\xfe raw", "\udcff\udcfe raw"),
]


@pytest.mark.parametrize(("sent", "seen"), IDENTITIES, ids=lambda value: repr(value)[:12])
def test_an_identity_is_text_or_bytes(sent: str | bytes | None, seen: str) -> None:
    """Up to 128 bytes, also none; what is no UTF-8 arrives as with os.fsdecode."""
    client, server = contexts()
    client.set_psk_client_callback(lambda _hint: (sent, KEY))
    asked: list[str] = []

    def key_of(identity: str) -> bytes:
        asked.append(identity)
        return KEY

    server.set_psk_server_callback(key_of)
    link = shaken(client, server)
    assert asked == [seen]
    assert link.server.psk_identity == seen
    assert link.client.psk_identity_hint is None


@pytest.mark.parametrize("length", [1, 64, 512])
def test_a_key_has_up_to_512_bytes(length: int) -> None:
    """Any kind of buffer."""
    client, server = contexts()
    client.set_psk_client_callback(lambda _hint: ("me", bytearray(b"k" * length)))
    server.set_psk_server_callback(lambda _identity: memoryview(b"k" * length))  # type: ignore[arg-type, return-value]
    shaken(client, server)


def test_callbacks_may_ask_for_the_connection() -> None:
    """As their second argument, where they require one; defaults of their own stay theirs."""
    client, server = contexts()
    met: list[Any] = []

    def ours(_hint: str | None, connection: Any) -> tuple[str, bytes]:
        met.append(connection)
        return "me", KEY

    def theirs(_identity: str, connection: Any) -> bytes:
        met.append(connection)
        return KEY

    client.set_psk_client_callback(ours)
    server.set_psk_server_callback(theirs)
    link = shaken(client, server)
    assert met == [link.client, link.server]

    client, server = contexts()
    client.set_psk_client_callback(lambda _hint, key=KEY: ("me", key))
    server.set_psk_server_callback(lambda *identities: KEY if identities == ("me",) else None)
    shaken(client, server)


def test_a_resumed_session_keeps_the_identity() -> None:
    """Without asking again."""
    client, server = contexts()
    client.set_psk_client_callback(lambda _hint: ("me", KEY))
    asked: list[str] = []
    server.set_psk_server_callback(lambda identity: asked.append(identity) or KEY)  # type: ignore[func-returns-value]
    session = shaken(client, server).client.session
    link = shaken(client, server, session=session)
    assert link.server.session_reused
    assert link.server.psk_identity == "me"
    assert asked == ["me"]


def test_an_unknown_identity_is_refused() -> None:
    """The server says why, and who it was; the client hears it."""
    client, server = contexts()
    client.set_psk_client_callback(lambda _hint: ("nobody\n", KEY))
    server.set_psk_server_callback(lambda _identity: None)
    link = connect(client, server)
    start(link.client)
    with pytest.raises(dtlsffi.DTLSError) as caught:
        link.shake_hands()
    assert caught.value.reason == "PSK_IDENTITY_NOT_FOUND"
    assert r"the PSK identity b'nobody\n' is not known" in str(caught.value)
    for datagram in link.server.datagrams_to_send():
        link.client.receive_datagram(datagram)
    assert "unknown_psk_identity (alert 115)" in str(link.client.alert_held())


def test_different_keys_never_finish() -> None:
    """DTLS drops what does not authenticate, so nobody hears of it: both sides run out of time.

    OpenSSL 4.0 has no end of patience where the other side says something again and again.
    """
    client, server = contexts()
    client.retransmission = server.retransmission = (0.001, 1.0, 0.001)
    client.set_psk_client_callback(lambda _hint: ("me", KEY))
    server.set_psk_server_callback(lambda _identity: KEY[::-1])
    with pytest.raises(TimeoutError):
        connect(client, server).shake_hands(within=5)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (("x" * 300, KEY), ValueError, "a PSK identity has 300 bytes"),
        (("a\0b", KEY), ValueError, "must not contain a NUL"),
        ((7, KEY), TypeError, "a PSK identity is a str or bytes, not int"),
        (("me", b""), ValueError, "1 to 512 bytes, not 0"),
        (("me", b"x" * 513), ValueError, "1 to 512 bytes, not 513"),
        (("me", "sesame"), TypeError, "a pre-shared key is bytes, not str"),
        (None, TypeError, "returns the pair of identity and key"),
    ],
)
def test_a_bad_answer_is_an_exception(answer: Any, error: type[Exception], words: str) -> None:
    """Out of the call that moved the handshake on, and without a word of the key."""
    client, server = contexts()
    client.set_psk_client_callback(lambda _hint: answer)
    server.set_psk_server_callback(lambda _identity: KEY)
    with pytest.raises(error, match=words) as caught:
        connect(client, server).shake_hands()
    assert "sesame" not in str(caught.value)


def test_an_exception_in_a_callback_reaches_the_caller() -> None:
    """On either side, as it was raised; the connection is over, and says so later."""
    client, server = contexts()
    client.set_psk_client_callback(lambda _hint: ("me", KEY))

    def broken(_identity: str) -> bytes:
        raise LookupError("the database is down")

    server.set_psk_server_callback(broken)
    link = connect(client, server)
    with pytest.raises(LookupError, match="the database is down"):
        link.shake_hands()
    with pytest.raises(dtlsffi.DTLSError, match="INTERNAL_ERROR"):
        link.server.do_handshake()


def test_each_side_has_its_callback(authority: Authority) -> None:
    """A context for the other side says so; what cannot be called is refused."""
    client, server = contexts()
    with pytest.raises(ValueError, match="a PSK server callback cannot be set on a PROTOCOL_DTLS_CLIENT context"):
        client.set_psk_server_callback(lambda _identity: KEY)
    with pytest.raises(ValueError, match="a PSK client callback cannot be set on a PROTOCOL_DTLS_SERVER context"):
        server.set_psk_client_callback(lambda _hint: ("me", KEY))

    async def looked_up(_identity: str) -> bytes:
        return KEY

    with pytest.raises(TypeError, match="callback cannot be a coroutine function"):
        contexts()[1].set_psk_server_callback(looked_up)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callback is a callable or None, not bytes"):
        client.set_psk_client_callback(KEY)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="identity_hint has 129 bytes"):
        server.set_psk_server_callback(lambda _identity: KEY, "x" * 129)
    both = DTLSContext()
    both.set_psk_client_callback(lambda _hint: ("me", KEY))
    both.set_psk_server_callback(lambda _identity: KEY)


def test_certificates_and_keys_on_one_port(authority: Authority) -> None:
    """A server with both serves clients of either kind, and each verifies what it got."""
    server = authority.server_context("device.example")
    server.set_psk_server_callback({"me": KEY}.get)
    client, _ = contexts()
    client.set_psk_client_callback(lambda _hint: ("me", KEY))
    client.set_ciphers("PSK-AES128-GCM-SHA256")
    by_key = shaken(client, server)
    by_name = shaken(authority.client_context(), server, server_hostname="device.example")
    assert by_key.server.psk_identity == "me"
    assert by_name.server.psk_identity is None
    assert not by_name.server.uses_psk()
    assert by_name.client.getpeercert()


def test_what_a_key_says_of_itself_is_not_believed() -> None:
    """It goes into OpenSSL's memory: as many bytes as there are, and not as many as its class has them."""

    class Long(bytes):
        def __bytes__(self) -> bytes:
            return b"A" * 20000  # noqa: PLE0308 - it does

        def __len__(self) -> int:
            return 1

    client, server = contexts()
    client.set_psk_client_callback(lambda _hint: (Long(b"me"), Long(KEY)))
    server.set_psk_server_callback(lambda identity: Long(KEY) if identity == "me" else None)
    link = connect(client, server)
    link.shake_hands()
    assert link.server.psk_identity == "me"
