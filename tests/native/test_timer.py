"""dtlsffi/_native/timer.c: when a flight is sent again."""

from __future__ import annotations

import pytest

import dtlsffi
from dtlsffi.testing import MemoryLink
from tests.helpers import HOST, only, records, start, wait_for


def test_the_timer_runs_while_an_answer_is_awaited(link: MemoryLink) -> None:
    """Not before, and not after; a server has nothing to send again before its first flight."""
    assert link.client.get_timer() is None
    assert link.server.get_timer() is None
    start(link.client)
    timer = link.client.get_timer()
    assert timer is not None
    assert 0 <= timer <= 0.005
    assert link.server.get_timer() is None


def test_a_flight_is_sent_again_when_the_timer_runs_out(link: MemoryLink) -> None:
    """Not before, and under a new record number."""
    link.client.retransmission = (0.1, 2.0, 60.0)
    hello = only(start(link.client))
    link.client.handle_timer()
    link.client.receive_datagram(b"junk")
    assert link.client.datagrams_to_send() == []
    wait_for(link.client)
    again = only(link.client.datagrams_to_send())
    assert records(again)[0][3] == records(hello)[0][3]
    assert records(again)[0][2] == records(hello)[0][2] + 1
    assert link.client.statistics()["flights_retransmitted"] == 1


def test_new_timers_take_effect_with_the_next_flight(link: MemoryLink) -> None:
    """The one that runs is left alone."""
    link.client.retransmission = (0.2, 2.0, 60.0)
    start(link.client)
    link.client.retransmission = (0.005, 2.0, 0.04)
    assert (link.client.get_timer() or 0) > 0.1


def test_timers_back_off_up_to_their_cap(link: MemoryLink) -> None:
    """RFC 6347 section 4.2.4.1, with our own numbers."""
    link.client.retransmission = (0.002, 3.0, 0.03)
    start(link.client)
    durations = []
    for _ in range(5):
        durations.append(link.client.get_timer() or 0)
        wait_for(link.client)
        assert len(link.client.datagrams_to_send()) == 1
    assert link.client.statistics()["flights_retransmitted"] == 5
    for measured, expected in zip(durations, (0.002, 0.006, 0.018, 0.03, 0.03), strict=True):
        assert expected - 0.002 <= measured <= expected


def test_the_thirteenth_loss_ends_the_handshake(link: MemoryLink) -> None:
    """OpenSSL's own bound; HandshakeTimeout is a TimeoutError."""
    link.client.retransmission = (0.001, 1.0, 0.001)
    start(link.client)
    with pytest.raises(dtlsffi.HandshakeTimeout, match=f"handshake with {HOST} timed out") as caught:
        for _ in range(13):
            wait_for(link.client)
    assert caught.value.reason == "READ_TIMEOUT_EXPIRED"
    assert link.client.statistics()["flights_retransmitted"] == 12, "the first one was not sent again"
    with pytest.raises(dtlsffi.HandshakeTimeout):
        link.client.do_handshake()
    assert link.client.get_timer() is None


def test_the_last_flight_is_sent_again_when_the_peer_repeats_its_own(link: MemoryLink) -> None:
    """RFC 6347 section 4.2.4: the server has no timer then."""
    client, server = link.client, link.server
    for datagram in start(client):
        server.receive_datagram(datagram)
    for datagram in server.datagrams_to_send():
        client.receive_datagram(datagram)
    for datagram in client.datagrams_to_send():
        server.receive_datagram(datagram)
    assert server.is_established
    assert server.datagrams_to_send(), "and they all get lost"
    assert server.get_timer() is None
    link.run_until(lambda: client.is_established)
