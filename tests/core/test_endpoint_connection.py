"""dtlsffi.core.endpoint_connection: one connection among many."""

from __future__ import annotations

import socket

import pytest

import dtlsffi
from dtlsffi import DTLSContext, Endpoint, EndpointConnection
from dtlsffi.core import endpoint_connection
from tests.core.net import SERVER, Net, client_address, connect


def test_it_is_a_connection_that_knows_its_peer(net: Net, server: Endpoint, client_context: DTLSContext) -> None:
    """By address; everything else is as with any other."""
    client = connect(net, 7, client_context)
    net.settle()
    (connection,) = server.accepted()
    assert isinstance(connection, EndpointConnection)
    assert isinstance(connection, dtlsffi.Connection)
    assert connection.address == client_address(7)
    assert client.address == SERVER
    assert repr(connection) == "<Connection server '10.0.0.8:40007' DTLSv1.2>"
    assert connection.cipher() == client.cipher()
    assert (connection.failure, connection.peer_closed, connection.gone) == (None, False, False)


def test_no_peer_has_anothers_records(net: Net, server: Endpoint, client_context: DTLSContext) -> None:
    """Those who have said nothing share one empty place, into which nothing can be put."""
    clients = [connect(net, number, client_context) for number in range(3)]
    net.settle()
    connections = {connection.address: connection for connection in server.accepted()}
    clients[0].send(b"one")
    clients[1].send(b"two")
    net.settle()
    assert [connections[client_address(number)].received for number in range(3)] == [[b"one"], [b"two"], []]
    silent = connections[client_address(2)]
    silent.receive_datagram(b"junk")
    silent.receive_datagrams([b"junk"])
    assert silent.data_received() == []
    silent.received.append(b"its own")
    assert [len(connection.received) for connection in connections.values()] == [1, 1, 1]
    assert endpoint_connection.NONE == ()


def test_a_record_that_the_kernel_does_not_take_was_not_sent(client_context: DTLSContext) -> None:
    """And that is said: a full buffer, a datagram too large for the path."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        endpoint = Endpoint(fileno=sock.fileno())
        connection = endpoint.connect(("127.0.0.1", 9), 0, context=client_context, server_hostname="x.example")
        with pytest.raises(dtlsffi.DTLSWantReadError):
            connection.send(b"before the handshake is finished")
        connection.close()
        with pytest.raises(dtlsffi.DTLSZeroReturnError, match="the connection is closed"):
            connection.send(b"x")
        connection.close()


def test_its_events_are_told_though_the_endpoint_has_seen_them(
    net: Net, server: Endpoint, client_context: DTLSContext
) -> None:
    """Once, as those of any connection."""
    client = connect(net, 7, client_context)
    net.settle()
    (connection,) = server.accepted()
    for one in (client, connection):
        assert one.events_received() == [dtlsffi.HandshakeCompleted()]
        assert one.events_received() == []
    client.close()
    net.settle()
    assert connection.peer_closed
    assert dtlsffi.CloseReceived() in connection.events_received()
    assert connection.events_received() == []


def test_its_data_can_be_taken_as_any_connections(net: Net, server: Endpoint, client_context: DTLSContext) -> None:
    """Whichever way it came in; it is handed out once."""
    client = connect(net, 7, client_context)
    net.settle()
    (connection,) = server.accepted()
    client.send(b"one")
    net.settle()
    client.send(b"two")
    for datagram, _ in net.endpoints[client_address(7)].datagrams_to_send():
        connection.receive_datagram(datagram)
    assert connection.data_received() == [b"one", b"two"]
    assert connection.data_received() == connection.received == []
    client.send(b"three")
    net.settle()
    assert connection.received == [b"three"]
