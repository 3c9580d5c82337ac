"""dtlsffi's server for any number of peers on one port: an `Endpoint` in a loop that blocks."""

from __future__ import annotations

import os
import select
import sys
import time
from contextlib import suppress

from dtlsffi import Endpoint

from .common import Options, bound, obey, say
from .contexts import server_context

BATCHES = 4  # taken from the socket before the clock is looked at


def echo_each(endpoint: Endpoint) -> None:
    """What has come goes back, a call a record."""
    for connection in endpoint.ready():
        received = connection.received
        while received and not connection.gone:
            with suppress(OSError):
                connection.send(received.pop(0))
        if connection.peer_closed:
            connection.close()


def echo_all(endpoint: Endpoint) -> None:
    """What has come goes back, in one call."""
    arrived = endpoint.recv_many()
    if arrived:
        try:
            endpoint.send_many(arrived)
        except OSError:
            pass
    for connection in endpoint.ready():
        if connection.peer_closed:
            connection.close()


def echo(options: Options) -> None:
    """Mode `psk`: with a key; `each`: without send_many. Ends when stdin does."""
    context = server_context(options, psk=options.mode == "psk")
    answer = echo_each if options.mode == "each" else echo_all
    stdin, monotonic = sys.stdin.fileno(), time.monotonic
    with bound(options.port) as sock:
        sock.setblocking(False)
        endpoint = Endpoint(context, fileno=sock.fileno(), max_pending=4000)
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        poll.register(stdin, select.POLLIN)
        say(port=sock.getsockname()[1], pid=os.getpid(), how=answer.__name__)
        ready: list[tuple[int, int]] = []
        while not (ready and ready[-1][0] == stdin):
            due = endpoint.look_at()
            wait = due - monotonic()
            ready = poll.poll(1000 if wait > 1 else wait * 1000 if wait > 0 else 0)
            now = monotonic()
            for _ in range(BATCHES):
                more = endpoint.pump(now)
                endpoint.accepted()
                answer(endpoint)
                if not more:
                    break
            if now >= due:
                endpoint.handle_timers(now)


if __name__ == "__main__":
    obey({"echo": echo})
