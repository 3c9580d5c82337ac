"""Paths that become wider, or narrower, or go away for a while."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

import dtlsffi
from dtlsffi import Connection, DTLSContext, DTLSWantReadError
from tests.helpers import HOST

CLONE_NEWNET, SIOCSIFMTU, SIOCSIFFLAGS, SIOCSIFADDR, IFF_UP = 0x40000000, 0x8922, 0x8914, 0x8916, 1


def set_loopback(mtu: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFMTU, struct.pack("16si12x", b"lo", mtu))
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def in_its_own_network(test: Callable[[], None]) -> None:
    """Runs a test where there is a loopback device of 600 bytes, and nothing else."""

    def run() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):  # this thread's alone
            pytest.skip(f"no network of its own to be had: {os.strerror(ctypes.get_errno())}")
        set_loopback(600)
        test()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result()


def joined(client: DTLSContext, server: DTLSContext) -> tuple[dtlsffi.DTLSSocket, dtlsffi.DTLSListener]:
    listener = dtlsffi.create_server(("127.0.0.1", 0), context=server)
    conn = dtlsffi.create_connection(listener.getsockname(), context=client, server_hostname=HOST, timeout=5)
    return conn, listener


def test_data_mtu_follows_a_path_that_has_become_wider(
    client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """The kernel tells of what was too large only: who asks, and who sends more than before, has to look."""

    def narrow() -> None:
        conn, listener = joined(client_context, server_context)
        other = dtlsffi.create_connection(listener.getsockname(), context=client_context, server_hostname=HOST)
        with listener, conn, other:
            assert (conn.mtu, conn.data_mtu) == (572, 535)
            set_loopback(1500)
            assert (conn.mtu, conn.data_mtu) == (1472, 1435)
            assert other.send(b"x" * 1435) == 1435
            set_loopback(800)
            assert (conn.mtu, conn.data_mtu) == (772, 735)

    in_its_own_network(narrow)


def test_batches_over_a_narrow_path_do_not_end_segmentation(
    client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """That a message is larger than the path of one peer says nothing of the kernel."""

    def narrow() -> None:
        conn, listener = joined(client_context, server_context)
        with listener, conn:
            if not conn.statistics()["gso"]:
                pytest.skip("this kernel cuts no messages")
            conn.mtu = 1200
            for _ in range(70):
                assert conn.send_many([b"x" * 1000] * 3) == 3
            assert conn.statistics()["gso"] == 1
            set_loopback(1500)
            conn.send_many([b"x" * 1000] * 3)
            assert conn.statistics()["datagrams_segmented"] == 3

    in_its_own_network(narrow)


def test_a_way_that_is_gone_for_a_while_ends_no_handshake(
    client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """As in asyncio and anyio: once the peer has been heard of, a flight that does not go out is sent again."""

    def test() -> None:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near,
        ):
            far.bind(("127.0.0.1", 0))
            near.bind(("127.0.0.1", 0))
            near.connect(far.getsockname())
            far.connect(near.getsockname())
            near.setblocking(False)
            client = Connection(client_context, server_hostname=HOST, fileno=near.fileno())
            server = Connection(server_context, server_side=True)
            with suppress(DTLSWantReadError):
                client.do_handshake()
            server.receive_datagram(far.recv(4096))
            for datagram in server.datagrams_to_send():
                far.send(datagram)
            fcntl.ioctl(far, SIOCSIFADDR, struct.pack("16sH14x", b"lo", socket.AF_INET))  # it has no address any more
            with pytest.raises(DTLSWantReadError):
                client.do_handshake()
            assert client.statistics()["dropped_unsent"] > 0

    in_its_own_network(test)
