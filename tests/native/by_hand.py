"""One side of a connection over a UDP socket, moved step by step."""

from __future__ import annotations

import socket

from dtlsffi import Connection
from tests.helpers import start, wait_for

QUICK = (0.01, 1.0, 0.01)


class ByHand:
    """A peer without a loop: its datagrams go, and are read, when the test says so."""

    def __init__(self, connection: Connection, sock: socket.socket) -> None:
        self.connection, self.sock = connection, sock
        connection.retransmission = QUICK
        sock.settimeout(10)

    def send(self) -> None:
        for datagram in self.connection.datagrams_to_send():
            self.sock.send(datagram)

    def take(self) -> list[bytes]:
        """What has come, one datagram at least, is read; the records in it."""
        self.connection.receive_datagram(self.sock.recv(65535))
        self.send()
        return self.connection.data_received()

    def say(self) -> None:
        for datagram in start(self.connection):
            self.sock.send(datagram)

    def repeat(self) -> None:
        wait_for(self.connection)
        self.send()

    def lose(self) -> None:
        """What has come is lost, one datagram at least."""
        self.sock.recv(65535)
        self.sock.setblocking(False)
        try:
            while True:
                self.sock.recv(65535)
        except BlockingIOError:
            self.sock.settimeout(10)
