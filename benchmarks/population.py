"""A server and its peers: a load generator in C holds them, and asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from .programs import Failed, Program, Sample, Skipped, Subject, running
from .suite import Bench

PATIENCE = 240  # seconds, for ten thousand handshakes with the slowest of servers


class Population:
    """A server with peers that stay."""

    def __init__(self, bench: Bench, server: Program, load: Program, port: int) -> None:
        self.bench = bench
        self.server = server
        self.load = load
        self.port = port

    def connect(self, count: int) -> Sample:
        """Has so many peers in all."""
        return self.load.ask(f"connect {count}", PATIENCE)

    def saturate(self, size: int = 64, window: int = 256, seconds: float = 0) -> Sample:
        """Echoes as fast as the server is."""
        return self.load.ask(f"saturate {seconds or self.bench.settings.seconds} {size} {window}")

    def rate(self, per_second: int, size: int = 64) -> Sample:
        """So many echoes a second."""
        seconds = self.bench.settings.seconds * (1 if self.bench.settings.quick else 3)
        sample = self.load.ask(f"rate {per_second} {seconds} {size}")
        return sample | {"lost_percent": 100 * sample["lost"] / sample["sent"]}

    def handshakes(self, count: int, kind: str, window: int = 16) -> Sample:
        """So many handshakes, of peers that leave again."""
        sample = self.load.ask(f"handshakes {count} {kind} {window}", PATIENCE)
        if sample["reused"] != (count if kind == "resumed" else 0):
            raise Failed(f"{sample['reused']} of {count} {kind} handshakes have resumed a session")
        return sample

    def resident(self) -> int:
        """The server's memory in kB."""
        return int(self.load.ask("rss")["rss_kb"])


@contextmanager
def population(bench: Bench, server: Subject, *, psk: bool = False) -> Iterator[Population]:
    """A server without peers yet."""
    mode = ("--mode", "psk") if psk else ()
    with running(server, "echo", *mode) as serving:
        words = serving.read()
        port, pid = str(words["port"]), str(words.get("pid", serving.pid))
        with running(bench.c(*mode), "load", "--port", port, "--pid", pid) as load:
            yield Population(bench, serving, load, int(port))


@dataclass(frozen=True)
class Beside:
    """C's server and another one, each with its peers."""

    bench: Bench
    server: Subject
    both: tuple[Population, Population]

    def connect(self, count: int) -> None:
        """Has so many peers in all at each of them."""
        for there in self.both:
            there.connect(count)

    def compare(self, case: str, measure: Callable[[Population], Sample]) -> None:
        """Measures both in the same way."""
        reference, subject = (partial(measure, there) for there in self.both)
        self.bench.compare(case, "C", reference, {self.server.name: subject}, f"{case}: {self.server.name}")


def beside_c(
    bench: Bench, server: Subject, case: str, count: int, measure: Callable[[Beside], None], *, psk: bool = False
) -> None:
    """Measures a server beside C's, when each has so many peers; notes why where one cannot be had."""
    with ExitStack() as stack:
        try:
            reference, subject = (stack.enter_context(population(bench, who, psk=psk)) for who in (bench.c(), server))
            beside = Beside(bench, server, (reference, subject))
            beside.connect(count)
        except (Failed, Skipped) as reason:
            bench.skip(case, server.name, "C", str(reason))
            return
        measure(beside)
