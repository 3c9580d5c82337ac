"""One DTLSSocket, several threads: one sends while another receives, and none waits for the GIL with a lock."""

from __future__ import annotations

import gc
import os
import select
import socket
import threading
from collections.abc import Callable

import pytest

import dtlsffi
from dtlsffi.testing import MemoryLink
from tests.conftest import HOST, connected_pair

RECORDS = 200_000


def number_of(data: bytes) -> int:
    """What a record says it is, after checking that it is whole."""
    number = int.from_bytes(data[:4], "big")
    assert data == number.to_bytes(4, "big") * (1 + number % 16), "a record was changed"
    return number


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_thread_sends_while_another_receives(
    dtls_pair: tuple[dtlsffi.DTLSSocket, dtlsffi.DTLSSocket],
) -> None:
    """200,000 records out of one DTLSSocket, answers into it at the same time: all sent, none corrupted."""
    client, server = dtls_pair
    server.settimeout(5)
    client.settimeout(5)
    echoed: list[int] = []
    received: list[int] = []

    def echo() -> None:
        try:
            while data := server.recv():
                received.append(number_of(data))
                server.send(data)
        except TimeoutError:  # the close_notify got lost like any datagram
            pass

    def listen() -> None:
        try:
            while data := client.recv():
                echoed.append(number_of(data))
        except TimeoutError:
            pass

    threads = [threading.Thread(target=run) for run in (echo, listen)]
    for thread in threads:
        thread.start()
    for number in range(RECORDS):
        assert client.send(number.to_bytes(4, "big") * (1 + number % 16)) > 0
    client.shutdown(socket.SHUT_WR)
    for thread in threads:
        thread.join()
    counters = client.statistics()
    assert counters["records_sent"] == RECORDS
    assert counters["records_received"] == len(echoed)
    for numbers in (received, echoed):
        assert len(set(numbers)) == len(numbers), "a record came twice"
        assert len(numbers) > RECORDS // 100  # loopback drops what the receiver has no room for
    for side in (client, server):
        assert side.statistics()["dropped_unauthenticated"] == side.statistics()["dropped_replayed"] == 0


@pytest.mark.slow
def test_many_threads_send(dtls_pair: tuple[dtlsffi.DTLSSocket, dtlsffi.DTLSSocket]) -> None:
    """The lock is in C: no record number is used twice, and none is lost."""
    client, server = dtls_pair
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
    server.settimeout(1)
    each = 2000

    def send(thread: int) -> None:
        for number in range(each):
            client.send((thread * each + number).to_bytes(4, "big"))

    threads = [threading.Thread(target=send, args=(thread,)) for thread in range(8)]
    received: list[bytes] = []

    def gather() -> None:
        try:
            while True:
                received.append(server.recv())
        except TimeoutError:
            pass

    gatherer = threading.Thread(target=gather)
    for thread in [gatherer, *threads]:
        thread.start()
    for thread in [*threads, gatherer]:
        thread.join()
    assert client.statistics()["records_sent"] == 8 * each
    assert len(set(received)) == len(received)
    counters = server.statistics()
    assert counters["dropped_replayed"] == counters["dropped_unauthenticated"] == 0


def test_two_threads_may_shake_hands(
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    both: Callable[..., list[object]],
) -> None:
    """On one socket, as a reader and a writer that both start without a handshake do; neither is left waiting."""
    for _ in range(20):
        with (
            connected_pair() as pair,
            client_context.wrap_socket(pair[0], server_hostname=HOST, do_handshake_on_connect=False) as client,
            server_context.wrap_socket(pair[1], server_side=True, do_handshake_on_connect=False) as server,
        ):
            results = both(
                client.do_handshake,
                lambda client=client: client.send(b"ping"),
                lambda client=client: client.recv(),
                lambda server=server: (server.recv(), server.send(b"pong")),
            )
            assert results[1:3] == [4, b"pong"]


def test_connections_in_memory_may_be_shared(joined: MemoryLink, both: Callable[..., list[object]]) -> None:
    """Sending, taking and asking from several threads at once."""
    datagrams: list[bytes] = []

    def send() -> None:
        for _ in range(3000):
            joined.client.send(b"x" * 100)

    def take() -> None:
        while len(datagrams) < 9000:
            datagrams.extend(joined.client.datagrams_to_send())

    def ask() -> None:
        for _ in range(3000):
            assert joined.client.cipher()
            assert joined.client.version() == "DTLSv1.2"
            assert joined.client.session is not None
            joined.client.get_timer()
            joined.client.statistics()

    both(send, send, send, take, ask)
    for datagram in datagrams:
        joined.server.receive_datagram(datagram)
    assert joined.server.data_received() == [b"x" * 100] * 9000


# ---- fork ----


