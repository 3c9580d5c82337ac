"""Pre-shared keys with openssl(1), GnuTLS and Mbed TLS: both sides, and what each says where they do not fit."""

from __future__ import annotations

import pytest

import dtlsffi
from tests.interop.peers import Serve, connect
from tests.interop.programs import Files
from tests.interop.psk_peers import PSK_CLIENTS, PSK_SERVERS, PSK_SUITES, openssl_suite

pytestmark = pytest.mark.interop

PEERS = ["openssl", "gnutls", "mbedtls"]
KEY = bytes(range(1, 17))
OTHER_KEY = bytes(range(2, 18))
PLAIN = "PSK-AES128-GCM-SHA256"
IDENTITIES = [
    pytest.param("x", id="1 byte"),
    pytest.param("x" * 128, id="128 bytes"),
    pytest.param("Gerät", id="UTF-8"),
]
QUICK = (0.05, 2.0, 0.2)  # retransmission, in seconds: wrong keys are known by silence


def client_context(identity: str = "sensor", suite: str = PLAIN) -> dtlsffi.DTLSContext:
    context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
    context.set_ciphers(openssl_suite(suite))
    context.set_psk_client_callback(lambda _hint: (identity, KEY))
    context.retransmission = QUICK
    return context


def server_context(identity: str = "sensor", suite: str = PLAIN, hint: str | None = None) -> dtlsffi.DTLSContext:
    context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    context.set_ciphers(openssl_suite(suite))
    context.set_psk_server_callback({identity: KEY}.get, hint)
    context.retransmission = QUICK
    return context


# ---- we are the client ----


@pytest.mark.parametrize(
    ("peer", "suite"),
    # python-mbedtls has no way to give a server the Diffie-Hellman parameters that it needs
    [(peer, suite) for peer in PEERS for suite in PSK_SUITES if (peer, suite[:3]) != ("mbedtls", "DHE")],
)
def test_our_client_shares_a_key(peer: str, suite: str, files: Files) -> None:
    """Every kind of suite; data both ways."""
    with (
        PSK_SERVERS[peer](files, suite, "sensor", KEY) as server,
        connect(server.address, client_context(suite=suite)) as conn,
    ):
        assert (conn.cipher() or ("",))[0] == suite
        assert conn.psk_identity == "sensor"
        assert conn.psk_identity_hint is None
        conn.send(b"hello\n")
        if peer != "gnutls":  # which echoes
            server.expect("hello\n")
            server.say("hello")
        assert conn.recv() == b"hello\n"


@pytest.mark.parametrize("suite", [PLAIN, "ECDHE-PSK-CHACHA20-POLY1305"])
@pytest.mark.parametrize("peer", ["openssl", "gnutls"])  # Mbed TLS gives none
def test_our_client_sees_a_hint(peer: str, suite: str, files: Files) -> None:
    """And may choose by it who it is."""
    context = client_context(suite=suite)
    context.set_psk_client_callback(lambda hint: (f"for {hint}", KEY))
    with (
        PSK_SERVERS[peer](files, suite, "for the gateway", KEY, "the gateway") as server,
        connect(server.address, context) as conn,
    ):
        assert conn.psk_identity == "for the gateway"
        assert conn.psk_identity_hint == "the gateway"


@pytest.mark.parametrize("identity", IDENTITIES)
@pytest.mark.parametrize("peer", PEERS)
def test_our_client_may_have_any_identity(peer: str, identity: str, files: Files) -> None:
    """From one byte to 128, in UTF-8."""
    with (
        PSK_SERVERS[peer](files, PLAIN, identity, KEY) as server,
        connect(server.address, client_context(identity)) as conn,
    ):
        assert conn.psk_identity == identity
        conn.send(b"hello\n")
        assert "not what we expected" not in server.expect("hello")  # s_server takes any, but says so


@pytest.mark.parametrize("peer", ["openssl", "gnutls"])
def test_our_client_may_be_nobody(peer: str, files: Files) -> None:
    """An empty identity is one, too."""
    with (
        PSK_SERVERS[peer](files, PLAIN, "", KEY) as server,
        connect(server.address, client_context("")) as conn,
    ):
        assert conn.psk_identity == ""
        conn.send(b"hello\n")
        assert "not what we expected" not in server.expect("hello")


def test_mbedtls_wants_an_identity(files: Files) -> None:
    """It gives up on an empty one without an alert, so we learn nothing."""
    with PSK_SERVERS["mbedtls"](files, PLAIN, "", KEY) as server:
        with pytest.raises(dtlsffi.HandshakeTimeout):
            connect(server.address, client_context(""), timeout=1)
        server.expect("Processing of the ClientKeyExchange handshake message failed")


@pytest.mark.parametrize("peer", ["openssl", "gnutls"])
def test_our_client_with_a_wrong_key_waits_in_vain(peer: str, files: Files) -> None:
    """Its Finished cannot be decrypted, and what cannot be is dropped (RFC 6347 section 4.1.2.7): time runs out."""
    with PSK_SERVERS[peer](files, PLAIN, "sensor", OTHER_KEY) as server:
        with pytest.raises(dtlsffi.HandshakeTimeout, match="different pre-shared keys"):
            connect(server.address, client_context(), timeout=1)
        if peer == "gnutls":
            server.expect("due to invalid decryption")


