"""dtlsffi.core.draining: what an endpoint's send_many takes for its own, and what it does not."""

from __future__ import annotations

import pytest

import dtlsffi
from dtlsffi import DTLSContext
from dtlsffi._native import lib
from dtlsffi.core.address import pack
from dtlsffi.testing import MemoryLink
from tests.core.net import SERVER, Net
from tests.core.net import connect as connect_by
from tests.core.test_draining import Port, joined_pair, ports, received, settle
from tests.helpers import HOST

__all__ = ["ports"]


@pytest.mark.parametrize("alone", [True, False])
def test_what_is_for_a_replaced_connection_is_passed_over(
    alone: bool, ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """And counted; the client that has begun anew gets nothing that it could not open."""
    with joined_pair(ports, server_context, client_context) as ((_,), (old,)):
        server, address = ports[0].endpoint, ports[1].address
        ports[1].sock.close()  # so that nobody says goodbye
        ports[1].endpoint.close()
        again = ports[1] = Port(address=address)
        client = again.endpoint.connect(ports[0].address, 1, context=client_context, server_hostname=HOST)
        settle(*ports)
        (new,) = server.accepted()
        assert isinstance(old.failure, dtlsffi.DTLSError)
        assert old.failure.reason == "REPLACED"
        sent = server.statistics()["datagrams_sent"]
        items = [(old, b"lost")] if alone else [(old, b"lost"), (new, b"good"), (old, b"lost")]
        assert server.send_many(items) == len(items)
        settle(*ports)
        assert received(client) == ([] if alone else [b"good"])
        assert client.statistics()["dropped_unauthenticated"] == 0
        counts = server.statistics()
        assert counts["datagrams_sent"] - sent == (0 if alone else 1)
        assert counts["dropped_unsent"] == (1 if alone else 2)


@pytest.mark.parametrize("count", [1, 2])
def test_somebody_elses_connection_is_refused(
    count: int, ports: list[Port], client_context: DTLSContext, server_context: DTLSContext, joined: MemoryLink
) -> None:
    """Before anything is sent."""
    with joined_pair(ports, server_context, client_context) as ((client,), (server,)):
        for foreign in (joined.client, client):
            items = [(server, b"good")] * (count - 1) + [(foreign, b"foreign")]
            with pytest.raises(ValueError, match="a connection of this endpoint's"):
                ports[0].endpoint.send_many(items)  # type: ignore[arg-type]
        settle(*ports)
        assert received(client) == received(server) == joined.client.datagrams_to_send() == []


def test_in_memory_those_who_have_ended_are_passed_over_too(
    client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """And counted, as over a socket."""
    net = Net()
    server = net.add(SERVER, server_context)
    clients = [connect_by(net, number, client_context) for number in range(3)]
    net.settle()
    accepted = server.accepted()
    accepted[0].close()
    before = server.statistics()["dropped_unsent"]
    assert server.send_many([(connection, b"x") for connection in accepted]) == 3
    assert server.statistics()["dropped_unsent"] == before + 1
    net.settle()
    assert [list(client.received) for client in clients] == [[], [b"x"], [b"x"]]


def test_in_memory_they_are_passed_over_too(net: Net, server: dtlsffi.Endpoint, client_context: DTLSContext) -> None:
    """Whatever has ended them."""
    clients = [connect_by(net, number, client_context) for number in range(2)]
    net.settle()
    good, failed = server.accepted()
    failed.failure = dtlsffi.DTLSError("for once")
    assert server.send_many([(failed, b"lost"), (good, b"1"), (failed, b"lost"), (good, b"2")]) == 4
    net.settle()
    assert list(clients[0].received) == [b"1", b"2"]
    assert server.statistics()["dropped_unsent"] == 2


@pytest.mark.parametrize(("host", "to", "gone"), [("", "127.0.0.1", "192.0.2.77"), ("::", "::1", "2001:db8::77")])
@pytest.mark.parametrize("by", ["send", "send_many", "Endpoint.send_many"])
def test_the_address_that_a_peer_came_to_may_go(
    host: str, to: str, gone: str, by: str, ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """What it is sent leaves from another one then, and what others are sent from theirs, in the same batch."""
    ports.append(Port(server_context, (host, 0)))
    clients = []
    for _ in range(2):
        ports.append(Port(address=(to, 0)))
        place = (to, *ports[0].address[1:])
        clients.append(ports[-1].endpoint.connect(place, 1, context=client_context, server_hostname=HOST))
        settle(ports[0], ports[-1])
    server = ports[0].endpoint
    by_address = {connection.address: connection for connection in server.accepted()}
    moved, other = (by_address[port.address] for port in ports[1:])
    lib.dtlsffi_conn_local(moved._conn)[0] = pack((gone, 0))[0]
    if by == "send":
        assert [moved.send(b"x"), other.send(b"x")] == [1, 1]
    elif by == "send_many":
        assert moved.send_many([b"x", b"y"]) == other.send_many([b"x", b"y"]) == 2
    else:
        assert server.send_many([(moved, b"x"), (moved, b"y"), (other, b"x"), (moved, b"z"), (other, b"y")]) == 5
    settle(*ports)
    all_of_it = [b"x"] if by == "send" else [b"x", b"y"]
    assert received(clients[0]) == [*all_of_it, b"z"][: 3 if by == "Endpoint.send_many" else len(all_of_it)]
    assert received(clients[1]) == all_of_it
