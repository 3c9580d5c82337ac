"""dtlsffi.core.admission: who comes in, and what those who do not cost. The honest ways are in test_endpoint.py."""

from __future__ import annotations

import gc
import itertools
import ssl
import weakref
from collections.abc import Iterator
from contextlib import suppress

import pytest

import dtlsffi
from dtlsffi import DTLSContext, Endpoint, EndpointConnection
from dtlsffi.core.admission import RESTART
from tests.core.net import SERVER, Address, Net, client_address, client_context, connect, fragments, hello
from tests.helpers import HOST, record

__all__ = ["client_context"]


@pytest.fixture
def server(net: Net, server_context: DTLSContext) -> Endpoint:
    server_context.retransmission = (60, 1, 60)  # nothing is lost
    return net.add(SERVER, server_context)


def with_cookie(server: Endpoint, context: DTLSContext, address: Address) -> tuple[dtlsffi.Connection, bytes]:
    """A client, and its second ClientHello."""
    client, first = hello(context)
    server.receive_datagram(first, address, 0)
    client.receive_datagram(server.datagrams_to_send()[-1][0])
    (second,) = client.datagrams_to_send()
    return client, second


def far_message(kind: int, sequence: int, length: int) -> bytes:
    """The first fragment of a long handshake message that is yet to come."""
    body = bytes([kind]) + length.to_bytes(3, "big") + sequence.to_bytes(2, "big") + bytes(3) + (20).to_bytes(3, "big")
    return record(22, body + bytes(20), number=100 + sequence)


def alive(references: list[weakref.ref[EndpointConnection]]) -> int:
    return sum(reference() is not None for reference in references)


def test_a_stranger_makes_nothing_grow_with_fragments(server: Endpoint, client_context: DTLSContext) -> None:
    """The first one is asked for its cookie, as a whole hello is; what follows it is not kept."""
    pieces = list(fragments(hello(client_context)[1], 60))
    for number in range(300):
        for piece in pieces:
            server.receive_datagram(piece, client_address(number), 0)
        for sequence in range(2, 11):
            server.receive_datagram(far_message(11, sequence, 100_000), client_address(number), 0)
        server.receive_datagram(far_message(1, 1, 100_000), client_address(number), 0)
    counts = server.statistics()
    assert (server.connections, counts["pending"], len(server._assemblies)) == ([], 0, 0)
    assert counts["cookies_sent"] == len(server.datagrams_to_send()) == 300
    assert counts["dropped_unknown"] == 300 * (len(pieces) - 1 + 9)
    assert counts["dropped_junk"] == 300
    assert server.get_timer(0) is None


@pytest.mark.parametrize("order", [1, -1])
def test_nobody_hears_of_a_client_before_its_hello_is_whole(
    server: Endpoint, client_context: DTLSContext, order: int
) -> None:
    """Not accept(), not a thread of a server's; in whatever order the rest comes, and however often."""
    client, second = with_cookie(server, client_context, client_address(0))
    first, *rest = fragments(second, 100, 40)
    for piece in (first, first, *rest[::order][:-1]):
        server.receive_datagram(piece, client_address(0), 0)
    assert server.accepted() == []
    assert server.connections == []
    for piece in rest:
        server.receive_datagram(piece, client_address(0), 0)
    assert len(server.accepted()) == 1
    for datagram, _ in server.datagrams_to_send():
        client.receive_datagram(datagram)
    assert client.datagrams_to_send()


def test_a_client_in_fragments_may_begin_anew(server: Endpoint, client_context: DTLSContext) -> None:
    """While its older handshake goes on, and while its older hello is being put together."""
    for pieces_of_the_first in (1, 3):
        _, second = with_cookie(server, client_context, client_address(0))
        for piece in list(fragments(second, 100, 40))[:pieces_of_the_first]:
            server.receive_datagram(piece, client_address(0), 0)
    client, second = with_cookie(server, client_context, client_address(0))
    for piece in fragments(second, 100, 40):
        server.receive_datagram(piece, client_address(0), 10)
    for datagram, _ in server.datagrams_to_send():
        client.receive_datagram(datagram)
    assert client.datagrams_to_send()
    assert len(server.connections) == 1


