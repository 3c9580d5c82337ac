"""Honest peers, while strangers say hello."""

from __future__ import annotations

from functools import partial

from .. import peers
from ..population import Beside, Population, beside_c
from ..programs import Sample, running
from ..suite import Bench, Metric, Suite

HELLOS = (0, 20000, 50000)
PEERS = 100
WORDS = """\
A hundred honest peers keep the server saturated while another process sends ClientHellos from 50,000 addresses that
never answer. The three processes share the machine's CPUs, so some of what is lost is the flooder's own work: compare
with C under the same flood, which asks for cookies with `DTLSv1_listen`. C answers every hello; dtlsffi passes over
every second one of a batch that is full (`dropped_flood`), since whoever means it says it again, and since an answer
costs more than a look: so a new client may have to say its hello twice, which is not measured here."""


def measure(bench: Bench, hellos: int, there: Population) -> Sample:
    if not hellos:
        return there.saturate(window=PEERS)
    seconds = bench.settings.seconds + 0.3
    options = ("--port", str(there.port), "--count", str(hellos), "--seconds", str(seconds))
    with running(bench.c(), "flood", *options) as flooder:
        flooder.read()
        sample = there.saturate(window=PEERS)
        return sample | {"hellos_a_second": flooder.read()["per_second"]}


def run(bench: Bench) -> None:
    for server in filter(bench.wants, peers.our_servers(bench)):
        beside_c(bench, server, "all floods", PEERS, compare)


def compare(beside: Beside) -> None:
    for hellos in HELLOS:
        beside.compare(f"{hellos:,} hellos a second", partial(measure, beside.bench, hellos))


METRICS = (
    Metric("per_second", "honest echoes a second"),
    Metric("lost", "lost", True),
    Metric("hellos_a_second", "hellos a second", True),
)
SUITE = Suite("flood", "Under a flood of hellos", WORDS, METRICS, run)
