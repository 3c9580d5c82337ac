"""dtlsffi.core.endpoint: many connections behind one port, without a socket."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dtlsffi
from dtlsffi import DTLSContext, Endpoint, EndpointConnection
from dtlsffi.testing import Authority, MemoryLink, Wire
from tests.helpers import FAST, HOST, load

SERVER = ("192.0.2.1", 5684)
Address = tuple[Any, ...]


class Net:
    """Endpoints by address, and the datagrams between them."""

    def __init__(self, **conditions: Any) -> None:
        self.now = 0.0
        self.endpoints: dict[Address, Endpoint] = {}
        self.conditions = {"seed": 0} | conditions
        self.wires: dict[tuple[Address, Address], Wire] = {}
        self.carried: list[tuple[Address, Address, bytes]] = []

    def add(self, address: Address, context: DTLSContext | None = None, **more: Any) -> Endpoint:
        self.endpoints[address] = Endpoint(context, **more)
        return self.endpoints[address]

    def wire(self, sender: Address, receiver: Address) -> Wire:
        """A way of its own for each direction."""
        if (sender, receiver) not in self.wires:
            seed = self.conditions["seed"] * 1000 + len(self.wires)
            self.wires[sender, receiver] = Wire(**(self.conditions | {"seed": seed}))
        return self.wires[sender, receiver]

    def settle(self) -> None:
        """Carries datagrams until all are silent."""
        while out := [
            (sender, receiver, datagram)
            for sender, endpoint in self.endpoints.items()
            for datagram, receiver in endpoint.datagrams_to_send()
        ]:
            for sender, receiver, datagram in out:
                self.carried.append((sender, receiver, datagram))
                for arriving in self.wire(sender, receiver).carry(datagram):
                    if receiver in self.endpoints:
                        self.endpoints[receiver].receive_datagram(arriving, sender, self.now)

    def wait(self) -> None:
        """Lets the next timer run out: OpenSSL's are real, so that long is waited for."""
        pending = [c for endpoint in self.endpoints.values() for c in endpoint.connections if not c.is_established]
        while all(connection.get_timer() not in (0, None) for connection in pending) and pending:
            pass
        self.now += 0.05
        for endpoint in self.endpoints.values():
            endpoint.handle_timers(self.now)
        self.settle()


@pytest.fixture
def client_context(authority: Authority) -> DTLSContext:
    """A client in no hurry: OpenSSL sends again by itself when it is slow to be asked."""
    return authority.client_context()


def client_address(number: int) -> Address:
    return f"10.0.{number // 250}.{number % 250 + 1}", 40000 + number


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def server(net: Net, server_context: DTLSContext) -> Endpoint:
    return net.add(SERVER, server_context)


def connect(net: Net, number: int, context: DTLSContext, **more: Any) -> EndpointConnection:
    address = client_address(number)
    endpoint = net.endpoints.get(address) or net.add(address)
    return endpoint.connect(SERVER, net.now, context=context, server_hostname=HOST, **more)


def hello(context: DTLSContext) -> tuple[dtlsffi.Connection, bytes]:
    """A client's first datagram."""
    client = dtlsffi.Connection(context, server_hostname=HOST)
    with pytest.raises(dtlsffi.DTLSWantReadError):
        client.do_handshake()
    (datagram,) = client.datagrams_to_send()
    return client, datagram


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


# ---- cookies ----


@pytest.mark.parametrize("at", ["elsewhere", "another port"])
def test_a_cookie_is_good_for_one_address(at: str, net: Net, server: Endpoint, client_context: DTLSContext) -> None:
    """Whoever else has it is asked for his own."""
    client, first = hello(client_context)
    server.receive_datagram(first, client_address(0), 0)
    client.receive_datagram(server.datagrams_to_send()[0][0])
    (second,) = client.datagrams_to_send()
    thief = ("10.9.9.9", 40000) if at == "elsewhere" else ("10.0.0.1", 40001)
    server.receive_datagram(second, thief, 0)
    assert server.accepted() == []
    assert server.statistics()["cookies_sent"] == 2


def test_every_flipped_byte_of_a_cookie_is_noticed(net: Net, server: Endpoint, client_context: DTLSContext) -> None:
    """None of them is let in."""
    client, first = hello(client_context)
    server.receive_datagram(first, client_address(0), 0)
    ((request, _),) = server.datagrams_to_send()
    client.receive_datagram(request)
    (second,) = client.datagrams_to_send()
    cookie = request[28:60]
    start = second.index(cookie)
    for index in range(start, start + len(cookie)):
        forged = bytearray(second)
        forged[index] ^= 1
        server.receive_datagram(bytes(forged), client_address(0), 0)
    assert server.accepted() == []
    server.receive_datagram(second, client_address(0), 0)
    assert len(server.accepted()) == 1


