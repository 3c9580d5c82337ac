"""dtlsffi.core.endpoint: a client that begins again, or only seems to. RFC 6347 section 4.2.8."""

from __future__ import annotations

import pytest

import dtlsffi
from dtlsffi import DTLSContext, Endpoint
from tests.core.net import SERVER, Net, client_address, client_context, connect, hello

__all__ = ["client_context"]


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
