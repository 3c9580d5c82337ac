"""dtlsffi.core.draining: when peers are held to be silent, what becomes of goodbyes, what is counted for good."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dtlsffi import DTLSContext, EndpointConnection
from dtlsffi.core.draining import GRACE, SOON
from tests.core.test_draining import Port, joined_pair, ports, settle
from tests.helpers import HOST, record

__all__ = ["ports"]
IDLE = 10.0


def clients_of(ports: list[Port], server: DTLSContext, client: DTLSContext, count: int) -> list[EndpointConnection]:
    """Those of a server's port that has `idle_timeout`."""
    ports.append(Port(server, idle_timeout=IDLE))
    made = []
    for _ in range(count):
        ports.append(Port())
        made.append(ports[-1].endpoint.connect(ports[0].address, 1, context=client, server_hostname=HOST))
        settle(ports[0], ports[-1])
    return made


def test_who_has_spoken_while_we_slept_is_not_silent(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """The first pump takes a few datagrams only: the others' wait in the socket, and nobody else's do later."""
    clients = clients_of(ports, server_context, client_context, 20)
    server, woken = ports[0].endpoint, 1 + 5 * IDLE
    for client in clients[1:]:
        client.send(b"here")
    assert server.pump(woken)
    server.handle_timers(woken)
    assert server.statistics()["expired"] == 0
    assert server.get_timer(woken) == pytest.approx(SOON)
    while server.pump(woken):
        server.handle_timers(woken)
    server.handle_timers(woken + SOON)
    assert server.statistics()["expired"] == 1
    server.handle_timers(woken + IDLE + SOON)
    assert server.statistics()["expired"] == 20


def test_a_flood_does_not_keep_the_silent(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Whose datagrams would have come by then."""
    clients_of(ports, server_context, client_context, 1)
    server, late = ports[0].endpoint, 2 + IDLE
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for _ in range(200):
            stranger.sendto(b"junk", ports[0].address)
    assert server.pump(late)
    server.handle_timers(late)
    assert server.statistics()["expired"] == 0
    assert server.pump(late + GRACE)
    server.handle_timers(late + GRACE)
    assert server.statistics()["expired"] == 1


@contextmanager
def blocked(port: Port) -> Iterator[socket.socket]:
    """Has a port send to a queue in the kernel that is full, since loopback never is; what comes out of that."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    udp = port.endpoint._udp
    with left, right:
        left.setblocking(False)
        udp.fd, udp.connected, udp.segments = left.fileno(), True, 0
        try:
            while left.send(b"before"):
                pass
        except BlockingIOError:
            pass
        try:
            yield right
        finally:
            udp.fd = -1


def test_goodbyes_wait_for_room(ports: list[Port], client_context: DTLSContext, server_context: DTLSContext) -> None:
    """When all are closed: each of them gets out, as the buffer empties."""
    with joined_pair(ports, server_context, client_context, 30), blocked(ports[0]) as right:
        closing = threading.Thread(target=ports[0].endpoint.close)
        closing.start()
        goodbyes = 0
        right.settimeout(10)
        while goodbyes < 30:
            goodbyes += right.recv(100)[:1] == b"\x15"
        closing.join()
        assert ports[0].endpoint.statistics()["dropped_unsent"] == 0


def test_goodbyes_do_not_wait_for_ever_and_are_counted(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Only the first of them waits where nothing gets out; one by itself does not, which a loop may have to."""
    with joined_pair(ports, server_context, client_context, 20) as (_, servers), blocked(ports[0]):
        begin = time.monotonic()
        servers[0].close()
        assert time.monotonic() - begin < 0.1
        assert servers[0].statistics()["dropped_unsent"] == 1
        begin = time.monotonic()
        ports[0].endpoint.close()
        assert 0.1 <= time.monotonic() - begin < 1
        assert ports[0].endpoint.statistics()["dropped_unsent"] == 20


def test_what_gone_connections_have_dropped_is_counted_still(
    ports: list[Port], client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """In the statistics of the port, which never go back."""
    with joined_pair(ports, server_context, client_context) as ((client,), (server,)):
        for forged in (record(23, bytes(40), epoch=1), record(22, b"x"), b"junk"):
            ports[1].sock.sendto(forged, ports[0].address)
        client.send(b"x")
        settle(*ports)
        own = server.statistics()
        assert (own["dropped_unauthenticated"], own["dropped_junk"]) == (1, 1)
        before = ports[0].endpoint.statistics()
        assert (before["dropped_unauthenticated"], before["dropped_junk"]) == (1, 1)
        server.close()
        ports[0].endpoint.close()
        after = ports[0].endpoint.statistics()
        less = {name for name, count in before.items() if after[name] < count}
        assert less <= {"connections", "gro", "dont_fragment"}  # which are no counters


def test_what_the_buffer_had_no_room_for_is_known_after_the_end(ports: list[Port]) -> None:
    """SO_MEMINFO is the socket's, which goes."""
    ports.append(Port())
    ports[0].sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(100):
            sender.sendto(bytes(1000), ports[0].address)
    before = ports[0].endpoint.statistics()["dropped_overflow"]
    assert before > 0
    ports[0].endpoint.close()
    assert ports[0].endpoint.statistics()["dropped_overflow"] == before
