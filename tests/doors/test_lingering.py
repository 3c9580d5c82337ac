"""dtlsffi.lingering: the quick way, where there is no timer to be minded. The other ways are in test_sockets.py."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import dtlsffi
from dtlsffi.lingering import LULLS

Pair = tuple[dtlsffi.DTLSSocket, dtlsffi.DTLSSocket]


def count_polls(conn: dtlsffi.DTLSSocket, monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The durations for which it has waited, in milliseconds, as they come."""
    waited: list[Any] = []
    quickly = conn._wait_quickly
    monkeypatch.setattr(conn, "_wait_quickly", lambda deadline: (waited.append(deadline.left()), quickly(deadline)))
    return waited


def test_what_is_there_is_taken_without_waiting(dtls_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """No poll for a stream of records."""
    client, server = dtls_pair
    waited = count_polls(server, monkeypatch)
    for number in range(20):
        client.send(b"%d" % number)
    assert [server.recv() for _ in range(20)] == [b"%d" % number for number in range(20)]
    assert waited == []


def test_after_a_lull_calls_wait_before_they_look(
    dtls_pair: Pair, monkeypatch: pytest.MonkeyPatch, both: Callable[..., list[Any]]
) -> None:
    """For some calls; then they look again."""
    client, server = dtls_pair
    waited = count_polls(server, monkeypatch)

    def answer() -> None:
        for _ in range(2 * LULLS):
            server.send(server.recv())

    def ask() -> None:
        for number in range(2 * LULLS):
            client.send(b"%d" % number)
            assert client.recv() == b"%d" % number

    both(answer, ask)
    assert 0 < len(waited) <= 2 * LULLS


@pytest.mark.parametrize("lulls", [0, LULLS])
def test_the_timeout_holds_either_way(lulls: int, dtls_pair: Pair) -> None:
    """Junk that comes meanwhile does not prolong it."""
    client, server = dtls_pair
    server._lulls = lulls
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
