"""One way over loopback, as fast as it goes."""

from __future__ import annotations

from functools import partial

from .. import build, peers
from ..programs import Sample, Subject, running
from ..suite import Bench, Metric, Suite

SIZES = (64, 256, 1200)
WORDS = """\
One process sends records over loopback as fast as it can, another counts what arrives; what got lost on the way (the
receiver's socket buffer was full) is the last column. *C* is `SSL_write`/`SSL_read` on `BIO_dgram`; *C mmsg* the same
with sendmmsg and recvmmsg; *C GSO* with UDP_SEGMENT and UDP_GRO as well. *GSO and GRO refused* is `send_many` and
`recv_many` on a system that has neither (a preloaded library refuses them).

Where the rest goes: with UDP_GRO the receiver is the slow one. C's, with our sender, gets as many records a second as
with its own, and ours, with C's sender, as few: at 64 bytes a record takes it some 60 ns more than C's 400. perf has
found 17 of them in the interpreter, for an object of each, and 30 in our C; OpenSSL and libc take what they take in C,
and the kernel's part is so small that this is what is left to be seen. At 1200 bytes OpenSSL writes into the record's
object; to make and free one of that size takes malloc 20 ns more than a smaller one takes Python."""


def measure(bench: Bench, size: int, subject: Subject) -> Sample:
    with running(subject, "oneway-receive", "--size", str(size)) as receiver:
        port = receiver.read()["port"]
        with running(subject, "oneway-send", "--size", str(size), "--port", str(port), *bench.seconds()) as sender:
            sent = sender.read()["sent"]
            sample = receiver.read()
    return sample | {"sent": sent, "lost_percent": 100 * (1 - sample["records"] / sent) if sent else 100}


def run(bench: Bench) -> None:
    plain, mmsg, gso = bench.c(), bench.c("--mode", "mmsg", name="C mmsg"), bench.c("--mode", "gso", name="C GSO")
    many = peers.ours(bench, "ours_sockets", "send_many, recv_many", "--mode", "many")
    refused = many.with_options(name=f"{many.name}, GSO and GRO refused", LD_PRELOAD=str(build.refusal()))
    groups: list[tuple[Subject, list[Subject]]] = [
        (
            plain,
            [
                mmsg,
                gso,
                peers.ours(bench, "ours_sockets", "send, recv"),
                peers.ours(bench, "ours_sockets", "send, recv_into", "--mode", "into"),
                peers.pyopenssl(bench),
                peers.mbedtls(bench),
                peers.trio(bench),
                peers.pion(bench),
                peers.stdlib(bench),
            ],
        ),
        (gso, [many]),
        (mmsg, [refused]),
    ]
    for size in bench.settings.sizes(*SIZES):
        for reference, subjects in groups:
            bench.compare_subjects(f"{size} bytes", reference, subjects, partial(measure, bench, size))


METRICS = (Metric("per_second", "records a second"), Metric("lost_percent", "% lost", True))
SUITE = Suite("oneway", "One way over loopback", WORDS, METRICS, run)
