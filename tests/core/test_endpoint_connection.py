"""dtlsffi.core.endpoint_connection: one connection among many."""

from __future__ import annotations

import socket

import pytest

import dtlsffi
from dtlsffi import DTLSContext, Endpoint, EndpointConnection
from tests.core.test_endpoint import SERVER, Net, client_address, connect

__all__ = ["net", "server"]


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def server(net: Net, server_context: DTLSContext) -> Endpoint:
    return net.add(SERVER, server_context)


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


def test_a_record_that_the_kernel_does_not_take_was_not_sent(client_context: DTLSContext) -> None:
    """And that is said: a full buffer, a datagram too large for the path."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        endpoint = Endpoint(fileno=sock.fileno())
        connection = endpoint.connect(("127.0.0.1", 9), 0, context=client_context, server_hostname="x")
        with pytest.raises(dtlsffi.DTLSWantReadError):
            connection.send(b"before the handshake is finished")
        connection.close()
        with pytest.raises(dtlsffi.DTLSZeroReturnError, match="the connection is closed"):
            connection.send(b"x")
        connection.close()
        connection.transmit()
