"""dtlsffi.core.pins: peers that are known by fingerprint or public key."""

from __future__ import annotations

import hashlib
import ssl
import time
from contextlib import suppress
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

import dtlsffi
from dtlsffi import DTLSContext, HandshakeCompleted
from dtlsffi.core import pins
from dtlsffi.testing import Authority, Identity, MemoryLink
from tests.helpers import FAST, load


def certificate(identity: Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificate(identity.certificate)


EC_PUBLIC_KEY, UNKNOWN_KEY = bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d0263")


@pytest.fixture
def ours(stranger: Authority) -> Identity:
    return stranger.issue("one.example")


@pytest.fixture
def theirs(stranger: Authority) -> Identity:
    return stranger.issue("two.example")


def either(identity: Identity) -> DTLSContext:
    """A context for both sides, which trusts nobody."""
    context = DTLSContext(dtlsffi.PROTOCOL_DTLS)
    load(context, identity)
    context.retransmission = FAST
    return context


def connect(client: DTLSContext, server: DTLSContext, for_client: Any, for_server: Any, **more: Any) -> MemoryLink:
    """The pins of each side are what it wants to see."""
    return MemoryLink(
        dtlsffi.Connection(client, **for_client, **more), dtlsffi.Connection(server, server_side=True, **for_server)
    )


@pytest.mark.parametrize("algorithm", ["sha-224", "sha-256", "sha-384", "sha-512", "SHA-256"])
def test_a_fingerprint_reads_as_in_sdp(algorithm: str, ours: Identity) -> None:
    """RFC 8122 section 5: the hash's name, and capital letters between colons."""
    text = either(ours).fingerprint(algorithm)
    assert text is not None
    name, _, digits = text.partition(" ")
    digest = hashlib.new(name.replace("-", ""), certificate(ours).public_bytes(Encoding.DER)).digest()
    assert (name, bytes.fromhex(digits.replace(":", ""))) == (algorithm.lower(), digest)
    assert digits == digits.upper()
    assert DTLSContext().fingerprint() is None
    with pytest.raises(ValueError, match="'md5' is no hash for fingerprints: sha-224"):
        either(ours).fingerprint("md5")


def test_each_side_knows_the_other_by_its_fingerprint(ours: Identity, theirs: Identity) -> None:
    """No authority, no host name; both certificates are seen and count as verified."""
    client, server = either(ours), either(theirs)
    link = connect(
        client,
        server,
        {"verify_fingerprint": server.fingerprint("sha-384")},
        {"verify_fingerprint": f"a=fingerprint:{client.fingerprint()}\r\n".lower()},
    )
    link.shake_hands()
    assert link.client.peer_fingerprint() == link.server.fingerprint() == server.fingerprint()
    assert link.server.peer_fingerprint() == link.client.fingerprint() == client.fingerprint()
    assert link.client.getpeercert()["subjectAltName"] == (("DNS", "two.example"),)  # type: ignore[index]
    assert link.server.getpeercert()["subjectAltName"] == (("DNS", "one.example"),)  # type: ignore[index]


def test_each_side_knows_the_other_by_its_public_key(ours: Identity, theirs: Identity) -> None:
    """That of its certificate; in PEM, DER or as an object of cryptography, one of several."""
    client, server = either(ours), either(theirs)
    spki = {
        identity: certificate(identity).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for identity in (ours, theirs)
    }
    pem = certificate(ours).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    link = connect(
        client,
        server,
        {"verify_public_key": [certificate(ours).public_key(), spki[theirs]]},
        {"verify_public_key": pem},
    )
    link.shake_hands()
    assert link.client.peer_public_key() == spki[theirs]
    assert link.server.peer_public_key() == spki[ours]


def test_one_key_may_be_an_object_of_cryptography(ours: Identity) -> None:
    """By itself, as by a file name or its contents. An encrypted private one is none, and nobody is asked for more."""
    context, key = either(ours), certificate(ours).public_key()
    assert pins.Pins(None, key).keys == pins.Pins(None, [key]).keys
    private: Any = load_pem_private_key(ours.key, None)
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame"))
    with pytest.raises(dtlsffi.DTLSError, match="holds no readable public key"):
        dtlsffi.Connection(context, verify_public_key=secret)
    context.set_ciphers("ALL")


@pytest.mark.parametrize("side", ["client", "server"])
def test_another_certificate_is_refused(side: str, ours: Identity, theirs: Identity, stranger: Authority) -> None:
    """Both fingerprints are named; the other side gets an alert."""
    client, server = either(ours), either(theirs)
    other = either(stranger.issue("three.example"))
    right: dict[str, Any] = {
        "client": {"verify_fingerprint": server.fingerprint()},
        "server": {"verify_fingerprint": client.fingerprint()},
    }
    right[side] = {"verify_fingerprint": [other.fingerprint(), other.fingerprint("sha-512")]}
    link = connect(client, server, right["client"], right["server"])
    with pytest.raises(dtlsffi.DTLSCertVerificationError) as caught:
        link.shake_hands()
    assert caught.value.verify_code == 28  # X509_V_ERR_CERT_REJECTED
    shown = (server if side == "client" else client).fingerprint()
    assert str(shown) in caught.value.verify_message
    assert str(other.fingerprint()) in caught.value.verify_message
    refuser, refused = (link.client, link.server) if side == "client" else (link.server, link.client)
    for datagram in refuser.datagrams_to_send():
        refused.receive_datagram(datagram)
    assert "bad_certificate (alert 42)" in str(refused.alert_held())  # RFC 8122 section 6.2


def test_a_pinned_server_needs_no_verification_mode(ours: Identity, theirs: Identity) -> None:
    """And a server that pins asks for a certificate: a client without one is refused."""
    client, server = DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT), DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    load(server, theirs)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.retransmission = server.retransmission = FAST
    link = connect(client, server, {"verify_fingerprint": either(ours).fingerprint()}, {})
    with pytest.raises(dtlsffi.DTLSCertVerificationError):
        link.shake_hands()
    link = connect(client, server, {}, {"verify_fingerprint": either(ours).fingerprint()})
    with pytest.raises(dtlsffi.DTLSError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        link.shake_hands()


def test_a_session_is_resumed_by_those_who_are_pinned_only(ours: Identity, theirs: Identity) -> None:
    """The client is told at once; on the server another pin leads to a full handshake, and that to a refusal."""
    client, server = either(ours), either(theirs)
    by_client = {"verify_fingerprint": server.fingerprint()}
    by_server = {"verify_fingerprint": client.fingerprint()}
    link = connect(client, server, by_client, by_server)
    link.shake_hands()
    session = link.client.session
    again = connect(client, server, by_client, by_server, session=session)
    again.shake_hands()
    assert again.server.session_reused
    with pytest.raises(ValueError, match="made under other rules of verification"):
        dtlsffi.Connection(client, verify_fingerprint=client.fingerprint(), session=session)
    swapped = connect(client, server, by_client, {"verify_fingerprint": server.fingerprint()}, session=session)
    with pytest.raises(dtlsffi.DTLSCertVerificationError):
        swapped.shake_hands()
    assert not swapped.server.session_reused


@pytest.mark.parametrize("suite", ["PSK-AES128-GCM-SHA256", "ADH-AES128-GCM-SHA256:@SECLEVEL=0"])
def test_suites_without_certificates_are_no_way_around_a_pin(suite: str, ours: Identity, theirs: Identity) -> None:
    """Though both sides allow them. A server that insists makes OpenSSL ask even anonymous clients: unexpected."""
    client, server = either(ours), either(theirs)
    server.check_hostname = False
    server.verify_mode = ssl.CERT_NONE
    client.set_ciphers(suite)
    server.set_ciphers("ALL:" + suite)
    client.set_psk_client_callback(lambda _hint: ("me", b"k" * 16))
    server.set_psk_server_callback(lambda _identity: b"k" * 16)
    for for_client, for_server in (
        ({"verify_fingerprint": server.fingerprint()}, {}),
        ({"server_hostname": "x.example"}, {"verify_fingerprint": client.fingerprint()}),
    ):
        link = connect(client, server, for_client, for_server)
        with pytest.raises(dtlsffi.DTLSError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE|UNEXPECTED_MESSAGE"):
            link.shake_hands()
        pinned = link.client if "verify_fingerprint" in for_client else link.server
        assert not pinned.is_established
        assert HandshakeCompleted() not in pinned.events_received()
        with pytest.raises(dtlsffi.DTLSError):
            pinned.send(b"secret")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "reads 'sha-256 AB:CD"),
        ("sha-256", "reads 'sha-256 AB:CD"),
        ("md5 " + ":".join(["AB"] * 16), "with one of sha-224"),
        ("sha-1 " + ":".join(["AB"] * 20), "with one of sha-224"),
        ("sha-256 AB:CD", "does not have 2 bytes"),
        ("sha-256 " + ":".join(["AB"] * 32) + " x", "reads 'sha-256 AB:CD"),
        ("sha-256 ABC", "."),
    ],
)
def test_what_is_no_fingerprint_is_refused_at_once(text: str, words: str, ours: Identity) -> None:
    """By name, before there is a connection."""
    with pytest.raises(ValueError, match=words):
        dtlsffi.Connection(either(ours), verify_fingerprint=text)


