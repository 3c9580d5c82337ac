"""Clients that show what they do: a `Connection` on a UDP socket, whose datagrams can be kept and sent again."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import dtlsffi
from dtlsffi.core.events import CloseReceived
from tests.helpers import HOST
from tests.serving.served import PATIENCE

if TYPE_CHECKING:
    from typing_extensions import Self

AT_ONCE = 50  # datagrams that the kernel keeps for a server that is not quick


def udp(address: Any, source: Any = None) -> socket.socket:
    """A UDP socket connected to `address`, from `source` if that is given: what comes from elsewhere is not seen."""
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    if source is not None:
        sock.bind(source)
    sock.connect(address[:2])
    sock.settimeout(PATIENCE)
    return sock


def pending(sock: socket.socket) -> list[bytes]:
    """The datagrams that have come to a socket, without waiting: what was sent over loopback is there at once."""
    found, patience = [], sock.gettimeout()
    sock.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            found.append(sock.recv(65535))
    sock.settimeout(patience)
    return found


class Client:
    """A client that goes on only when it is told to, and keeps every datagram of either direction."""

    def __init__(
        self, address: Any, context: dtlsffi.DTLSContext, *, source: Any = None, server_hostname: str | None = HOST
    ) -> None:
        self.sock = udp(address, source)
        self.connection = dtlsffi.Connection(context, server_hostname=server_hostname)
        self.sent: list[bytes] = []
        self.received: list[bytes] = []
        self._records: list[bytes] = []

    @property
    def address(self) -> Any:
        """Its own."""
        return self.sock.getsockname()

    # ---- the handshake ----

    def begin(self) -> None:
        """Sends the first ClientHello."""
        with suppress(dtlsffi.DTLSWantReadError):
            self.connection.do_handshake()
        self.transmit()

    def prove(self) -> None:
        """Sends the second one, which has the cookie; goes no further."""
        self.begin()
        self.step()

    def shake_hands(self) -> None:
        """Goes through to the end; TimeoutError if that does not come."""
        if not self.sent:
            self.begin()
        self.until(lambda: self.connection.is_established)

    def until(self, done: Callable[[], object]) -> None:
        """Goes on, step by step, until `done`."""
        end = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > end:
                raise TimeoutError(f"{self.connection!r} is not done")
            self.step()

    def step(self) -> None:
        """Waits for one datagram, or for the timer."""
        timer = self.connection.get_timer()
        self.sock.settimeout(PATIENCE if timer is None else max(timer, 1e-4))
        try:
            datagram = self.sock.recv(65535)
        except TimeoutError:
            if timer is None:
                raise
            self.connection.handle_timer()
        else:
            self.take(datagram)
        self.transmit()

    def take(self, datagram: bytes) -> None:
        """What has come from the server, or is said to."""
        self.received.append(datagram)
        try:
            self.connection.receive_datagram(datagram)
        finally:
            self._records += self.connection.data_received()

    def transmit(self) -> None:
        """Sends what there is to send."""
        for datagram in self.connection.datagrams_to_send():
            self.sent.append(datagram)
            self.sock.send(datagram)

    # ---- data ----

    def seal(self, data: bytes) -> bytes:
        """The datagram for `data`, which is not sent."""
        self.connection.send(data)
        (datagram,) = self.connection.datagrams_to_send()
        self.sent.append(datagram)
        return datagram

    def send(self, data: bytes) -> None:
        """One record."""
        self.sock.send(self.seal(data))

    def recv(self) -> bytes:
        """The next record."""
        self.until(lambda: self._records)
        return self._records.pop(0)

    def ask(self, data: bytes) -> bytes:
        """What the server answers to `data`."""
        self.send(data)
        return self.recv()

    def answers_to(self, *datagrams: bytes) -> list[bytes]:
        """Sends datagrams as they are; returns what came back until the server was through with them."""
        came: list[bytes] = []
        for start in range(0, len(datagrams) or 1, AT_ONCE):
            for datagram in datagrams[start : start + AT_ONCE]:
                self.sock.send(datagram)
            before = len(self.received)
            assert self.ask(b"still here") == b"still here"
            came += self.received[before:-1] + pending(self.sock)
        return came

    # ---- the end ----

    def hear_close(self) -> None:
        """Waits for the server's close_notify."""
        self.until(lambda: CloseReceived() in self.connection.events_received())

    def close(self) -> None:
        """With a close_notify, if there is anybody to tell."""
        if self.sock.fileno() >= 0:
            self.connection.close()
            with suppress(OSError):
                self.transmit()
        self.vanish()

    def vanish(self) -> None:
        """Without a word."""
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def established(address: Any, context: dtlsffi.DTLSContext, **more: Any) -> Iterator[Client]:
    """A client that has shaken hands."""
    with Client(address, context, **more) as client:
        client.shake_hands()
        yield client
