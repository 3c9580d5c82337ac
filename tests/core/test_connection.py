"""dtlsffi.core.connection: the contract of the sans-IO core."""

from __future__ import annotations

import gc
import itertools
import ssl
import struct
import time
import weakref

import pytest

import dtlsffi
from dtlsffi import Connection
from dtlsffi.testing import Authority, Identity, MemoryLink
from tests.bad_certificates import CASES, self_signed

HOST = "device.example"
CLIENT_HELLO, SERVER_HELLO = 1, 2


def start(connection: Connection) -> list[bytes]:
    """The client's first flight."""
    with pytest.raises(dtlsffi.DTLSWantReadError):
        connection.do_handshake()
    return connection.datagrams_to_send()


def only(datagrams: list[bytes]) -> bytes:
    (datagram,) = datagrams
    return datagram


def records(datagram: bytes) -> list[tuple[int, int, int, bytes]]:
    """The records of a datagram: type, epoch, sequence number, fragment. RFC 6347 section 4.1."""
    found = []
    while datagram:
        kind, _, epoch, high, low, length = struct.unpack("!BHHHIH", datagram[:13])
        assert len(datagram) >= 13 + length, "a record was cut in two"
        found.append((kind, epoch, high << 32 | low, datagram[13 : 13 + length]))
        datagram = datagram[13 + length :]
    return found


def record(kind: int, fragment: bytes, *, epoch: int = 0, number: int = 7, version: int = 0xFEFD) -> bytes:
    return struct.pack("!BHHHIH", kind, version, epoch, 0, number, len(fragment)) + fragment


ALERT = record(21, bytes((2, 40)))  # fatal handshake_failure, which anybody can write


# ---- the five things that happen ----


def test_a_handshake_takes_two_round_trips_and_four_flights(link: MemoryLink) -> None:
    """RFC 6347 section 4.2.4, without the cookie exchange."""
    first = start(link.client)
    assert [kind for kind, *_ in records(only(first))] == [22]
    link.server.receive_datagram(only(first))
    second = link.server.datagrams_to_send()
    for datagram in second:
        link.client.receive_datagram(datagram)
    for datagram in link.client.datagrams_to_send():
        link.server.receive_datagram(datagram)
    assert link.server.is_established
    assert not link.client.is_established
    for datagram in link.server.datagrams_to_send():
        link.client.receive_datagram(datagram)
    assert link.client.is_established
    assert link.client.datagrams_to_send() == link.server.datagrams_to_send() == []
    for side in (link.client, link.server):
        assert side.events_received() == [dtlsffi.HandshakeCompleted()]
        assert side.events_received() == []
        assert side.get_timer() is None
        side.do_handshake()


