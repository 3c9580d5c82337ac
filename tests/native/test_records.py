"""dtlsffi/_native/records.c: what comes from an untrusted wire."""

from __future__ import annotations

import itertools

import pytest

import dtlsffi
from dtlsffi.testing import Authority, MemoryLink
from tests.helpers import ALERT, HOST, handshake, only, record, start, wait_for


def test_junk_is_counted_and_dropped(link: MemoryLink) -> None:
    """At every stage, on both sides; nothing is raised."""
    junk = [b"x", b"\x16" * 12, b"\x17\xfe\xfd" + bytes(10), b"\x16\x03\x03" + bytes(40), b"\x80" * 100,
            record(22, b"x" * 20)[:-1], record(24, b"heartbeat"), record(25, b"cid"), bytes(70000)]  # fmt: skip

    def throw(expected: int) -> None:
        for side in (link.client, link.server):
            for datagram in junk:
                side.receive_datagram(datagram)
            assert side.statistics()["dropped_junk"] == expected
            assert side.data_received() == []

    throw(9)
    start_flight = start(link.client)
    throw(18)
    for datagram in start_flight:
        link.server.receive_datagram(datagram)
    throw(27)
    link.shake_hands()
    throw(36)


def test_a_replayed_record_is_dropped(joined: MemoryLink) -> None:
    """And counted as what it is; an old one, too: the window is 64 wide (RFC 6347 section 4.1.2.6)."""
    datagrams = []
    for number in range(70):
        joined.client.send(bytes([number]))
        datagrams += joined.client.datagrams_to_send()
    for datagram in datagrams[1:]:
        joined.server.receive_datagram(datagram)
    for datagram in (datagrams[69], datagrams[30], datagrams[0]):
        joined.server.receive_datagram(datagram)
    assert joined.server.data_received() == [bytes([number]) for number in range(1, 70)]
    counters = joined.server.statistics()
    assert (counters["dropped_replayed"], counters["dropped_unauthenticated"]) == (3, 0)
    assert counters["records_received"] == 69


def test_a_forged_record_is_dropped(joined: MemoryLink) -> None:
    """Whichever byte was changed; the genuine one still gets in."""
    joined.client.send(b"genuine")
    genuine = only(joined.client.datagrams_to_send())
    for index in range(13, len(genuine)):
        forged = bytearray(genuine)
        forged[index] ^= 1
        joined.server.receive_datagram(forged)
    assert joined.server.data_received() == []
    joined.server.receive_datagram(genuine)
    assert joined.server.data_received() == [b"genuine"]
    counters = joined.server.statistics()
    assert counters["dropped_unauthenticated"] == len(genuine) - 13
    assert counters["dropped_replayed"] == 0


def test_genuine_forged_and_replayed_in_one_datagram(joined: MemoryLink) -> None:
    """Each is counted for itself."""
    for data in (b"one", b"two", b"three"):
        joined.client.send(data)
    one, two, three = joined.client.datagrams_to_send()
    joined.server.receive_datagram(one)
    forged = two[:-1] + bytes([two[-1] ^ 1])
    joined.server.receive_datagram(one + forged + three)
    joined.server.receive_datagram(b"settle")
    assert joined.server.data_received() == [b"one", b"three"]
    counters = joined.server.statistics()
    assert (counters["dropped_replayed"], counters["dropped_unauthenticated"]) == (1, 1)


@pytest.mark.parametrize("ciphers", ["ECDHE+AESGCM", "ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0"])
def test_nothing_unauthenticated_ends_an_established_connection(ciphers: str, authority: Authority) -> None:
    """Plaintext alerts, hellos, requests, data, unknown types, wrong epochs: RFC 6347 section 4.1.2.7."""
    client, server = authority.client_context(), authority.server_context(HOST)
    for context in (client, server):
        context.set_ciphers(ciphers)
        context.options |= dtlsffi.OP_NO_ENCRYPT_THEN_MAC
    link = handshake(client, server)
    hello = only(start(link.client))
    link.server.receive_datagram(hello)
    link.shake_hands()
    numbers = itertools.count(1000)
    for side, peer in ((link.client, link.server), (link.server, link.client)):
        for epoch in (0, 1, 2, 0xFFFF):
            for kind in range(256):
                for fragment in (b"", b"\x01", bytes((2, 40)), bytes((1, 0)), b"x" * 64):
                    side.receive_datagram(record(kind, fragment, epoch=epoch, number=next(numbers)))
        side.receive_datagram(hello)
        assert side.data_received() == []
        assert side.events_received() in ([dtlsffi.HandshakeCompleted()], [])
        peer.send(b"alive")
        side.receive_datagram(only(peer.datagrams_to_send()))
        assert side.data_received() == [b"alive"]


