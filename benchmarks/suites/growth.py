"""Whether a record costs more where there are more peers."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from .. import peers
from ..population import population
from ..programs import Failed, Skipped, Subject
from ..suite import Bench, Metric, Suite

COUNTS = (100, 1000, 2000, 5000, 10000)
WINDOW = 100  # as many on their way, however many peers
WORDS = """\
The server's CPU time for an echo of 64 bytes, saturated with 100 on their way, all peers taking their turns: the more
there are, the colder the caches. The curve should be flat.

Where the rest goes: to the caches, which hold all that belongs to a hundred peers, and not what belongs to thousands;
the C program's curve, with nothing but OpenSSL and a hash table, rises as well. What an Endpoint's peers cost more is
the kernel's for a part (perf), and for the rest some twenty lines of memory of OpenSSL's for each record, one after
the other, that no cache has: to prefetch what can be had of them by its functions gains 1 %."""


def run(bench: Bench) -> None:
    for server in filter(
        bench.wants, [peers.ours(bench, "ours_echo", "Endpoint"), peers.ours(bench, "ours_asyncio", "asyncio")]
    ):
        compare(bench, server)


def compare(bench: Bench, server: Subject) -> None:
    with ExitStack() as stack:
        try:
            reference = stack.enter_context(population(bench, bench.c()))
            subject = stack.enter_context(population(bench, server))
        except (Failed, Skipped) as reason:
            bench.skip("all counts", server.name, "C", str(reason))
            return
        for count in bench.settings.peers(*COUNTS):
            try:
                reference.connect(count)
                subject.connect(count)
            except (Failed, Skipped) as reason:
                bench.skip(f"{count} peers", server.name, "C", str(reason))
                return
            bench.compare(
                f"{count} peers",
                "C",
                partial(reference.saturate, window=WINDOW),
                {server.name: partial(subject.saturate, window=WINDOW)},
                f"{count} peers: {server.name}",
            )


METRICS = (
    Metric("server_cpu_us", "server CPU us an echo", True),
    Metric("per_second", "echoes a second"),
)
SUITE = Suite("growth", "Cost as peers grow", WORDS, METRICS, run, curve=True)
