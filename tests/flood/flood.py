"""Hellos from everywhere, as fast as another process can send them, while honest clients connect and exchange data.

    python -m tests.flood.flood [--seconds N] [--clients N] [--fragments] [--door NAME]

Ends with status 1 where an honest client does not get through, memory grows, more handshakes are half open than may be,
or an answer is larger than its question.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE

from dtlsffi.testing import Authority
from tests.crowd.clients import Client, Crowd
from tests.crowd.doors import doors
from tests.crowd.servers import Server
from tests.flood.strangers import fragments, hello

WORDS = 3  # each honest client says
HALF_OPEN = 500  # handshakes at most
GROWTH = 65536  # kB at most: room for that many handshakes, and for the clients
FLAT = GROWTH / 8  # kB at most in the second half of a flood that lasts
PATIENCE = (0.05, 1.2, 0.5)  # an honest client's retransmission, in seconds
TRIES = 5  # of an honest client: where the kernel has to drop nine datagrams of ten, one of two seconds may fail


@contextmanager
def strangers(port: int, datagrams: list[bytes]) -> Iterator[dict[str, float]]:
    """The flood, for as long as the block lasts; what the strangers have counted is there after it."""
    counted: dict[str, float] = {}
    command = [sys.executable, "-m", "tests.flood.strangers", str(port), *(datagram.hex() for datagram in datagrams)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdout.readline()
            yield counted
            process.stdin.close()
            counted.update(json.loads(process.stdout.readline()))
        finally:
            process.kill()


class Watch:
    """Looks at a server four times a second, in a thread."""

    def __init__(self, server: Server) -> None:
        self._server, self._over = server, threading.Event()
        self.seen = [server.statistics()]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.25):
            self.seen.append(self._server.statistics())

    def end(self) -> dict[str, float]:
        """What it has seen."""
        self._over.set()
        self._thread.join()
        self.seen.append(self._server.statistics())
        memory = [seen["resident"] for seen in self.seen]
        half = (1 + len(memory)) // 2
        first, last = self.seen[0], self.seen[-1]
        return {
            "most half open": max(seen["pending"] for seen in self.seen),
            "refused": last["refused_pending"],
            "kB grown": max(memory) - first["resident"],
            "kB grown in the second half": max(memory[half:]) - max(memory[:half]),
            "datagrams": last["datagrams_received"] - first["datagrams_received"],
        }


def run(seconds: float, clients: int, *, in_fragments: bool, door: str = "endpoint") -> dict[str, float]:
    """The flood, and the honest clients; what came of it."""
    authority, whole = Authority(), hello()
    datagrams = fragments(whole, 60) if in_fragments else [whole]
    with Server(door, authority, max_pending=HALF_OPEN, handshake_timeout=2.0, idle_timeout=3.0) as server:
        watch = Watch(server)
        try:
            with strangers(server.address[1], datagrams) as counted:
                result = honest(server.address, authority, seconds, clients)
        finally:
            seen = watch.end()
    return result | {"hellos a second": seen.pop("datagrams") / result["seconds"]} | seen | counted


def honest(address: tuple[str, int], authority: Authority, seconds: float, clients: int) -> dict[str, float]:
    """Honest clients, so many at a time, wave after wave; as a person would, they try again."""
    context = authority.client_context()
    context.retransmission = PATIENCE
    begin, slowest = time.monotonic(), 0.0
    through = again = never = lost = mixed = 0
    while through == 0 or time.monotonic() < begin + seconds:
        with Crowd(Client(number, address, context) for number in range(clients)) as wave:
            took = wave.run(WORDS, window=clients)
            for _ in range(TRIES - 1):
                failed = [client for client in wave.clients if client.failure is not None]
                for client in failed:
                    client.begin_anew(context)
                again += len(failed)
                took += wave.run(WORDS, window=clients, clients=failed)
            slowest = max(slowest, took)
            through += sum(client.echoes >= WORDS for client in wave.clients)
            never += len(wave.failures())
            lost += wave.total("lost")
            mixed += wave.total("mixed")
    return {
        "seconds": time.monotonic() - begin,
        "honest clients": through,
        "at a time": clients,
        "slowest wave (s)": slowest,
        "tried again": again,
        "never got in": never,
        "echoes lost, and asked for again": lost,
        "echoes mixed up": mixed,
    }


def complaints(result: dict[str, float], *, in_fragments: bool) -> list[str]:
    """What is not as it should be."""
    at_most = {
        "never got in": 0,
        "echoes mixed up": 0,
        "kB grown": GROWTH,
        "kB grown in the second half": FLAT if result["seconds"] > 10 else GROWTH,
        "most half open": result["at a time"],
        "longest reply": result["shortest request"],
        "bytes back for each byte": 1,
    }
    at_least = {"honest clients": result["at a time"], "hellos a second": 1000, "bytes to listeners": 1}
    return [f"{name}: {result[name]}, more than {limit}" for name, limit in at_most.items() if result[name] > limit] + [
        f"{name}: {result[name]}, less than {limit}" for name, limit in at_least.items() if result[name] < limit
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--fragments", action="store_true")
    parser.add_argument("--door", choices=doors(), default="endpoint")
    options = parser.parse_args()
    result = run(options.seconds, options.clients, in_fragments=options.fragments, door=options.door)
    print(f"{options.door}, {'first fragments of hellos' if options.fragments else 'hellos'}")
    for name, value in result.items():
        print(f"  {name}: {value:,.{2 if value != int(value) and value < 100 else 0}f}")
    found = complaints(result, in_fragments=options.fragments)
    for complaint in found:
        print(f"FAILED: {complaint}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
