"""What a record costs without any socket."""

from __future__ import annotations

from functools import partial

from .. import peers
from ..programs import Sample, Subject, ask_once
from ..suite import Bench, Metric, Suite

SIZES = (64, 1200, 256, 8192)
WORDS = """\
A client seals a record and a server in the same process opens it, without sockets. The C program calls `SSL_write`
and `SSL_read` over a BIO of its own that keeps datagrams apart. *One call a record* is `Connection.send`,
`datagrams_to_send`, `receive_datagram` and `data_received` for each record; *batch of 32* is `send_many` and
`receive_datagrams`; *beside a busy thread* is one call a record while another thread of the process computes. The
time is CPU time, but for the last, where it is what the clock on the wall says: the process computes all the while. The
C program seals and opens one record after the other throughout; 32 at a time take it some 5 to 8 % less.

Where the rest goes: in a batch of 32 callgrind counts some 8,800 instructions for a record of 64 bytes, of which
OpenSSL and libc take 7,600, our C 670 and the interpreter 540: a datagram and a plaintext are an object each, to be
made and freed; those of 1200 bytes are of a size for which malloc takes longer, and a datagram is copied once more,
into its object. *One call a record* is four calls for each, which take the interpreter 1,900 and our C 300 more;
OpenSSL takes longer, too, with the interpreter in its caches. Beside a busy thread there are that one's turns, and the
caches that it has used, besides. pyOpenSSL takes some seven times what the C program does on this machine, so that
a seventh of it is what that takes by itself."""


def run(bench: Bench) -> None:
    subjects = [
        peers.ours(bench, "ours_memory", "batch of 32", "--mode", "batch", "--batch", "32"),
        peers.ours(bench, "ours_memory", "one call a record"),
        peers.ours(bench, "ours_memory", "beside a busy thread", "--mode", "busy"),
        peers.pyopenssl(bench),
        peers.stdlib(bench),
    ]
    for size in sorted(bench.settings.sizes(*SIZES)):
        bench.compare_subjects(f"{size} bytes", bench.c(), subjects, partial(measure, bench, size))


def measure(bench: Bench, size: int, subject: Subject) -> Sample:
    return ask_once(subject, "record", "--size", str(size), *bench.seconds())


SUITE = Suite("record", "Cost of a record in memory", WORDS, (Metric("ns_per_record", "ns a record", True),), run)
