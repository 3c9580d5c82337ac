"""dtlsffi and openssl(1), dtlsffi and GnuTLS: both sides, verified, and refused where it must be."""

from __future__ import annotations

import pytest

import dtlsffi
from dtlsffi.testing import Authority
from tests.bad_certificates import CASES
from tests.helpers import HOST, not_before_3_0_7
from tests.interop.peers import CLIENTS, SERVERS, Serve, connect
from tests.interop.programs import Files

pytestmark = pytest.mark.interop

BOTH = ["openssl", "gnutls"]


# ---- we are the client ----


@pytest.mark.parametrize("family", ["ecdsa", "rsa"])
@pytest.mark.parametrize("peer", BOTH)
def test_our_client_talks_to_their_server(peer: str, family: str, authority: Authority, files: Files) -> None:
    """Cookie exchange, verified certificate, data both ways, close_notify."""
    identity = authority.issue(HOST, rsa=family == "rsa")
    with (
        SERVERS[peer](files, identity) as server,
        connect(server.address, authority.client_context()) as conn,
    ):
        assert conn.version() == "DTLSv1.2"
        certificate = conn.getpeercert()
        assert certificate is not None
        assert certificate["subjectAltName"] == (("DNS", HOST),)
        for number in range(3):
            conn.send(f"hello {number}\n".encode())
            if peer == "openssl":
                server.expect(f"hello {number}")
                server.say(f"hello {number}")
            assert conn.recv() == f"hello {number}\n".encode()
        conn.close()
        if peer == "openssl":
            server.expect("DONE")


def test_our_client_shows_its_certificate(authority: Authority, files: Files) -> None:
    """Where the server insists on one (gnutls-serv does not, over UDP)."""
    context = authority.client_context()
    identity = authority.issue("client.example")
    context.load_cert_chain(identity.certificate, identity.key)
    with (
        SERVERS["openssl"](files, authority.issue(HOST), client_ca=authority.certificate) as server,
        connect(server.address, context) as conn,
    ):
        conn.send(b"hello\n")
        server.expect("hello")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("peer", BOTH)
def test_our_client_refuses_a_bad_server(peer: str, name: str, authority: Authority, files: Files) -> None:
    """With the right exception, and the server hears why."""
    case = CASES[name]
    context = authority.client_context()
    identity = case.prepare(context, authority)
    with SERVERS[peer](files, identity) as server:
        with pytest.raises(dtlsffi.DTLSCertVerificationError) as caught:
            connect(server.address, context, case.hostname)
        case.check(caught.value)
        if peer == "openssl":
            server.expect(f"SSL alert number {case.alert}")


def test_a_server_that_misses_our_certificate_says_so(authority: Authority, files: Files) -> None:
    """The alert becomes an exception, when the timer shows that nothing better comes."""
    context = authority.client_context()
    context.retransmission = (0.1, 2.0, 60.0)
    with SERVERS["openssl"](files, authority.issue(HOST), client_ca=authority.certificate) as server:
        with pytest.raises(dtlsffi.DTLSError, match="ended the handshake") as caught:
            connect(server.address, context)
        assert caught.value.reason == "SSLV3_ALERT_HANDSHAKE_FAILURE"


def test_no_cipher_in_common(authority: Authority, files: Files) -> None:
    """The server's alert, in words (gnutls-serv sends none, over UDP)."""
    context = authority.client_context()
    context.set_ciphers("DHE-RSA-AES128-CCM")
    context.retransmission = (0.1, 2.0, 60.0)
    with (
        SERVERS["openssl"](files, authority.issue(HOST)) as server,
        pytest.raises(dtlsffi.DTLSError, match=r"handshake_failure \(alert 40\): usually there is no cipher suite"),
    ):
        connect(server.address, context)


@pytest.mark.parametrize("peer", BOTH)
def test_small_datagrams(peer: str, authority: Authority, files: Files) -> None:
    """Fragmented flights are reassembled on both sides."""
    context = authority.client_context()
    identity = authority.issue("client.example", rsa=True)
    context.load_cert_chain(identity.certificate, identity.key)
    context.mtu = 300
    small = {"openssl": ["-mtu", "300"], "gnutls": ["--mtu", "350"]}[peer]
    ca = authority.certificate if peer == "openssl" else None
    with (
        SERVERS[peer](files, authority.issue(HOST, rsa=True), *small, client_ca=ca) as server,
        connect(server.address, context) as conn,
    ):
        assert conn.statistics()["datagrams_received"] > 4
        conn.send(b"hello\n")
        server.expect("hello")


