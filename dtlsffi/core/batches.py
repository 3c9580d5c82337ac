"""Batches of datagrams: memory for those that come in, and what is said of those that do not go out.

Memory is lent for one call and given back, so that there is as much as calls at one time, not as connections.
`list.pop` and `list.append` are atomic.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Generic, NoReturn, TypeVar

from .._native import CData, address_of, ffi, lib
from .errors import DatagramTooLarge, DTLSError, DTLSWantWriteError, from_errno, from_fault, make

Buffer = bytes | bytearray | memoryview
WritableBuffer = bytearray | memoryview

T = TypeVar("T")


def not_received(answer: int, who: object) -> OSError:
    """What a socket has said instead of giving something: -errno, or DTLSFFI_PARENTS."""
    if answer != lib.DTLSFFI_PARENTS:
        return from_errno(-answer, str(who))
    words = f"the socket belongs to the parent process, whose datagrams a child would take ({who})"
    return make(DTLSError, "USED_AFTER_FORK", f"{words}: make one anew after fork")


def socket_statistics(udp: CData) -> dict[str, int]:
    """Datagrams that the kernel has cut from longer messages, and joined to such, so far; whether it still may.

    `dropped_overflow` are messages for which the socket's buffer (SO_RCVBUF) had no room: with `gro` each may be as
    many as 64 datagrams.
    """
    return {
        "datagrams_segmented": udp.segmented,
        "datagrams_joined": udp.joined,
        "dropped_overflow": lib.dtlsffi_udp_overflowed(udp),
        **ways(udp),
    }


def ways(udp: CData) -> dict[str, int]:
    """Whether the kernel cuts and joins, for whoever sends and receives over the socket."""
    return {"gso": udp.segments, "gro": udp.joins}


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


class Batch:
    """What the kernel hands over at one time: a `dtlsffi_batch`."""

    __slots__ = ("at", "memory")

    def __init__(self) -> None:
        batch = lib.dtlsffi_batch_new()
        if batch == ffi.NULL:
            raise MemoryError
        self.memory = ffi.gc(batch, lib.dtlsffi_batch_free)
        self.at = address_of(batch)


batches = Pool(Batch)


def refused(answer: int, peer: str) -> NoReturn:
    """Raises what the C side says of a batch of which nothing was sent, where that is the socket's doing."""
    if answer == lib.DTLSFFI_WANT_WRITE:
        raise make(DTLSWantWriteError, "WANT_WRITE", "nothing was sent: the socket's send buffer is full")
    if answer == lib.DTLSFFI_TOO_LARGE:
        words = f"a datagram for {peer} is larger than the path carries, or than its connection's data_mtu"
        raise make(DatagramTooLarge, "DTLS_MESSAGE_TOO_BIG", words)
    if answer == lib.DTLSFFI_FORKED:
        raise not_received(lib.DTLSFFI_PARENTS, peer)
    raise from_fault(peer, lib.dtlsffi_fault_last())


def do_without(names: Iterable[str]) -> None:
    """Does without what a kernel or a device claims to have: `"gso"`, `"gro"`, `"df"`. For sockets made from now on."""
    known = {"gso": lib.DTLSFFI_WITHOUT_GSO, "gro": lib.DTLSFFI_WITHOUT_GRO, "df": lib.DTLSFFI_WITHOUT_DF}
    unknown = set(names := list(names)) - known.keys()
    if unknown:
        raise ValueError(f"DTLSFFI_WITHOUT names what to do without: gso, gro, df, not {', '.join(sorted(unknown))}")
    lib.dtlsffi_udp_do_without(sum(known[name] for name in set(names)))


do_without(filter(None, map(str.strip, os.environ.get("DTLSFFI_WITHOUT", "").split(","))))