def test_servers_that_share_a_secret_check_each_others_cookies(
    client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Others do not; a secret has its length."""
    secret = bytes(range(32))
    one, two = (Endpoint(server_context, cookie_secret=secret) for _ in range(2))
    client, first = hello(client_context)
    one.receive_datagram(first, client_address(0), 0)
    client.receive_datagram(one.datagrams_to_send()[0][0])
    (second,) = client.datagrams_to_send()
    Endpoint(server_context).receive_datagram(second, client_address(0), 0)
    two.receive_datagram(second, client_address(0), 0)
    assert len(two.accepted()) == 1
    other = Endpoint(server_context, cookie_secret=bytes(16))
    other.receive_datagram(second, client_address(0), 0)
    assert other.accepted() == []
    with pytest.raises(ValueError, match="at least 16"):
        Endpoint(server_context, cookie_secret=b"short")


def test_a_stranger_makes_nothing_grow(server: Endpoint, client_context: DTLSContext) -> None:
    """However many hellos come from however many addresses: one answer each, no larger than the question."""
    _, first = hello(client_context)
    for number in range(2000):
        server.receive_datagram(first, client_address(number), 0)
        ((answer, _),) = server.datagrams_to_send()
        assert len(answer) <= len(first)
    counts = server.statistics()
    assert (counts["connections"], counts["pending"], counts["cookies_sent"]) == (0, 0, 2000)
    assert server.get_timer(0) is None


def fragments(datagram: bytes, size: int, first: int = 0) -> Iterator[bytes]:
    """A ClientHello cut into records of `size` bytes of body, as a client with a large one sends it."""
    body = datagram[25:]
    for number, start in enumerate(range(0, len(body), size), first):
        piece = body[start : start + size]
        message = datagram[13:19] + start.to_bytes(3, "big") + len(piece).to_bytes(3, "big") + piece
        yield datagram[:5] + number.to_bytes(6, "big") + len(message).to_bytes(2, "big") + message


def test_a_fragmented_hello_is_put_together_and_asked_for_its_cookie(
    server: Endpoint, client_context: DTLSContext
) -> None:
    """Clients with post-quantum key shares send nothing else; it costs a place among the pending ones."""
    client, first = hello(client_context)
    for fragment in fragments(first, 60, 20):  # beside the numbers the client gives the rest
        server.receive_datagram(fragment, client_address(0), 0)
    assert server.statistics()["pending"] == 1
    for _ in range(3):
        for datagram, _ in server.datagrams_to_send():
            client.receive_datagram(datagram)
        for datagram in client.datagrams_to_send():
            pieces = fragments(datagram, 60, 30) if datagram[13] == 1 else [datagram]
            for piece in pieces:
                server.receive_datagram(piece, client_address(0), 0)
    for datagram, _ in server.datagrams_to_send():
        client.receive_datagram(datagram)
    assert client.is_established
    assert len(server.accepted()) == 1


def test_without_cookies_a_client_is_let_in_at_once(
    net: Net, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Where ICE or a private network has proved the address."""
    server_context.retransmission = (60, 1, 60)  # nothing is lost
    server = net.add(SERVER, server_context, cookies=False)
    client = connect(net, 0, client_context)
    net.settle()
    assert client.is_established
    assert server.statistics()["cookies_sent"] == 0
    assert len(net.carried) == 4


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


def test_fragments_of_strangers_are_limited_too(client_context: DTLSContext, server_context: DTLSContext) -> None:
    """They cost a place each, until their time is over or the next one comes: an honest one has time for its cookie."""
    server = Endpoint(server_context, max_pending=50)
    piece = next(fragments(hello(client_context)[1], 60))
    for number in range(500):
        server.receive_datagram(piece, client_address(number), number / 100)
    counts = server.statistics()
    assert (counts["pending"], counts["evicted"] + counts["refused_pending"]) == (25, 475), "half is for the proven"
    assert counts["evicted"] == 4 * 25, "each has a second"
    assert server.datagrams_to_send() == []
    client, first = hello(client_context)
    server.receive_datagram(first, client_address(1000), 5)
    client.receive_datagram(server.datagrams_to_send()[0][0])
    server.receive_datagram(client.datagrams_to_send()[0], client_address(1000), 5)
    assert server.statistics()["pending"] == 26
    assert len(server.accepted()) == 1, "nobody hears of those who may be anybody"
    server.handle_timers(9)
    assert server.statistics()["pending"] == 1
    server.handle_timers(36)
    assert server.statistics()["connections"] == 0


def test_connections_are_limited(net: Net, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """In all."""
    server = net.add(SERVER, server_context, max_connections=2)
    for number in range(3):
        connect(net, number, client_context)
        net.settle()
    counts = server.statistics()
    assert (counts["connections"], counts["refused_connections"]) == (2, 1)


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


# ---- a client that begins again: RFC 6347 section 4.2.8 ----


def test_a_client_that_restarts_is_let_in(net: Net, server: Endpoint, client_context: DTLSContext) -> None:
    """From the same address and port; the old connection ends when the new one has finished its handshake."""
    connect(net, 0, client_context)
    net.settle()
    (old,) = server.accepted()
    net.add(client_address(0))  # the client has lost everything
    new = connect(net, 0, client_context)
    net.settle()
    (replacement,) = server.accepted()
    assert replacement is not old
    assert isinstance(old.failure, dtlsffi.DTLSError)
    assert old.failure.reason == "REPLACED"
    new.send(b"again")
    net.settle()
    assert list(replacement.received) == [b"again"]
    counts = server.statistics()
    assert (counts["connections"], counts["replaced"], counts["pending"]) == (1, 1, 0)


def test_a_client_that_closed_before_it_began_again_is_not_replaced(
    net: Net, server: Endpoint, client_context: DTLSContext
) -> None:
    """Its goodbye came first: whoever is slow to look reads to the end, and finds no failure there."""
    first = connect(net, 0, client_context)
    net.settle()
    first.send(b"last words")
    first.close()
    net.settle()
    (old,) = server.accepted()
    net.add(client_address(0))
    connect(net, 0, client_context)
    net.settle()
    assert list(old.received) == [b"last words"]
    assert (old.peer_closed, old.gone, old.failure) == (True, True, None)
    counts = server.statistics()
    assert (counts["replaced"], counts["connections"], counts["handshakes_completed"]) == (0, 1, 2)


@pytest.mark.parametrize("cookies", [True, False])
def test_a_spoofed_restart_evicts_nobody(
    cookies: bool, net: Net, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """A ClientHello with somebody else's address as its sender, once or again and again."""
    server = net.add(SERVER, server_context, cookies=cookies)
    client = connect(net, 0, client_context)
    net.settle()
    (connection,) = server.accepted()
    for _ in range(5):
        server.receive_datagram(hello(client_context)[1], client_address(0), 0)
    server.datagrams_to_send()
    client.send(b"still here")
    net.settle()
    connection.send(b"so am I")
    net.settle()
    assert list(connection.received) == [b"still here"]
    assert list(client.received) == [b"so am I"]
    server.handle_timers(100)
    assert connection.failure is None
    assert server.statistics()["connections"] == 1


def test_a_client_that_gives_up_and_begins_again(net: Net, server: Endpoint, client_context: DTLSContext) -> None:
    """In the middle of a handshake: the new one counts."""
    client, first = hello(client_context)
    server.receive_datagram(first, client_address(0), 0)
    client.receive_datagram(server.datagrams_to_send()[0][0])
    server.receive_datagram(client.datagrams_to_send()[0], client_address(0), 0)
    (abandoned,) = server.accepted()
    server.datagrams_to_send()
    net.now = 1.0
    again = connect(net, 0, client_context)
    net.settle()
    assert again.is_established
    assert isinstance(abandoned.failure, dtlsffi.DTLSError)
    assert server.statistics()["pending"] == 0


def test_another_client_may_have_the_address_next(net: Net, server: Endpoint, client_context: DTLSContext) -> None:
    """When the first has closed."""
    first = connect(net, 0, client_context)
    net.settle()
    first.close()
    net.settle()
    (old,) = server.accepted()
    assert old.peer_closed
    net.add(client_address(0))
    second = connect(net, 0, client_context)
    net.settle()
    assert second.is_established
    second.send(b"new")
    net.settle()
    (new,) = server.accepted()
    assert list(new.received) == [b"new"]


def test_a_server_that_restarts_with_its_secret_takes_cookies_of_before(
    client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """A handshake that has just begun goes on."""
    secret = bytes(32)
    client, first = hello(client_context)
    before = Endpoint(server_context, cookie_secret=secret)
    before.receive_datagram(first, client_address(0), 0)
    client.receive_datagram(before.datagrams_to_send()[0][0])
    after = Endpoint(server_context, cookie_secret=secret)
    for datagram in client.datagrams_to_send():
        after.receive_datagram(datagram, client_address(0), 0)
    assert len(after.accepted()) == 1


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