def test_each_record_comes_out_whole_and_in_order(joined: MemoryLink) -> None:
    """One bytes object a record, whatever buffer it was sent from."""
    sent = [b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview")[3:], b"\0" * 1100]
    for data in sent:
        assert joined.client.send(data) == len(data)
    joined.settle()
    assert joined.received[joined.server] == [bytes(data) for data in sent]
    assert joined.server.data_received() == []


def test_one_send_is_one_record_in_one_datagram(joined: MemoryLink) -> None:
    """The rule that makes it UDP."""
    for data in (b"a", b"b" * 100):
        joined.client.send(data)
    datagrams = joined.client.datagrams_to_send()
    assert [len(records(datagram)) for datagram in datagrams] == [1, 1]


def test_several_records_in_one_datagram_are_several_records(joined: MemoryLink) -> None:
    """A peer may coalesce: RFC 6347 section 4.1.1. Some hundred of them, too, and more than OpenSSL reads at once."""
    for count, size in ((2, 5), (500, 1), (60, 1000)):
        for number in range(count):
            joined.client.send(bytes([number % 256]) * size)
        datagram = b"".join(joined.client.datagrams_to_send())
        joined.server.receive_datagram(datagram)
        assert joined.server.data_received() == [bytes([n % 256]) * size for n in range(count)]
    assert joined.server.statistics()["dropped_unauthenticated"] == 0


def test_data_that_overtakes_the_last_flight_is_not_lost(link: MemoryLink) -> None:
    """It is kept until the handshake is finished, however much it is, and then comes out in order."""
    client, server = link.client, link.server
    for datagram in start(client):
        server.receive_datagram(datagram)
    for datagram in server.datagrams_to_send():
        client.receive_datagram(datagram)
    for datagram in client.datagrams_to_send():
        server.receive_datagram(datagram)
    last_flight = server.datagrams_to_send()
    early = [bytes([number]) * 1100 for number in range(90)]
    for data in early:
        server.send(data)
    for datagram in server.datagrams_to_send() + last_flight:
        client.receive_datagram(datagram)
    assert client.is_established
    assert client.data_received() == early


def test_nothing_is_sent_before_the_handshake(link: MemoryLink) -> None:
    """And the connection goes on."""
    for side in (link.client, link.server):
        with pytest.raises(dtlsffi.DTLSWantReadError, match="after the handshake only"):
            side.send(b"too early")
    link.shake_hands()
    link.client.send(b"now")
    link.settle()
    assert link.received[link.server] == [b"now"]


def test_an_empty_datagram_cannot_be_sent(joined: MemoryLink) -> None:
    """DTLS has no empty record to carry it; one that arrives is passed over."""
    for empty in (b"", bytearray(), memoryview(b"")):
        with pytest.raises(ValueError, match="empty datagram"):
            joined.client.send(empty)
    joined.server.receive_datagram(b"")
    joined.client.send(b"still alive")
    joined.settle()
    assert joined.received[joined.server] == [b"still alive"]


@pytest.mark.parametrize("data", ["text", 42, None, [1, 2]])
def test_data_is_bytes(joined: MemoryLink, data: object) -> None:
    """Anything else is a TypeError by name."""
    with pytest.raises(TypeError, match=f"not {type(data).__name__}"):
        joined.client.send(data)  # type: ignore[arg-type]
    if data is not None:
        with pytest.raises(TypeError, match=f"not {type(data).__name__}"):
            joined.client.receive_datagram(data)  # type: ignore[arg-type]


# ---- who may be what ----


def test_arguments_are_checked_before_anything_happens(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """With the argument's name, as ssl has it."""
    for error, words, make in (
        (TypeError, "context is a DTLSContext, not SSLContext",
         lambda: Connection(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), server_hostname=HOST)),  # type: ignore[arg-type]
        (ValueError, "PROTOCOL_DTLS_CLIENT context cannot take the server's side",
         lambda: Connection(client_context, server_side=True)),
        (ValueError, "PROTOCOL_DTLS_SERVER context cannot take the client's side", lambda: Connection(server_context)),
        (ValueError, "server_hostname can only be specified in client mode",
         lambda: Connection(server_context, server_side=True, server_hostname=HOST)),
        (ValueError, "check_hostname requires server_hostname", lambda: Connection(client_context)),
        (TypeError, "server_hostname is a str, not bytes",
         lambda: Connection(client_context, server_hostname=b"x")),  # type: ignore[arg-type]
    ):  # fmt: skip
        with pytest.raises(error, match=words):
            make()


@pytest.mark.parametrize(
    "name", ["", ".example", "a\0b.example", "a" * 64 + ".example", "a..example", "\ud800.example"]
)
def test_names_that_are_none_are_refused(client_context: dtlsffi.DTLSContext, name: str) -> None:
    """Before they can mean something else to a C string."""
    with pytest.raises(ValueError, match="server_hostname|NUL"):
        Connection(client_context, server_hostname=name)


def test_a_context_for_either_side_verifies_on_both(authority: Authority) -> None:
    """PROTOCOL_DTLS: each side has to show a certificate."""
    contexts = []
    for name in (HOST, "client.example"):
        context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS)
        identity = authority.issue(name)
        context.load_cert_chain(identity.certificate, identity.key)
        context.load_verify_locations(cadata=authority.certificate)
        contexts.append(context)
    server, client = contexts
    link = MemoryLink(Connection(client, server_hostname=HOST), Connection(server, server_side=True))
    link.shake_hands()
    assert link.server.getpeercert()["subjectAltName"] == (("DNS", "client.example"),)  # type: ignore[index]


