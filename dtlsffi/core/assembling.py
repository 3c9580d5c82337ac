"""ClientHellos that come in fragments, put together again: RFC 6347 section 4.2.3.

Where cookies are asked for, only those whose first fragment has shown one are, so that strangers make nothing grow.
"""

from __future__ import annotations

from .cookies import HEADER, records_of
from .pending import host_of

AT_MOST = 256
"""ClientHellos that are put together at one time, with twice their length each; the oldest makes room."""
OF_ONE_HOST = 16
"""How many of them may come from one host; its own oldest makes room."""
PATIENCE = 15.0
"""Seconds that one waits for the rest of itself."""


class Assembly:
    """One ClientHello, of which some is there."""

    __slots__ = ("_header", "_known", "_message", "begun", "proof", "proven")

    def __init__(self, first: bytes, proof: bytes, now: float, *, proven: bool) -> None:
        length = int.from_bytes(first[14:17], "big")
        self._header = first[:HEADER]
        self._message, self._known = bytearray(length), bytearray(length)
        self.proof, self.proven, self.begun = proof, proven, now

    def _has(self, record: bytes) -> bool:
        """Whether a fragment is one of this message, by its length and number."""
        return record[13:19] == self._header[13:19]

    def add(self, record: bytes) -> None:
        """Takes what is new in a record with a fragment, if that is one of this message."""
        if not self._has(record):
            return
        begin = int.from_bytes(record[19:22], "big")
        part = record[HEADER:]
        end = begin + len(part)
        known = self._known[begin:end]
        if 0xFF in known:  # what came first counts
            part = mixed(self._message[begin:end], part, known)
        self._message[begin:end] = part
        self._known[begin:end] = b"\xff" * len(part)

    def is_of(self, first: bytes, proof: bytes) -> bool:
        """Whether a first fragment begins this very message."""
        return proof == self.proof and self._has(first)

    def whole(self) -> bytes | None:
        """The record that it would have been in one piece, or None while something is missing."""
        if 0 in self._known:
            return None
        length = self._header[14:17]
        record_length = (len(self._message) + 12).to_bytes(2, "big")
        return self._header[:11] + record_length + self._header[13:19] + bytes(3) + length + self._message


class Assemblies:
    """All of them, by the address that they come from, in the order in which they began."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, Assembly] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._by_key)

    def __contains__(self, key: bytes) -> bool:
        """Whether one is waited for from there."""
        return key in self._by_key

    def clear(self) -> None:
        """Waits for none of them any more."""
        self._by_key.clear()

    def are_waited_for(self, now: float) -> bool:
        """Whether there are any; those that have waited for too long are given up."""
        for key, oldest in list(self._by_key.items()):
            if now < oldest.begun + PATIENCE:
                break
            del self._by_key[key]
        return bool(self._by_key)

    def begin(self, key: bytes, data: bytes, proof: bytes, now: float, *, proven: bool) -> None:
        """Takes the first fragment of one; what has been begun from there with another hello is given up."""
        self.are_waited_for(now)
        there = self._by_key.get(key)
        if there is None or not there.is_of(data, proof):
            self._by_key.pop(key, None)
            self._make_room(host_of(key))
            self._by_key[key] = Assembly(data, proof, now, proven=proven)

    def _make_room(self, host: bytes) -> None:
        own = [key for key in self._by_key if host_of(key) == host]
        if len(own) >= OF_ONE_HOST:
            del self._by_key[own[0]]
        elif len(self._by_key) >= AT_MOST:
            del self._by_key[next(iter(self._by_key))]

    def add(self, key: bytes, data: bytes) -> tuple[bytes, Assembly] | None:
        """Takes a datagram with fragments from there; the whole ClientHello, if that is all of it now."""
        assembly = self._by_key[key]
        for record in records_of(data):
            assembly.add(record)
        whole = assembly.whole()
        if whole is None:
            return None
        del self._by_key[key]
        return whole, assembly


def mixed(old: bytearray, new: bytes, known: bytearray) -> bytes:
    """Of two pieces, the older one's bytes where they are known (0xff), and the newer one's where not (0)."""
    first, second, mask = (int.from_bytes(piece, "big") for piece in (old, new, known))
    return (first | (second & ~mask)).to_bytes(len(new), "big")