def test_those_who_have_gone_leave_no_memory_behind(net: Net, server: Endpoint, client_context: DTLSContext) -> None:
    """While others go on: what they left in the schedule does not keep them alive."""
    server.receive_datagram(with_cookie(server, client_context, client_address(999))[1], client_address(999), 0)
    references = []
    gc.disable()
    try:
        for number in range(200):
            _, second = with_cookie(server, client_context, client_address(number))
            server.receive_datagram(second, client_address(number), 0)
            references.append(weakref.ref(server.connections[-1]))
            server.connections[-1].close()
            server.accepted()
            server.ready()
        assert alive(references) <= 65
    finally:
        gc.enable()


def test_a_handshake_that_fails_is_freed_at_once(server: Endpoint, client_context: DTLSContext) -> None:
    """What it has failed with knows it no more: no cycle is left for the garbage collector."""
    references = []
    gc.disable()
    try:
        for number in range(150):
            _, second = with_cookie(server, client_context, client_address(number))
            server.receive_datagram(second, client_address(number), 0)
            server.receive_datagram(record(22, b"\x10\0\0\2\0\2\0\0\0\0\0\2zz"), client_address(number), 0)
            (failed,) = server.accepted()
            assert failed.failure is not None
            references.append(weakref.ref(failed))
            server.ready()
            server.datagrams_to_send()
        del failed
        assert alive(references) <= 65
    finally:
        gc.enable()