def test_pins_that_name_nobody_are_refused(ours: Identity) -> None:
    """An empty list would let nobody in, or anybody: neither is meant."""
    context = either(ours)
    with pytest.raises(ValueError, match="at least one fingerprint"):
        dtlsffi.Connection(context, verify_fingerprint=[])
    with pytest.raises(ValueError, match="at least one public key"):
        dtlsffi.Connection(context, verify_public_key=[])
    with pytest.raises(TypeError, match="a fingerprint is a str, not bytes"):
        dtlsffi.Connection(context, verify_fingerprint=[b"sha-256"])  # type: ignore[list-item]
    with pytest.raises(dtlsffi.DTLSError, match="no readable public key"):
        dtlsffi.Connection(context, verify_public_key=ours.key)


@given(st.binary(max_size=64), st.sampled_from(sorted(pins.ALGORITHMS)))
def test_fingerprints_come_through_their_text(der: bytes, algorithm: str) -> None:
    """Whatever is written is read again."""
    text = pins.fingerprint(der, algorithm)
    assert pins.valid_fingerprint(f"a=fingerprint:{text.lower()}") == text


def test_reading_a_fingerprint_takes_no_time() -> None:
    """However long what a stranger sent."""
    begin = time.perf_counter()
    with pytest.raises(ValueError, match="reads 'sha-256"):
        pins.valid_fingerprint(" " * 100_000 + "!")
    assert time.perf_counter() - begin < 1


