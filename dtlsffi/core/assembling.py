"""ClientHellos that come in fragments, put together again: RFC 6347 section 4.2.3.

Only those whose first fragment has shown a cookie are, so that strangers make nothing grow.
"""

from __future__ import annotations

from .cookies import HEADER, records_of

AT_MOST = 256
"""ClientHellos that are put together at one time; the oldest makes room."""
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

    def add(self, record: bytes) -> bool:
        """Takes what is new in a record with a fragment; whether it is one of this message."""
        if record[13:19] != self._header[13:19]:
            return False
        begin = int.from_bytes(record[19:22], "big")
        part = record[HEADER:]
        end = begin + len(part)
        known = self._known[begin:end]
        if any(known):  # what came first counts
            part = bytes(
                old if there else new for old, new, there in zip(self._message[begin:end], part, known, strict=True)
            )
        self._message[begin:end] = part
        self._known[begin:end] = b"\1" * len(part)
        return True

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

    def begin(self, key: bytes, data: bytes, proof: bytes, now: float, *, proven: bool) -> None:
        """Takes the first fragment of one; what has been begun from there with another hello is given up."""
        there = self._by_key.get(key)
        if there is None or there.proof != proof:
            self._by_key.pop(key, None)
            self._make_room(now)
            self._by_key[key] = Assembly(data, proof, now, proven=proven)

    def _make_room(self, now: float) -> None:
        for key, oldest in list(self._by_key.items()):
            if len(self._by_key) < AT_MOST and now < oldest.begun + PATIENCE:
                break
            del self._by_key[key]

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
