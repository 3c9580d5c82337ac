"""What many tests need: contexts with short timers, and pairs that have shaken hands, in memory or over UDP."""

from __future__ import annotations

import gc
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import dtlsffi
from dtlsffi.testing import Authority, MemoryLink
from tests.helpers import FAST, HOST


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The authority that clients trust."""
    return Authority()


@pytest.fixture(scope="session")
def stranger() -> Authority:
    """An authority that nobody trusts."""
    return Authority()


@pytest.fixture
def client_context(authority: Authority) -> dtlsffi.DTLSContext:
    """A client that trusts `authority`, and is in a hurry."""
    context = authority.client_context()
    context.retransmission = FAST
    return context


@pytest.fixture
def server_context(authority: Authority) -> dtlsffi.DTLSContext:
    """A server named HOST, 127.0.0.1 and ::1, in a hurry, too."""
    context = authority.server_context(HOST, "127.0.0.1", "::1")
    context.retransmission = FAST
    return context


LinkMaker = Callable[..., MemoryLink]


@pytest.fixture
def link(client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext) -> MemoryLink:
    """A client and a server in memory, before their handshake."""
    return MemoryLink(
        dtlsffi.Connection(client_context, server_hostname=HOST), dtlsffi.Connection(server_context, server_side=True)
    )


@pytest.fixture
def joined(link: MemoryLink) -> MemoryLink:
    """The same after their handshake."""
    link.shake_hands()
    for side in (link.client, link.server):
        side.events_received()
    return link


@pytest.fixture
def udp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two UDP sockets on loopback, connected to one another."""
    with connected_pair() as pair:
        yield pair


class connected_pair:  # noqa: N801 - used like a function
    """Two UDP sockets on loopback, connected to one another; closed at the end, whoever has them then."""

    def __init__(self, family: int = socket.AF_INET) -> None:
        self._pair = tuple(socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        for sock in self._pair:
            sock.bind((host, 0))
            sock.settimeout(10)
        self._pair[0].connect(self._pair[1].getsockname())
        self._pair[1].connect(self._pair[0].getsockname())

    def __enter__(self) -> tuple[socket.socket, socket.socket]:
        """The two."""
        return self._pair

    def __exit__(self, *_: object) -> None:
        """Close those that were not used up."""
        for sock in self._pair:
            sock.close()


@pytest.fixture
def no_preemption() -> Iterator[None]:
    """Threads change places only where one lets go of the GIL by itself."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(10)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also where whoever has started the tests ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def both() -> Iterator[Callable[..., list[object]]]:
    """Runs functions at the same time, each in its thread; returns their results, raises their first exception."""
    with ThreadPoolExecutor(8) as pool:

        def run(*functions: Callable[[], object]) -> list[object]:
            futures = [pool.submit(function) for function in functions]
            return [future.result(timeout=60) for future in futures]

        yield run


@pytest.fixture
def dtls_pair(
    udp_pair: tuple[socket.socket, socket.socket],
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    both: Callable[..., list[dtlsffi.DTLSSocket]],
) -> Iterator[tuple[dtlsffi.DTLSSocket, dtlsffi.DTLSSocket]]:
    """A client's and a server's DTLSSocket that have shaken hands over UDP."""
    client, server = both(
        lambda: client_context.wrap_socket(udp_pair[0], server_hostname=HOST),
        lambda: server_context.wrap_socket(udp_pair[1], server_side=True),
    )
    with client, server:
        yield client, server


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a thread running, or a socket that only the garbage collector finds."""
    before = threading.active_count()
    yield
    if request.path.parent.name in ("doors", "threads", "interop", "serving"):  # elsewhere there are no sockets
        gc.collect()
    assert threading.active_count() <= before, threading.enumerate()
