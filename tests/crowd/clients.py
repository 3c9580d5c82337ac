"""Very many clients, moved by one loop: each a `Connection` of its own, on a UDP socket of its own."""

from __future__ import annotations

import resource
import select
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import dtlsffi
from dtlsffi import Connection, DTLSContext, DTLSSession
from tests.crowd.servers import HOST

if TYPE_CHECKING:
    from typing_extensions import Self

NEVER = float("inf")
WINDOW = 100  # clients that wait for something at a time: a socket's buffer has room for some 250 datagrams


class Client:
    """A client that shakes hands, and says things until it has heard each of them again.

    What it says names it, so that it knows what was meant for somebody else. UDP may lose what it says: it says it
    again after `patience` seconds, and gives up after `tries`.
    """

    patience = 0.5
    tries = 40

    def __init__(
        self, number: int, address: tuple[str, int], context: DTLSContext, session: DTLSSession | None = None
    ) -> None:
        self.number = number
        self.echoes = 0
        """Those that came."""
        self.lost = 0
        """Those that did not come in time."""
        self.mixed = 0
        """Records that were meant for somebody else."""
        self.server = ""
        """The name of the server that has answered last."""
        self.failure: Exception | None = None
        """Why it has given up."""
        self.due = NEVER
        """When it has to be looked at, by the monotonic clock; NEVER while it waits for nothing."""
        self._address = address
        self._to_say = self._again = 0
        self.move()
        self.begin_anew(context, session)

    def move(self) -> None:
        """Goes to another address, with another socket."""
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.connect(self._address)

    def begin_anew(self, context: DTLSContext, session: DTLSSession | None = None) -> None:
        """Forgets its connection, as after a crash, for one that has yet to shake hands."""
        self.failure = None
        self.conn = Connection(context, server_hostname=HOST, session=session)

    def close(self) -> None:
        """Says goodbye."""
        self.conn.close()
        self._transmit()
        self.sock.close()

    # ---- what it does ----

    def begin(self, now: float, say: int) -> None:
        """Shakes hands, if it has not yet, and says so many things after that; nothing once it has given up."""
        if self.failure is not None:
            return
        self._to_say, self._again, self.due = say, 0, now
        if self.conn.is_established:
            self._say(now)
        else:
            with suppress(dtlsffi.DTLSWantReadError):
                self.conn.do_handshake()
            self._go_on_shaking(now)

    def _go_on_shaking(self, now: float) -> None:
        self._transmit()
        if self.conn.is_established:
            self._say(now)
        else:
            timer = self.conn.get_timer()
            self.due = now + (self.patience if timer is None else timer)

    def _word(self) -> bytes:
        return b"peer %d word %d" % (self.number, self.echoes)

    def _say(self, now: float) -> None:
        """Says what is next, if anything is."""
        if self._to_say == 0:
            self.due = NEVER
            return
        self.conn.send(self._word())
        self._transmit()
        self.due = now + self.patience

    def _transmit(self) -> None:
        for datagram in self.conn.datagrams_to_send():
            with suppress(OSError):  # nobody there, or no room: lost
                self.sock.send(datagram)

    # ---- what happens to it ----

    def readable(self, now: float) -> None:
        """Its socket has something."""
        shaking = not self.conn.is_established
        try:
            while True:
                self.conn.receive_datagram(self.sock.recv(65536))
        except dtlsffi.DTLSError as error:
            self._give_up(error)
            return
        except (BlockingIOError, ConnectionRefusedError):
            pass
        if shaking and self.due != NEVER:
            self._go_on_shaking(now)
        for record in self.conn.data_received():
            self._hear(record, now)
        self._transmit()

    def _hear(self, record: bytes, now: float) -> None:
        server, _, words = record.partition(b"|")
        if not words.startswith(b"peer %d " % self.number):
            self.mixed += 1
        elif words == self._word():  # and nothing that was said twice
            self.server = server.decode()
            self.echoes += 1
            self._to_say -= 1
            self._again = 0
            self._say(now)

    def late(self, now: float) -> None:
        """It has waited for long enough."""
        if not self.conn.is_established:
            try:
                self.conn.handle_timer()
            except dtlsffi.DTLSError as error:
                self._give_up(error)
            else:
                self._go_on_shaking(now)
        elif self._again == self.tries:
            self._give_up(TimeoutError(f"client {self.number} has had no answer"))
        else:
            self.lost += 1
            self._again += 1
            self._say(now)

    def _give_up(self, error: Exception) -> None:
        self.failure = error
        self.due = NEVER


class Crowd:
    """Clients, and the loop that moves them. A context manager, which closes them."""

    def __init__(self, clients: Iterable[Client]) -> None:
        self.clients = list(clients)
        self._poller = select.epoll()
        self._at: dict[int, Client] = {}
        for client in self.clients:
            self._watch(client)

    def _watch(self, client: Client) -> None:
        self._at[client.sock.fileno()] = client
        self._poller.register(client.sock, select.EPOLLIN)

    def move(self, client: Client) -> None:
        """Has a client go to another address."""
        self._poller.unregister(client.sock)
        client.sock.close()
        client.move()
        self._watch(client)

    def run(self, say: int = 0, *, window: int = WINDOW, clients: Iterable[Client] | None = None) -> float:
        """Has all clients, or those given, shake hands if they have not, and say things; the seconds it took.

        Raises the first failure.
        """
        waiting = iter(self.clients if clients is None else clients)
        busy: list[Client] = []
        now = start = time.monotonic()
        while True:
            busy = [client for client in busy if client.due != NEVER]
            while len(busy) < window and (client := next(waiting, None)) is not None:
                client.begin(now, say)
                if client.due != NEVER:
                    busy.append(client)
            if not busy:
                break
            for number, _ in self._poller.poll(max(0.0, min(client.due for client in busy) - now), window):
                self._at[number].readable(time.monotonic())
            now = time.monotonic()
            for client in busy:
                if client.due <= now:
                    client.late(now)
        return now - start

    def failures(self) -> list[Exception]:
        """Those of clients that have given up."""
        return [client.failure for client in self.clients if client.failure is not None]

    def total(self, what: str) -> int:
        """The sum of `echoes`, `lost` or `mixed`."""
        return sum(getattr(client, what) for client in self.clients)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients:
            client.close()
        self._poller.close()


def make_room(sockets: int) -> None:
    """Sees that the process may have so many sockets. Raises OSError where it may not."""
    wanted = sockets + 100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise OSError(f"{sockets} sockets are more than the {hard} descriptors that this process may have: ulimit -n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
