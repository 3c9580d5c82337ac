"""dtlsffi's DTLSSockets in threads: each sends batches to one of its own, and receives them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from .common import PATIENCE, Options, obey, say
from .ours_memory import spin
from .ours_sockets import socket_pair

BATCH = 128  # records a call


def mover(options: Options) -> Callable[[], None]:
    """What moves one batch."""
    client, server = socket_pair(options)
    for conn in (client, server):
        conn.settimeout(PATIENCE)
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
