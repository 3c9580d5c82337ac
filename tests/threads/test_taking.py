"""Several threads that take from one connection: what there is to send, and what has been received."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain

import pytest

from dtlsffi import DTLSContext, DTLSSocket, DTLSWantReadError
from dtlsffi.testing import MemoryLink
from tests.doors.accepting import waits_in
from tests.helpers import HOST


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_each_datagram_is_taken_once(joined: MemoryLink) -> None:
    """Three threads take, two send: nothing is lost, doubled or cut."""
    client, server = joined.client, joined.server
    taken: list[bytes] = []
    done = threading.Event()

    def take() -> None:
        while not done.is_set():
            taken.extend(client.datagrams_to_send())

    def send(first: int) -> None:
        for number in range(first, first + 500):
            client.send(b"%d" % number)

    takers = [threading.Thread(target=take) for _ in range(3)]
    senders = [threading.Thread(target=send, args=(first,)) for first in (0, 500)]
    for thread in takers + senders:
        thread.start()
    for thread in senders:
        thread.join()
    done.set()
    for thread in takers:
        thread.join()
    taken += client.datagrams_to_send()
    for start in range(0, 1000, 50):  # as many as may overtake one another
        server.receive_datagrams(sorted(taken, key=lambda datagram: datagram[3:11])[start : start + 50])
    assert sorted(map(int, server.data_received())) == list(range(1000))


def test_each_record_is_taken_once(
    dtls_pair: tuple[DTLSSocket, DTLSSocket], both: Callable[..., list[list[bytes]]]
) -> None:
    """Two threads receive by the batch, a third record by record: nothing is lost or doubled."""
    client, server = dtls_pair
    server.setblocking(False)

    def pair() -> list[bytes]:
        return server.recv_many(2)

    def one() -> list[bytes]:
        return [server.recv()]

    def take(receive: Callable[[], list[bytes]]) -> list[bytes]:
        taken: list[bytes] = []
        try:
            while True:
                taken += receive()
        except DTLSWantReadError:
            return taken

    for start in range(0, 5000, 100):
        assert client.send_many([b"%d" % number for number in range(start, start + 100)]) == 100
        shares = both(partial(take, pair), partial(take, pair), partial(take, one))
        assert sorted(map(int, chain(*shares))) == list(range(start, start + 100))


def test_what_is_received_by_the_batch_is_taken_once(joined: MemoryLink) -> None:
    """Two threads take while a third opens long batches, for which it lets go of the GIL."""
    client, server = joined.client, joined.server
    taken: list[bytes] = []
    done = threading.Event()

    def take() -> None:
        while not done.is_set():
            taken.extend(server.data_received())

    takers = [threading.Thread(target=take) for _ in range(2)]
    for thread in takers:
        thread.start()
    for start in range(0, 51200, 512):
        client.send_many([b"%d" % number for number in range(start, start + 512)])
        server.receive_datagrams(client.datagrams_to_send())
    done.set()
    for thread in takers:
        thread.join()
    taken += server.data_received()
    assert sorted(map(int, taken)) == list(range(51200))


def test_who_waited_for_the_handshake_does_not_let_recv_past_the_queue(
    udp_pair: tuple[socket.socket, socket.socket],
    client_context: DTLSContext,
    server_context: DTLSContext,
) -> None:
    """Another thread has finished it meanwhile, and has begun to receive by the batch."""
    client = client_context.wrap_socket(udp_pair[0], server_hostname=HOST, do_handshake_on_connect=False)
    server = server_context.wrap_socket(udp_pair[1], server_side=True, do_handshake_on_connect=False)
    with client, server:
        client._handshake_lock.acquire()
        late = threading.Thread(target=client.do_handshake)
        late.start()
        shaking = threading.Thread(target=server.do_handshake)
        shaking.start()
        client.do_handshake()
        shaking.join()
        server.send_many([b"1", b"2", b"3"])
        first = client.recv_many(1)
        client._handshake_lock.release()
        late.join()
        server.send(b"4")
        assert first + [client.recv() for _ in range(3)] == [b"1", b"2", b"3", b"4"]


def begin_by_the_batch(client: DTLSSocket) -> None:
    """There is nothing yet; from now on all comes through recv_many()."""
    client.settimeout(0)
    with pytest.raises(DTLSWantReadError):
        client.recv_many()
    client.settimeout(10)


def test_who_waits_without_the_batch_gets_one_datagram_at_a_time(dtls_pair: tuple[DTLSSocket, DTLSSocket]) -> None:
    """The kernel joins none for it, though another thread has begun to receive by the batch."""
    client, server = dtls_pair
    found: list[bytes] = []
    waiting, _ = waits_in(client, server, lambda: found.append(client.recv()))
    begin_by_the_batch(client)
    data = [b"%03d" % number + bytes(1000) for number in range(60)]
    assert server.send_many(data) == 60
    waiting.join()
    while len(found) < 60:
        found += client.recv_many()
    assert sorted(found) == data


def test_a_record_that_was_kept_after_the_batch_has_begun_comes_first(
    dtls_pair: tuple[DTLSSocket, DTLSSocket],
) -> None:
    """A thread was waiting still, with too little room."""
    client, server = dtls_pair
    waiting, _ = waits_in(client, server, partial(client.recv, 10))
    begin_by_the_batch(client)
    server.send(b"A" * 100)
    waiting.join()
    server.send(b"B")
    found = client.recv_many()
    found += client.recv_many() if len(found) < 2 else []
    assert found == [b"A" * 100, b"B"]