def in_a_child(action: Callable[[], None]) -> int:
    """Runs `action` in a forked child; returns 0 if it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:  # noqa: BLE001 - the child must not return into pytest
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_connection_is_its_process_own(joined: MemoryLink) -> None:
    """The child's copy refuses everything that would use a nonce, and the parent's goes on."""

    def child() -> None:
        for call in (
            lambda: joined.client.send(b"x"),
            lambda: joined.client.send_many([b"x"]),
            lambda: joined.client.send_many([]),
            lambda: joined.client.receive_datagram(b"\x17\xfe\xfd" + bytes(10)),
            joined.client.do_handshake,
            joined.client.handle_timer,
            joined.client.cipher,
            lambda: joined.client.session_reused,
        ):
            with pytest.raises(dtlsffi.DTLSError, match="belongs to the parent process") as caught:
                call()
            assert caught.value.reason == "USED_AFTER_FORK"
        joined.client.close()
        assert joined.client.datagrams_to_send() == []
        assert joined.client.get_timer() is None

    assert in_a_child(child) == 0
    joined.client.send(b"alive")
    joined.settle()
    assert joined.received[joined.server] == [b"alive"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_that_closes_its_copy_harms_nobody(
    dtls_pair: tuple[dtlsffi.DTLSSocket, dtlsffi.DTLSSocket],
) -> None:
    """No close_notify, no shutdown of the socket that the parent goes on using."""
    client, server = dtls_pair

    def child() -> None:
        with pytest.raises(dtlsffi.DTLSError, match="belongs to the parent process"):
            client.send(b"x")
        client.close()
        server.close()

    assert in_a_child(child) == 0
    client.send(b"alive")
    assert server.recv() == b"alive"
    server.send(b"likewise")
    assert client.recv() == b"likewise"


@pytest.mark.timeout(10)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_RDWR])
def test_a_child_that_shuts_its_copy_down_harms_nobody(
    dtls_pair: tuple[dtlsffi.DTLSSocket, dtlsffi.DTLSSocket], how: int
) -> None:
    """The parent goes on receiving, and its timeouts are what they were."""
    client, _ = dtls_pair
    assert in_a_child(lambda: client.shutdown(how)) == 0
    client.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.recv()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_context_may_be_used_after_fork(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """New connections in the child are its own."""

    def child() -> None:
        link = MemoryLink(
            dtlsffi.Connection(client_context, server_hostname=HOST),
            dtlsffi.Connection(server_context, server_side=True),
        )
        link.shake_hands()

    assert in_a_child(child) == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_takes_nothing_of_what_comes_by_the_batch(
    dtls_pair: tuple[dtlsffi.DTLSSocket, dtlsffi.DTLSSocket],
) -> None:
    """And its close leaves the socket as its parent needs it."""
    client, server = dtls_pair
    client.send(b"first")
    assert server.recv_many() == [b"first"]
    joins = socket.IPPROTO_UDP, 104  # UDP_GRO, where there is one
    before = server.getsockopt(*joins) if server.statistics()["gro"] else None
    client.send(b"second")

    def child() -> None:
        with pytest.raises(dtlsffi.DTLSError, match="belongs to the parent process") as caught:
            server.recv_many()
        assert caught.value.reason == "USED_AFTER_FORK"
        server.close()

    assert in_a_child(child) == 0
    assert server.recv_many() == [b"second"]
    assert before is None or server.getsockopt(*joins) == before


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_takes_nothing_from_an_endpoints_socket(server_context: dtlsffi.DTLSContext) -> None:
    """Nor from anybody else's."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as who,
    ):
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        endpoint = dtlsffi.Endpoint(server_context, fileno=sock.fileno())
        who.sendto(b"junk", sock.getsockname())

        def child() -> None:
            with pytest.raises(dtlsffi.DTLSError, match="belongs to the parent process"):
                endpoint.pump(0)
            endpoint.close()

        assert in_a_child(child) == 0
        endpoint.pump(0)
        assert endpoint.statistics()["datagrams_received"] == 1
        endpoint.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_childs_copy_of_an_endpoint_may_be_closed_and_forgotten(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """And sends nothing: its connections are the parent's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        endpoints = [dtlsffi.Endpoint(server_context, fileno=sock.fileno())]
        clients = dtlsffi.Endpoint(None)
        made = [clients.connect(("127.0.0.1", n), 0, context=client_context, server_hostname=HOST) for n in (1, 2, 3)]
        ways = []
        for _ in made:
            ways.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            ways[-1].connect(sock.getsockname())
        while not all(connection.is_established for connection in made):
            for datagram, (_, number) in clients.datagrams_to_send():
                ways[number - 1].send(datagram)
            endpoints[0].pump(0)
            for number, way in enumerate(ways, 1):
                while select.select([way], [], [], 0)[0]:
                    clients.receive_datagram(way.recv(4096), ("127.0.0.1", number), 0)
        accepted = endpoints[0].accepted()

        def child() -> None:
            for count in (1, 2):
                with pytest.raises(dtlsffi.DTLSError, match="belongs to the parent process"):
                    endpoints[0].send_many([(accepted[0], b"x")] * count)
            endpoints.pop().close()
            accepted.clear()
            gc.collect()

        assert in_a_child(child) == 0
        assert endpoints[0].send_many([(accepted[0], b"x")] * 2) == 2
        endpoints[0].close()
        for way in ways:
            way.close()