@given(st.text(max_size=80))
def test_reading_a_fingerprint_fails_in_one_way(text: str) -> None:
    """It may come from a stranger's SDP."""
    try:
        assert pins.valid_fingerprint(text).split()[0] in pins.ALGORITHMS
    except ValueError:
        pass


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_key_of_an_unknown_kind_is_refused_like_any_other(side: str, ours: Identity, theirs: Identity) -> None:
    """Nobody can encode it, and nobody needs to."""
    client, server = either(ours), either(theirs)
    pinned: dict[str, Any] = {"verify_fingerprint": "sha-256 " + ":".join(["AA"] * 32)}
    right: dict[str, Any] = {
        "client": {"verify_fingerprint": server.fingerprint()},
        "server": {"verify_fingerprint": client.fingerprint()},
    }
    link = connect(client, server, *(pinned if name == side else right[name] for name in ("client", "server")))
    refuser, other = (link.client, link.server) if side == "client" else (link.server, link.client)
    with pytest.raises(dtlsffi.DTLSWantReadError):
        link.client.do_handshake()
    failures = []
    for _ in range(6):
        for datagram in other.datagrams_to_send():
            try:
                refuser.receive_datagram(datagram.replace(EC_PUBLIC_KEY, UNKNOWN_KEY))
            except dtlsffi.DTLSError as error:
                failures.append(error)
        for datagram in refuser.datagrams_to_send():
            with suppress(dtlsffi.DTLSError):
                other.receive_datagram(datagram)
    assert isinstance(failures[0], dtlsffi.DTLSCertVerificationError)
    with pytest.raises(dtlsffi.DTLSCertVerificationError, match="not sha-256 AA:AA"):
        refuser.do_handshake()


def test_a_client_does_not_blame_itself_for_a_server_without_certificate(theirs: Identity) -> None:
    """Where a suite with a pre-shared key has been agreed on, there is nothing that a pin could be checked against."""
    client, server = (
        dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT),
        dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER),
    )
    client.set_psk_client_callback(lambda _: ("me", b"secret"))
    client.set_ciphers("PSK")
    server.set_psk_server_callback({"me": b"secret"}.get)
    pinned = {"verify_fingerprint": str(either(theirs).fingerprint())}
    with pytest.raises(dtlsffi.DTLSError, match="has shown no certificate, so that the pin cannot be checked"):
        connect(client, server, pinned, {}).shake_hands()
