"""dtlsffi.core.draining: what strangers send by the batch, and what it costs those who are honest."""

from __future__ import annotations

import select
import socket

from dtlsffi import DTLSContext, Endpoint
from dtlsffi.core.address import pack
from dtlsffi.core.draining import WAITING
from tests.core.net import client_context, hello

__all__ = ["client_context"]


def test_malformed_hellos_take_nobodys_time(client_context: DTLSContext, server_context: DTLSContext) -> None:
    """Nor places among those that wait: honest clients that come between them get in, in the same batch."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        server = Endpoint(server_context, fileno=sock.fileno())
        clients, bad = [], b""
        for _ in range(6):
            client, first = hello(client_context)
            own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            own.connect(sock.getsockname())
            own.send(first)
            select.select([sock], [], [], 5)
            server.pump(0)
            client.receive_datagram(own.recv(2000))
            (second,) = client.datagrams_to_send()
            clients.append((own, second))
            bad = first[:59] + b"\0\xff" + first[61:]
        for own, second in clients:
            for _ in range(9):
                stranger.sendto(bad, sock.getsockname())
            own.send(second)
        while server.pump(0):
            pass
        counts = server.statistics()
        assert (len(server.accepted()), counts["dropped_junk"], counts["dropped_flood"]) == (6, 54, 0)
        assert not server._waiting
        for own, _ in clients:
            own.close()
        server.close()


def test_what_waits_for_its_handshake_is_bounded(server_context: DTLSContext) -> None:
    """However much comes: the rest is counted, and its sender says it again."""
    endpoint = Endpoint(server_context)
    somewhere = pack(("192.0.2.1", 5684))
    for _ in range(WAITING + 5):
        endpoint._defer(b"x", somewhere, somewhere, b"")
    assert len(endpoint._waiting) == WAITING
    assert endpoint.statistics()["dropped_flood"] == 5
