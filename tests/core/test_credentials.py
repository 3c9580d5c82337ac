"""dtlsffi.core.credentials: raw public keys, fingerprints, objects of cryptography; files: test_certificates.py."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import dtlsffi
from dtlsffi import Connection, DTLSContext
from dtlsffi.testing import Authority, Identity, MemoryLink
from tests.helpers import FAST, HOST, handshake

RAW = pytest.mark.skipif(not dtlsffi.HAS_RAW_PUBLIC_KEYS, reason="raw public keys need OpenSSL 3.2")


def objects(identity: Identity) -> tuple[list[x509.Certificate], Any]:
    return (
        x509.load_pem_x509_certificates(identity.certificate),
        serialization.load_pem_private_key(identity.key, None),
    )


def public_key(identity: Identity) -> bytes:
    return objects(identity)[0][0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_certificates_and_keys_may_be_objects_of_cryptography(authority: Authority) -> None:
    """One certificate or a chain of them, an authority, a revocation list."""
    chain, key = objects(authority.issue(HOST))
    server, client = DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER), DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
    server.load_cert_chain(chain, key)
    client.load_verify_locations(cadata=x509.load_pem_x509_certificate(authority.certificate))
    client.load_verify_locations(cadata=x509.load_pem_x509_crl(authority.revoke()))
    assert client.cert_store_stats() == {"x509": 1, "x509_ca": 1, "crl": 1}
    handshake(client, server).shake_hands()
    single = DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    single.load_cert_chain(chain[0], key)
    assert single.fingerprint() == server.fingerprint()
    with pytest.raises(dtlsffi.DTLSError, match="does not belong to the certificate"):
        single.load_cert_chain(chain[0], objects(authority.issue(HOST))[1])
    with pytest.raises(TypeError, match="an object of `cryptography`, not dict"):
        single.load_cert_chain({})


def test_a_connection_knows_its_own_certificate(authority: Authority) -> None:
    """By its fingerprint; a client without one has none."""
    link = handshake(authority.client_context(), server := authority.server_context(HOST))
    link.shake_hands()
    assert (
        link.server.fingerprint("sha-512") == server.fingerprint("sha-512") == link.client.peer_fingerprint("sha-512")
    )
    assert link.client.fingerprint() is None
    assert link.server.peer_fingerprint() is None
    with pytest.raises(ValueError, match="no hash"):
        link.client.fingerprint("sha-1")


# ---- raw public keys ----


def raw_context(identity: Identity) -> DTLSContext:
    """A context for both sides with nothing but a key."""
    context = DTLSContext(dtlsffi.PROTOCOL_DTLS)
    context.load_private_key(identity.key)
    context.set_certificate_types(own=["raw_public_key"], peer=["raw_public_key"])
    context.retransmission = FAST
    return context


def connect(client: DTLSContext, server: DTLSContext, by_client: Any, by_server: Any, **more: Any) -> MemoryLink:
    return MemoryLink(
        Connection(client, verify_public_key=by_client, **more),
        Connection(server, server_side=True, verify_public_key=by_server),
    )


@RAW
def test_raw_public_keys_in_place_of_certificates(authority: Authority) -> None:
    """RFC 7250: both sides show a key, and know each other by it."""
    one, two = authority.issue("one.example"), authority.issue("two.example")
    link = connect(raw_context(one), raw_context(two), public_key(two), [public_key(one)])
    link.shake_hands()
    assert link.client.peer_public_key() == public_key(two)
    assert link.server.peer_public_key() == public_key(one)
    for side in (link.client, link.server):
        assert side.getpeercert() is None
        assert side.peer_fingerprint() is None
        assert side.fingerprint() is None
    link.client.send(b"hello")
    link.settle()
    assert link.received[link.server] == [b"hello"]


@RAW
@pytest.mark.parametrize("side", ["client", "server"])
def test_another_raw_key_is_refused(authority: Authority, side: str) -> None:
    """On either side."""
    one, two, three = (authority.issue(f"{name}.example") for name in ("one", "two", "three"))
    by_client = public_key(three if side == "client" else two)
    by_server = public_key(three if side == "server" else one)
    with pytest.raises(dtlsffi.DTLSCertVerificationError, match="it is a raw public key, not a public key that is"):
        connect(raw_context(one), raw_context(two), by_client, by_server).shake_hands()


@RAW
def test_a_raw_key_that_nobody_stands_up_for_is_refused(authority: Authority) -> None:
    """Unless a verify_callback does."""
    one, two = authority.issue("one.example"), authority.issue("two.example")
    client, server = raw_context(one), raw_context(two)
    client.check_hostname = False
    with pytest.raises(dtlsffi.DTLSCertVerificationError):
        connect(client, server, None, public_key(one)).shake_hands()
    client = raw_context(one)
    client.check_hostname = False
    client.verify_callback = lambda _, check: check.certificate is None
    link = connect(client, server, None, public_key(one))
    link.shake_hands()
    assert link.client.peer_public_key() == public_key(two)


@RAW
def test_a_raw_key_is_resumed_by_those_who_are_pinned_only(authority: Authority) -> None:
    """A session does not carry a key past its pin."""
    one, two = authority.issue("one.example"), authority.issue("two.example")
    client, server = raw_context(one), raw_context(two)
    link = connect(client, server, public_key(two), public_key(one))
    link.shake_hands()
    for pinned in ({"verify_public_key": public_key(one)}, {"server_hostname": "two.example"}):
        with pytest.raises(ValueError, match="made under other rules of verification"):
            Connection(client, session=link.client.session, **pinned)  # type: ignore[arg-type]
    again = connect(client, server, public_key(two), public_key(one), session=link.client.session)
    again.shake_hands()
    assert again.client.session_reused


@RAW
def test_certificates_where_the_peer_has_no_raw_key(authority: Authority) -> None:
    """Both types allowed: the side that knows certificates only still gets one."""
    server = authority.server_context(HOST)
    server.set_certificate_types(own=["raw_public_key", "x509"])
    link = handshake(authority.client_context(), server)
    link.shake_hands()
    assert link.client.getpeercert()


def test_certificate_types_have_names() -> None:
    """Others, none, and one twice are refused; so are all of them before OpenSSL 3.2."""
    context = DTLSContext()
    for bad in ([], ["pgp"], ["x509", "x509"]):
        with pytest.raises(ValueError, match="own names"):
            context.set_certificate_types(own=bad)
    if not dtlsffi.HAS_RAW_PUBLIC_KEYS:
        with pytest.raises(NotImplementedError, match=r"need OpenSSL 3\.2"):
            context.set_certificate_types(own=["raw_public_key"])
        with pytest.raises(NotImplementedError, match=r"need OpenSSL 3\.2"):
            context.load_private_key(secrets.token_bytes(8))
