"""udp.c: batches of datagrams over real sockets, through Endpoint.pump."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

import dtlsffi
from dtlsffi import DTLSContext, Endpoint
from dtlsffi._native import ffi, lib
from dtlsffi.core.batches import Batch
from dtlsffi.core.cookies import make_jar
from dtlsffi.testing import Authority
from tests.core.net import hello
from tests.helpers import HOST


@pytest.fixture
def client_context(authority: Authority) -> DTLSContext:
    return authority.client_context()


def bound(host: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    if host == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((host, 0))
    sock.setblocking(False)
    return sock


class Port:
    """A socket with an endpoint on it."""

    def __init__(self, host: str, context: DTLSContext | None = None) -> None:
        self.sock = bound(host)
        v6 = self.sock.family == socket.AF_INET6
        self.endpoint = Endpoint(context, fileno=self.sock.fileno(), v6_socket=v6)
        self.port: int = self.sock.getsockname()[1]


def settle(*ports: Port) -> None:
    """Pumps until nothing comes for a while."""
    sockets = {port.sock: port for port in ports}
    while ready := select.select(sockets, [], [], 0.05)[0]:
        for sock in ready:
            while sockets[sock].endpoint.pump(time.monotonic()):
                pass


@pytest.fixture
def ports() -> Iterator[list[Port]]:
    made: list[Port] = []
    yield made
    for port in made:
        port.sock.close()


def joined(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> tuple[Port, dtlsffi.EndpointConnection, dtlsffi.EndpointConnection]:
    """A server's port, and what a client and it have of their connection."""
    ports += [Port("127.0.0.1", server_context), Port("127.0.0.1")]
    server, client = ports
    conn = client.endpoint.connect(("127.0.0.1", server.port), 0, context=client_context, server_hostname=HOST)
    settle(*ports)
    (accepted,) = server.endpoint.accepted()
    return server, conn, accepted


IP_PKTINFO = 8
IP_MTU_DISCOVER, IP_PMTUDISC_WANT, IP_PMTUDISC_DO, IP_PMTUDISC_PROBE = 10, 1, 2, 3
UDP_SEGMENT = 103
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, SIOCSIFMTU, IFF_UP = 0x8914, 0x8922, 1


@pytest.mark.parametrize(("host", "asks"), [("127.0.0.1", False), ("0.0.0.0", True), ("::1", False), ("::", True)])  # noqa: S104
def test_only_a_socket_for_any_address_asks_which_it_was(host: str, asks: bool, ports: list[Port]) -> None:
    """One address is what all that is sent leaves from anyway."""
    ports.append(Port(host))
    v6 = ":" in host
    level, option = (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO) if v6 else (socket.IPPROTO_IP, IP_PKTINFO)
    assert ports[0].sock.getsockopt(level, option) == asks


def test_what_the_owner_asks_for_beside_leaves_no_room(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """The kernel cuts what it has to say of a datagram then; half an address is none."""
    ports += [Port("::", server_context), Port("::1")]
    sock = ports[0].sock
    sock.setsockopt(socket.SOL_SOCKET, 37, 0x18)  # SO_TIMESTAMPING: 64 bytes
    for option in (75, 38, 40):  # SO_RCVMARK, SO_PROTOCOL (which cannot be set), SO_RXQ_OVFL
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
    for option in (socket.IPV6_RECVTCLASS, socket.IPV6_RECVHOPLIMIT, 74, 75):  # and original addresses
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IPV6, option, 1)
    conn = ports[1].endpoint.connect(("::1", ports[0].port), 0, context=client_context, server_hostname=HOST)
    settle(*ports)
    assert conn.is_established
    for _ in range(3):
        conn.send_many([b"x" * 100] * 200)
        settle(*ports)
        assert [record for _, record in ports[0].endpoint.recv_many()] == [b"x" * 100] * 200


