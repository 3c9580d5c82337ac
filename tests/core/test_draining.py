"""dtlsffi.core.draining: batches from and to a real socket. What C does with each is in tests/native/test_udp.py."""

from __future__ import annotations

import ctypes
import gc
import os
import random
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

import dtlsffi
from dtlsffi import DTLSContext, Endpoint, EndpointConnection
from dtlsffi._native import ffi, lib
from dtlsffi.core import draining
from dtlsffi.core.batches import do_without
from dtlsffi.core.draining import BUDGET, STRANGER
from dtlsffi.core.endpoint import WARM
from tests.core.net import client_context, fragments, hello
from tests.helpers import HOST, record

__all__ = ["client_context"]

GIFTS = [[], ["gro"], ["gso"], ["gso", "gro"]]


class Port:
    """An endpoint with its socket."""

    def __init__(self, context: DTLSContext | None = None, address: Any = ("127.0.0.1", 0), **limits: object) -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(address)
        self.sock.setblocking(False)
        v6 = self.sock.family == socket.AF_INET6
        self.endpoint = Endpoint(context, fileno=self.sock.fileno(), v6_socket=v6, **limits)  # type: ignore[arg-type]
        self.address = self.sock.getsockname()


@pytest.fixture
def ports() -> Iterator[list[Port]]:
    """Closed at the end, and nothing is done without any more."""
    made: list[Port] = []
    yield made
    for port in made:
        port.endpoint.close()
        port.sock.close()
    do_without([])


def settle(*ports: Port) -> None:
    """Until all are silent."""
    while ready := select.select([port.sock for port in ports], [], [], 0.02)[0]:
        for port in ports:
            if port.sock in ready:
                port.endpoint.pump(1)


@contextmanager
def joined_pair(ports: list[Port], server: DTLSContext, client: DTLSContext, count: int = 1) -> Iterator[tuple]:  # type: ignore[type-arg]
    """A server's port with `count` clients, each behind a port of its own; the server's connections in their order."""
    ports.append(Port(server))
    clients = []
    for _ in range(count):
        ports.append(Port())
        clients.append(ports[-1].endpoint.connect(ports[0].address, 1, context=client, server_hostname=HOST))
        settle(ports[0], ports[-1])
    by_address = {connection.address: connection for connection in ports[0].endpoint.accepted()}
    yield clients, [by_address[port.address] for port in ports[1:]]


def received(connection: EndpointConnection) -> list[bytes]:
    found = list(connection.received)
    connection.received.clear()
    return found


