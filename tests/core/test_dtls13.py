"""DTLS 1.3 (RFC 9147), where OpenSSL has it: 4.1, which is in no registry yet. Elsewhere: clear errors.

Without loss: the preview that this was tried with (the branch feature/dtls-1.3 of February 2025) does not survive it.
"""

from __future__ import annotations

import pytest

import dtlsffi
from dtlsffi import Connection, DTLSContext, DTLSVersion
from dtlsffi.testing import Authority, MemoryLink
from tests.helpers import HOST, handshake

NEEDED = pytest.mark.skipif(not dtlsffi.HAS_DTLSv1_3, reason="this OpenSSL has no DTLS 1.3")


@pytest.fixture
def contexts(authority: Authority) -> tuple[DTLSContext, DTLSContext]:
    client, server = authority.client_context(), authority.server_context(HOST)
    if dtlsffi.HAS_DTLSv1_3:
        client.minimum_version = DTLSVersion.DTLSv1_3
    return client, server


@pytest.fixture
def joined(contexts: tuple[DTLSContext, DTLSContext]) -> MemoryLink:
    link = handshake(*contexts)
    link.shake_hands()
    link.settle()
    return link


@pytest.mark.skipif(dtlsffi.HAS_DTLSv1_3, reason="this OpenSSL has DTLS 1.3")
def test_what_is_missing_is_said(joined: MemoryLink) -> None:
    """By name, and where to look."""
    for bound in ("minimum_version", "maximum_version"):
        with pytest.raises(ValueError, match=r"does not have DTLSv1_3 \(see dtlsffi.HAS_DTLSv1_3\)"):
            setattr(DTLSContext(), bound, DTLSVersion.DTLSv1_3)
    with pytest.raises(NotImplementedError, match=r"no DTLS 1.3 \(dtlsffi.HAS_DTLSv1_3\)"):
        DTLSContext().set_ciphersuites("TLS_AES_128_GCM_SHA256")
    with pytest.raises(ValueError, match=r"in DTLS 1.3 only"):
        joined.client.update_keys()


@NEEDED
def test_data_both_ways_and_new_keys(joined: MemoryLink) -> None:
    """On one side, or on both."""
    client, server = joined.client, joined.server
    assert client.version() == server.version() == "DTLSv1.3"
    for turn, request_peer in enumerate((False, True, True)):
        client.update_keys(request_peer=request_peer)
        joined.settle()
        client.send(b"up %d" % turn)
        server.send(b"down %d" % turn)
        joined.settle()
    assert joined.received[server] == [b"up 0", b"up 1", b"up 2"]
    assert joined.received[client] == [b"down 0", b"down 1", b"down 2"]


@NEEDED
def test_what_fits_is_one_datagram(joined: MemoryLink) -> None:
    """data_mtu holds."""
    client = joined.client
    assert client.data_mtu is not None
    client.send(b"x" * client.data_mtu)
    (datagram,) = client.datagrams_to_send()
    assert len(datagram) <= client.mtu


@NEEDED
def test_ciphersuites_are_chosen(contexts: tuple[DTLSContext, DTLSContext]) -> None:
    """Apart from those of DTLS 1.2."""
    client, server = contexts
    client.set_ciphersuites("TLS_CHACHA20_POLY1305_SHA256")
    link = handshake(client, server)
    link.shake_hands()
    assert link.client.cipher() == ("TLS_CHACHA20_POLY1305_SHA256", "TLSv1.3", 256)


@NEEDED
def test_keys_for_others(joined: MemoryLink) -> None:
    """The exporter and what is built on it; tls-unique is not defined."""
    for side in (joined.client, joined.server):
        assert side.get_channel_binding("tls-unique") is None
    exported = {side.export_keying_material("EXPORTER-test", 40, b"c") for side in (joined.client, joined.server)}
    assert len(exported) == 1
    bindings = {side.get_channel_binding("tls-exporter") for side in (joined.client, joined.server)}
    assert len(bindings) == 1


@NEEDED
def test_a_session_is_resumed(joined: MemoryLink, contexts: tuple[DTLSContext, DTLSContext]) -> None:
    """With a ticket that came after the handshake."""
    client, server = contexts
    link = MemoryLink(
        Connection(client, server_hostname=HOST, session=joined.client.session), Connection(server, server_side=True)
    )
    link.shake_hands()
    assert link.client.session_reused
    assert link.client.getpeercert()


@NEEDED
def test_pre_shared_keys_through_the_same_callbacks() -> None:
    """As external PSKs: RFC 8446 section 4.2.11."""
    client, server = DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT), DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    client.check_hostname = False
    client.minimum_version = DTLSVersion.DTLSv1_3
    client.set_psk_client_callback(lambda _hint: ("me", bytes(16)))
    server.set_psk_server_callback({"me": bytes(16)}.get)
    link = handshake(client, server, None)
    link.shake_hands()
    assert link.client.psk_identity == link.server.psk_identity == "me"
