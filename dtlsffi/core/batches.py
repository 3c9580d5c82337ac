"""Memory for datagrams and records that go by the batch, and how a batch gets into it and out of it.

Pieces are taken for one call and given back, so that there are as many as calls at one time, not as many as
connections. `list.pop` and `list.append` are atomic.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from .._native import CData, ffi, lib
from .errors import DatagramTooLarge, DTLSWantWriteError, from_fault, make

Buffer = bytes | bytearray | memoryview

BATCH: int = lib.DTLSFFI_BATCH
JOINED_BATCH = 4
"""Messages at a time where the kernel joins datagrams: each may hold 64 of them."""


class Pool:
    """Pieces of scratch memory of one kind."""

    def __init__(self, make_one: Callable[[], CData]) -> None:
        self._make_one = make_one
        self._pieces: list[CData] = []

    def take(self) -> CData:
        """A piece, to be given back."""
        try:
            return self._pieces.pop()
        except IndexError:
            return self._make_one()

    def give_back(self, piece: CData) -> None:
        """Lets others have it."""
        self._pieces.append(piece)


def make_batch() -> CData:
    """What the kernel hands over at one time."""
    batch = lib.dtlsffi_batch_new()
    if batch == ffi.NULL:
        raise MemoryError
    return ffi.gc(batch, lib.dtlsffi_batch_free)


inboxes = Pool(lambda: ffi.new("dtlsffi_inbox *"))
batches = Pool(make_batch)
outgoings = Pool(lambda: ffi.new("dtlsffi_outgoing *"))


def records_of(inbox: CData) -> list[bytes]:
    """The records in an inbox, in their order."""
    count = inbox.count
    if count == 0:
        return []
    whole: bytes = ffi.buffer(inbox.data, inbox.used)[:]
    if count == 1:
        return [whole]
    ends = list(itertools.accumulate(ffi.unpack(inbox.length, count)))
    return [whole[start:end] for start, end in zip([0, *ends], ends)]  # noqa: B905 - one start too many


def joined(buffers: list[Any]) -> tuple[bytes, CData]:
    """Some buffers as C takes them: their bytes, one behind the other, and their lengths.

    Raises ValueError where one is empty, TypeError where one holds no bytes.
    """
    try:
        whole = b"".join(buffers)
        lengths = list(map(len, buffers))
    except TypeError:
        raise TypeError("each datagram is bytes or a buffer of them") from None
    if sum(lengths) != len(whole):
        lengths = [memoryview(buffer).nbytes for buffer in buffers]
    if 0 in lengths:
        raise ValueError("an empty datagram cannot be sent: DTLS has no empty record to carry it")
    return whole, ffi.new("uint32_t[]", lengths)


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