@pytest.mark.parametrize("without", GIFTS, ids="-".join)
def test_a_batch_arrives_as_it_was_sent(
    without: list[str], ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Records of all sizes, each whole, in their order; the kernel may cut and join them or not."""
    do_without(without)
    with joined_pair(ports, server_context, client_context) as ((client,), (server,)):
        dice = random.Random(5)
        data = [bytes([number % 251]) * dice.choice([1, 64, 64, 64, 300, 1100]) for number in range(150)]
        assert client.send_many(data) == 150
        settle(*ports)
        assert received(server) == data
        assert server.send_many(data[:50]) == 50
        settle(*ports)
        assert received(client) == data[:50]
        counts = ports[1].endpoint.statistics()
        assert (counts["datagrams_segmented"] > 0) == ("gso" not in without)
        joined = ports[0].endpoint.statistics()["datagrams_joined"]
        # What the kernel did not cut on its way, as over loopback, it need not join.
        assert joined == 0 if "gro" in without else joined > 100 or without


@pytest.mark.parametrize("without", GIFTS, ids="-".join)
def test_an_endpoint_sends_by_many_connections(
    without: list[str], ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Each gets its own; one that has ended is passed over, and counted."""
    do_without(without)
    with joined_pair(ports, server_context, client_context, 3) as (clients, servers):
        endpoint = ports[0].endpoint
        items = [(servers[number % 3], b"%d for %d" % (number, number % 3)) for number in range(30)]
        servers[1].close()
        assert endpoint.send_many(items) == 30
        settle(*ports)
        for number in (0, 2):
            assert received(clients[number]) == [data for server, data in items if server is servers[number]]
        assert endpoint.statistics()["dropped_unsent"] == 10
        assert endpoint.send_many([]) == 0
        with pytest.raises(ValueError, match="empty datagram"):
            endpoint.send_many([(servers[0], b"")])
        with pytest.raises(dtlsffi.DatagramTooLarge):
            endpoint.send_many([(servers[0], bytes(20_000))])
        assert endpoint.send_many([(servers[0], b"x"), (servers[0], bytes(20_000)), (servers[2], b"y")]) == 1


def test_all_that_has_arrived_in_one_list(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """In the order of its arrival, whoever sent it; `ready` tells of the rest."""
    with joined_pair(ports, server_context, client_context, 2) as (clients, servers):
        endpoint = ports[0].endpoint
        assert set(endpoint.ready()) == set(servers)
        for number in range(6):
            clients[number % 2].send(b"%d" % number)
        clients[1].close()
        settle(*ports)
        expected = [(servers[number % 2], b"%d" % number) for number in range(6)]
        assert endpoint.recv_many() == expected
        assert endpoint.recv_many() == []
        assert endpoint.ready() == [servers[1]]
        assert servers[1].peer_closed
        clients[0].send(b"by connection")
        settle(*ports)
        assert endpoint.ready() == [servers[0]]
        assert endpoint.recv_many() == []
        assert received(servers[0]) == [b"by connection"]


def test_what_nobody_takes_is_limited(
    ports: list[Port],
    client_context: DTLSContext,
    server_context: DTLSContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By connection, as if `ready` had been called: what does not fit is counted."""
    monkeypatch.setattr("dtlsffi.core.draining.MANY", 10)
    with joined_pair(ports, server_context, client_context) as ((client,), (server,)):
        endpoint = ports[0].endpoint
        endpoint.max_queue = 15
        for number in range(40):
            client.send(b"%d" % number)
            settle(*ports)
        assert len(endpoint._arrived) <= 10
        assert received(server) == [b"%d" % number for number in range(15)]
        assert endpoint.statistics()["dropped_queue_full"] == 25
        assert endpoint.ready() == [server]


@pytest.mark.parametrize("count", [2, 100])
def test_many_connections_send_whatever_is_bytes(
    count: int, ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Few or many at a time, of any buffers; what is none, or no item at all, is said before anything is sent."""
    with joined_pair(ports, server_context, client_context, 2) as (clients, servers):
        endpoint = ports[0].endpoint
        words = [bytearray(b"%d" % number) for number in range(count)]
        items = [(servers[number % 2], memoryview(word) if number % 3 else word) for number, word in enumerate(words)]
        assert endpoint.send_many(iter(items)) == count
        settle(*ports)
        assert [received(client) for client in clients] == [words[0::2], words[1::2]]
        bad: list[Any] = [(servers[0], "text"), (servers[0],), servers[0], (None, b"x"), ("text", b"x")]
        for item in bad:
            with pytest.raises(TypeError, match="bytes or a buffer|each item"):
                endpoint.send_many([*items, item])
        settle(*ports)
        assert [received(client) for client in clients] == [[], []]


@pytest.mark.parametrize("act", ["send", "send_many", "endpoint.send_many", "close"])
def test_a_connection_that_was_silent_speaks_first(
    act: str, ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Its buffers have been given back, and OpenSSL takes new ones only where it reads: a write would crash."""
    with joined_pair(ports, server_context, client_context) as ((client,), (server,)):
        endpoint = ports[0].endpoint
        client.send(b"x")
        settle(*ports)
        assert endpoint.get_timer(1) == WARM
        endpoint.handle_timers(1 + WARM)
        assert endpoint.get_timer(1 + WARM) is None, "nobody is warm"
        if act == "send":
            server.send(b"y")
        elif act == "send_many":
            server.send_many([b"y"])
        elif act == "endpoint.send_many":
            endpoint.send_many([(server, b"y")])
        else:
            server.close()
        settle(*ports)
        assert client.peer_closed if act == "close" else received(client) == [b"y"]


def test_a_full_buffer_stops_a_batch_and_loses_nothing(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """It says how many are gone; the rest can be sent later. With a queue in the kernel that nobody empties."""
    with joined_pair(ports, server_context, client_context) as ((client,), (server,)):
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with left, right:
            left.setblocking(False)
            udp = ports[1].endpoint._udp
            udp.fd, udp.connected, udp.segments = left.fileno(), True, 0
            data = [b"%06d" % number for number in range(2000)]
            gone = client.send_many(data)
            assert 0 < gone < 2000
            with pytest.raises(dtlsffi.DTLSWantWriteError):
                client.send_many(data[gone:])
            udp.fd, udp.connected = ports[1].sock.fileno(), False
            while True:
                try:
                    ports[0].sock.send(b"")
                except OSError:
                    break
            for _ in range(gone):
                server.receive_datagram(right.recv(2000))
        assert server.data_received() == data[:gone]


def test_a_batch_for_one_peer_has_strangers_in_it(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Junk, hellos, plaintext in the peer's name, another's records: counted or answered, and no data is lost."""
    with joined_pair(ports, server_context, client_context, 2) as (clients, servers):
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ports[1].sock.setblocking(True)
        with other:
            clients[0].send(b"one")
            other.sendto(b"junk", ports[0].address)
            other.sendto(hello(client_context)[1], ports[0].address)
            ports[1].sock.sendto(record(21, b"\2\x28"), ports[0].address)
            ports[1].sock.sendto(next(fragments(hello(client_context)[1], 60)), ports[0].address)
            clients[1].send(b"two")
            clients[0].send(b"three")
        settle(ports[0])
        assert [received(server) for server in servers] == [[b"one", b"three"], [b"two"]]
        counts = ports[0].endpoint.statistics()
        assert (counts["dropped_unknown"], counts["cookies_sent"]) == (1, 4)


def test_the_end_of_a_connection_comes_in_a_batch(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """With what was said before it, and beside the data of others."""
    with joined_pair(ports, server_context, client_context, 2) as (clients, servers):
        clients[0].send(b"last words")
        clients[0].close()
        clients[1].send(b"goes on")
        settle(ports[0])
        assert (received(servers[0]), servers[0].peer_closed) == ([b"last words"], True)
        assert (received(servers[1]), servers[1].peer_closed) == ([b"goes on"], False)


@pytest.mark.parametrize("first", ["send", "receive", "close"])
def test_buffers_of_the_silent_go_back_and_come_again(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext, first: str
) -> None:
    """A second of silence; nobody notices but the memory, whatever a connection does first after it."""
    with joined_pair(ports, server_context, client_context, 2) as (clients, servers):
        endpoint, now = ports[0].endpoint, time.monotonic()
        endpoint.get_timer(now)
        clients[0].send(b"a word")
        while not servers[0].received:
            endpoint.pump(now + 1.9)
        assert received(servers[0]) == [b"a word"]
        endpoint.handle_timers(now + 2.5)
        assert endpoint.get_timer(now + 2.5) == pytest.approx(1.0), "one of them is not silent yet"
        endpoint.handle_timers(now + 4)
        assert endpoint.get_timer(now + 4) is None
        for client, server in zip(clients, servers, strict=True):
            if first == "receive":
                client.send(b"x")
                settle(*ports)
                assert received(server) == [b"x"]
            if first == "close":
                server.close()
                settle(*ports)
                assert client.peer_closed
            else:
                assert server.send(b"y") == 1
                settle(*ports)
                assert received(client) == [b"y"]


class Mallinfo(ctypes.Structure):
    """Ten numbers, of which the eighth is `uordblks`."""

    _fields_ = (("number", ctypes.c_size_t * 10),)


def in_use() -> int:
    """Bytes that malloc has given out: glibc's mallinfo2(3)."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None or "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("this malloc does not tell how much it has given out")
    mallinfo.restype = Mallinfo
    return int(mallinfo().number[7])


def test_who_has_just_shaken_hands_keeps_no_buffers(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """It has them from the first record on, and until it has been silent for a while."""
    with joined_pair(ports, server_context, client_context, 8) as (_, servers):
        gc.collect()
        silent = in_use()
        for server in servers:
            server.send(b"x")
        assert in_use() - silent > len(servers) * 25_000
        ports[0].endpoint.handle_timers(1 + WARM)
        assert in_use() - silent < len(servers) * 2_000


def test_few_keep_buffers_that_they_do_not_use(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of very many that have spoken, those who have done so last; whoever speaks all the time is not asked to."""
    count, few = 40, 20
    monkeypatch.setattr(draining, "WARM_AT_MOST", few)
    with joined_pair(ports, server_context, client_context, count) as (clients, servers):
        endpoint = ports[0].endpoint
        for client in clients:
            client.send(b"x")
        while sum(len(server.received) for server in servers) < count:
            endpoint.pump(1)
        gc.collect()
        busy = in_use()
        clients[-1].send(b"x")
        assert endpoint.pump(1.01) is False
        assert abs(in_use() - busy) < 20_000, "all of them have spoken lately"
        clients[-1].send(b"x")
        assert endpoint.pump(1.1) is False
        assert busy - in_use() > (count - few) * 25_000
        for server in servers:
            assert server.send(b"y") == 1


def test_handshakes_do_not_hold_up_records(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """A storm of them moves on by a few steps at a time; what waits is due at once, and comes to its end."""
    with joined_pair(ports, server_context, client_context) as ((client,), (server,)):
        endpoint = ports[0].endpoint
        clients = []
        for _ in range(30):
            ports.append(Port())
            clients.append(
                ports[-1].endpoint.connect(ports[0].address, 1, context=client_context, server_hostname=HOST)
            )
        while select.select([ports[0].sock], [], [], 0.05)[0]:
            endpoint.pump(1)  # cookies
        for port in ports[2:]:
            port.endpoint.pump(1)
        client.send(b"data")
        endpoint._udp.most = lib.DTLSFFI_BATCH
        assert endpoint.pump(1), "there is more to do"
        assert endpoint.statistics()["pending"] == BUDGET
        assert endpoint.get_timer(1) == 0.0
        assert endpoint.look_at() <= 1
        settle(ports[0])
        assert received(server) == [b"data"]
        for _ in range(50):
            settle(*ports)
            endpoint.handle_timers(1)
        assert all(connection.is_established for connection in clients)
        assert endpoint.get_timer(1) != 0.0


def test_a_closed_endpoint_lets_go_of_its_socket(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Whoever still has a connection sends nothing more by a descriptor that may be another's by now."""
    with joined_pair(ports, server_context, client_context) as ((client,), _):
        ports[1].endpoint.close()
        with pytest.raises(dtlsffi.DTLSZeroReturnError):
            client.send(b"x")
        with pytest.raises(dtlsffi.DTLSZeroReturnError):
            client.send_many([b"x"])
        client.close()
        assert ports[1].sock.getsockopt(socket.IPPROTO_UDP, 104) == 0, "UDP_GRO is its owner's again"


def test_garbage_may_be_freed_in_any_order(client_context: DTLSContext, server_context: DTLSContext) -> None:
    """An endpoint and its connections that only know one another."""
    ports: list[Port] = []
    with joined_pair(ports, server_context, client_context, 3) as (_, servers):
        ports[0].endpoint.cycle = servers  # type: ignore[attr-defined]
    socks = [port.sock for port in ports]
    del ports, servers, _
    gc.collect()
    for sock in socks:
        sock.close()


def test_strangers_are_laid_out_as_in_c() -> None:
    """What is taken apart without cffi has the fields that cffi sees."""
    field = ffi.typeof("dtlsffi_stranger").fields
    assert [name for name, _ in field] == ["message", "offset", "length", "proven", "random"]
    assert STRANGER.size == ffi.sizeof("dtlsffi_stranger")
    random = bytes(range(lib.DTLSFFI_HELLO_RANDOM))
    one = ffi.new("dtlsffi_stranger *", {"message": 1, "offset": lib.DTLSFFI_MESSAGE_MAX, "length": 3, "proven": 1})
    ffi.memmove(one.random, random, len(random))
    assert STRANGER.unpack(ffi.buffer(one)) == (1, lib.DTLSFFI_MESSAGE_MAX, 3, 1, random)


def test_a_datagram_of_many_records_after_another_is_not_cut(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Over loopback one has room for 900 short ones, more than OpenSSL reads at once; four of them fill an inbox."""
    ports.append(Port(server_context, max_queue=4000))
    client = dtlsffi.Connection(client_context, server_hostname=HOST)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(ports[0].address)
        while not client.is_established:
            with suppress(dtlsffi.DTLSWantReadError):
                client.do_handshake()
            for datagram in client.datagrams_to_send():
                sock.send(datagram)
            settle(*ports)
            while select.select([sock], [], [], 0)[0]:
                client.receive_datagram(sock.recv(4096))
        (server,) = ports[0].endpoint.accepted()
        expected = [[bytes([turn, n % 256]) for n in range(900)] for turn in range(4)]
        for records in expected:
            client.send_many(records)
            sock.send(b"".join(client.datagrams_to_send()))
        settle(*ports)
        assert received(server) == [data for records in expected for data in records]