@pytest.mark.parametrize("version", [0xFEFF, 0xFEFC, 0xFE00])
def test_a_record_within_a_record_is_not_read(joined: MemoryLink, version: int) -> None:
    """OpenSSL drops but the header of a record of another version, and takes its body for the next one."""
    genuine = {}
    for name, (sender, receiver) in {
        "client": (joined.client, joined.server),
        "server": (joined.server, joined.client),
    }.items():
        sender.send(b"hidden")
        genuine[name] = only(sender.datagrams_to_send())
        for epoch in (0, 1, 2):
            for inner in (genuine[name], record(23, b"x", epoch=1, number=50), record(21, b"xx", epoch=1, number=51)):
                receiver.receive_datagram(record(22, inner, epoch=epoch, version=version))
                receiver.receive_datagram(record(23, inner * 2, epoch=epoch, version=version))
        assert receiver.data_received() == []
        receiver.receive_datagram(genuine[name])
        assert receiver.data_received() == [b"hidden"]


def test_a_forged_alert_does_not_end_a_handshake(link: MemoryLink) -> None:
    """Anybody can write one who knows two ports; a genuine answer after it is taken: OPENSSL.md, 50."""
    first = start(link.client)
    for alert in (ALERT, record(21, bytes((1, 0))), record(21, b"\x02"), record(20, b"\x01") + ALERT, ALERT * 3):
        link.client.receive_datagram(alert)
    assert link.client.alert_held() == (
        "handshake_failure (alert 40): usually there is no cipher suite, group or signature algorithm that both sides "
        "allow, or it wants a certificate from us"
    )
    for datagram in first:
        link.server.receive_datagram(datagram)
    link.server.receive_datagram(ALERT)
    link.shake_hands()
    assert link.client.statistics()["alerts_held"] == 6
    assert link.client.statistics()["dropped_junk"] == 1
    assert link.client.alert_held() is None


def test_plaintext_data_does_not_end_a_handshake(link: MemoryLink) -> None:
    """OpenSSL alone would end it with an unexpected_message."""
    first = start(link.client)
    for number, kind in enumerate((20, 23, 24, 25, 26, 63, 255)):
        link.client.receive_datagram(record(kind, b"\x01", number=20 + number))
        link.server.receive_datagram(record(kind, b"\x01", number=20 + number))
    for datagram in first:
        link.server.receive_datagram(datagram)
    link.shake_hands()


def test_a_genuine_alert_ends_the_handshake_when_the_timer_runs_out(link: MemoryLink) -> None:
    """By then the peer would have answered."""
    start(link.client)
    link.client.receive_datagram(ALERT)
    with pytest.raises(dtlsffi.DTLSError, match=rf"the peer \({HOST}\) ended the handshake") as caught:
        wait_for(link.client)
    assert caught.value.reason == "SSLV3_ALERT_HANDSHAKE_FAILURE"
    assert link.client.events_received() == [dtlsffi.AlertReceived(40)]
    with pytest.raises(dtlsffi.DTLSError, match="ended the handshake") as again:
        link.client.send(b"x")
    assert again.value is not caught.value


def test_versions_that_do_not_match_are_said(authority: Authority) -> None:
    """Both sides learn why."""
    client, server = authority.client_context(), authority.server_context(HOST)
    for context in (client, server):
        context.security_level = 0
        context.set_ciphers("ALL")
    client.minimum_version = dtlsffi.DTLSVersion.DTLSv1
    client.maximum_version = dtlsffi.DTLSVersion.DTLSv1
    link = handshake(client, server)
    with pytest.raises(dtlsffi.DTLSError) as caught:
        link.shake_hands()
    assert caught.value.reason == "UNSUPPORTED_PROTOCOL"
    for datagram in link.server.datagrams_to_send():
        link.client.receive_datagram(datagram)
    with pytest.raises(dtlsffi.DTLSError) as at_the_client:
        wait_for(link.client)
    assert at_the_client.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


def test_dtls_10_can_be_had_by_those_who_ask_for_it(authority: Authority) -> None:
    """With its own name for each step down."""
    if not dtlsffi.HAS_DTLSv1:
        pytest.skip("this OpenSSL has no DTLS 1.0")
    client, server = authority.client_context(), authority.server_context(HOST)
    for context in (client, server):
        context.minimum_version = dtlsffi.DTLSVersion.DTLSv1
        context.security_level = 0
        context.set_ciphers("ALL")
    client.maximum_version = dtlsffi.DTLSVersion.DTLSv1
    link = handshake(client, server)
    link.shake_hands()
    assert link.client.version() == "DTLSv1"