# ---- verification ----


def handshake(client: dtlsffi.DTLSContext, server: dtlsffi.DTLSContext, hostname: str | None = HOST) -> MemoryLink:
    for context in (client, server):
        if not context._frozen:
            context.retransmission = (0.005, 2.0, 0.04)
    return MemoryLink(Connection(client, server_hostname=hostname), Connection(server, server_side=True))


@pytest.mark.parametrize("name", CASES)
def test_a_bad_certificate_is_refused_in_words(name: str, authority: Authority) -> None:
    """Exception, verify_code, verify_message, and the alert that the server gets."""
    case = CASES[name]
    client, server = authority.client_context(), dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    load(server, case.prepare(client, authority))
    link = handshake(client, server, case.hostname)
    with pytest.raises(dtlsffi.DTLSCertVerificationError) as caught:
        link.shake_hands()
    case.check(caught.value)
    assert not link.client.is_established
    for datagram in link.client.datagrams_to_send():
        link.server.receive_datagram(datagram)
    with pytest.raises(dtlsffi.DTLSError, match=rf"\(alert {case.alert}\)") as at_the_server:
        wait_for(link.server)
    assert at_the_server.value.reason.startswith(("SSLV3_ALERT", "TLSV1_ALERT"))
    assert link.server.events_received() == [dtlsffi.AlertReceived(case.alert)]


def load(context: dtlsffi.DTLSContext, identity: Identity) -> None:
    context.load_cert_chain(identity.certificate, identity.key)


def test_a_missing_client_certificate_is_refused(authority: Authority) -> None:
    """The server says what is missing, and the client gets the alert."""
    client, server = authority.client_context(), authority.server_context(HOST)
    server.load_verify_locations(cadata=authority.certificate)
    server.verify_mode = ssl.CERT_REQUIRED
    link = handshake(client, server)
    with pytest.raises(dtlsffi.DTLSError, match="has none: give it one") as caught:
        link.shake_hands()
    assert caught.value.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    for datagram in link.server.datagrams_to_send():
        link.client.receive_datagram(datagram)
    with pytest.raises(dtlsffi.DTLSError) as at_the_client:
        wait_for(link.client)
    assert at_the_client.value.reason == "SSLV3_ALERT_HANDSHAKE_FAILURE"


def test_a_client_certificate_may_be_optional(authority: Authority) -> None:
    """CERT_OPTIONAL takes none, or a good one."""
    for identity in (None, authority.issue("client.example")):
        client, server = authority.client_context(), authority.server_context(HOST)
        server.load_verify_locations(cadata=authority.certificate)
        server.verify_mode = ssl.CERT_OPTIONAL
        if identity is not None:
            load(client, identity)
        link = handshake(client, server)
        link.shake_hands()
        assert (link.server.getpeercert() is None) is (identity is None)


@pytest.mark.parametrize(
    ("certified", "asked", "good"),
    [
        (HOST, HOST, True),
        (HOST, HOST.upper(), True),
        ("*.site.example", "a.site.example", True),
        ("*.site.example", "a.b.site.example", False),
        ("*.site.example", "site.example", False),
        ("*.example", HOST, False),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "0:0:0:0:0:0:0:1", True),
        ("fe80::1", "fe80::1%lo", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("bücher.example", "bücher.example", True),
        ("xn--bcher-kva.example", "BÜCHER.example", True),
    ],
)
def test_names_are_checked_as_ssl_checks_them(authority: Authority, certified: str, asked: str, good: bool) -> None:
    """Wildcards stand for one whole label; addresses are compared as addresses; names go through IDNA."""
    link = handshake(authority.client_context(), authority.server_context(certified), asked)
    if good:
        link.shake_hands()
    else:
        with pytest.raises(dtlsffi.DTLSCertVerificationError, match="mismatch"):
            link.shake_hands()


