"""Whether a record costs more where there are more peers."""

from __future__ import annotations

from operator import methodcaller

from .. import peers
from ..population import Beside, beside_c
from ..programs import Failed, Skipped
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
    for server in filter(bench.wants, peers.our_servers(bench)):
        beside_c(bench, server, "all counts", 1, compare)


def compare(beside: Beside) -> None:
    for count in beside.bench.settings.peers(*COUNTS):
        try:
            beside.connect(count)
        except (Failed, Skipped) as reason:
            beside.bench.skip(f"{count} peers", beside.server.name, "C", str(reason))
            return
        beside.compare(f"{count} peers", methodcaller("saturate", window=WINDOW))


METRICS = (
    Metric("server_cpu_us", "server CPU us an echo", True),
    Metric("per_second", "echoes a second"),
)
SUITE = Suite("growth", "Cost as peers grow", WORDS, METRICS, run, curve=True)