def test_no_cipher_in_common_is_said(authority: Authority) -> None:
    """With what to compare."""
    client, server = authority.client_context(), authority.server_context(HOST)
    client.set_ciphers("ECDHE+CHACHA20")
    server.set_ciphers("ECDHE+AESGCM")
    link = handshake(client, server)
    with pytest.raises(dtlsffi.DTLSError, match=r"compare set_ciphers\(\)") as caught:
        link.shake_hands()
    assert caught.value.reason == "NO_SHARED_CIPHER"


def test_hello_verify_requests_come_to_an_end(client_context: dtlsffi.DTLSContext) -> None:
    """OpenSSL would answer each of them, as fast as they come."""
    client_context.retransmission = (10.0, 2.0, 60.0)
    client = dtlsffi.Connection(client_context, server_hostname=HOST)
    start(client)
    answers = 0
    for number in range(100):
        body = b"\xfe\xff\x04" + number.to_bytes(4, "big")
        length = len(body).to_bytes(3, "big")
        message = b"\x03" + length + bytes(2) + bytes(3) + length + body
        client.receive_datagram(record(22, message, number=number, version=0xFEFF))
        answers += len(client.datagrams_to_send())
    assert 1 <= answers <= 16
    assert client.statistics()["dropped_junk"] >= 84


def test_an_honest_answer_clears_an_alert_that_was_held(link: MemoryLink) -> None:
    """A forged one is not believed later, when some other flight gets lost."""
    first = start(link.client)
    link.client.receive_datagram(ALERT)
    assert link.client.alert_held() is not None
    for datagram in first:
        link.server.receive_datagram(datagram)
    for datagram in link.server.datagrams_to_send():
        link.client.receive_datagram(datagram)
    assert link.client.datagrams_to_send()  # and got lost
    assert link.client.alert_held() is None
    wait_for(link.client)
    link.shake_hands()


@pytest.mark.parametrize("strange", [record(24, b"\1\0\4ping"), record(99, b""), record(21, b"\2\x28")])
def test_a_record_that_is_passed_over_hides_none_behind_it(joined: MemoryLink, strange: bytes) -> None:
    """One that OpenSSL must not see, or nobody knows, costs itself only; so does one in front of a flight."""
    for sender, receiver in ((joined.client, joined.server), (joined.server, joined.client)):
        sender.send_many([b"one", b"two"])
        one, two = sender.datagrams_to_send()
        before = receiver.statistics()
        receiver.receive_datagram(strange + one + strange * 3 + two + strange)
        assert receiver.data_received() == [b"one", b"two"]
        after = receiver.statistics()
        if strange[0] != 21:
            assert after["dropped_junk"] - before["dropped_junk"] == 5


def test_a_flight_behind_an_alert_is_taken(link: MemoryLink) -> None:
    """Whoever has put it there: and then the alert is nobody's."""
    for datagram in start(link.client):
        link.server.receive_datagram(datagram)
    for datagram in link.server.datagrams_to_send():
        link.client.receive_datagram(ALERT + datagram)
    assert link.client.alert_held() is None
    link.shake_hands()


def test_a_held_alert_is_forgotten_when_a_part_of_the_answer_comes(link: MemoryLink) -> None:
    """And the rest is lost: an honest peer says nothing after a fatal alert."""
    for datagram in start(link.client):
        link.server.receive_datagram(datagram)
    link.client.receive_datagram(ALERT)
    first, *rest = pieces_of(link.server.datagrams_to_send())
    link.client.receive_datagram(first)
    assert link.client.alert_held() is None
    for datagram in rest:
        link.client.receive_datagram(datagram)
    link.shake_hands()


def test_a_warning_that_nobody_has_signed_is_passed_over(link: MemoryLink) -> None:
    """A server sends one for a name that it does not know, and goes on; OpenSSL would end the handshake over it."""
    first = start(link.client)
    for description in (112, 100, 41, 90):
        link.client.receive_datagram(record(21, bytes((1, description))))
    assert link.client.alert_held() is None
    assert link.client.statistics()["dropped_junk"] == 4
    for datagram in first:
        link.server.receive_datagram(datagram)
    link.shake_hands()


def pieces_of(datagrams: list[bytes]) -> list[bytes]:
    """Each record of some datagrams in one of its own."""
    found, left = [], b"".join(datagrams)
    while left:
        length = 13 + int.from_bytes(left[11:13], "big")
        found.append(left[:length])
        left = left[length:]
    return found
