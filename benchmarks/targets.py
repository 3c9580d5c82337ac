"""What is to be reached, from the issue that asked for it, and whether it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .results import Comparison, SuiteResults

BATCH, SINGLE, BUSY = "dtlsffi, batch of 32", "dtlsffi, one call a record", "dtlsffi, beside a busy thread"
SEND, MANY = "dtlsffi, send, recv", "dtlsffi, send_many, recv_many"
REFUSED = f"{MANY}, GSO and GRO refused"
BLOCKING, ASYNCIO = "dtlsffi, blocking", "dtlsffi, asyncio"
ENDPOINT, CONNECTION = "dtlsffi, Endpoint", "dtlsffi, Connection"
AT_MOST, AT_LEAST = "at most", "at least"


@dataclass(frozen=True)
class Target:
    """A bound on a subject's metric: over its reference, over another `subject` or `case`, or as it is."""

    suite: str
    case: str
    subject: str
    metric: str
    sense: str
    limit: float
    other_subject: str = ""
    other_case: str = ""
    absolute: bool = False

    def words(self) -> str:
        """The bound, to be read."""
        if self.absolute:
            return f"{self.sense} {self.limit:g}"
        against = self.other_subject or self.other_case or "its reference"
        return f"{self.sense} {self.limit:.3g} x {against}"

    def is_reached(self, value: float) -> bool:
        """Whether a value is within the bound."""
        return value <= self.limit if self.sense == AT_MOST else value >= self.limit

    def value(self, results: SuiteResults) -> float | None:
        """What was measured."""
        there = results.find(self.case, self.subject)
        if there is None:
            return None
        if self.absolute:
            return middle(there, self.metric)
        if self.other_subject:
            return quotient(ratio(there, self.metric), ratio(results.find(self.case, self.other_subject), self.metric))
        if self.other_case:
            other = results.find(self.other_case, self.subject)
            return quotient(middle(there, self.metric), middle(other, self.metric))
        return ratio(there, self.metric)


def middle(comparison: Comparison | None, metric: str) -> float | None:
    """The median of a subject's samples."""
    found = comparison.values(metric) if comparison is not None else None
    return found.middle if found is not None else None


def ratio(comparison: Comparison | None, metric: str) -> float | None:
    """The median ratio to the reference."""
    found = comparison.ratios(metric) if comparison is not None else None
    return found.middle if found is not None else None


def quotient(above: float | None, below: float | None) -> float | None:
    """One over the other, if there are both."""
    return above / below if above is not None and below else None


def record_targets() -> Iterator[Target]:
    for case, batch, single, pyopenssl in (("64 bytes", 1.15, 1.7, 7.0), ("1200 bytes", 1.12, 1.55, 4.5)):
        yield Target("record", case, BATCH, "ns_per_record", AT_MOST, batch)
        yield Target("record", case, BATCH, "ns_per_record", AT_MOST, 1 / pyopenssl, other_subject="pyOpenSSL")
        yield Target("record", case, SINGLE, "ns_per_record", AT_MOST, single)
        yield Target("record", case, BUSY, "ns_per_record", AT_MOST, 5000, absolute=True)


def oneway_targets() -> Iterator[Target]:
    for case in ("64 bytes", "256 bytes", "1200 bytes"):
        yield Target("oneway", case, SEND, "per_second", AT_LEAST, 0.90)
        for other in ("pion (Go)", "pyOpenSSL", "python-mbedtls"):
            yield Target("oneway", case, SEND, "per_second", AT_LEAST, 1.0, other_subject=other)
        yield Target("oneway", case, MANY, "per_second", AT_LEAST, 0.88)
        yield Target("oneway", case, REFUSED, "per_second", AT_LEAST, 0.95)


def pingpong_targets() -> Iterator[Target]:
    for case in ("64 bytes", "1200 bytes"):
        yield Target("pingpong", case, BLOCKING, "per_second", AT_LEAST, 0.88)
        yield Target("pingpong", case, ASYNCIO, "per_second", AT_LEAST, 0.90)


def echo_targets() -> Iterator[Target]:
    for peers in (1000, 10000):
        saturated = f"{peers} peers, saturated"
        for subject, limit in ((ENDPOINT, 0.95), (ASYNCIO, 0.90)):
            yield Target("echo", saturated, subject, "per_second", AT_LEAST, limit)
            yield Target("echo", saturated, subject, "per_second", AT_LEAST, 8, other_subject="trio")
    for rate in ("20,000", "50,000"):
        case = f"10000 peers, at {rate} a second"
        for subject in (ENDPOINT, ASYNCIO):
            yield Target("echo", case, subject, "lost", AT_MOST, 0, absolute=True)
            yield Target("echo", case, subject, "server_cpu_us", AT_MOST, 1.2)
            yield Target("echo", case, subject, "p99_us", AT_MOST, 1.5)


def other_targets() -> Iterator[Target]:
    for kind, both, server in (("full", 1.03, 1.05), ("resumed", 1.10, 1.10), ("psk", 1.10, 1.10)):
        yield Target("handshakes", f"{kind}, both sides", CONNECTION, "us_per_handshake", AT_MOST, both)
        yield Target("handshakes", f"{kind}, server over loopback", ENDPOINT, "server_cpu_us", AT_MOST, server)
    for case in ("5000 peers", "10000 peers"):
        yield Target("memory", case, ENDPOINT, "kb_per_peer", AT_MOST, 1.04)
        yield Target("memory", case, ENDPOINT, "kb_per_peer", AT_MOST, 37, absolute=True)
    for subject in (ENDPOINT, ASYNCIO):
        yield Target("growth", "10000 peers", subject, "server_cpu_us", AT_MOST, 1.15, other_case="100 peers")


TARGETS = (*record_targets(), *oneway_targets(), *pingpong_targets(), *echo_targets(), *other_targets())
