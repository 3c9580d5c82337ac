"""dtlsffi.core.endpoint: many connections behind one port, without a socket."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dtlsffi
from dtlsffi import DTLSContext, Endpoint
from dtlsffi.testing import Authority, MemoryLink
from tests.core.net import SERVER, Net, client_address, client_context, connect, hello
from tests.helpers import FAST, HOST, load

__all__ = ["client_context"]


def seed(number: int) -> random.Random:
    return random.Random(number)


# ---- many clients ----


def test_a_hundred_clients_on_one_port(net: Net, server: Endpoint, client_context: DTLSContext) -> None:
    """Each gets its own answer, after it has proved its address."""
    clients = [connect(net, number, client_context) for number in range(100)]
    net.settle()
    accepted = server.accepted()
    assert [connection.address for connection in accepted] == [client_address(number) for number in range(100)]
    assert set(server.ready()) == set(accepted)
    for number, client in enumerate(clients):
        client.send(b"from %d" % number)
    net.settle()
    for connection in server.ready():
        (record,) = connection.received
        connection.received.clear()
        assert record == b"from %d" % (connection.address[1] - 40000)
        connection.send(b"to " + record)
    net.settle()
    for number, client in enumerate(clients):
        assert list(client.received) == [b"to from %d" % number]
    counts = server.statistics()
    assert (counts["connections"], counts["pending"], counts["cookies_sent"]) == (100, 0, 100)
    assert (counts["handshakes_completed"], counts["handshakes_failed"]) == (100, 0)


def test_a_connection_is_accepted_before_its_handshake_is_finished(
    net: Net, server: Endpoint, client_context: DTLSContext
) -> None:
    """As soon as the address is proved."""
    client, first = hello(client_context)
    server.receive_datagram(first, client_address(0), 0)
    assert server.accepted() == []
    assert server.statistics()["pending"] == 0
    ((cookie, address),) = server.datagrams_to_send()
    assert address == client_address(0)
    assert len(cookie) <= len(first)
    client.receive_datagram(cookie)
    (second,) = client.datagrams_to_send()
    server.receive_datagram(second, client_address(0), 0)
    (connection,) = server.accepted()
    assert not connection.is_established
    assert server.statistics()["pending"] == 1


def test_an_endpoint_is_a_client_and_a_server_at_once(
    net: Net, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Also towards the same peer, one after the other."""
    one, two = net.add(("10.0.0.1", 1), server_context), net.add(("10.0.0.2", 2), server_context)
    out = one.connect(("10.0.0.2", 2), 0, context=client_context, server_hostname=HOST)
    net.settle()
    (back,) = two.accepted()
    assert (out.is_established, back.server_side) == (True, True)
    with pytest.raises(ValueError, match="a connection with .* already"):
        one.connect(("10.0.0.2", 2), 0, context=client_context, server_hostname=HOST)
    out.close()
    net.settle()
    assert back.peer_closed
    back.close()
    again = two.connect(("10.0.0.1", 1), 0, context=client_context, server_hostname=HOST)
    net.settle()
    assert again.is_established


