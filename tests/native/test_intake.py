"""intake.c: datagrams of one connection in, its records out, some of them straight into their objects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dtlsffi
from dtlsffi.testing import Authority, MemoryLink
from tests.helpers import HOST, not_before_3_0_7, only, start

SUITES = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-CCM8",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA256",  # whose records do not tell how long they will be
]


@pytest.fixture(scope="module", params=SUITES)
def pair(request: pytest.FixtureRequest, authority: Authority) -> MemoryLink:
    """A pair that speaks a suite, and has shaken hands."""
    client, server = authority.client_context(), authority.server_context(HOST)
    for context in (client, server):
        context.maximum_version = dtlsffi.DTLSVersion.DTLSv1_2
        context.set_ciphers(f"{request.param}:@SECLEVEL=0")  # a tag of 8 bytes is none for higher levels
        context.options |= dtlsffi.OP_NO_ENCRYPT_THEN_MAC  # under which a forged record ends the connection
    link = MemoryLink(dtlsffi.Connection(client, server_hostname=HOST), dtlsffi.Connection(server, server_side=True))
    link.shake_hands()
    link.client.mtu = 17000
    return link


def sealed(link: MemoryLink, plain: bytes) -> bytes:
    link.client.send(plain)
    return only(link.client.datagrams_to_send())


SIZES = st.integers(1, 40) | st.integers(190, 1300) | st.integers(15000, 16000)
KINDS = st.sampled_from(["alone", "alone", "joined", "forged", "cut", "trailing", "again", "junk"])


@given(plan=st.lists(st.tuples(KINDS, SIZES, SIZES), min_size=1, max_size=24), together=st.booleans())
def test_each_record_comes_out_whole_in_order_and_once(
    pair: MemoryLink, plan: list[tuple[str, int, int]], together: bool
) -> None:
    """Whatever its datagram's length promised; what is no record, or none of the peer's, leaves no trace."""
    datagrams: list[bytes] = []
    expected: list[bytes] = []
    for number, (kind, size, other) in enumerate(plan):
        first, second = bytes([number + 1]) * size, bytes([number + 129]) * other
        datagram = sealed(pair, first)
        if kind == "joined":
            datagram += sealed(pair, second)
            expected += [first, second]
        elif kind == "forged":
            datagram = datagram[:-1] + bytes([datagram[-1] ^ 1])
        elif kind == "cut":
            datagram = datagram[:-1]
        elif kind == "junk":
            datagram = b"\xff" * len(datagram)
        else:
            datagram += bytes(other if kind == "trailing" else 0)
            expected.append(first)
        datagrams += [datagram, datagram] if kind == "again" else [datagram]
    for batch in [datagrams] if together else [[datagram] for datagram in datagrams]:
        pair.server.receive_datagrams(batch)
    assert pair.server.data_received() == expected


def test_more_records_than_one_call_has_room_for(pair: MemoryLink) -> None:
    """Between long ones are datagrams of many short ones, with which an inbox is full in the midst of a datagram."""
    datagrams: list[bytes] = []
    expected: list[bytes] = []
    for turn in range(4):
        long = bytes([turn]) * 1200
        short = [bytes([turn, n % 256]) for n in range(900)]
        datagrams += [sealed(pair, long), b"".join(sealed(pair, each) for each in short)]
        expected += [long, *short]
    pair.server.receive_datagrams(datagrams)
    assert pair.server.data_received() == expected


def test_more_datagrams_than_one_turn_takes(pair: MemoryLink) -> None:
    """Their order stays, also where every third is too short to be worth a place."""
    expected = [bytes([n % 251]) * (7 if n % 3 == 0 else 400 + n) for n in range(1, 700)]
    pair.server.receive_datagrams([sealed(pair, each) for each in expected])
    assert pair.server.data_received() == expected


@not_before_3_0_7
def test_what_has_overtaken_the_last_flight_comes_before_the_rest(authority: Authority) -> None:
    """OpenSSL keeps it until the handshake is over; the datagrams behind it are longer, and in the same batch."""
    link = MemoryLink(
        dtlsffi.Connection(authority.client_context(), server_hostname=HOST),
        dtlsffi.Connection(authority.server_context(HOST), server_side=True),
    )
    link.server.receive_datagram(only(start(link.client)))
    link.client.receive_datagrams(link.server.datagrams_to_send())
    for datagram in link.client.datagrams_to_send():
        link.server.receive_datagram(datagram)
    last = link.server.datagrams_to_send()
    early, late = [b"a" * 300, b"b" * 400], [b"c" * 1100, b"d" * 1000]
    sent = []
    for data in early + late:
        link.server.send(data)
        sent.append(only(link.server.datagrams_to_send()))
    link.client.receive_datagrams(sent[:2] + last + sent[2:])
    assert link.client.is_established
    assert link.client.data_received() == early + late


def test_no_datagrams_move_nothing(link: MemoryLink) -> None:
    """A client says nothing before it is told to."""
    link.client.receive_datagrams([])
    assert link.client.datagrams_to_send() == []