def test_a_common_name_counts_where_there_is_no_other_and_it_may(authority: Authority) -> None:
    """hostname_checks_common_name."""
    identity = self_signed(HOST, common_name_only=True)
    for allowed in (True, False):
        client = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
        client.load_verify_locations(cadata=identity.certificate)
        client.hostname_checks_common_name = allowed
        server = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
        load(server, identity)
        link = handshake(client, server)
        if allowed:
            link.shake_hands()
        else:
            with pytest.raises(dtlsffi.DTLSCertVerificationError, match="Hostname mismatch"):
                link.shake_hands()


def test_without_verification_anybody_is_accepted_and_nothing_claimed(
    stranger: Authority, authority: Authority
) -> None:
    """getpeercert() is empty then, as in ssl; the DER is there to look at."""
    client = authority.client_context()
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    link = handshake(client, stranger.server_context("whoever.example"), None)
    link.shake_hands()
    assert link.client.getpeercert() == {}
    der = link.client.getpeercert(binary_form=True)
    assert der is not None
    assert der.startswith(b"\x30\x82")


# ---- what is known ----


def test_what_is_known_before_the_handshake(link: MemoryLink) -> None:
    """Nothing, and no call fails over it but getpeercert(), as in ssl."""
    for side in (link.client, link.server):
        assert side.version() is None
        assert side.cipher() is None
        assert side.shared_ciphers() is None
        assert side.data_mtu is None
        assert not side.is_established
        with pytest.raises(ValueError, match="handshake not done yet"):
            side.getpeercert()


def test_what_is_known_after_it(joined: MemoryLink, client_context: dtlsffi.DTLSContext) -> None:
    """ssl's names, ssl's shapes."""
    client, server = joined.client, joined.server
    assert client.version() == server.version() == "DTLSv1.2"
    assert client.cipher() == server.cipher()
    name, version, bits = client.cipher() or ("", "", 0)
    assert (version, bits) == ("TLSv1.2", 256)
    assert name.startswith("ECDHE-")
    assert client.shared_ciphers() is None
    assert client.cipher() in (server.shared_ciphers() or [])
    assert client.getpeercert()["subjectAltName"][0] == ("DNS", HOST)  # type: ignore[index]
    assert server.getpeercert() is None
    assert server.getpeercert(binary_form=True) is None
    assert (client.context, client.server_side, client.server_hostname) == (client_context, False, HOST)
    assert (server.server_side, server.server_hostname) == (True, None)


def test_repr_tells_the_state_and_no_secret(link: MemoryLink) -> None:
    """Side, peer, state."""
    assert repr(link.client) == f"<Connection client {HOST!r} handshake not finished>"
    link.shake_hands()
    assert repr(link.client) == f"<Connection client {HOST!r} DTLSv1.2>"
    assert repr(link.server) == "<Connection server DTLSv1.2>"


# ---- sizes ----


@pytest.mark.parametrize("mtu", [208, 228, 300, 548, 576, 1200, 1500, 4096, 9000, 65507])
def test_no_datagram_of_a_handshake_is_larger_than_the_mtu(mtu: int, authority: Authority) -> None:
    """With certificates that need several datagrams, in both directions, and no record cut in two."""
    client, server = authority.client_context(), dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    client.mtu = server.mtu = mtu
    chain = authority.issue("client.example", rsa=True)
    padding = b"".join(authority.issue(f"{i}.example", rsa=True).certificate for i in range(8))
    client.load_cert_chain(chain.certificate + padding, chain.key)
    chain = authority.issue(HOST, rsa=True)
    server.load_cert_chain(chain.certificate + padding, chain.key)
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


# ---- the timer ----


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


def wait_for(connection: Connection) -> None:
    """Lets the timer run out and moves it on."""
    end = time.monotonic() + (connection.get_timer() or 0)
    while time.monotonic() < end or connection.get_timer() not in (0, None):
        pass
    connection.handle_timer()


