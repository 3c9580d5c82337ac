"""Handshakes that cannot succeed, and those on paths that carry little."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

import dtlsffi
from dtlsffi import DTLSContext
from dtlsffi.testing import Authority, Identity
from tests.helpers import FAST, HOST, SERVER_HELLO, load
from tests.serving.clients import Client, established
from tests.serving.crowd import Walker, walk
from tests.serving.doors import Door
from tests.serving.served import Served

# ---- refusals ----


def test_a_client_that_refuses_the_certificate_fails_alone(
    door: Door, client_context: DTLSContext, stranger: Authority, authority: Authority
) -> None:
    """The server hears of it by an alert, which it believes when nothing better comes."""
    server_context, distrustful = authority.server_context(HOST), stranger.client_context()
    server_context.retransmission = FAST
    with door.serving(server_context) as served, established(served.address, client_context) as content:
        with (
            Client(served.address, distrustful) as client,
            pytest.raises(dtlsffi.DTLSCertVerificationError, match="unable to get local issuer certificate"),
        ):
            try:
                client.shake_hands()
            finally:
                client.transmit()
        served.wait_until(lambda: served.count("handshakes_failed"))
        assert_goes_on(served, content)


def test_a_client_whose_certificate_is_refused_fails_alone(
    door: Door, authority: Authority, stranger: Authority
) -> None:
    """With one of nobody's, or with none; it is told, and its handler is not called."""
    server_context = authority.server_context(HOST)
    server_context.load_verify_locations(cadata=authority.certificate)
    server_context.verify_mode = dtlsffi.CERT_REQUIRED
    trusted, unknown, without = (authority.client_context() for _ in range(3))
    load(trusted, authority.issue("client.example"))
    load(unknown, stranger.issue("client.example"))
    unknown.retransmission = without.retransmission = FAST
    with door.serving(server_context) as served, established(served.address, trusted) as content:
        for context, words in ((unknown, "unknown_ca"), (without, "handshake_failure")):
            with Client(served.address, context) as client, pytest.raises(dtlsffi.DTLSError, match=words):
                client.shake_hands()
        assert served.count("handshakes_failed") >= 2  # more where a hello was sent again, and came after the end
        assert_goes_on(served, content)
        if door.has_connections:
            assert served.began == [content.address]


def test_a_client_of_another_version_fails_alone(door: Door, authority: Authority) -> None:
    """DTLS 1.0 where 1.2 is the oldest: the client is told so."""
    old, client_context = authority.client_context(), authority.client_context()
    old.minimum_version = old.maximum_version = dtlsffi.DTLSVersion.DTLSv1
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    old.retransmission = (0.1, 2.0, 60.0)
    with (
        door.serving(authority.server_context(HOST)) as served,
        established(served.address, client_context) as content,
    ):
        with Client(served.address, old) as client, pytest.raises(dtlsffi.DTLSError, match="protocol_version"):
            client.shake_hands()
        assert_goes_on(served, content)
        assert served.count("handshakes_failed") in (1, 2), "OpenSSL asks once more before it hears what is held back"


def assert_goes_on(served: Served, content: Client) -> None:
    """Whoever had a connection still has it, and nothing is left of those who have none."""
    assert content.ask(b"and I am served") == b"and I am served"
    counts = served.statistics()
    assert (counts["connections"], counts["pending"], counts["handshakes_completed"]) == (1, 0, 1)


# ---- narrow paths ----


@pytest.fixture(scope="module")
def large(authority: Authority) -> Identity:
    """One whose certificates do not fit into a small datagram."""
    return authority.issue(HOST, rsa=True)


def test_no_datagram_exceeds_the_mtu(door: Door, authority: Authority, large: Identity) -> None:
    """300 bytes, with RSA certificates on both sides: flights are cut into many datagrams, data into none."""
    server_context, client_context = authority.server_context(HOST), authority.client_context()
    load(server_context, large)
    load(client_context, large)
    server_context.load_verify_locations(cadata=authority.certificate)
    server_context.verify_mode = dtlsffi.CERT_REQUIRED
    server_context.mtu = client_context.mtu = 300
    with door.serving(server_context) as served, established(served.address, client_context) as client:
        size = client.connection.data_mtu or 0
        assert client.ask(bytes(size)) == bytes(size)
        assert max(map(len, client.received)) <= 300
        assert max(map(len, client.sent)) <= 300
        assert len(client.received[-1]) > 290
        assert len(client.received) > 6


def test_a_handshake_gets_through_a_path_of_548_bytes(door: Door, authority: Authority, large: Identity) -> None:
    """What is larger vanishes without a word: flights shrink after two losses, and the ceiling for data stays."""
    server_context, client_context = authority.server_context(HOST), authority.client_context()
    load(server_context, large)
    server_context.retransmission = client_context.retransmission = FAST
    with door.serving(server_context) as served:
        walker = Walker(served.address, client_context, number=0, mtu=548)
        walk([walker])
        assert walker.is_content
        assert walker.lost > 0
        assert served.mtu_of(walker.address) == 1200
        walker.leave()


# ---- time ----


def test_a_flight_is_sent_again_when_its_timer_has_run_out(
    door: Door, client_context: DTLSContext, authority: Authority
) -> None:
    """After the first duration, then after twice that: RFC 6347 section 4.2.4.1."""
    server_context = authority.server_context(HOST)
    server_context.retransmission = (0.05, 2.0, 60.0)
    with door.serving(server_context) as served, Client(served.address, client_context) as client:
        client.prove()
        arrived: list[float] = []
        while len(arrived) < 4:
            if client.sock.recv(65535)[13] == SERVER_HELLO:
                arrived.append(time.monotonic())
        first, second, third = (later - earlier for earlier, later in pairwise(arrived))
        assert 0.03 < first < 0.9
        assert first + second + third > 0.3, "0.05, 0.1 and 0.2"
        assert served.count("pending") == 1


@pytest.mark.parametrize(("mtu", "names"), [(228, 0), (228, 9), (300, 24), (600, 6), (1200, 24)])
def test_a_hello_may_need_several_datagrams(
    door: Door, authority: Authority, server_context: DTLSContext, mtu: int, names: int
) -> None:
    """With its cookie only, or from the beginning: it gets in at once, and nothing is dropped as a flood."""
    client_context = authority.client_context()
    client_context.mtu = mtu
    client_context.set_alpn_protocols([chr(97 + number) * 200 for number in range(names)])
    with door.serving(server_context) as served, Client(served.address, client_context) as client:
        client.shake_hands()
        assert sum(datagram[13] == 1 and datagram[22:25] != datagram[14:17] for datagram in client.sent) > 1
        assert client.connection.statistics()["flights_retransmitted"] == 0
        assert client.ask(b"here I am") == b"here I am"
        assert served.count("dropped_flood") == 0
