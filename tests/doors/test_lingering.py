"""dtlsffi.lingering: the quick way, where no timer is to be minded. The other ways are in test_sockets_waiting.py."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

import dtlsffi
from dtlsffi._native import lib
from tests.helpers import HOST, Pair

LULLS = 8


def lulls(conn: dtlsffi.DTLSSocket) -> int:
    """How many of its next calls are to wait before they look, since one has looked in vain."""
    return int(lib.dtlsffi_conn_lulls(conn._connection._conn))


def lull(conn: dtlsffi.DTLSSocket) -> None:
    """Has its next calls wait before they look: one has looked in vain."""
    timeout = conn.gettimeout()
    conn.settimeout(0.001)
    while lulls(conn) < 2:
        with pytest.raises(TimeoutError):
            conn.recv()
    conn.settimeout(timeout)


def test_what_is_there_is_taken_without_waiting(dtls_pair: Pair) -> None:
    """No wait for a stream of records."""
    client, server = dtls_pair
    for number in range(20):
        client.send(b"%d" % number)
    for number in range(20):
        assert server.recv() == b"%d" % number
        assert lulls(server) == 0


def test_after_a_lull_calls_wait_before_they_look(dtls_pair: Pair, both: Callable[..., list[Any]]) -> None:
    """For some calls; then they look again."""
    client, server = dtls_pair
    seen = []

    def answer() -> None:
        for _ in range(2 * LULLS):
            server.send(server.recv())
            seen.append(lulls(server))

    def ask() -> None:
        for number in range(2 * LULLS):
            while not server._carrier.is_waited_for:  # so it has not found the record when it looked
                pass
            client.send(b"%d" % number)
            assert client.recv() == b"%d" % number

    lull(server)
    both(answer, ask)
    assert all(after in {before - 1, LULLS - 1} for before, after in pairwise(seen))
    assert max(seen) == LULLS - 1  # it has looked again, and in vain


def in_memory(
    udp_pair: tuple[socket.socket, socket.socket],
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    both: Callable[..., list[Any]],
) -> tuple[dtlsffi.Connection, dtlsffi.DTLSSocket]:
    """A client whose datagrams are ours to carry, and a server's socket."""
    raw = udp_pair[0]
    client = dtlsffi.Connection(client_context, server_hostname=HOST)

    def shake_hands() -> None:
        with suppress(dtlsffi.DTLSWantReadError):
            client.do_handshake()
        while True:
            for datagram in client.datagrams_to_send():
                raw.send(datagram)
            if client.is_established:
                return
            client.receive_datagram(raw.recv(4096))

    return client, both(shake_hands, lambda: server_context.wrap_socket(udp_pair[1], server_side=True))[1]


@pytest.mark.parametrize("size", [2, 1000])
def test_the_rest_of_a_datagram_is_not_waited_for(
    size: int,
    udp_pair: tuple[socket.socket, socket.socket],
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    both: Callable[..., list[Any]],
) -> None:
    """Nor is the end, once it has come: whoever waits before a look would wait for ever."""
    client, server = in_memory(udp_pair, client_context, server_context, both)
    with server:
        server.settimeout(2)
        for _ in range(3):
            client.send(b"x" * size)
        records = client.datagrams_to_send()
        lull(server)
        threading.Timer(0.05, lambda: udp_pair[0].send(b"".join(records))).start()
        for _ in range(3):
            assert server.recv() == b"x" * size
            assert lulls(server)
        client.close()
        udp_pair[0].send(*client.datagrams_to_send())
        for _ in range(3):
            assert lulls(server)
            assert server.recv() == b""


def test_a_refusal_is_told_while_one_waits(dtls_pair: Pair, nobody: tuple[str, int]) -> None:
    """ConnectionRefusedError, and the connection goes on."""
    client, server = dtls_pair
    with socket.socket(fileno=socket.dup(client.fileno())) as raw:
        lull(client)
        raw.connect(nobody)
        raw.send(b"anybody there?")
        with pytest.raises(ConnectionRefusedError):
            client.recv()
        raw.connect(server.getsockname())
    server.send(b"go on")
    assert lulls(client)
    assert client.recv() == b"go on"


def test_a_record_too_large_is_kept(dtls_pair: Pair) -> None:
    """Waited for or not."""
    client, server = dtls_pair
    lull(server)
    client.send(b"x" * 100)
    with pytest.raises(dtlsffi.DatagramTooLarge):
        server.recv(10)
    assert server.recv() == b"x" * 100


def test_the_plain_socket_comes_back_without_our_patience(dtls_pair: Pair) -> None:
    """SO_RCVTIMEO is taken back."""
    client = dtls_pair[0]
    client.settimeout(0.01)
    with pytest.raises(TimeoutError):
        client.recv()
    assert lulls(client)
    with client.unwrap() as plain:
        assert plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16).strip(b"\0") == b""


@pytest.mark.parametrize("after_a_lull", [False, True])
def test_the_timeout_holds_either_way(after_a_lull: bool, dtls_pair: Pair) -> None:
    """Junk that comes meanwhile does not prolong it."""
    client, server = dtls_pair
    if after_a_lull:
        lull(server)
    server.settimeout(0.2)
    stop = threading.Event()

    def throw_junk() -> None:
        with socket.socket(fileno=socket.dup(client.fileno())) as raw:
            while not stop.wait(0.02):
                raw.send(b"junk" * 10)

    thread = threading.Thread(target=throw_junk)
    thread.start()
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        server.recv()
    assert 0.2 <= time.monotonic() - begin < 1
    stop.set()
    thread.join()


def test_without_blocking_nobody_waits(dtls_pair: Pair) -> None:
    """Whatever has been before."""
    client, server = dtls_pair
    server.settimeout(0)
    for _ in range(3):
        with pytest.raises(dtlsffi.DTLSWantReadError):
            server.recv()
    client.send(b"x")
    server.settimeout(5)
    assert server.recv() == b"x"