def test_mbedtls_tells_of_a_wrong_key(files: Files) -> None:
    """By an alert, which we believe when nothing better comes."""
    with PSK_SERVERS["mbedtls"](files, PLAIN, "sensor", OTHER_KEY) as server:
        with pytest.raises(dtlsffi.DTLSError, match=r"bad_record_mac \(alert 20\)") as caught:
            connect(server.address, client_context())
        assert caught.value.reason == "SSLV3_ALERT_BAD_RECORD_MAC"
        server.expect("Verification of the message MAC failed")


def test_our_client_is_unknown_to_mbedtls(files: Files) -> None:
    """It says so."""
    with PSK_SERVERS["mbedtls"](files, PLAIN, "actuator", KEY) as server:
        with pytest.raises(dtlsffi.DTLSError, match="it does not know our PSK identity") as caught:
            connect(server.address, client_context())
        assert caught.value.reason == "TLSV1_ALERT_UNKNOWN_PSK_IDENTITY"
        server.expect("Unknown identity received")


def test_our_client_is_unknown_to_gnutls(files: Files) -> None:
    """It does not say so, but goes on with a random key: RFC 4279 section 2 allows it, against enumeration."""
    with (
        PSK_SERVERS["gnutls"](files, PLAIN, "actuator", KEY) as server,
        pytest.raises(dtlsffi.HandshakeTimeout, match="different pre-shared keys"),
    ):
        connect(server.address, client_context(), timeout=1)


# ---- we are the server ----


@pytest.mark.parametrize("suite", PSK_SUITES)
@pytest.mark.parametrize("peer", PEERS)
def test_their_client_shares_a_key(peer: str, suite: str, files: Files, serve: Serve) -> None:
    """Every kind of suite; data both ways."""
    if peer == "gnutls" and suite.startswith("DHE") and dtlsffi.OPENSSL_VERSION_INFO >= (4,):
        pytest.skip("OpenSSL 4.0, its s_server too, has no DHE suite for a client with groups (RFC 7919): gnutls")
    server = serve(server_context(suite=suite))
    with PSK_CLIENTS[peer](files, server.address, suite, "sensor", KEY) as client, server.accept() as conn:
        assert (conn.cipher() or ("",))[0] == suite
        assert conn.psk_identity == "sensor"
        assert conn.psk_identity_hint is None
        if peer == "gnutls" and "DHE" in suite:
            return  # gnutls-cli 3.7 crashes now, with a server of its own kind, too: it asks who the *client* is
        client.say("hello")
        assert conn.recv() == b"hello\n"
        conn.send(b"answer\n")
        text = client.expect("answer")
        if peer == "mbedtls":
            assert f"cipher: {PSK_SUITES[suite][1]}\n" in text


@pytest.mark.parametrize("peer", ["openssl", "gnutls"])  # Mbed TLS has no words for it
def test_their_client_sees_our_hint(peer: str, files: Files, serve: Serve) -> None:
    """In every handshake."""
    server = serve(server_context(hint="the gateway"))
    with PSK_CLIENTS[peer](files, server.address, PLAIN, "sensor", KEY) as client, server.accept() as conn:
        assert conn.psk_identity_hint == "the gateway"
        client.expect({"openssl": "PSK identity hint: the gateway", "gnutls": "PSK hint 'the gateway'"}[peer])


@pytest.mark.parametrize("identity", IDENTITIES)
@pytest.mark.parametrize("peer", PEERS)
def test_their_client_may_have_any_identity(peer: str, identity: str, files: Files, serve: Serve) -> None:
    """From one byte to 128, in UTF-8."""
    server = serve(server_context(identity))
    with PSK_CLIENTS[peer](files, server.address, PLAIN, identity, KEY) as client, server.accept() as conn:
        assert conn.psk_identity == identity
        client.say("hello")
        assert conn.recv() == b"hello\n"


def test_their_client_may_be_nobody(files: Files, serve: Serve) -> None:
    """An empty identity is one, too, for OpenSSL; GnuTLS and Mbed TLS take it for none and do not begin."""
    server = serve(server_context(""))
    with PSK_CLIENTS["openssl"](files, server.address, PLAIN, "", KEY) as client, server.accept() as conn:
        assert conn.psk_identity == ""
        client.say("hello")
        assert conn.recv() == b"hello\n"


@pytest.mark.parametrize("peer", PEERS)
def test_their_client_with_a_wrong_key_is_not_heard(peer: str, files: Files, serve: Serve) -> None:
    """Its Finished cannot be decrypted; from outside that is a datagram that never came."""
    server = serve(server_context())
    with (
        PSK_CLIENTS[peer](files, server.address, PLAIN, "sensor", OTHER_KEY),
        pytest.raises(dtlsffi.HandshakeTimeout, match="different pre-shared keys"),
    ):
        server.accept(timeout=1)


@pytest.mark.parametrize("peer", PEERS)
def test_their_client_with_an_unknown_identity_is_told(peer: str, files: Files, serve: Serve) -> None:
    """unknown_psk_identity, alert 115."""
    server = serve(server_context("actuator"))
    with PSK_CLIENTS[peer](files, server.address, PLAIN, "sensor", KEY) as client:
        with pytest.raises(dtlsffi.DTLSError) as caught:
            server.accept()
        assert caught.value.reason == "PSK_IDENTITY_NOT_FOUND"
        client.expect(
            {
                "openssl": "SSL alert number 115",
                "gnutls": "Received alert [115]",
                "mbedtls": "A fatal alert message was received",
            }[peer]
        )
