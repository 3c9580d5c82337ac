"""dtlsffi.core.peer: the peer's certificates."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import dtlsffi
from dtlsffi.testing import Authority, MemoryLink
from tests.helpers import HOST, handshake, load


def test_nothing_is_known_before_the_handshake(link: MemoryLink) -> None:
    """As getpeercert() in ssl."""
    for ask in ("getpeercert", "get_verified_chain", "get_unverified_chain", "peer_fingerprint", "peer_public_key"):
        with pytest.raises(ValueError, match="handshake not done yet"):
            getattr(link.client, ask)()
    assert link.client.ocsp_response is None


def test_chains_are_what_was_sent_and_what_was_verified(authority: Authority) -> None:
    """In DER, the peer's own first, on both sides; the authority itself is not sent."""
    client, server = authority.client_context(), authority.server_context(HOST)
    load(client, authority.issue("client.example"))
    server.load_verify_locations(cadata=authority.certificate)
    server.verify_mode = dtlsffi.CERT_REQUIRED
    link = handshake(client, server)
    link.shake_hands()
    root = x509.load_pem_x509_certificate(authority.certificate).public_bytes(Encoding.DER)
    for side in (link.client, link.server):
        own = side.getpeercert(binary_form=True)
        assert side.get_unverified_chain() == [own]
        assert side.get_verified_chain() == [own, root]


def test_a_chain_that_is_sent_is_seen_on_either_side(authority: Authority) -> None:
    """OpenSSL leaves the leaf out on the server's side; we do not."""
    client, server = authority.client_context(), authority.server_context(HOST)
    identity = authority.issue("client.example")
    client.load_cert_chain(identity.certificate + authority.certificate, identity.key)
    server.load_verify_locations(cadata=authority.certificate)
    server.verify_mode = dtlsffi.CERT_REQUIRED
    link = handshake(client, server)
    link.shake_hands()
    assert len(link.server.get_unverified_chain()) == 2
    assert link.server.get_unverified_chain() == link.server.get_verified_chain()


def test_the_public_key_is_that_of_the_certificate(joined: MemoryLink) -> None:
    """As SubjectPublicKeyInfo."""
    der = joined.client.getpeercert(binary_form=True)
    assert der is not None
    key = joined.client.peer_public_key()
    assert key is not None
    assert key in der
    assert joined.server.peer_public_key() is None