def test_the_thirteenth_loss_ends_the_handshake(link: MemoryLink) -> None:
    """OpenSSL's own bound; HandshakeTimeout is a TimeoutError."""
    link.client.retransmission = (0.001, 1.0, 0.001)
    start(link.client)
    with pytest.raises(dtlsffi.HandshakeTimeout, match=f"handshake with {HOST} timed out") as caught:
        for _ in range(13):
            wait_for(link.client)
    assert caught.value.reason == "READ_TIMEOUT_EXPIRED"
    assert link.client.statistics()["flights_retransmitted"] == 13
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


# ---- the untrusted wire ----


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
        "allow"
    )
    for datagram in first:
        link.server.receive_datagram(datagram)
    link.server.receive_datagram(ALERT)
    link.shake_hands()
    assert link.client.statistics()["alerts_held"] == 4
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


# ---- the end ----


def test_close_notify_is_sent_once_and_seen_once(joined: MemoryLink) -> None:
    """Nothing can be sent after it; what was sent before it arrives."""
    joined.client.send(b"last words")
    joined.client.close()
    joined.client.close()
    assert len(joined.client.datagrams_to_send()) == 2
    with pytest.raises(dtlsffi.DTLSZeroReturnError, match=r"close\(\) was called"):
        joined.client.send(b"more")


def test_the_peers_close_is_an_event(joined: MemoryLink) -> None:
    """After the data before it; we may still answer."""
    joined.client.send(b"last words")
    joined.client.close()
    joined.settle()
    assert joined.received[joined.server] == [b"last words"]
    assert dtlsffi.CloseReceived() in joined.server.events_received()
    joined.server.send(b"and mine")
    joined.settle()
    joined.server.close()
    joined.settle()


def test_close_during_the_handshake_sends_nothing(link: MemoryLink) -> None:
    """There is nobody yet to tell: SSL_shutdown(3) would be an error."""
    start(link.client)
    link.client.close()
    assert link.client.datagrams_to_send() == []


def test_a_failed_connection_goes_on_saying_why(authority: Authority, stranger: Authority) -> None:
    """Every later call raises an equal exception; the alert can still be taken."""
    link = handshake(authority.client_context(), stranger.server_context(HOST))
    with pytest.raises(dtlsffi.DTLSCertVerificationError) as caught:
        link.shake_hands()
    for call in (
        link.client.do_handshake,
        link.client.handle_timer,
        lambda: link.client.send(b"x"),
        lambda: link.client.receive_datagram(ALERT),
    ):
        with pytest.raises(dtlsffi.DTLSCertVerificationError) as again:
            call()
        assert str(again.value) == str(caught.value)
        assert again.value is not caught.value
        assert again.value.verify_code == 20
    assert len(link.client.datagrams_to_send()) == 1
    assert repr(link.client) == f"<Connection client {HOST!r} failed: CERTIFICATE_VERIFY_FAILED>"
    link.client.close()


# ---- counters and memory ----


def test_counters_add_up(joined: MemoryLink) -> None:
    """What one side sent, the other received."""
    for _ in range(10):
        joined.client.send(b"x" * 50)
    joined.settle()
    client, server = joined.client.statistics(), joined.server.statistics()
    assert client["datagrams_sent"] == server["datagrams_received"] == joined.up.carried
    assert client["bytes_sent"] == server["bytes_received"]
    assert client["records_sent"] == server["records_received"] == 10
    assert server["datagrams_sent"] == client["datagrams_received"] == joined.down.carried
    assert all(value == 0 for name, value in server.items() if name.startswith("dropped"))


def test_a_connection_is_freed_without_the_garbage_collector(link: MemoryLink) -> None:
    """No reference cycles: thousands of peers come and go."""
    link.shake_hands()
    gc.collect()
    gc.disable()
    try:
        alive = weakref.ref(link.client)
        link.received.clear()
        del link.client
        assert alive() is None
    finally:
        gc.enable()
