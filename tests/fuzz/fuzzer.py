"""Random and mutated datagrams into clients and servers at every stage.

    python -m tests.fuzz.fuzzer [--count N] [--seed N]

Exits with 1, and the seed, where anything but a connection's own failure comes of it. Used by tests/fuzz/test_fuzz.py
in its short form, and by ci/asan under AddressSanitizer.
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import sys
from collections import Counter
from collections.abc import Callable, Container, Iterator
from pathlib import Path

import dtlsffi
from dtlsffi.testing import Authority, MemoryLink

HOST = "device.example"
STAGES = 6
"""Flights before which the other side's datagrams are mutated; the last stage is after the handshake."""


class Fuzzer:
    """Throws datagrams and counts what comes of it."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.thrown: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        authority = Authority()
        identity = authority.issue("client.example")
        self.pairs = []
        for ciphers in ("ECDHE+AESGCM", "ECDHE+CHACHA20", "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"):
            client, server = authority.client_context(), authority.server_context(HOST)
            for context in (client, server):
                context.set_ciphers(ciphers)
                context.mtu = 400
            client.load_cert_chain(identity.certificate, identity.key)
            server.load_verify_locations(cadata=authority.certificate)
            server.verify_mode = dtlsffi.CERT_REQUIRED
            self.pairs.append((client, server))
        self.corpus = [datagram for _, _, datagrams in self.flights() for datagram in datagrams]

    # ---- connections ----

    def link(self) -> MemoryLink:
        client, server = self.dice.choice(self.pairs)
        return MemoryLink(
            dtlsffi.Connection(client, server_hostname=HOST), dtlsffi.Connection(server, server_side=True)
        )

    @staticmethod
    def start(link: MemoryLink) -> None:
        try:
            link.client.do_handshake()
        except dtlsffi.DTLSWantReadError:
            return

    def flights(self) -> Iterator[tuple[int, dtlsffi.Connection, list[bytes]]]:
        """A handshake step by step: its stage, who is to receive, and what."""
        link = self.link()
        self.start(link)
        for stage in range(STAGES):
            sender, receiver = (link.client, link.server) if stage % 2 == 0 else (link.server, link.client)
            if sender.is_established and receiver.is_established:
                sender.send(b"genuine" * 3)
            datagrams = sender.datagrams_to_send()
            yield stage, receiver, datagrams
            try:
                for datagram in datagrams:
                    receiver.receive_datagram(datagram)
            except dtlsffi.DTLSError:
                return

    # ---- datagrams ----

    def junk(self) -> bytes:
        return self.dice.randbytes(self.dice.randrange(1, 200))

    def mutate(self, datagram: bytes) -> bytes:
        data = bytearray(datagram)
        for _ in range(self.dice.choice((1, 1, 1, 2, 4, 16))):
            self.dice.choice((flip, overwrite, cut, repeat, splice, epoch, length))(self, data)
        return bytes(data)

    def throw(self, kind: str, receiver: dtlsffi.Connection, datagram: bytes) -> bool:
        """Throws one; whether the connection is still alive."""
        self.thrown[kind] += 1
        try:
            receiver.receive_datagram(datagram)
        except dtlsffi.DTLSError as error:
            self.failures[error.reason] += 1
            assert not receiver.is_established, f"an established connection was ended: {error}"
            return False
        return True

    # ---- runs ----

    def shake(self, stages: Container[int], each: int) -> None:
        """One handshake, with `each` datagrams thrown before the flights of `stages`, until it fails."""
        for stage, receiver, datagrams in self.flights():
            if stage not in stages:
                continue
            side = "server" if receiver.server_side else "client"
            for _ in range(each):
                source = self.dice.choice(datagrams or self.corpus)
                datagram = self.junk() if self.dice.random() < 0.2 else self.mutate(source)
                if not self.throw(f"{side}, stage {stage}", receiver, datagram):
                    return

    def established(self, count: int) -> None:
        """`count` datagrams into connections that must survive every one of them."""
        link = self.link()
        link.shake_hands()
        for number in range(count):
            sender, receiver = (link.client, link.server) if number % 2 else (link.server, link.client)
            sender.send(number.to_bytes(4, "big"))
            (genuine,) = sender.datagrams_to_send()
            source = self.dice.choice((genuine, genuine, self.dice.choice(self.corpus)))
            thrown = self.junk() if self.dice.random() < 0.1 else self.mutate(source)
            self.throw("established", receiver, thrown)
            receiver.receive_datagram(genuine)
            received = receiver.data_received()
            assert received == [number.to_bytes(4, "big")], (
                received,
                genuine.hex(),
                thrown.hex(),
                receiver.statistics(),
            )

    def run(self, count: int, progress: Callable[[str], None] = lambda _: None, growth: int = 8) -> None:
        """Throws at least `count`; AssertionError where anything was amiss, or memory grew by `growth` MB."""
        self.round(count // 10)
        before = resident()
        while (total := self.thrown.total()) < count:
            self.round(count // 20)
            progress(f"{total} of {count}, {resident() / 1e6:.1f} MB")
        grown = (resident() - before) / 1e6
        assert grown < growth, f"memory has grown by {grown:.1f} MB"

    def round(self, count: int) -> None:
        end = self.thrown.total() + count
        while self.thrown.total() < end:
            self.established(1000)
            target = self.thrown.total() + 500
            while self.thrown.total() < target:
                self.shake((self.dice.randrange(STAGES),), 40)
            self.shake(range(STAGES), 10)
        gc.collect()


Mutator = Callable[[Fuzzer, bytearray], None]


def flip(fuzzer: Fuzzer, data: bytearray) -> None:
    if data:
        data[fuzzer.dice.randrange(len(data))] ^= 1 << fuzzer.dice.randrange(8)


def overwrite(fuzzer: Fuzzer, data: bytearray) -> None:
    if data:
        data[fuzzer.dice.randrange(len(data))] = fuzzer.dice.choice(
            (0, 1, 0x7F, 0x80, 0xFF, fuzzer.dice.randrange(256))
        )


def cut(fuzzer: Fuzzer, data: bytearray) -> None:
    if data:
        start = fuzzer.dice.randrange(len(data))
        del data[start : start + fuzzer.dice.randrange(1, 32)]


def repeat(fuzzer: Fuzzer, data: bytearray) -> None:
    if data:
        start = fuzzer.dice.randrange(len(data))
        data[start:start] = data[start : start + fuzzer.dice.randrange(1, 32)]


def splice(fuzzer: Fuzzer, data: bytearray) -> None:
    other = fuzzer.dice.choice(getattr(fuzzer, "corpus", [b""]))
    data += other[: fuzzer.dice.randrange(len(other) + 1)]


def epoch(fuzzer: Fuzzer, data: bytearray) -> None:
    if len(data) > 5:
        data[3:5] = fuzzer.dice.choice((0, 1, 2, 0xFFFF)).to_bytes(2, "big")


def length(fuzzer: Fuzzer, data: bytearray) -> None:
    """Makes the first record's length fit, so that what follows the header is looked at."""
    if len(data) > 13:
        data[11:13] = min(len(data) - 13, 0xFFFF).to_bytes(2, "big")


def resident() -> int:
    """Bytes of memory in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--growth", type=int, default=8, help="MB that memory may grow by (default: 8)")
    options = parser.parse_args()
    fuzzer = Fuzzer(options.seed)
    print(f"seed {options.seed}", flush=True)
    fuzzer.run(options.count, lambda text: print(text, flush=True), options.growth)
    for title, counter in (("thrown", fuzzer.thrown), ("handshakes failed with", fuzzer.failures)):
        print(f"{title}: {counter.total()}")
        for name, number in counter.most_common():
            print(f"  {number:8} {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
