"""Batches in two threads of one process, and beside a thread that computes."""

from __future__ import annotations

from functools import partial

from .. import peers
from ..programs import Sample, Subject, ask_once
from ..suite import Bench, Metric, Suite

SIZES = (256, 1200)
WORDS = """\
Each thread has two `DTLSSocket`s, and moves 128 records at a time from one to the other over loopback, with `send_many`
and `recv_many`: all that a record costs on both sides. Two threads on two CPUs are compared with one, and so are both
beside a third that computes in Python all the while.

Where the rest goes: a batch of 64 records or more lets go of the GIL while OpenSSL and the kernel are at work. What
remains with it, one thread at a time, is to make and to free an object for each record. Getting the GIL back takes
milliseconds where a thread computes, so it is then kept for sixteen times as long: batches share it with that thread as
any Python does, and do not wait each for 5 ms (which left 23,000 records a second)."""


def run(bench: Bench) -> None:
    def ours(name: str, mode: str) -> Subject:
        return peers.ours(bench, "ours_threads", name, "--mode", mode)

    for size in bench.settings.sizes(*SIZES):
        bench.compare_subjects(
            f"{size} bytes",
            ours("one thread", "1"),
            [
                ours("two threads", "2"),
                ours("one, beside a busy thread", "1+"),
                ours("two, beside a busy thread", "2+"),
            ],
            partial(measure, bench, size),
        )


def measure(bench: Bench, size: int, subject: Subject) -> Sample:
    return ask_once(subject, "threads", "--size", str(size), *bench.seconds())


SUITE = Suite("threads", "Batches in threads", WORDS, (Metric("per_second", "records a second"),), run)
