"""The GIL: kept through a record, let go of in a handshake and while a thread waits for another."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

import dtlsffi
from dtlsffi.testing import MemoryLink
from tests.bad_certificates import self_signed
from tests.conftest import HOST


@pytest.fixture
def busy_thread() -> Iterator[None]:
    """A thread that computes for as long as the test runs."""
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=compute)
    thread.start()
    yield
    stop.set()
    thread.join()


def test_a_busy_thread_does_not_slow_records_to_milliseconds(joined: MemoryLink, busy_thread: None) -> None:
    """A call that let go of the GIL would wait a switch interval (5 ms) for it; four calls a record make 20 ms."""
    del busy_thread
    count = 2000
    begin = time.perf_counter()
    for _ in range(count):
        joined.client.send(b"x" * 200)
        for datagram in joined.client.datagrams_to_send():
            joined.server.receive_datagram(datagram)
    assert len(joined.server.data_received()) == count
    # What is measured includes the switch intervals of the other thread: half of the time, at most, is ours.
    assert (time.perf_counter() - begin) / count < 0.001


def batch(link: MemoryLink) -> list[bytes]:
    """Datagrams of a long batch."""
    link.client.send_many([b"x" * 200] * 128)
    return link.client.datagrams_to_send()


def test_a_busy_thread_does_not_slow_batches_to_milliseconds(joined: MemoryLink, busy_thread: None) -> None:
    """The GIL is kept while it is slow to get back; a batch that always let go of it would take 5 ms, and two 10."""
    del busy_thread
    count = 300
    begin = time.perf_counter()
    for _ in range(count):
        joined.server.receive_datagrams(batch(joined))
    assert len(joined.server.data_received()) == 128 * count
    assert (time.perf_counter() - begin) / count < 0.003


@pytest.fixture
def turns(no_preemption: None) -> Iterator[Callable[[], int]]:
    """How often a thread that always gives way has had its turn so far."""
    del no_preemption
    stop = threading.Event()
    count = 0

    def tick() -> None:
        nonlocal count
        while not stop.is_set():
            count += 1
            time.sleep(0)

    thread = threading.Thread(target=tick)
    thread.start()
    yield lambda: count
    stop.set()
    thread.join()


@pytest.mark.parametrize("what", ["sealing", "opening"])
def test_a_batch_lets_other_threads_run(what: str, joined: MemoryLink, turns: Callable[[], int]) -> None:
    """It is for them as if nobody were there, unless the GIL has been slow to get back, as on a busy machine."""
    meanwhile, end = 0, time.monotonic() + 30
    while meanwhile <= 100 and time.monotonic() < end:
        before = turns()
        datagrams = batch(joined)
        if what == "opening":
            before = turns()
            joined.server.receive_datagrams(datagrams)
        meanwhile += turns() - before
    assert meanwhile > 100


@pytest.fixture
def heavy_links() -> Iterator[MemoryLink]:
    """Servers that sign with RSA of 4096 bits: several milliseconds in one step."""
    identity = self_signed(HOST, key=rsa.generate_private_key(65537, 4096))
    client, server = (dtlsffi.DTLSContext(p) for p in (dtlsffi.PROTOCOL_DTLS_CLIENT, dtlsffi.PROTOCOL_DTLS_SERVER))
    client.load_verify_locations(cadata=identity.certificate)
    server.load_cert_chain(identity.certificate, identity.key)
    return (
        MemoryLink(dtlsffi.Connection(client, server_hostname=HOST), dtlsffi.Connection(server, server_side=True))
        for _ in itertools.count()
    )


def hello(link: MemoryLink) -> bytes:
    """The client's first flight."""
    with pytest.raises(dtlsffi.DTLSWantReadError):
        link.client.do_handshake()
    (datagram,) = link.client.datagrams_to_send()
    return datagram


def test_a_handshake_lets_other_threads_run(heavy_links: Iterator[MemoryLink], turns: Callable[[], int]) -> None:
    """While OpenSSL computes, Python goes on."""
    meanwhile = []
    for link in itertools.islice(heavy_links, 20):
        datagram = hello(link)
        before = turns()
        link.server.receive_datagram(datagram)
        meanwhile.append(turns() - before)
        assert link.server.datagrams_to_send(), "the server has signed"
    assert max(meanwhile) > 3, meanwhile


def test_a_handshake_in_one_thread_is_locked_against_the_others(heavy_links: Iterator[MemoryLink]) -> None:
    """They wait, without the GIL: else this would end in a deadlock, and without a lock in a crash."""
    heavy_link = next(heavy_links)
    datagram = hello(heavy_link)
    done = threading.Event()

    def disturb() -> None:
        while not done.is_set():
            heavy_link.server.cipher()
            heavy_link.server.receive_datagram(datagram)
            with suppress(dtlsffi.DTLSWantReadError):
                heavy_link.server.do_handshake()
            heavy_link.server.get_timer()

    threads = [threading.Thread(target=disturb) for _ in range(3)]
    for thread in threads:
        thread.start()
    heavy_link.server.receive_datagram(datagram)
    heavy_link.shake_hands()
    done.set()
    for thread in threads:
        thread.join()
    heavy_link.client.send(b"alive")
    heavy_link.settle()
    assert heavy_link.received[heavy_link.server] == [b"alive"]
