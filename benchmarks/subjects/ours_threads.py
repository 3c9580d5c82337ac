"""dtlsffi's DTLSSockets in threads: each sends batches to one of its own, and receives them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .common import HOST, PATIENCE, Options, enlarge, obey, say
from .contexts import client_context, server_context
from .ours_memory import spin

BATCH = 128  # records a call


def joined(options: Options) -> tuple[Any, Any]:
    """Two sockets that have shaken hands."""
    pair = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in pair:
        enlarge(sock)
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(PATIENCE)
    for sock, other in zip(pair, reversed(pair), strict=True):
        sock.connect(other.getsockname())
    with ThreadPoolExecutor(1) as pool:
        server = pool.submit(server_context(options).wrap_socket, pair[1], server_side=True)
        return client_context(options).wrap_socket(pair[0], server_hostname=HOST), server.result()


def mover(options: Options) -> Callable[[], None]:
    """What moves one batch."""
    client, server = joined(options)
    buffers = [bytes(options.size)] * BATCH

    def move() -> None:
        client.send_many(buffers)
        received = 0
        while received < BATCH:
            received += len(server.recv_many(BATCH))

    return move


def threads(options: Options) -> None:
    """Mode: how many, and `+` where a thread that computes goes beside them."""
    movers = [mover(options) for _ in range(int(options.mode.rstrip("+")))]
    if options.mode.endswith("+"):
        threading.Thread(target=spin, daemon=True).start()
    begin = threading.Barrier(len(movers))

    def run(move: Callable[[], None]) -> float:
        """Records a second."""
        move()
        begin.wait()
        start = time.perf_counter()
        count = 0
        while time.perf_counter() < start + options.seconds:
            move()
            count += BATCH
        return count / (time.perf_counter() - start)

    with ThreadPoolExecutor(len(movers)) as pool:
        say(per_second=sum(pool.map(run, movers)))


if __name__ == "__main__":
    obey({"threads": threads})