def test_ctrl_c_is_not_a_peers_failure(net: Net, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """It ends whose turn it was, and is raised to whoever called."""

    def interrupt(_name: object, _connection: object, _context: object) -> None:
        raise KeyboardInterrupt

    server_context.sni_callback = interrupt
    server = Endpoint(server_context)
    _, second = with_cookie(server, client_context, client_address(0))
    with pytest.raises(KeyboardInterrupt):
        server.receive_datagram(second, client_address(0), 0)
    assert server.connections == []


def test_one_host_does_not_take_all_the_room(server_context: DTLSContext, client_context: DTLSContext) -> None:
    """Its oldest handshake makes room for others, and for no more of its own."""
    server = Endpoint(server_context, max_pending=10)
    greedy = [("10.9.9.9", port) for port in range(1, 13)]
    for address in greedy:
        server.receive_datagram(with_cookie(server, client_context, address)[1], address, 0)
    assert (server.statistics()["pending"], server.statistics()["refused_pending"]) == (10, 2)
    other = client_address(0)
    server.receive_datagram(with_cookie(server, client_context, other)[1], other, 0)
    assert [connection.address for connection in server.connections] == [*greedy[1:10], other]
    assert server.statistics()["evicted"] == 1


def test_a_cookie_is_for_one_hello(server: Endpoint, client_context: DTLSContext) -> None:
    """RFC 6347 section 4.2.1: who overhears it cannot begin handshakes of his own with it."""
    _, second = with_cookie(server, client_context, client_address(0))
    other = second[:27] + bytes(32) + second[59:]
    server.receive_datagram(other, client_address(0), 0)
    assert server.connections == []
    server.receive_datagram(second, client_address(0), 0)
    assert len(server.connections) == 1


def test_a_hello_that_is_said_again_when_all_is_said_begins_nothing(
    server: Endpoint, client_context: DTLSContext
) -> None:
    """Its random is asked of OpenSSL then: nothing is kept of it for an established client."""
    client, second = with_cookie(server, client_context, client_address(0))
    server.receive_datagram(second, client_address(0), 0)
    (connection,) = server.connections
    for datagrams in iter(server.datagrams_to_send, []):
        for datagram, _ in datagrams:
            client.receive_datagram(datagram)
        for datagram in client.datagrams_to_send():
            server.receive_datagram(datagram, client_address(0), 0)
    assert connection.is_established
    server.receive_datagram(second, client_address(0), 1)
    assert server.connections == [connection]
    assert server.statistics()["pending"] == 0


def test_hellos_that_are_overheard_begin_few_handshakes(server: Endpoint, client_context: DTLSContext) -> None:
    """Two of them in turn: after the second each has its time."""
    hellos = [with_cookie(server, client_context, client_address(0))[1] for _ in range(2)]
    for now in range(100):
        server.receive_datagram(hellos[now % 2], client_address(0), now * RESTART / 50)
    assert sum(datagram[13] == 2 for datagram, _ in server.datagrams_to_send()) == 3


def test_a_hello_with_a_newer_cookie_is_the_one_that_counts(server: Endpoint, client_context: DTLSContext) -> None:
    """A client that got two goes by the second: with the first the two sides would not agree on what was said."""
    client, first = hello(client_context)
    server.receive_datagram(first, client_address(0), 0)
    ((request, _),) = server.datagrams_to_send()
    client.receive_datagram(request)
    (second,) = client.datagrams_to_send()
    server.receive_datagram(second, client_address(0), 0)
    (begun,) = server.connections
    begun._cookie_made = (int.from_bytes(begun._cookie_made, "big") - 8).to_bytes(4, "big")
    server.receive_datagram(second, client_address(0), 0)
    assert begun.gone
    assert len(server.connections) == 1


# ---- both roles at one address ----


@pytest.fixture
def both_context(authority: dtlsffi.testing.Authority) -> DTLSContext:
    """One that does for either side."""
    identity = authority.issue(HOST)
    context = DTLSContext(dtlsffi.PROTOCOL_DTLS)
    context.load_cert_chain(identity.certificate, identity.key)
    context.load_verify_locations(cadata=authority.certificate)
    return context


def test_a_stranger_does_not_end_a_handshake_of_ours(
    net: Net, both_context: DTLSContext, server_context: DTLSContext, client_context: DTLSContext
) -> None:
    """A fragment in the server's name: our own handshake goes on, and comes to its end."""
    net.add(SERVER, server_context)
    ours = net.add(client_address(0), both_context)
    connection = ours.connect(SERVER, 0, context=client_context, server_hostname=HOST)
    ours.receive_datagram(next(fragments(hello(client_context)[1], 60)), SERVER, 0)
    net.settle()
    assert connection.is_established


def test_a_stranger_does_not_stand_in_the_way(
    net: Net, both_context: DTLSContext, server_context: DTLSContext, client_context: DTLSContext
) -> None:
    """A fragment that came first makes room for our own handshake."""
    net.add(SERVER, server_context)
    ours = net.add(client_address(0), both_context)
    ours.receive_datagram(next(fragments(hello(client_context)[1], 60)), SERVER, 0)
    connection = ours.connect(SERVER, 0, context=client_context, server_hostname=HOST)
    net.settle()
    assert connection.is_established


def test_two_that_begin_at_the_same_time_agree_who_is_the_client(net: Net, both_context: DTLSContext) -> None:
    """Whose hello has the lower random: one connection comes of it, and each side has one end."""
    one, two = net.add(client_address(0), both_context), net.add(client_address(1), both_context)
    first = one.connect(client_address(1), 0, context=both_context, server_hostname=HOST)
    second = two.connect(client_address(0), 0, context=both_context, server_hostname=HOST)
    net.settle()
    assert sorted([first.is_established, second.is_established]) == [False, True]
    assert [len(endpoint.connections) for endpoint in (one, two)] == [1, 1]
    assert all(connection.is_established for endpoint in (one, two) for connection in endpoint.connections)


def test_a_newcomer_has_the_address_when_the_older_one_goes(
    net: Net, server: Endpoint, client_context: DTLSContext
) -> None:
    """A stranger's fragment, the client's close, and its next handshake from the same port."""
    client = connect(net, 0, client_context)
    net.settle()
    server.receive_datagram(next(fragments(hello(client_context)[1], 60)), client_address(0), 0)
    client.close()
    net.settle()
    for connection in server.ready():
        if connection.peer_closed:
            connection.close()
    net.add(client_address(0))
    again = connect(net, 0, client_context)
    net.settle()
    assert again.is_established


def junk() -> Iterator[bytes]:
    """What anybody can send in a client's name."""
    yield b"\x17\xfe\xfd" + bytes(5) + b"\1" + bytes(2) + b"\0\x30" + bytes(48)
    yield record(23, bytes(48), epoch=1, number=500)
    yield record(21, b"\2\x28")


def test_what_nobody_has_signed_says_nothing_of_a_peer(
    net: Net, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """It does not count as a sign of life."""
    server = net.add(SERVER, server_context, idle_timeout=10)
    connect(net, 0, client_context)
    net.settle()
    for now in range(1, 10):
        for datagram in junk():
            server.receive_datagram(datagram, client_address(0), now)
    server.handle_timers(10.5)
    assert server.statistics()["expired"] == 1


def test_handshakes_that_nobody_finishes_keep_nobody_out(
    net: Net, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Where all connections that there may be are one host's handshakes; those that are established stay."""
    server = net.add(SERVER, server_context, max_connections=20)
    honest = connect(net, 250, client_context)
    net.settle()
    for port in range(19):
        address = ("192.0.2.66", 5000 + port)
        server.receive_datagram(with_cookie(server, client_context, address)[1], address, 0)
    assert server.statistics()["connections"] == 20
    late = connect(net, 1, client_context)
    net.settle()
    assert late.is_established
    counts = server.statistics()
    assert (counts["evicted"], counts["refused_connections"], counts["connections"]) == (1, 0, 20)
    server.receive_datagram(with_cookie(server, client_context, ("192.0.2.66", 6000))[1], ("192.0.2.66", 6000), 0)
    assert server.statistics()["refused_connections"] == 1
    honest.send(b"still here")
    net.settle()
    assert server.recv_many()[0][1] == b"still here"


@pytest.mark.parametrize("asked", [False, True])
def test_a_client_gets_memory_for_messages_that_it_may_send_only(
    asked: bool, net: Net, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """OpenSSL has room for ten that are yet to come as soon as a byte of each is there."""
    if asked:
        server_context.verify_mode = ssl.CERT_REQUIRED
    server = net.add(SERVER, server_context)
    taken = []
    for kind, number, length in itertools.product((1, 11, 16, 15), range(8), (100, 8192, 8193, 32768)):
        address = client_address(len(server.connections))
        server.receive_datagram(with_cookie(server, client_context, address)[1], address, 0)
        (connection,) = server.accepted()
        fragment = bytes([kind, *length.to_bytes(3, "big"), 0, number, 0, 0, 0, 0, 0, 1]) + b"x"
        with suppress(dtlsffi.DTLSError):
            connection.receive_datagram(record(22, fragment))
        if not connection.statistics()["dropped_junk"]:
            taken.append((kind, number, length))
    hellos = [(1, number, length) for number in (1, 2) for length in (100, 8192, 8193)]
    chains = [(11, 2, length) for length in ((100, 8192, 8193, 32768) if asked else (100, 8192))]
    others = [(kind, number, length) for kind in (16, 15) for number in (1, 2, 3, 4) for length in (100, 8192)]
    assert taken == hellos + chains + others


def test_who_begins_again_loses_that_to_nobody_for_whom_there_is_no_place(
    net: Net, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Such a handshake has no place of its own among all connections that there may be."""
    server = net.add(SERVER, server_context, max_connections=3)
    for port in range(3):
        address = ("192.0.2.66", 5000 + port)
        net.add(address).connect(SERVER, net.now, context=client_context, server_hostname=HOST)
    net.settle()
    assert server.statistics()["handshakes_completed"] == 3
    for port in range(3):
        address = ("192.0.2.66", 5000 + port)
        server.receive_datagram(with_cookie(server, client_context, address)[1], address, 0)
    assert server.statistics()["pending"] == 3
    newcomer = client_address(0)
    server.receive_datagram(with_cookie(server, client_context, newcomer)[1], newcomer, 0)
    counts = server.statistics()
    assert (counts["evicted"], counts["pending"], counts["refused_connections"]) == (0, 3, 1)
