"""A thousand addresses that say hello as fast as they can and never go on: a program of its own.

Its arguments are the server's port, and the datagrams of a hello in hex, which are sent one after the other; every
second stranger leaves off the last one, if there are several. Some of the strangers listen to what comes back, first
in peace, where nothing is lost, then in the flood. At the end of its stdin it prints in JSON what has come back.

They are a burden to the network, not to the server's processors: where there are few, others come first.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
from contextlib import suppress

from dtlsffi import Connection, DTLSWantReadError
from dtlsffi.testing import Authority
from tests.crowd.servers import HOST

STRANGERS = 1000
LISTENERS = 25  # every so many-th stranger listens


def hello() -> bytes:
    """A client's first datagram."""
    client = Connection(Authority().client_context(), server_hostname=HOST)
    with suppress(DTLSWantReadError):
        client.do_handshake()
    (whole,) = client.datagrams_to_send()
    return whole


def fragments(whole: bytes, length: int) -> list[bytes]:
    """The same in two datagrams, of which the first one has so much of the message: RFC 6347 section 4.2.3."""
    kind, body = whole[13:19], whole[25:]
    pieces = [(0, body[:length]), (length, body[length:])]
    return [
        whole[:10]
        + struct.pack("!BH", number, 12 + len(piece))
        + kind
        + start.to_bytes(3, "big")
        + len(piece).to_bytes(3, "big")
        + piece
        for number, (start, piece) in enumerate(pieces)
    ]


class Stranger:
    """One address of 127.0.0.0/8."""

    def __init__(self, number: int, port: int, datagrams: list[bytes]) -> None:
        self.datagrams = datagrams[:-1] if len(datagrams) > 1 and number // LISTENERS % 2 else datagrams
        self.listens = number % LISTENERS == 0
        self.sent = self.received = self.longest = 0
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        if not self.listens:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self.sock.bind((f"127.1.{number // 250}.{1 + number % 250}", 0))
        self.sock.connect(("127.0.0.1", port))

    def speak(self) -> None:
        for datagram in self.datagrams:
            with suppress(OSError):
                self.sent += self.sock.send(datagram)

    def listen(self) -> None:
        with suppress(OSError):
            while reply := self.sock.recv(65536):
                self.longest = max(self.longest, len(reply))
                self.received += len(reply)


def listen_in_peace(listeners: list[Stranger]) -> None:
    """Each says its hello once, and waits for what comes until nothing has come for a while."""
    poller = select.poll()
    for stranger in listeners:
        poller.register(stranger.sock, select.POLLIN)
        stranger.speak()
    while poller.poll(500):
        for stranger in listeners:
            stranger.listen()


def most_back(listeners: list[Stranger]) -> float:
    """How many bytes have come back for each one sent, to the stranger that got most."""
    return max(stranger.received / stranger.sent for stranger in listeners)


def main() -> None:
    os.nice(5)
    datagrams = [bytes.fromhex(text) for text in sys.argv[2:]]
    strangers = [Stranger(number, int(sys.argv[1]), datagrams) for number in range(STRANGERS)]
    listeners = [stranger for stranger in strangers if stranger.listens]
    listen_in_peace(listeners)
    in_peace = most_back(listeners)
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        for stranger in strangers:
            stranger.speak()
        for stranger in listeners:
            stranger.listen()
    result = {
        "bytes to listeners": sum(stranger.received for stranger in listeners),
        "longest reply": max(stranger.longest for stranger in listeners),
        "shortest request": min(map(len, datagrams)),
        "bytes back for each byte": max(in_peace, most_back(listeners)),
    }
    print(json.dumps(result), flush=True)
    for stranger in strangers:
        stranger.sock.close()


if __name__ == "__main__":
    main()
