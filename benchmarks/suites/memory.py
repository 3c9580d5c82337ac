"""What a peer that says nothing costs in memory."""

from __future__ import annotations

import time
from functools import partial

from .. import peers
from ..population import population
from ..programs import Sample, Subject
from ..suite import Bench, Metric, Suite

WARM = 50  # peers that are there before the first look
WORDS = """\
How much a server's resident memory grows for each peer that has shaken hands, sent one record and fallen silent for
three seconds. *C, buffers freed* calls `SSL_free_buffers` as soon as it has dealt with a datagram.

Where the rest goes: to a connection's objects in Python, and what C keeps of it beside its SSL (docs/design.md)."""


def measure(bench: Bench, count: int, subject: Subject) -> Sample:
    with population(bench, subject) as there:
        there.connect(WARM)
        there.saturate(seconds=0.1)
        before = there.resident()
        there.connect(WARM + count)
        there.rate(max(WARM + count, 1000))
        time.sleep(0.1 if bench.settings.quick else 3)
        return {"kb_per_peer": (there.resident() - before) / count}


def run(bench: Bench) -> None:
    servers = [*peers.our_servers(bench), peers.trio(bench), peers.pion(bench)]
    released = bench.c("--release", name="C, buffers freed")
    for count in bench.settings.peers(1000, 5000, 10000):
        bench.compare_subjects(f"{count} peers", released, [bench.c(), *servers], partial(measure, bench, count))


SUITE = Suite("memory", "Memory of an idle peer", WORDS, (Metric("kb_per_peer", "kB a peer", True),), run)
