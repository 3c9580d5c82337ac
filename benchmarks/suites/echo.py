"""One server on one port, and many peers."""

from __future__ import annotations

from operator import methodcaller

from .. import peers
from ..population import Beside, beside_c
from ..programs import Subject
from ..suite import Bench, Metric, Suite

RATES = (20000, 50000)
WORDS = """\
A load generator in C holds all the peers, each with an address of its own; the server sends every record of 64 bytes
back. What the generator sends is sealed before the clock starts, so that the server is what is slow. *Saturated*
keeps 256 records on their way; *at 20,000 a second* sends them one by one, evenly, and tells what is lost, the
latency and the server's CPU time. The C server has one socket, a hash table, recvmmsg and sendmmsg. *Endpoint* is
`dtlsffi.Endpoint` in a loop that blocks in poll(); *asyncio* is `dtlsffi.asyncio.create_dtls_endpoint`.

Where the rest goes: saturated, 4 % of an echo's time is the interpreter's in an Endpoint, 10 % in asyncio (perf),
where the protocol is called for each record, and calls back; OpenSSL costs what it costs the C server. Nobody may
fragment what either of them sends, so the kernel need not number it. At 20,000 and 50,000 a second most records come
alone: a turn of the loop, made for a batch, is paid for one, with caches that have gone cold meanwhile. At 50,000 the
interpreter takes 1.5 us of an Endpoint's 13, and 4.1 of asyncio's 15 (perf), half of them for asyncio's own loop. A
peer that has been silent for more than 1.5 seconds has given its buffers back, and takes them anew for its next
record: with 10,000 peers at 20,000 a second that is a good part of what a sample of some seconds sees. What comes
back is what p50 and p99 are of; what is lost is counted beside them."""


def servers(bench: Bench) -> list[Subject]:
    """Everybody that has a server for many peers."""
    return [*peers.our_servers(bench), peers.trio(bench), peers.pion(bench)]


def run(bench: Bench) -> None:
    for count in filter(lambda count: bench.wants_case(f"{count} peers"), bench.settings.peers(1000, 10000)):
        for server in filter(bench.wants, servers(bench)):
            compare(bench, server, count)


def compare(bench: Bench, server: Subject, count: int) -> None:
    case = f"{count} peers"

    def measure(beside: Beside) -> None:
        beside.compare(f"{case}, saturated", methodcaller("saturate"))
        for rate in RATES:
            beside.compare(f"{case}, at {rate:,} a second", methodcaller("rate", rate))

    beside_c(bench, server, f"{case}, saturated", count, measure)


METRICS = (
    Metric("per_second", "echoes a second"),
    Metric("server_cpu_us", "server CPU us an echo", True),
    Metric("p50_us", "p50 us", True),
    Metric("p99_us", "p99 us", True),
    Metric("lost", "lost", True),
)
SUITE = Suite("echo", "Many peers on one port", WORDS, METRICS, run)
