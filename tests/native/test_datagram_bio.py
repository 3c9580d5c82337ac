"""dtlsffi/_native/datagram_bio.c: what a socket gives at one time, and what goes out in one datagram."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest

import dtlsffi
from dtlsffi import Connection, DTLSContext, DTLSWantReadError
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


def test_a_flight_that_is_sent_again_is_packed_as_the_first_time(
    client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """One datagram for each message would make it likely that one of them is lost."""
    client_context.retransmission, server_context.retransmission = (60, 1, 60), (0.01, 1.0, 0.01)
    client, server = Connection(client_context, server_hostname=HOST), Connection(server_context, server_side=True)
    with suppress(DTLSWantReadError):
        client.do_handshake()
    for datagram in client.datagrams_to_send():
        server.receive_datagram(datagram)
    first = server.datagrams_to_send()
    while server.get_timer():
        pass
    server.handle_timer()
    again = server.datagrams_to_send()
    assert len(first) == len(again) == 1
