"""dtlsffi.core.carrier: its own corners; through DTLSSocket in tests/doors/test_manners.py."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain

import pytest

import dtlsffi
from dtlsffi import Connection
from dtlsffi._native import lib
from dtlsffi.core.batches import do_without
from dtlsffi.core.carrier import Carrier
from tests.conftest import connected_pair
from tests.helpers import HOST, not_before_3_0_7

UDP_SEGMENT = 103


@contextmanager
def joined(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> Iterator[tuple[Connection, Carrier]]:
    """A client over UDP, and the `Carrier` of the server that it has shaken hands with."""
    with connected_pair() as (one, two):
        for sock in (one, two):
            sock.setblocking(False)
        client = Connection(client_context, server_hostname=HOST, fileno=one.fileno())
        server = Connection(server_context, server_side=True, fileno=two.fileno())
        while not (client.is_established and server.is_established):
            for connection in (client, server):
                with suppress(dtlsffi.DTLSWantReadError):
                    connection.do_handshake()
        yield client, Carrier(server, two.fileno(), threading.RLock())


def test_an_early_record_waits_for_its_handshake(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """A batch may bring the end of the handshake, and data behind it."""
    with connected_pair() as (one, two):
        for sock in (one, two):
            sock.setblocking(False)
        client = Connection(client_context, server_hostname=HOST, fileno=one.fileno())
        server = Connection(server_context, server_side=True, fileno=two.fileno())
        carrier = Carrier(server, two.fileno(), threading.RLock())
        while not (client.is_established and server.is_established):
            with suppress(dtlsffi.DTLSWantReadError):
                client.do_handshake()
            with suppress(dtlsffi.DTLSWantReadError):
                assert carrier.receive(10) == []
        client.send(b"data")
        assert carrier.receive(10) == [b"data"]
        assert carrier.pending() == 0


def test_a_socket_that_is_gone_is_heard_of(client_context: dtlsffi.DTLSContext) -> None:
    """As OSError, by name of the peer."""
    with connected_pair() as (one, _):
        connection = Connection(client_context, server_hostname=HOST, fileno=one.fileno(), peer="somebody")
        carrier = Carrier(connection, one.fileno(), threading.RLock())
        socket.close(one.detach())
        with pytest.raises(OSError, match=r"Bad file descriptor \(somebody\)"):
            carrier.receive(1)


def test_a_callback_that_raises_takes_nothing_with_it(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """What has been received meanwhile is there for the next call."""
    armed: list[bool] = []
    server_context.trace = lambda *_: armed and 1 // 0
    with joined(client_context, server_context) as (client, carrier):
        assert client.send(b"one") + client.send(b"two") == 6
        armed.append(True)
        with pytest.raises(ZeroDivisionError):
            carrier.receive(10)
        armed.clear()
        assert carrier.receive(10) == [b"one", b"two"]


@not_before_3_0_7
def test_what_has_overtaken_the_handshake_comes_before_the_batch(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """OpenSSL keeps it until it is asked for data, and whatever is received first then makes no room for it."""
    early, late = [b"a" * 1000, b"b" * 900], [b"c" * 300, b"d" * 400]
    with connected_pair() as (one, two):
        for sock in (one, two):
            sock.setblocking(False)
        client = Connection(client_context, server_hostname=HOST, fileno=one.fileno())
        server = Connection(server_context, server_side=True)
        last: list[bytes] = []
        while not server.is_established:
            with suppress(dtlsffi.DTLSWantReadError):
                client.do_handshake()
            with suppress(BlockingIOError):
                server.receive_datagram(two.recv(4096))
            last = server.datagrams_to_send()
            for datagram in last if not server.is_established else []:
                two.send(datagram)
        server.send_many(early)
        for datagram in server.datagrams_to_send() + last:
            two.send(datagram)
        client.do_handshake()
        server.send_many(late)
        for datagram in server.datagrams_to_send():
            two.send(datagram)
        carrier = Carrier(client, one.fileno(), threading.RLock())
        assert [carrier.receive(10), carrier.receive(10)] == [early, late]


class Reach:
    """A client over UDP with a `Carrier`, and its server in memory, whose datagrams are sent by hand."""

    def __init__(self, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext) -> None:
        with connected_pair() as (one, two):
            self.near, self.far = one.dup(), two.dup()
        for sock in (self.near, self.far):
            sock.setblocking(False)
        self.client = Connection(client_context, server_hostname=HOST, fileno=self.near.fileno())
        self.server = Connection(server_context, server_side=True)
        while not self.client.is_established:
            with suppress(dtlsffi.DTLSWantReadError):
                self.client.do_handshake()
            with suppress(BlockingIOError):
                self.server.receive_datagram(self.far.recv(4096))
            self.deliver(*self.server.datagrams_to_send())
        self.carrier = Carrier(self.client, self.near.fileno(), threading.RLock())

    def sealed(self, *data: bytes) -> list[bytes]:
        self.server.send_many(data)
        return self.server.datagrams_to_send()

    def deliver(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.far.send(datagram)

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def reach(client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext) -> Iterator[Reach]:
    for context in (client_context, server_context):
        context.maximum_version = dtlsffi.DTLSVersion.DTLSv1_2
        context.set_ciphers("ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0")  # under which a forged record is the end
    made = Reach(client_context, server_context)
    yield made
    made.close()


def test_the_end_is_told_when_what_came_before_has_been_read(reach: Reach) -> None:
    """Without any datagram after it, and each time."""
    good, forged = reach.sealed(b"good", b"forged")
    reach.deliver(good, forged[:-1] + bytes([forged[-1] ^ 1]))
    assert reach.carrier.receive(10) == [b"good"]
    for _ in range(2):
        with pytest.raises(dtlsffi.DTLSError) as caught:
            reach.carrier.receive(10)
        assert caught.value.reason in ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")


def test_the_rest_of_a_datagram_that_was_read_in_part(reach: Reach) -> None:
    """By the record, before: it does not wait for another datagram."""
    reach.deliver(b"".join(reach.sealed(b"one", b"two", b"three")))
    assert reach.carrier.read() == b"one"
    assert reach.carrier.receive(10) == [b"two", b"three"]


def test_a_record_that_was_too_large_comes_first(reach: Reach) -> None:
    """And what has come with it behind it."""
    reach.deliver(b"".join(reach.sealed(b"large", b"two")))
    with pytest.raises(dtlsffi.DatagramTooLarge):
        reach.carrier.read(1)
    assert reach.carrier.receive(10) == [b"large", b"two"]


def test_who_has_let_go_of_the_socket_takes_nothing_from_it(reach: Reach) -> None:
    """Its number may be somebody else's by then."""
    reach.deliver(*reach.sealed(b"one"))
    assert reach.carrier.receive(10) == [b"one"]
    reach.carrier.release()
    reach.deliver(b"for another")
    with pytest.raises(OSError, match="Bad file descriptor"):
        reach.carrier.receive(10)
    assert reach.near.recv(100) == b"for another"


