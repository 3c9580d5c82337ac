"""What the programs have in common: the options of the reference in C, lines of JSON, sockets."""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

CIPHER = "ECDHE-ECDSA-AES128-GCM-SHA256"
PSK_CIPHER = "PSK-AES128-GCM-SHA256"
PSK = b"0123456789abcdef"
HOST = "device.example"
BUFFER_SIZE = 8 << 20  # of sockets, where root may have it
MTU = 1400
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
END = 1  # a record of this length ends what is sent one way
PATIENCE = 2.0  # seconds without a record until a receiver gives up


class Options(argparse.Namespace):
    """The options, by name."""

    role: str
    mode: str
    cert: str
    key: str
    ca: str
    port: int
    size: int
    batch: int
    seconds: float


Roles = dict[str, Callable[[Options], None]]


def say(**words: object) -> None:
    """One line of JSON."""
    print(json.dumps(words), flush=True)


def skip(why: str) -> NoReturn:
    """Says why this cannot be measured here."""
    say(skipped=why)
    sys.exit(0)


def obey(roles: Roles) -> None:
    """Reads the command line and plays the role it names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=sorted(roles))
    parser.add_argument("--mode", default="")
    for name in ("cert", "key", "ca"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args(namespace=Options())
    roles[options.role](options)


def enlarge(sock: socket.socket) -> None:
    """Gives a socket the buffers that the reference's sockets have."""
    for forced, asked in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, BUFFER_SIZE)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, asked, BUFFER_SIZE)


def bound(port: int = 0) -> socket.socket:
    """A UDP socket on the loopback address."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    enlarge(sock)
    sock.bind(("127.0.0.1", port))
    return sock


def first_client(port: int = 0) -> socket.socket:
    """Says the port, waits for the first client, and returns a socket connected to it; its datagram is still there."""
    sock = bound(port)
    say(port=sock.getsockname()[1])
    _, client = sock.recvfrom(1, socket.MSG_PEEK)
    sock.connect(client)
    return sock


def connected(port: int) -> socket.socket:
    """A UDP socket connected to a port of this machine."""
    sock = bound()
    sock.connect(("127.0.0.1", port))
    return sock
