"""dtlsffi.core.connection: the contract of the sans-IO core."""

from __future__ import annotations

import gc
import inspect
import weakref

import pytest

import dtlsffi
from dtlsffi.testing import Authority, MemoryLink
from tests.helpers import ALERT, HOST, handshake, not_before_3_0_7, only, records, start

# ---- the five things that happen ----


def test_a_handshake_takes_two_round_trips_and_four_flights(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """RFC 6347 section 4.2.4, without the cookie exchange."""
    for context in (client_context, server_context):
        context.retransmission = (60, 1, 60)  # none is said twice
    link = MemoryLink(
        dtlsffi.Connection(client_context, server_hostname=HOST), dtlsffi.Connection(server_context, server_side=True)
    )
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


@not_before_3_0_7
def test_data_that_overtakes_the_last_flight_is_not_lost(link: MemoryLink) -> None:
    """It is kept until the handshake is finished, and then comes out in order."""
    client, server = link.client, link.server
    for datagram in start(client):
        server.receive_datagram(datagram)
    for datagram in server.datagrams_to_send():
        client.receive_datagram(datagram)
    for datagram in client.datagrams_to_send():
        server.receive_datagram(datagram)
    last_flight = server.datagrams_to_send()
    early = [bytes([number]) * 1100 for number in range(16)]  # as many as every OpenSSL keeps
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


# ---- the end ----


def test_close_notify_is_sent_once_and_seen_once(joined: MemoryLink) -> None:
    """Nothing can be sent after it; what was sent before it arrives."""
    joined.client.send(b"last words")
    joined.client.close()
    joined.client.close()
    assert len(joined.client.datagrams_to_send()) == 2
    with pytest.raises(dtlsffi.DTLSZeroReturnError, match=r"close\(\) or shutdown\(\) was called"):
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


def test_what_a_trace_raises_comes_out_of_the_call_it_traced(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Also where the call itself did what it should: of send, receive_datagram and close."""
    armed: list[bool] = []
    client_context.trace = lambda *_: 1 // 0 if armed else None
    link = MemoryLink(
        dtlsffi.Connection(client_context, server_hostname=HOST), dtlsffi.Connection(server_context, server_side=True)
    )
    link.shake_hands()
    armed.append(True)
    with pytest.raises(ZeroDivisionError):
        link.client.send(b"x")
    with pytest.raises(ZeroDivisionError):
        link.client.close()
    armed.clear()
    link.settle()
    assert link.received[link.server] == [b"x"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("data_received", [1]), ("send", []), ("send", [b"x", b"y"]), ("receive_datagram", []),
        ("send", ["text"]), ("receive_datagram", [None]),
        ("datagrams_to_send", [1]),
    ],
)  # fmt: skip
def test_methods_in_c_refuse_what_python_would(name: str, arguments: list[object], joined: MemoryLink) -> None:
    """They stand among the others, with their docstrings and signatures, and do nothing with wrong arguments."""
    method = getattr(dtlsffi.Connection, name)
    assert inspect.getdoc(method)
    assert "self" in inspect.signature(method).parameters
    with pytest.raises(TypeError):
        getattr(joined.client, name)(*arguments)
    with pytest.raises(TypeError):
        method(object(), *arguments)
    assert joined.client.send(b"data") == 4
    joined.settle()
    assert joined.received[joined.server] == [b"data"]