# ---- we are the server ----


@pytest.mark.parametrize("family", ["ecdsa", "rsa"])
@pytest.mark.parametrize("peer", BOTH)
def test_their_client_talks_to_our_server(
    peer: str, family: str, authority: Authority, files: Files, serve: Serve
) -> None:
    """It verifies us; data both ways; its close_notify."""
    identity = authority.issue(HOST, rsa=family == "rsa")
    context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    server = serve(context)
    with CLIENTS[peer](files, server.address, authority.certificate) as client, server.accept() as conn:
        client.expect("Verify return code: 0 (ok)" if peer == "openssl" else "Handshake was completed")
        for number in range(3):
            client.say(f"hello {number}")
            assert conn.recv() == f"hello {number}\n".encode()
            conn.send(f"answer {number}\n".encode())
            client.expect(f"answer {number}")
        assert conn.cipher() in (conn.shared_ciphers() or [])
        conn.close()
        client.expect("closed" if peer == "openssl" else "Peer has closed")


@not_before_3_0_7
def test_a_client_may_want_short_records(authority: Authority, files: Files, serve: Serve) -> None:
    """RFC 6066 section 4: for want of memory. `data_mtu` says so, and what is longer is refused."""
    server = serve(authority.server_context(HOST))
    short = ("-maxfraglen", "512")
    with (
        CLIENTS["openssl"](files, server.address, authority.certificate, *short) as client,
        server.accept() as conn,
    ):
        assert conn.data_mtu == 512
        with pytest.raises(dtlsffi.DatagramTooLarge):
            conn.send(b"x" * 513)
        conn.send(b"x" * 511 + b"\n")
        client.expect("x" * 511)
        conn.send(b"still here\n")
        client.expect("still here")


@pytest.mark.parametrize("peer", BOTH)
def test_their_client_shows_its_certificate(peer: str, authority: Authority, files: Files, serve: Serve) -> None:
    """And we verify it."""
    context = authority.server_context(HOST)
    context.load_verify_locations(cadata=authority.certificate)
    context.verify_mode = dtlsffi.CERT_REQUIRED
    server = serve(context)
    identity = authority.issue("client.example")
    with (
        CLIENTS[peer](files, server.address, authority.certificate, identity=identity),
        server.accept() as conn,
    ):
        certificate = conn.getpeercert()
        assert certificate is not None
        assert certificate["subjectAltName"] == (("DNS", "client.example"),)


@pytest.mark.parametrize("peer", BOTH)
def test_their_client_without_a_certificate_is_refused(
    peer: str, authority: Authority, files: Files, serve: Serve
) -> None:
    """We say what is missing, they hear it."""
    context = authority.server_context(HOST)
    context.load_verify_locations(cadata=authority.certificate)
    context.verify_mode = dtlsffi.CERT_REQUIRED
    server = serve(context)
    with CLIENTS[peer](files, server.address, authority.certificate) as client:
        with pytest.raises(dtlsffi.DTLSError) as caught:
            server.accept()
        assert caught.value.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
        assert client.result() != 0


@pytest.mark.parametrize("peer", BOTH)
def test_their_client_with_a_bad_certificate_is_refused(
    peer: str, authority: Authority, stranger: Authority, files: Files, serve: Serve
) -> None:
    """As any other."""
    context = authority.server_context(HOST)
    context.load_verify_locations(cadata=authority.certificate)
    context.verify_mode = dtlsffi.CERT_REQUIRED
    server = serve(context)
    identity = stranger.issue("client.example")
    more = ["--insecure"] if peer == "gnutls" else []
    with CLIENTS[peer](files, server.address, authority.certificate, *more, identity=identity) as client:
        with pytest.raises(dtlsffi.DTLSCertVerificationError, match="unable to get local issuer certificate"):
            server.accept()
        assert client.result() != 0


@pytest.mark.parametrize("peer", BOTH)
def test_their_client_refuses_a_bad_server(
    peer: str, stranger: Authority, authority: Authority, files: Files, serve: Serve
) -> None:
    """And we hear why."""
    context = stranger.server_context(HOST)
    context.retransmission = (0.1, 2.0, 60.0)
    server = serve(context)
    with CLIENTS[peer](files, server.address, authority.certificate) as client:
        with pytest.raises(dtlsffi.DTLSError) as caught:
            server.accept()
        assert caught.value.reason in {"TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE",
                                       "SSLV3_ALERT_HANDSHAKE_FAILURE"}  # fmt: skip
        assert client.result() != 0
