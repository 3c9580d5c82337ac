"""dtlsffi/_native/datagram_bio.c: what a socket gives at one time."""

from __future__ import annotations

import socket
import threading

import pytest

import dtlsffi
from dtlsffi import Connection
from tests.helpers import HOST
from tests.native.by_hand import ByHand


def test_what_a_call_has_no_room_for_is_counted(
    udp_pair: tuple[socket.socket, socket.socket],
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
) -> None:
    """A datagram of several large records: recv() has room for one of the largest, recv_many() for all."""
    client = ByHand(Connection(client_context, server_hostname=HOST), udp_pair[0])
    client.connection.mtu = 65000
    udp_pair[1].settimeout(10)
    with server_context.wrap_socket(udp_pair[1], server_side=True, do_handshake_on_connect=False) as server:
        thread = threading.Thread(target=server.do_handshake)
        thread.start()
        client.say()
        while not client.connection.is_established:
            client.take()
        thread.join()

        def send() -> None:
            for letter in b"abc":
                client.connection.send(bytes([letter]) * 9000)
            client.sock.send(b"".join(client.connection.datagrams_to_send()))

        send()
        assert server.recv() == b"a" * 9000
        server.setblocking(False)
        with pytest.raises(dtlsffi.DTLSWantReadError):
            server.recv()
        assert server.statistics()["dropped_junk"] == 1
        server.settimeout(10)
        send()
        assert [record[:1] for record in server.recv_many()] == [b"a", b"b", b"c"]
        assert server.statistics()["dropped_junk"] == 1
