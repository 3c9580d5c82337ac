"""Two processes at one port: SO_REUSEPORT, by which the kernel chooses for each client."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest

import dtlsffi
from dtlsffi import Connection
from dtlsffi.testing import Authority
from tests.crowd.clients import Crowd
from tests.crowd.doors import doors
from tests.crowd.servers import HOST, Server
from tests.fleet.conftest import Gather, Serve, come_back, in_good_order, on

CLIENTS = 40


def served(servers: list[Server]) -> list[float]:
    return [server.statistics()["handshakes_completed"] for server in servers]


def move_all(crowd: Crowd) -> None:
    """Another address for each client, which comes back from there."""
    for client in crowd.clients:
        crowd.move(client)
        come_back(client)


@pytest.mark.parametrize("door", doors())
def test_clients_get_in_and_come_back_whichever_process_the_kernel_picks(
    serve: Serve, gather: Gather, door: str
) -> None:
    """Both serve some; a client whose address changes resumes its session, in the other process, too."""
    servers = serve(door, one_port=True)
    crowd = gather(servers[0].address, CLIENTS)
    crowd.run(1)
    assert in_good_order(crowd)
    before = [client.server for client in crowd.clients]
    assert served(servers) == [before.count("A"), before.count("B")]
    assert 0 < before.count("A") < CLIENTS
    move_all(crowd)
    crowd.run(1)
    assert in_good_order(crowd)
    assert [client.server for client in crowd.clients] != before
    assert all(client.conn.session_reused for client in crowd.clients)


def test_without_common_keys_those_who_move_shake_hands_in_full(serve: Serve, gather: Gather) -> None:
    """They get in, but only who comes to the same process resumes."""
    servers = serve("endpoint", one_port=True, ticket_keys=())
    crowd = gather(servers[0].address, CLIENTS)
    crowd.run(1)
    before = [client.server for client in crowd.clients]
    move_all(crowd)
    crowd.run(1)
    assert in_good_order(crowd)
    stayed = [client.server == server for client, server in zip(crowd.clients, before, strict=True)]
    assert [client.conn.session_reused for client in crowd.clients] == stayed
    assert not all(stayed)


@pytest.mark.parametrize("door", doors())
def test_a_cookie_is_good_in_the_other_process(serve: Serve, authority: Authority, door: str) -> None:
    """One has asked for it, and is killed; the other one goes on with the handshake without asking again."""
    servers = serve(door, one_port=True)
    client = Connection(authority.client_context(), server_hostname=HOST)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.connect(servers[0].address)
        with suppress(dtlsffi.DTLSWantReadError):
            client.do_handshake()
        exchange(client, sock)  # its hello, and the cookie
        first, second = sorted(servers, key=lambda server: -server.statistics()["cookies_sent"])
        assert first.statistics()["cookies_sent"] == 1
        first.kill()
        while not client.is_established:
            exchange(client, sock)
    assert second.statistics()["cookies_sent"] == 0
    assert second.statistics()["handshakes_completed"] == 1


def exchange(client: Connection, sock: socket.socket) -> None:
    """What it has to send, and one datagram of what comes back."""
    for datagram in client.datagrams_to_send():
        sock.send(datagram)
    client.receive_datagram(sock.recv(65536))


def test_the_clients_of_a_killed_process_come_back_from_where_they_are(serve: Serve, gather: Gather) -> None:
    """From the same address, to the other process, by their tickets; its own clients notice nothing."""
    servers = serve("blocking", one_port=True)
    crowd = gather(servers[0].address, CLIENTS)
    crowd.run(1)
    lost, kept = on(servers[0], crowd), on(servers[1], crowd)
    connections = [client.conn for client in kept]
    servers[0].kill()
    for client in lost:
        come_back(client)
    crowd.run(1)
    assert in_good_order(crowd)
    assert on(servers[1], crowd) == crowd.clients
    assert all(client.conn.session_reused for client in lost)
    assert [client.conn for client in kept] == connections
    assert served(servers[1:]) == [CLIENTS]
