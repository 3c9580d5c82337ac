"""What the tests of connections in memory say often: flights, records, waiting for a timer."""

from __future__ import annotations

import socket
import struct
import time

import pytest

import dtlsffi
from dtlsffi import Connection
from dtlsffi.testing import Identity, MemoryLink

FAST = (0.005, 2.0, 0.04)  # retransmission, in seconds
HOST = "device.example"
Pair = tuple[dtlsffi.DTLSSocket, dtlsffi.DTLSSocket]
Sockets = tuple[socket.socket, socket.socket]
CLIENT_HELLO, SERVER_HELLO = 1, 2
not_before_3_0_7 = pytest.mark.skipif(
    dtlsffi.OPENSSL_VERSION_INFO < (3, 0, 0, 7), reason="OpenSSL's own mistakes: see README.md"
)


def start(connection: Connection) -> list[bytes]:
    """The client's first flight."""
    with pytest.raises(dtlsffi.DTLSWantReadError):
        connection.do_handshake()
    return connection.datagrams_to_send()


def only(datagrams: list[bytes]) -> bytes:
    (datagram,) = datagrams
    return datagram


def records(datagram: bytes) -> list[tuple[int, int, int, bytes]]:
    """The records of a datagram: type, epoch, sequence number, fragment. RFC 6347 section 4.1."""
    found = []
    while datagram:
        kind, _, epoch, high, low, length = struct.unpack("!BHHHIH", datagram[:13])
        assert len(datagram) >= 13 + length, "a record was cut in two"
        found.append((kind, epoch, high << 32 | low, datagram[13 : 13 + length]))
        datagram = datagram[13 + length :]
    return found


def record(kind: int, fragment: bytes, *, epoch: int = 0, number: int = 7, version: int = 0xFEFD) -> bytes:
    return struct.pack("!BHHHIH", kind, version, epoch, 0, number, len(fragment)) + fragment


ALERT = record(21, bytes((2, 40)))  # fatal handshake_failure, which anybody can write


def handshake(client: dtlsffi.DTLSContext, server: dtlsffi.DTLSContext, hostname: str | None = HOST) -> MemoryLink:
    for context in (client, server):
        if not context._frozen:
            context.retransmission = FAST
    return MemoryLink(Connection(client, server_hostname=hostname), Connection(server, server_side=True))


def load(context: dtlsffi.DTLSContext, identity: Identity) -> None:
    context.load_cert_chain(identity.certificate, identity.key)


def wait_for(connection: Connection) -> None:
    """Lets the timer run out and moves it on."""
    end = time.monotonic() + (connection.get_timer() or 0)
    while time.monotonic() < end or connection.get_timer() not in (0, None):
        pass
    connection.handle_timer()
