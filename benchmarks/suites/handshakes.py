"""Handshakes: what they cost both sides, and a server."""

from __future__ import annotations

from functools import partial
from operator import methodcaller

from .. import peers
from ..population import Beside, beside_c
from ..programs import Sample, Subject, ask_once
from ..suite import Bench, Metric, Suite

KINDS = {"full": 300, "resumed": 2000, "psk": 2000}
WORDS = """\
Full handshakes are ECDHE with an ECDSA certificate (P-256), which the client verifies where it is in the same
process; resumed ones use a ticket; PSK ones have a key and no certificate. pyOpenSSL's libssl is its own, a newer
one. *Both sides* is the CPU time of client and server together, without sockets. *Server over loopback* is the
server's CPU time for a handshake with the load generator, cookies included, and how many finish in a second; the
generator does the client's part, which costs no less, on the other CPU.

Where the rest goes: to the interpreter, which makes a connection, asks for its key, tells of it and forgets it again;
a server's also finds it a place, and looks after its time. It does so once a handshake, when OpenSSL has just had the
caches for itself. Of both sides callgrind counts some 90,000 instructions of the interpreter's with a PSK and 64,000
with a certificate, and 7,000 of our C's; the C program takes 838,000 and 8,410,000 in all. By instructions the ratios
would be 1.12 and 1.01; what is more is code and memory that have to be fetched again. A connection made in C, before
Python hears of it, would save most of that; but callbacks and `accepted` are promised one with its first flight."""


def run(bench: Bench) -> None:
    for kind in KINDS:
        in_memory(bench, kind)
    for kind, count in KINDS.items():
        over_loopback(bench, kind, 20 if bench.settings.quick else count)


def in_memory(bench: Bench, kind: str) -> None:
    subjects = [peers.ours(bench, "ours_memory", "Connection")]
    if kind != "psk":
        subjects += [peers.pyopenssl(bench), peers.stdlib(bench)]

    bench.compare_subjects(f"{kind}, both sides", bench.c(), subjects, partial(measure, bench, kind))


def measure(bench: Bench, kind: str, subject: Subject) -> Sample:
    return ask_once(subject, "handshake", "--mode", kind, *bench.seconds())


def over_loopback(bench: Bench, kind: str, count: int) -> None:
    psk = kind == "psk"
    servers = [*peers.our_servers(bench), *(() if psk else (peers.trio(bench), peers.pion(bench)))]
    case = f"{kind}, server over loopback"

    def compare(beside: Beside) -> None:
        beside.compare(case, methodcaller("handshakes", count, kind))

    for server in filter(bench.wants, servers):
        beside_c(bench, server, case, 1, compare, psk=psk)  # the one peer's session is that which is resumed


METRICS = (
    Metric("us_per_handshake", "CPU us, both sides", True),
    Metric("server_cpu_us", "CPU us, server", True),
    Metric("per_second", "handshakes a second"),
)
SUITE = Suite("handshakes", "Handshakes", WORDS, METRICS, run)
