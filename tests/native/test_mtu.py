"""dtlsffi/_native/mtu.c: how large a datagram may get."""

from __future__ import annotations

import ssl

import pytest

import dtlsffi
from dtlsffi import Connection
from dtlsffi.testing import Authority, Identity, MemoryLink
from tests.helpers import HOST, handshake, only, records, start


@pytest.fixture(scope="module")
def long_chains(authority: Authority) -> tuple[Identity, Identity]:
    """A client's and a server's, with keys that take long to make."""
    padding = b"".join(authority.issue(f"{i}.example", rsa=True).certificate for i in range(8))
    client, server = (authority.issue(name, rsa=True) for name in ("client.example", HOST))
    return Identity(client.certificate + padding, client.key), Identity(server.certificate + padding, server.key)


@pytest.mark.parametrize("mtu", [208, 228, 300, 548, 576, 1200, 1500, 4096, 9000, 65507])
def test_no_datagram_of_a_handshake_is_larger_than_the_mtu(
    mtu: int, authority: Authority, long_chains: tuple[Identity, Identity]
) -> None:
    """With certificates that need several datagrams, in both directions, and no record cut in two."""
    client, server = authority.client_context(), dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    client.mtu = server.mtu = mtu
    for context, chain in zip((client, server), long_chains, strict=True):
        context.load_cert_chain(chain.certificate, chain.key)
    server.load_verify_locations(cadata=authority.certificate)
    server.verify_mode = ssl.CERT_REQUIRED
    client.retransmission = server.retransmission = (1.0, 2.0, 60.0)
    link = MemoryLink(Connection(client, server_hostname=HOST), Connection(server, server_side=True))
    sizes = []
    carry = link.up.carry, link.down.carry
    for wire, original in zip((link.up, link.down), carry, strict=True):
        wire.carry = lambda d, original=original: (sizes.append(len(d)), records(d), original(d))[2]  # type: ignore[method-assign]
    link.shake_hands()
    assert max(sizes) <= mtu
    assert link.client.statistics()["flights_retransmitted"] == link.server.statistics()["flights_retransmitted"] == 0


@pytest.mark.parametrize(
    "ciphers",
    [
        "ECDHE+AESGCM",
        "ECDHE+CHACHA20",
        "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0",
        "AES128-SHA:ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0",
    ],
)
@pytest.mark.parametrize("mtu", [208, 547, 1200, 1500, 9000])
def test_data_mtu_is_what_fits_exactly(mtu: int, ciphers: str, authority: Authority) -> None:
    """One byte more is refused before anything is sent; CBC's padding makes the bound loose."""
    client, server = authority.client_context(), authority.server_context(HOST)
    client.set_ciphers(ciphers)
    server.set_ciphers(ciphers)
    client.mtu = mtu
    link = handshake(client, server)
    link.shake_hands()
    room = link.client.data_mtu
    assert room is not None
    link.client.send(b"x" * room)
    size = len(only(link.client.datagrams_to_send()))
    assert mtu - (0 if "AES128-SHA" not in ciphers else 16) <= size <= mtu
    with pytest.raises(dtlsffi.DatagramTooLarge, match=f"{room + 1} bytes do not fit") as caught:
        link.client.send(b"x" * (room + 1))
    assert caught.value.errno == 90
    assert link.client.datagrams_to_send() == []
    link.client.send(b"fine")


def test_a_record_holds_16384_bytes(joined: MemoryLink) -> None:
    """However large the mtu: RFC 6347 section 4.1."""
    joined.client.mtu = 65507
    assert joined.client.data_mtu == 16384
    joined.client.send(b"x" * 16384)
    with pytest.raises(dtlsffi.DatagramTooLarge, match="a record holds at most 16384"):
        joined.client.send(b"x" * 16385)
    joined.settle()
    assert joined.received[joined.server] == [b"x" * 16384]


def test_the_mtu_can_be_changed_at_any_time(link: MemoryLink) -> None:
    """Before, during and after the handshake."""
    link.client.mtu = 300
    assert link.client.mtu == 300
    first = start(link.client)
    assert all(len(datagram) <= 300 for datagram in first)
    link.client.mtu = 1000
    for datagram in first:
        link.server.receive_datagram(datagram)
    link.shake_hands()
    rooms = []
    for mtu in (208, 548, 1200, 1000):
        link.client.mtu = mtu
        rooms.append(mtu - (link.client.data_mtu or 0))
    assert rooms == [37] * 4  # header 13, explicit nonce 8, tag 16
    with pytest.raises(ValueError, match="mtu is 208 to 65527"):
        link.client.mtu = 100
    assert link.client.mtu == 1000


def test_the_default_mtu_is_1200(link: MemoryLink) -> None:
    """What any path carries."""
    assert link.client.mtu == 1200


def test_a_path_that_swallows_large_datagrams_is_survived(authority: Authority) -> None:
    """After two lost flights the handshake goes on in datagrams of 548 bytes; data keeps its ceiling."""
    server = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    identity = authority.issue(HOST, rsa=True)
    server.load_cert_chain(identity.certificate * 3, identity.key)
    client = authority.client_context()
    client.retransmission = server.retransmission = (0.005, 2.0, 0.04)
    link = MemoryLink(Connection(client, server_hostname=HOST), Connection(server, server_side=True), mtu=548)
    link.shake_hands()
    assert link.down.lost > 0
    assert dtlsffi.MTUChanged(548) in link.server.events_received()
    assert link.server.statistics()["flights_retransmitted"] == 2, "README: within 5 seconds, of which these take 3"
    assert link.server.mtu == 1200
    assert link.server.data_mtu == 1200 - 37


def test_without_query_mtu_there_is_no_fallback(authority: Authority) -> None:
    """OP_NO_QUERY_MTU: the ceiling is what it was set to."""
    server, client = authority.server_context(HOST), authority.client_context()
    server.options |= dtlsffi.OP_NO_QUERY_MTU
    client.options |= dtlsffi.OP_NO_QUERY_MTU
    server.mtu = 400
    link = handshake(client, server)
    link.shake_hands()
    assert link.client.is_established