@pytest.mark.parametrize("cookies", [True, False])
def test_handshakes_survive_a_bad_network(
    cookies: bool, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """30 % loss, 10 % duplicates, 20 % late: 30 clients, all get through."""
    client_context.retransmission = FAST
    net = Net(seed=3, loss=0.3, duplication=0.1, reordering=0.2)
    server = net.add(SERVER, server_context, cookies=cookies)
    clients = [connect(net, number, client_context) for number in range(30)]
    net.settle()
    for _ in range(400):
        if all(client.is_established for client in clients) and server.statistics()["pending"] == 0:
            break
        net.wait()
    assert all(client.is_established for client in clients)
    assert server.statistics()["pending"] == 0


# ---- limits ----


def test_handshakes_that_are_not_finished_are_limited(
    net: Net, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Who comes too late is counted, and let in when there is room again."""
    server = net.add(SERVER, server_context, max_pending=3, cookies=False, handshake_timeout=5.0)
    for number in range(10):
        server.receive_datagram(hello(client_context)[1], client_address(number), 0)
    server.datagrams_to_send()
    counts = server.statistics()
    assert (counts["pending"], counts["refused_pending"]) == (3, 7)
    assert len(server.accepted()) == 3
    server.handle_timers(5.0)
    assert server.statistics()["pending"] == 0
    failed = server.ready()
    assert len(failed) == 3
    assert all(isinstance(connection.failure, dtlsffi.HandshakeTimeout) for connection in failed)
    net.now = 6.0
    honest = connect(net, 99, client_context)
    net.settle()
    assert honest.is_established


def test_connections_are_limited(
    net: Net, client_context: DTLSContext, server_context: DTLSContext, caplog: pytest.LogCaptureFixture
) -> None:
    """In all; that newcomers are refused is said once, with what to do about it."""
    server = net.add(SERVER, server_context, max_connections=2)
    for number in range(4):
        connect(net, number, client_context)
        net.settle()
    counts = server.statistics()
    assert (counts["connections"], counts["refused_connections"]) == (2, 2)
    (message,) = caplog.messages
    assert "2 connections (max_connections), so newcomers are refused; idle_timeout" in message


def test_a_queue_that_nobody_empties_is_limited(
    net: Net, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """What does not fit is counted; what came first stays, in order."""
    server = net.add(SERVER, server_context, max_queue=3)
    client = connect(net, 0, client_context)
    net.settle()
    for number in range(5):
        client.send(b"%d" % number)
    net.settle()
    (connection,) = server.accepted()
    assert list(connection.received) == [b"0", b"1", b"2"]
    assert server.statistics()["dropped_queue_full"] == 2
    assert connection.statistics()["dropped_queue_full"] == 2


def test_silence_ends_a_connection(net: Net, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """After idle_timeout, with a close_notify; whoever speaks stays."""
    server = net.add(SERVER, server_context, idle_timeout=10.0)
    clients = [connect(net, number, client_context) for number in range(2)]
    net.settle()
    net.now = 8.0
    clients[0].send(b"still here")
    net.settle()
    assert server.get_timer(8.0) == 2.0
    server.handle_timers(10.0)
    net.settle()
    assert [client.peer_closed for client in clients] == [False, True]
    counts = server.statistics()
    assert (counts["expired"], counts["connections"]) == (1, 1)
    server.handle_timers(18.0)
    assert server.statistics()["connections"] == 0


@pytest.mark.parametrize(
    "bad",
    [{"max_pending": 0}, {"max_connections": -1}, {"max_queue": 0}, {"handshake_timeout": 0}, {"idle_timeout": -1}],
    ids=str,
)
def test_limits_make_sense(bad: dict[str, Any], server_context: DTLSContext) -> None:
    """Others are refused by name."""
    with pytest.raises(ValueError, match=next(iter(bad))):
        Endpoint(server_context, **bad)


# ---- what the wire may do ----


def test_junk_gets_no_answer(net: Net, server: Endpoint, client_context: DTLSContext) -> None:
    """Neither from strangers nor with a known sender: nobody is reflected upon."""
    client = connect(net, 0, client_context)
    net.settle()
    (connection,) = server.accepted()
    dice = seed(1)
    sent_before = server.statistics()["datagrams_sent"]
    finished = [datagram for sender, _, datagram in net.carried if sender == client_address(0)]
    for number in range(2000):
        junk = dice.choice([
            dice.randbytes(dice.randint(1, 200)),
            bytes((22, 254, 253, 0, 0)) + dice.randbytes(40),
            bytes((21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40)),
            bytes((23, 254, 253, 0, 1)) + dice.randbytes(40),
            dice.choice(finished),
        ])  # fmt: skip
        if junk[13:14] == b"\x01" and junk[0] == 22:
            continue
        server.receive_datagram(junk, client_address(number % 2), 0)
    assert server.statistics()["datagrams_sent"] - sent_before <= 20
    client.send(b"still here")
    net.settle()
    assert list(connection.received) == [b"still here"]


@settings(max_examples=300)
@given(st.binary(max_size=300), st.integers(0, 60))
def test_no_bytes_of_a_stranger_raise(data: bytes, keep: int) -> None:
    """Random ones, and what begins like a ClientHello."""
    endpoint = Endpoint(CONTEXT, max_pending=10)
    for datagram in (data, HELLO[:keep] + data, HELLO[: 13 + keep] + data[:50] + HELLO[13 + keep + 50 :]):
        if datagram:
            endpoint.receive_datagram(datagram, client_address(0), 0)
    for answer, _ in endpoint.datagrams_to_send():
        assert len(answer) == 60


def make_hello() -> tuple[DTLSContext, bytes]:
    authority = Authority()
    return authority.server_context(HOST), hello(authority.client_context())[1]


CONTEXT, HELLO = make_hello()


def test_a_failure_is_its_own_connections(net: Net, authority: Authority, stranger: Authority) -> None:
    """A client that is refused ends for itself; so does one whose callback raises."""
    context = authority.server_context(HOST)
    context.load_verify_locations(cadata=authority.certificate)
    context.verify_mode = dtlsffi.CERT_OPTIONAL
    context.sni_callback = lambda connection, *_: 1 // 0 if connection.address == client_address(2) else None
    server = net.add(SERVER, context)
    good, bad = authority.client_context(), authority.client_context()
    load(bad, stranger.issue("client.example"))
    clients = [connect(net, 0, good), connect(net, 1, bad), connect(net, 2, good)]
    net.settle()
    fine, refused, broken = server.accepted()
    assert fine.is_established
    assert isinstance(refused.failure, dtlsffi.DTLSCertVerificationError)
    assert isinstance(broken.failure, ZeroDivisionError)
    clients[0].send(b"hello")
    net.settle()
    assert list(fine.received) == [b"hello"]
    assert server.statistics()["handshakes_failed"] == 2
    with pytest.raises(dtlsffi.DTLSCertVerificationError):
        refused.send(b"x")


# ---- the end ----


def test_close_tells_everybody(net: Net, server: Endpoint, client_context: DTLSContext) -> None:
    """With a close_notify each; nothing is left."""
    clients = [connect(net, number, client_context) for number in range(5)]
    net.settle()
    server.close()
    net.settle()
    assert all(client.peer_closed for client in clients)
    assert server.connections == []
    connection = server.accepted()[0]
    assert connection.gone
    with pytest.raises(dtlsffi.DTLSZeroReturnError):
        connection.send(b"x")
    connection.close()


def test_a_connection_of_its_own_still_works_beside(joined: MemoryLink) -> None:
    """Endpoints change nothing for those without."""
    joined.client.send(b"x")
    joined.settle()
    assert joined.received[joined.server] == [b"x"]


@pytest.mark.parametrize("now", ["x", None, float("nan"), float("inf")])
def test_a_time_that_is_none_changes_nothing(client_context: DTLSContext, now: Any) -> None:
    """Neither in connect() nor in receive_datagram()."""
    client = Endpoint(None)
    with pytest.raises((TypeError, ValueError), match=r"now is a number of seconds"):
        client.connect(SERVER, now, context=client_context, server_hostname=HOST)
    with pytest.raises((TypeError, ValueError), match=r"now is a number of seconds"):
        client.receive_datagram(b"x", SERVER, now)
    assert client.connections == []
    assert client.statistics()["datagrams_received"] == 0


@pytest.mark.parametrize("data", [5, [22, 1], "x", None])
def test_what_is_no_datagram_is_refused(data: Any) -> None:
    """bytes() would make something of most things."""
    endpoint = Endpoint(None)
    with pytest.raises(TypeError, match=r"data is bytes"):
        endpoint.receive_datagram(data, SERVER, 0)
    assert endpoint.statistics()["datagrams_received"] == 0


@pytest.mark.parametrize(
    "limit",
    [{"handshake_timeout": None}, {"handshake_timeout": "5"}, {"idle_timeout": "5"}, {"max_queue": True},
     {"max_pending": "many"}],
)  # fmt: skip
def test_limits_are_named(limit: dict[str, Any]) -> None:
    """By a TypeError."""
    with pytest.raises(TypeError, match=next(iter(limit))):
        Endpoint(None, **limit)


def test_silence_is_not_called_a_close(net: Net, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """By whoever sends to a peer that has been silent for too long, or that has closed."""
    server = net.add(SERVER, server_context, idle_timeout=10.0)
    clients = [connect(net, number, client_context) for number in range(2)]
    net.settle()
    connections = {connection.address: connection for connection in server.accepted()}
    clients[0].close()
    net.settle()
    server.handle_timers(net.now + 11)
    for number, words in ((0, "the peer has closed the connection"), (1, "the peer has been silent for idle_timeout")):
        assert words in str(connections[client_address(number)]._ending())