@pytest.mark.parametrize(
    ("listen", "to", "seen"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("::1", "::1", "::1"),
        ("::", "127.0.0.1", "::ffff:127.0.0.1"),
        ("::", "::1", "::1"),
    ],
)
def test_a_client_and_a_server_meet(
    listen: str, to: str, seen: str, ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Over IPv4, IPv6 and a socket for both."""
    ports += [Port(listen, server_context), Port("::1" if ":" in to else "127.0.0.1")]
    server, client = ports
    conn = client.endpoint.connect((to, server.port), 0, context=client_context, server_hostname=HOST)
    settle(*ports)
    (accepted,) = server.endpoint.accepted()
    assert accepted.is_established
    assert accepted.address[:2] == (seen, client.port)
    conn.send(b"hello")
    settle(*ports)
    assert list(accepted.received) == [b"hello"]
    accepted.send(b"world")
    settle(*ports)
    assert list(conn.received) == [b"world"]


def test_the_answer_leaves_from_the_address_that_was_asked(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """On a host with several: a client behind a connected socket would not hear any other."""
    ports.append(Port("0.0.0.0", server_context))  # noqa: S104
    server = ports[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.77", server.port))
        sock.settimeout(5)
        conn = client_context.wrap_socket(sock, server_hostname=HOST, do_handshake_on_connect=False)
        with conn:
            conn.setblocking(False)
            for _ in range(20):
                try:
                    conn.do_handshake()
                    break
                except dtlsffi.DTLSWantReadError:
                    settle(server)
            assert conn.version() == "DTLSv1.2"


def test_a_datagram_that_is_too_long_is_counted(ports: list[Port], server_context: DTLSContext) -> None:
    """Nothing of DTLS is as long; it comes whole, and is nobody's."""
    ports.append(Port("127.0.0.1", server_context))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(bytes(65_507), ("127.0.0.1", ports[0].port))
    settle(ports[0])
    assert ports[0].endpoint.statistics()["dropped_unknown"] == 1


def test_the_largest_record_goes_through(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """16384 bytes in one datagram."""
    ports += [Port("127.0.0.1", server_context), Port("127.0.0.1")]
    server, client = ports
    conn = client.endpoint.connect(("127.0.0.1", server.port), 0, context=client_context, server_hostname=HOST)
    settle(*ports)
    conn.mtu = 65000
    conn.send(b"x" * 16384)
    settle(*ports)
    assert list(server.endpoint.accepted()[0].received) == [b"x" * 16384]


def test_many_datagrams_come_in_batches(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Pump says when there may be more, and asks for as many at a time as have come of late."""
    ports += [Port("127.0.0.1", server_context), Port("127.0.0.1")]
    server, client = ports
    conn = client.endpoint.connect(("127.0.0.1", server.port), 0, context=client_context, server_hostname=HOST)
    settle(*ports)
    for number in range(100):
        conn.send(b"%d" % number)
    more = []
    while select.select([server.sock], [], [], 0.2)[0]:
        more.append(server.endpoint.pump(0))
    assert len(more) < 20
    assert more[:2] == [True, True]
    (accepted,) = server.endpoint.accepted()
    assert list(accepted.received) == [b"%d" % number for number in range(100)]


def test_a_socket_that_fails_is_heard_of(ports: list[Port], server_context: DTLSContext) -> None:
    """Closed under the endpoint: OSError, and no other descriptor is touched."""
    ports.append(Port("127.0.0.1", server_context))
    descriptor = ports[0].sock.detach()
    socket.close(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        ports[0].endpoint.pump(0)


def test_an_ipv4_socket_cannot_reach_ipv6(ports: list[Port], client_context: DTLSContext) -> None:
    """It is counted; the handshake runs out of time."""
    ports.append(Port("127.0.0.1"))
    endpoint = ports[0].endpoint
    endpoint.connect(("2001:db8::1", 1), 0, context=client_context, server_hostname=HOST)
    assert endpoint.statistics()["dropped_unsent"] == 1


def discovery(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER)


@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
def test_nobody_may_fragment_what_goes_to_many_peers(host: str, ports: list[Port]) -> None:
    """So the kernel need not number it; the socket is as it was before when its owner has it back."""
    ports.append(Port(host))
    sock, endpoint = ports[0].sock, ports[0].endpoint
    assert (discovery(sock), endpoint.statistics()["dont_fragment"]) == (IP_PMTUDISC_DO, 1)
    endpoint.close()
    assert discovery(sock) == IP_PMTUDISC_WANT


@pytest.mark.parametrize("left", [IP_PMTUDISC_DO, IP_PMTUDISC_PROBE])
def test_what_an_endpoint_leaves_behind_is_not_the_owners_will(left: int) -> None:
    """One that was never closed, in a process that was killed perhaps; what its owner decides meanwhile is."""
    with bound("127.0.0.1") as sock:
        Endpoint(fileno=sock.fileno())
        endpoint = Endpoint(fileno=sock.fileno())
        assert (discovery(sock), endpoint.statistics()["dont_fragment"]) == (IP_PMTUDISC_DO, 1)
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, left)
        endpoint.close()
        assert discovery(sock) == left


@pytest.mark.parametrize("has_peer", [False, True])
def test_what_may_be_fragmented_is_the_owners_to_decide(has_peer: bool) -> None:
    """Who has decided; and a socket with a peer has a counter of its own."""
    with bound("127.0.0.1") as sock:
        if has_peer:
            sock.connect(sock.getsockname())
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        before = discovery(sock)
        endpoint = Endpoint(fileno=sock.fileno())
        assert (discovery(sock), endpoint.statistics()["dont_fragment"]) == (before, 0)
        endpoint.close()
        assert discovery(sock) == before


def in_a_narrow_network(test: Callable[[], None]) -> None:
    """Runs a test where the loopback device carries 600 bytes at a time."""

    def run() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):  # this thread's alone
            pytest.skip(f"no network of its own to be had: {os.strerror(ctypes.get_errno())}")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, SIOCSIFMTU, struct.pack("16si12x", b"lo", 600))
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
        test()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result()


@pytest.mark.parametrize("by", ["flight", "send", "send_many", "Endpoint.send_many"])
def test_what_is_too_long_for_its_path_is_fragmented_after_all(
    by: str, ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Whatever it is that finds the path too narrow first; nothing is lost."""

    def narrow() -> None:
        server, conn, accepted = joined(ports, client_context, server_context)
        assert server.endpoint.statistics()["dont_fragment"] == (by != "flight")
        accepted.mtu = 1200
        sent = [bytes([number]) * 1000 for number in range(1 if by in ("flight", "send") else 3)]
        if by == "Endpoint.send_many":
            assert server.endpoint.send_many([(accepted, data) for data in sent]) == len(sent)
        elif by == "send_many":
            assert accepted.send_many(sent) == len(sent)
        else:
            accepted.send(sent[0])
        assert server.endpoint.statistics()["dont_fragment"] == 0
        settle(*ports)
        assert list(conn.received) == sent

    if by != "flight":
        server_context.mtu = client_context.mtu = 500
    in_a_narrow_network(narrow)


def test_a_narrow_path_does_not_end_cutting_for_others(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """What cannot be cut for one peer goes datagram by datagram; only a kernel that cuts nothing is not asked again."""

    def narrow() -> None:
        server, conn, accepted = joined(ports, client_context, server_context)
        if not server.endpoint.statistics()["gso"]:
            pytest.skip("this kernel cuts no messages")
        accepted.mtu = 1200
        long, short = [b"x" * 1000] * 3, [b"x" * 100] * 3
        for _ in range(10):
            assert accepted.send_many(long) == accepted.send_many(short) == 3
        assert server.endpoint.statistics()["gso"] == 1
        assert server.endpoint.statistics()["datagrams_segmented"] == 30
        settle(*ports)
        assert list(conn.received) == (long + short) * 10
        for _ in range(70):
            assert accepted.send_many(long) == 3
        assert server.endpoint.statistics()["gso"] == 1

    server_context.mtu = client_context.mtu = 500
    in_a_narrow_network(narrow)


def asked(sock: socket.socket, *messages: int) -> list[int]:
    """How many messages come in each of some batches, so many having been sent before it."""
    udp, batch = ffi.new("dtlsffi_udp *"), Batch()
    lib.dtlsffi_udp_prepare(udp, sock.fileno(), False, True)
    came = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for count in messages:
            for _ in range(count):
                sender.sendto(b"message", sock.getsockname())
            came.append(int(lib.dtlsffi_udp_receive(udp, batch.memory)))
    return came


def test_what_comes_decides_how_much_the_kernel_is_asked_for() -> None:
    """Few messages, until as many have come; then many, until few have come."""
    with bound("127.0.0.1") as sock:
        assert asked(sock, 100, 0, 0, 0, 100) == [4, 64, 32, 0, 4]


@pytest.mark.parametrize(("size", "most"), [(10, 64), (500, 13), (1000, 6), (1400, 4)])
def test_fewer_messages_are_asked_for_where_each_holds_many_datagrams(size: int, most: int) -> None:
    """Those of one sender, joined by the kernel: more of them would not stay in the nearer caches."""
    udp, batch = ffi.new("dtlsffi_udp *"), Batch()
    with bound("127.0.0.1") as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        lib.dtlsffi_udp_prepare(udp, sock.fileno(), False, True)
        sender.connect(sock.getsockname())
        try:
            sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
        except OSError:
            pytest.skip("this kernel cuts no messages")
        udp.most = lib.DTLSFFI_BATCH
        for _ in range(4):
            sender.send(b"x" * size * 20)
        assert lib.dtlsffi_udp_receive(udp, batch.memory) == 4
        if not batch.memory.joined:
            pytest.skip("this kernel joins no datagrams")
        assert batch.memory.joined == 80
        assert udp.most == most


def test_a_sockets_family_is_the_kernels_to_know(client_context: DTLSContext, server_context: DTLSContext) -> None:
    """Nobody has to say that it is of AF_INET6."""
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client,
    ):
        sock.bind(("::1", 0))
        sock.setblocking(False)
        endpoint = Endpoint(server_context, fileno=sock.fileno())
        connection = dtlsffi.Connection(client_context, server_hostname=HOST)
        client.connect(sock.getsockname())
        with pytest.raises(dtlsffi.DTLSWantReadError):
            connection.do_handshake()
        for datagram in connection.datagrams_to_send():
            client.send(datagram)
        select.select([sock], [], [], 5)
        endpoint.pump(1)
        counts = endpoint.statistics()
        assert (counts["cookies_sent"], counts["datagrams_sent"], counts["dropped_unsent"]) == (1, 1, 0)
        assert client.recv(1000)[13] == 3  # HelloVerifyRequest
        endpoint.close()


def test_answers_to_strangers_that_are_not_sent_are_counted(client_context: DTLSContext) -> None:
    """They ask again; whoever runs the server sees why."""
    with bound("127.0.0.1") as sock, bound("127.0.0.1") as client:
        udp, batch = ffi.new("dtlsffi_udp *"), Batch().memory
        lib.dtlsffi_udp_prepare(udp, sock.fileno(), False, False)
        _, first = hello(client_context)
        client.sendto(first, sock.getsockname())
        assert lib.dtlsffi_udp_receive(udp, batch) == 1
        batch.stranger_count, batch.strangers[0].length = 1, batch.length[0]
        udp.fd = -1
        lib.dtlsffi_strangers_answer_untrusted(udp, make_jar(None), batch, False)
        assert (batch.answered, udp.dropped_unsent, udp.datagrams_sent) == (1, 1, 0)
