"""What is done with a connection once there is one, whoever made it: one way, there and back."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from .common import END, say

Send = Callable[[bytes], object]
Receive = Callable[[], bytes]


def send_one_way(send: Send, size: int, seconds: float, finish: Send | None = None) -> None:
    """As many records as go, then records of one byte until one of them has got through."""
    data = bytes(size)
    sent = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(32):
            send(data)
        sent += 32
    say(sent=sent)
    end_one_way(finish or send)


def end_one_way(send: Send) -> None:
    """Says that this was all, some times over: datagrams get lost."""
    with suppress(Exception):  # each library has a word of its own for a receiver that has left
        for _ in range(20):
            time.sleep(0.01)
            send(b"\0" * END)


def receive_one_way(receive: Receive) -> None:
    """Counts records until one of one byte comes."""
    count = 0
    data = receive()
    start = time.perf_counter()
    while len(data) > END:
        count += 1
        data = receive()
    tell_received(count, time.perf_counter() - start)


def tell_received(count: int, seconds: float) -> None:
    """What a receiver says in the end."""
    say(records=count, seconds=seconds, per_second=count / seconds if seconds else 0.0)


def echo(send: Send, receive: Receive) -> None:
    """Sends back what comes, until a record of one byte comes."""
    while len(data := receive()) > END:
        send(data)


def ping(send: Send, receive: Receive, size: int, seconds: float) -> None:
    """One record there and back at a time."""
    data = bytes(size)
    taken = []
    before = time.perf_counter_ns()
    start, end = before, before + int(seconds * 1e9)
    while before < end:
        send(data)
        receive()
        after = time.perf_counter_ns()
        taken.append(after - before)
        before = after
    send(b"\0" * END)
    tell_latency(taken, (before - start) / 1e9)


def tell_latency(taken: list[int], seconds: float) -> None:
    """Percentiles of nanoseconds."""
    taken.sort()
    say(
        per_second=len(taken) / seconds,
        p50_us=taken[len(taken) // 2] / 1e3,
        p99_us=taken[int(len(taken) * 0.99)] / 1e3,
        count=len(taken),
    )


def time_records(
    run: Callable[[int], object], records: int, seconds: float, clock: Callable[[], float] = time.process_time
) -> None:
    """Nanoseconds a record, of CPU time unless `clock` is another; `run(rounds)` moves `records` in each round."""
    run(max(1, 1000 // records))
    rounds, done = max(1, 256 // records), 0
    start, end = clock(), time.perf_counter() + seconds
    while time.perf_counter() < end or not done:
        run(rounds)
        done += rounds * records
    say(ns_per_record=(clock() - start) * 1e9 / done, records=done)


def time_handshakes(shake_hands: Callable[[], object], seconds: float) -> None:
    """Microseconds of CPU time a handshake."""
    shake_hands()
    done = 0
    start, end = time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < end or not done:
        shake_hands()
        done += 1
    say(us_per_handshake=(time.process_time() - start) * 1e6 / done, handshakes=done)
