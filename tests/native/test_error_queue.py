"""What a socket tells besides datagrams (IP_RECVERR, SO_TIMESTAMPING): its owner has asked for it, and nobody reads."""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from contextlib import suppress

import pytest

import dtlsffi
from dtlsffi import DTLSContext, Endpoint
from tests.helpers import HOST

SO_TIMESTAMPING, TX_SOFTWARE, SOFTWARE = 37, 1 << 1, 1 << 4  # linux/net_tstamp.h
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no other system has such a queue")


def have_told(sock: socket.socket) -> None:
    """Each datagram that leaves is told of."""
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, TX_SOFTWARE | SOFTWARE)


def wakes(sock: socket.socket) -> bool:
    """Whether whoever waits for datagrams is woken."""
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(0))


def test_it_wakes_nobody_for_ever(dtls_pair: tuple[dtlsffi.DTLSSocket, dtlsffi.DTLSSocket]) -> None:
    """A socket of its own: once it has been looked at, there is nothing."""
    client, _ = dtls_pair
    have_told(client)
    client.settimeout(0)
    for _ in range(3):
        client.send(b"told of")
    assert wakes(client)
    with pytest.raises(dtlsffi.DTLSWantReadError):
        client.recv()
    assert not wakes(client)


def test_it_wakes_no_port_for_ever(client_context: DTLSContext, udp_pair: tuple[socket.socket, socket.socket]) -> None:
    """A port's likewise."""
    port, peer = udp_pair
    have_told(port)
    endpoint = Endpoint(fileno=port.fileno())
    endpoint.connect(peer.getsockname(), time.monotonic(), context=client_context, server_hostname=HOST)
    assert peer.recv(2000)
    assert wakes(port)
    assert not endpoint.pump(time.monotonic())
    assert not wakes(port)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_local_pair_loses_nothing(client_context: DTLSContext, server_context: DTLSContext) -> None:
    """AF_UNIX has no such queue: asked for it, the kernel gives the next datagram, which may have come just then."""
    count, received = 20000, 0
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.settimeout(10)
    right.settimeout(10)
    if (child := os.fork()) == 0:  # only another process sends while this one looks
        client = client_context.wrap_socket(left, server_hostname=HOST)
        for number in range(count):
            client.send(b"x")
            sum(range(number % 100))  # so that there is nothing now and then
        client.close()
        os._exit(0)
    left.close()
    with server_context.wrap_socket(right, server_side=True) as server:
        server.setblocking(False)
        with suppress(BrokenPipeError, ConnectionResetError):
            while True:
                with suppress(dtlsffi.DTLSWantReadError):
                    if not (data := server.recv()):
                        break
                    received += len(data)
    os.waitpid(child, 0)
    assert received == count
