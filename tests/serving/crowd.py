"""Many clients at once, each behind a wire that loses a third of all datagrams in either direction.

    python -m tests.serving.crowd [--clients N] [--door NAME]...

Ends with status 1 where a client does not get its own answer, or the server is left with a connection.
"""

from __future__ import annotations

import argparse
import selectors
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import dtlsffi
from dtlsffi.testing import Authority, Wire
from tests.helpers import HOST
from tests.serving.clients import Client, pending
from tests.serving.doors import DOORS, Door

WIRE = {"loss": 0.3, "duplication": 0.1, "reordering": 0.1}
QUICK = (0.04, 1.3, 0.2)
PATIENT = (0.2, 1.3, 1.0)  # hundreds of handshakes take seconds, and nothing is gained by repeating them meanwhile


class Walker(Client):
    """One of a crowd, behind a bad network of its own: shakes hands, says its name until it hears it back, and leaves.

    Twelve losses in a row end a handshake, which happens to one in some thousand here: it begins another one then.
    """

    AGAIN = 0.2  # seconds after which it repeats itself

    def __init__(self, address: Any, context: dtlsffi.DTLSContext, *, number: int, **conditions: Any) -> None:
        super().__init__(address, context)
        self.sock.setblocking(False)
        self.attempts = 1
        self._up = Wire(seed=2 * number, **conditions)
        self._down = Wire(seed=2 * number + 1, **conditions)
        self._name = b"%d of %d" % (number, self.address[1])
        self._speaks = 0.0
        self.heard: list[bytes] = []
        """What came back: nothing but its own name, one hopes."""

    @property
    def lost(self) -> int:
        """Datagrams that its wires have lost."""
        return self._up.lost + self._down.lost

    @property
    def is_content(self) -> bool:
        """Whether it has heard its name, and nothing else."""
        return bool(self.heard) and set(self.heard) == {self._name}

    def transmit(self) -> None:
        for datagram in self.connection.datagrams_to_send():
            for arriving in self._up.carry(datagram):
                with suppress(BlockingIOError, ConnectionRefusedError):
                    self.sock.send(arriving)

    def hear(self) -> None:
        """Takes what has come."""
        for datagram in pending(self.sock):
            for arriving in self._down.carry(datagram):
                self.connection.receive_datagram(arriving)
        self.heard += self.connection.data_received()
        self.transmit()

    def leave(self) -> None:
        """With a close_notify that does get through."""
        self._up = Wire()
        self.close()

    def move(self, now: float) -> float:
        """Does what is due; returns in how many seconds the next thing is."""
        if not self.connection.is_established:
            try:
                self.connection.handle_timer()
            except dtlsffi.HandshakeTimeout:
                self.attempts += 1
                self.connection = dtlsffi.Connection(self.connection.context, server_hostname=HOST)
                self.begin()
            self.transmit()
            return self.connection.get_timer() or 0.0
        if now >= self._speaks:
            self._speaks = now + self.AGAIN
            self.connection.send(self._name)
            self.transmit()
        return self._speaks - now


def walk(crowd: Sequence[Walker], *, within: float = 60.0) -> None:
    """Has them all go at once, until each has heard something; TimeoutError after `within` seconds."""
    end = time.monotonic() + within
    waiting = set(crowd)
    with selectors.DefaultSelector() as selector:
        for walker in crowd:
            selector.register(walker.sock, selectors.EVENT_READ, walker)
            walker.begin()
        while waiting:
            now = time.monotonic()
            if now > end:
                raise TimeoutError(f"{len(waiting)} of {len(crowd)} have heard nothing")
            for key, _ in selector.select(max(0.0, min(walker.move(now) for walker in waiting))):
                key.data.hear()
            waiting = {walker for walker in waiting if not walker.heard}


def crowd_through(
    door: Door, authority: Authority, clients: int, timers: tuple[float, float, float] = QUICK
) -> dict[str, int]:
    """Has so many clients talk with a server through such wires; the server's statistics when they have left.

    `attempts` is how many handshakes the clients have begun.
    """
    client_context, server_context = authority.client_context(), authority.server_context(HOST)
    client_context.retransmission = server_context.retransmission = timers
    with door.serving(server_context) as served:
        crowd = [Walker(served.address, client_context, number=number, **WIRE) for number in range(clients)]
        try:
            walk(crowd)
            assert all(walker.is_content for walker in crowd), "somebody has heard somebody else's name"
        finally:
            for number, walker in enumerate(crowd, 1):
                walker.leave()
                if number % 100 == 0:  # more goodbyes at one time than a socket's buffer has room for
                    served.wait_until(lambda gone=number: served.count("connections") <= clients - gone + gone // 10)
        served.wait_until(lambda: served.count("connections") <= clients // 10)
        return served.statistics() | {"attempts": sum(walker.attempts for walker in crowd)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--door", action="append", choices=list(DOORS))
    options = parser.parse_args()
    for name in options.door or DOORS:
        begin = time.monotonic()
        counts = crowd_through(DOORS[name], Authority(), options.clients, PATIENT)
        assert counts["handshakes_completed"] >= options.clients
        print(f"{name}: {options.clients} clients in {time.monotonic() - begin:.1f} s, {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
