"""Proof of return routability: RFC 6347 section 4.2.1. The work is done in cookie.c."""

from __future__ import annotations

from collections.abc import Iterator

from .._native import CData, ffi, lib
from .arguments import exactly

HANDSHAKE = 22
HEADER = 25  # bytes of a record with a fragment before its part of the message
RECORDS_AT_MOST = 16


def seems_hello(data: bytes) -> bool:
    """Whether a datagram begins like a ClientHello: a plaintext handshake record with the first message of all."""
    return data[0] == HANDSHAKE and data[3:5] == b"\0\0" and data[13:14] == b"\x01"


def is_whole_hello(data: bytes) -> bool:
    """Whether it begins with a ClientHello in one piece: one fragment, from 0 on, as long as the message."""
    return seems_hello(data) and data[19:22] == b"\0\0\0" and data[14:17] == data[22:25]


def is_fragment(data: bytes) -> bool:
    """Whether it begins with a part of a ClientHello that comes in several."""
    return seems_hello(data) and not is_whole_hello(data)


def records_of(data: bytes) -> Iterator[bytes]:
    """The records of a datagram that seem to hold fragments of a ClientHello, up to the first that does not.

    No more of them than an honest client has reason to send: it would rather have had one.
    """
    at = 0
    for _ in range(RECORDS_AT_MOST):
        if len(data) - at <= HEADER or not seems_hello(data[at : at + HEADER]):
            return
        record = data[at : at + 13 + int.from_bytes(data[at + 11 : at + 13], "big")]
        begin, part = int.from_bytes(record[19:22], "big"), int.from_bytes(record[22:25], "big")
        if len(record) != HEADER + part or begin + part > int.from_bytes(record[14:17], "big"):
            return
        at += len(record)
        yield record


def make_jar(secret: bytes | None) -> CData:
    """Where cookies come from; ValueError for a secret that is too short to be one."""
    if secret is not None and (not isinstance(secret, (bytes, bytearray)) or memoryview(secret).nbytes < 16):
        raise ValueError("cookie_secret is bytes, at least 16 of them")
    exact = b"" if secret is None else exactly(secret, "cookie_secret")
    jar = lib.dtlsffi_cookie_jar_new(exact, len(exact))
    if jar == ffi.NULL:
        raise OSError("OpenSSL has no memory, or no randomness, to make cookies of")
    return ffi.gc(jar, lib.dtlsffi_cookie_jar_free)
