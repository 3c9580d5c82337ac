"""Memory for datagrams and records that go by the batch, and how a batch gets into it and out of it.

Pieces are taken for one call and given back, so that there are as many as calls at one time, not as many as
connections. `list.pop` and `list.append` are atomic.
"""

from __future__ import annotations

import functools
import itertools
import os
import struct
from collections.abc import Callable, Iterable
from typing import Any, Generic, NoReturn, TypeVar

from .._native import CData, ffi, lib
from .errors import DatagramTooLarge, DTLSWantWriteError, from_fault, make

Buffer = bytes | bytearray | memoryview

BATCH: int = lib.DTLSFFI_BATCH
JOINED_BATCH = 4
"""Messages at a time where the kernel joins datagrams: each may hold 64 of them."""


T = TypeVar("T")


class Pool(Generic[T]):
    """Pieces of scratch memory of one kind."""

    def __init__(self, make_one: Callable[[], T]) -> None:
        self._make_one = make_one
        self.pieces: list[T] = []
        """Those that nobody has just now."""
        self.give_back = self.pieces.append
        """Lets others have a piece."""

    def take(self) -> T:
        """A piece, to be given back."""
        try:
            return self.pieces.pop()
        except IndexError:
            return self._make_one()


def make_batch() -> CData:
    """What the kernel hands over at one time."""
    batch = lib.dtlsffi_batch_new()
    if batch == ffi.NULL:
        raise MemoryError
    return ffi.gc(batch, lib.dtlsffi_batch_free)


unpack: Callable[[CData, int], bytes] = ffi.unpack


COUNTS = struct.Struct("3I")
"""count, used, same: what a `dtlsffi_inbox` and a `dtlsffi_outgoing` begin with. One look costs less than three."""
HEAD = struct.Struct("4Ii4I")
"""count, used, same, done, answer, more, odd_count, strangers, joined: all of an inbox but what comes by the record."""


class Piece:
    """Scratch memory with records in it, and how to get at them quickly."""

    __slots__ = ("chars", "data", "head", "memory", "view")

    def __init__(self, kind: str) -> None:
        self.memory = ffi.new(kind)
        self.data = ffi.cast("uint8_t *", self.memory.data)
        self.chars = ffi.cast("char *", self.memory.data)
        self.view = ffi.buffer(self.memory.data)
        self.head = ffi.buffer(self.memory, HEAD.size)

    def all(self) -> list[bytes]:
        """Each of them, in their order."""
        return self.records(*COUNTS.unpack_from(self.head))

    def records(self, count: int, used: int, same: int) -> list[bytes]:
        """The same, by what `head` begins with."""
        if count < 2:
            return [unpack(self.chars, used)] if count else []
        if same:
            return cut(self.view, same, count)
        whole: bytes = self.view[:used]
        ends = list(itertools.accumulate(ffi.unpack(self.memory.length, count)))
        return [whole[start:end] for start, end in zip([0, *ends], ends)]  # noqa: B905 - one start too many


class Inbox(Piece):
    """A piece whose records may be of many connections."""

    __slots__ = ("owner",)

    def __init__(self) -> None:
        super().__init__("dtlsffi_inbox *")
        self.owner = self.memory.owner


CHUNK = 32


@functools.lru_cache(256)
def chunk(length: int, count: int) -> struct.Struct:
    """Some pieces of one length: taken apart by struct they cost half as much as slices."""
    return struct.Struct(f"{length}s" * count)


def cut(view: Any, length: int, count: int) -> list[bytes]:
    """The first `count` pieces of `length` bytes."""
    if count <= CHUNK:
        return list(chunk(length, count).unpack_from(view))
    pieces: list[bytes] = []
    whole = chunk(length, CHUNK)
    for start in range(0, count - CHUNK + 1, CHUNK):
        pieces += whole.unpack_from(view, start * length)
    rest = count % CHUNK
    if rest:
        pieces += chunk(length, rest).unpack_from(view, (count - rest) * length)
    return pieces


inboxes = Pool(Inbox)
outgoings = Pool(lambda: Piece("dtlsffi_outgoing *"))
batches = Pool(make_batch)

MISFIT: int = lib.DTLSFFI_MISFIT


@functools.lru_cache(256)
def numbers(count: int) -> struct.Struct:
    """Some uint32_t: by struct they cost half as much as by array."""
    return struct.Struct(f"{count}I")


def joined(buffers: list[Any]) -> tuple[bytes, bytes]:
    """Some buffers as C takes them: their bytes, one behind the other, and their lengths (uint32_t).

    Of a buffer whose items are not bytes the length is wrong: C says so (`MISFIT`), and `measured` is for that.
    """
    try:
        return b"".join(buffers), numbers(len(buffers)).pack(*map(len, buffers))
    except TypeError:
        raise TypeError("each datagram is bytes or a buffer of them") from None


PORTION = 65536
"""Bytes that are handed over at a time: for larger pieces of memory the system is asked each time, which is slow."""


def portions(buffers: list[Any]) -> Iterable[list[Any]]:
    """Some buffers in the portions in which they are handed over, reckoned by the first."""
    try:
        first = len(buffers[0]) if buffers else 0
    except TypeError:
        raise TypeError("each datagram is bytes or a buffer of them") from None
    if first * len(buffers) <= PORTION:
        return (buffers,)
    count = max(1, PORTION // first)
    return (buffers[start : start + count] for start in range(0, len(buffers), count))


def measured(buffers: list[Any]) -> list[bytes]:
    """The same buffers, whose items are not bytes, as bytes; ValueError where one is empty."""
    if not all(memoryview(buffer).nbytes for buffer in buffers):
        raise ValueError("an empty datagram cannot be sent: DTLS has no empty record to carry it")
    return [bytes(buffer) for buffer in buffers]


def refused(answer: int, peer: str) -> NoReturn:
    """Raises what the C side says of a batch of which nothing was sent, where that is the socket's doing."""
    if answer == lib.DTLSFFI_WANT_WRITE:
        raise make(DTLSWantWriteError, "WANT_WRITE", "nothing was sent: the socket's send buffer is full")
    if answer == lib.DTLSFFI_TOO_LARGE:
        words = "a datagram is larger than the path carries, or than its connection's data_mtu"
        raise make(DatagramTooLarge, "DTLS_MESSAGE_TOO_BIG", words)
    raise from_fault(peer)


def do_without(names: Iterable[str]) -> None:
    """Does without what a kernel or a device claims to have: `"gso"`, `"gro"`. For sockets made from now on."""
    known = {"gso": lib.DTLSFFI_WITHOUT_GSO, "gro": lib.DTLSFFI_WITHOUT_GRO}
    unknown = set(names := list(names)) - known.keys()
    if unknown:
        raise ValueError(f"DTLSFFI_WITHOUT names what to do without: gso, gro, not {', '.join(sorted(unknown))}")
    lib.dtlsffi_udp_do_without(sum(known[name] for name in set(names)))


do_without(filter(None, os.environ.get("DTLSFFI_WITHOUT", "").split(",")))
