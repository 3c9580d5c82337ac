"""One record there and back at a time."""

from __future__ import annotations

import os
from functools import partial

from .. import peers
from ..programs import Sample, Subject, python, running
from ..suite import Bench, Metric, Suite

SIZES = (64, 1200)
CPU = (min(os.sched_getaffinity(0)),)
PLAIN = "plain asyncio"
WORDS = """\
A record goes to another process and comes back, one at a time, both processes on one CPU. The C program blocks on
`BIO_dgram`. *Plain asyncio* is the same two protocols on asyncio's own UDP transport, without DTLS; that is what
`dtlsffi.asyncio` is compared with. It makes room for 256 kB for each datagram that it receives. In some processes
malloc has that at hand, in others it asks the kernel for it and gives it back each time (strace: an mmap, mremap and
munmap for each record), as their heap happens to lie: 33,000 or 18,000 there and back a second on one machine, so that
this comparison comes out one way or the other.

Where the rest goes: nothing goes on at the same time here, so what Python does between two system calls adds up in
full. `send` and `recv` are in C (the interpreter takes 970 instructions for both, callgrind); what remains is the
loop that calls them, an object for each record, and the GIL, let go of and taken back around each wait. In asyncio
each record is a turn of the loop, of some 52,000 instructions (callgrind) where plain asyncio has 24,000: 10,000 of the
difference are a record opened and one sealed, the rest are ports, peers and timers, in Python."""


def measure(bench: Bench, size: int, subject: Subject) -> Sample:
    with running(subject, "pingpong-serve", "--size", str(size), cpus=CPU) as server:
        port = server.read()["port"]
        options = ("--size", str(size), "--port", str(port), *bench.seconds())
        with running(subject, "pingpong", *options, cpus=CPU) as client:
            return client.read()


def run(bench: Bench) -> None:
    plain = Subject(PLAIN, python("ours_asyncio"), ("--mode", "plain"))
    groups: list[tuple[Subject, list[Subject]]] = [
        (
            bench.c(),
            [
                peers.ours(bench, "ours_sockets", "blocking"),
                peers.pyopenssl(bench),
                peers.mbedtls(bench),
                peers.trio(bench),
                peers.pion(bench),
                peers.stdlib(bench),
                plain,
            ],
        ),
        (plain, [peers.ours(bench, "ours_asyncio", "asyncio")]),
    ]
    for size in bench.settings.sizes(*SIZES):
        for reference, subjects in groups:
            bench.compare_subjects(f"{size} bytes", reference, subjects, partial(measure, bench, size))


METRICS = (
    Metric("per_second", "there and back a second"),
    Metric("p50_us", "p50 us", True),
    Metric("p99_us", "p99 us", True),
)
SUITE = Suite("pingpong", "Ping-pong", WORDS, METRICS, run)