def again(client: Connection) -> list[bytes]:
    """What it says when its timer has run out."""
    while not (datagrams := client.datagrams_to_send()):
        client.handle_timer()
    return datagrams


def send_joined(sock: socket.socket, datagrams: list[bytes]) -> None:
    """Sends datagrams of one size, 50 in a message that the kernel cuts again, or joins."""
    size = struct.pack("H", len(datagrams[0]))
    for start in range(0, len(datagrams), 50):
        sock.sendmsg([b"".join(datagrams[start : start + 50])], [(socket.IPPROTO_UDP, UDP_SEGMENT, size)])


@pytest.mark.parametrize("count", [2, 400])
def test_what_icmp_says_of_an_answer_takes_nothing_with_it(
    count: int, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """A peer that says its last flight again, and more, and is gone: the second answer to it finds nobody there."""
    data = [b"%04d" % number for number in range(count)]
    client_context.retransmission = (0.01, 1, 0.01)
    server_context.retransmission = (60, 1, 60)  # says nothing twice, so that what the client reads is its last flight
    with connected_pair() as (one, two):
        for sock in (one, two):
            sock.setblocking(False)
        client = Connection(client_context, server_hostname=HOST)
        server = Connection(server_context, server_side=True, fileno=two.fileno())
        carrier = Carrier(server, two.fileno(), threading.RLock())
        with suppress(dtlsffi.DTLSWantReadError):
            client.do_handshake()
        while not server.is_established:
            with suppress(BlockingIOError):
                client.receive_datagram(one.recv(4096))
            for datagram in client.datagrams_to_send():
                one.send(datagram)
            with suppress(dtlsffi.DTLSWantReadError):
                server.do_handshake()
        flights = again(client) + again(client)
        client.receive_datagram(one.recv(4096))
        client.send_many(data)
        with pytest.raises(dtlsffi.DTLSWantReadError):
            carrier.receive(10)
        carrier._udp.most = lib.DTLSFFI_BATCH  # all of it comes at one time
        for datagram in flights:
            one.send(datagram)
        send_joined(one, client.datagrams_to_send())
        one.close()
        with pytest.raises(ConnectionRefusedError):
            carrier.receive(10)
        assert carrier.receive(count) == data


@pytest.mark.parametrize("without", [(), ("gro",)])
def test_datagrams_that_come_one_by_one_are_taken_by_the_many(
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    without: tuple[str, ...],
    request: pytest.FixtureRequest,
) -> None:
    """Where the kernel joins none, a call asks for as many as it may, not for the few that would hold many each."""
    request.addfinalizer(lambda: do_without([]))
    do_without(without)
    with joined(client_context, server_context) as (client, carrier):
        for number in range(100):
            client.send(b"%d" % number)
        batches = [carrier.receive(1000) for _ in range(3)]
        assert [len(batch) for batch in batches] == [4, 64, 32]
        assert [*chain.from_iterable(batches)] == [b"%d" % number for number in range(100)]
