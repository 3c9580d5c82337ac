"""Servers that send back what they get, one for each door: a program of its own, started by `tests.crowd.servers`.

The only argument says in JSON which door it is and how it is set up. It prints its port, for each line on stdin what
its statistics are, and ends with stdin. A reply is the server's name, a bar, and what it replies to.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import dtlsffi
from dtlsffi import DTLSContext, Endpoint

LOOPBACK = "127.0.0.1"
PR_FUTEX_HASH, PR_FUTEX_HASH_SET_SLOTS = 78, 1  # <linux/prctl.h>
STACK = 256 * 1024  # for each thread: address space, of which it takes what it touches


def resident() -> int:
    """The process's memory in kB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


class Setup:
    """What a door needs to know; `name` comes first in all replies, `arguments` are those that all doors share."""

    def __init__(self, text: str) -> None:
        given = json.loads(text)
        self.door: str = given["door"]
        self.name = given["name"].encode() + b"|"
        self.limits: dict[str, Any] = given["limits"]
        self.address: tuple[str, int] = (LOOPBACK, given["port"])
        if given["cookie_secret"]:
            self.limits["cookie_secret"] = bytes.fromhex(given["cookie_secret"])
        self.context = DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
        self.context.load_cert_chain(given["chain"], given["key"])
        self.context.retransmission = tuple(given["retransmission"])
        if given["ticket_keys"]:
            self.context.set_ticket_keys([bytes.fromhex(key) for key in given["ticket_keys"]])
        self.arguments = {"context": self.context, "reuse_port": given["reuse_port"], **self.limits}


def tell(statistics: Callable[[], dict[str, int]]) -> None:
    """One line about how things are."""
    about = {"resident": resident(), "threads": threading.active_count(), "processor": time.process_time()}
    print(json.dumps(statistics() | about), flush=True)


def give_room_to_futexes() -> None:
    """Linux 6.16 and newer keep all that a process's threads wait for in as few lists as it has processors.

    With 10,000 threads each waking then goes through hundreds of others: 200 microseconds for what takes 30. Older ones
    do not know the call, and do not need it.
    """
    ctypes.CDLL(None).prctl(PR_FUTEX_HASH, PR_FUTEX_HASH_SET_SLOTS, 16384, 0, 0)


# ---- without asynchrony ----


def endpoint(setup: Setup) -> None:
    """One thread, one loop, no door at all: how blocking code serves very many."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        if setup.arguments["reuse_port"]:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(setup.address)
        sock.setblocking(False)
        port = Endpoint(setup.context, fileno=sock.fileno(), **setup.limits)
        print(sock.getsockname()[1], flush=True)
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        poller.register(sys.stdin, select.POLLIN)
        while True:
            timer = port.get_timer(time.monotonic())
            ready = {fd for fd, _ in poller.poll(None if timer is None else timer * 1000 + 1)}
            if sys.stdin.fileno() in ready:
                if not sys.stdin.buffer.raw.read(4096):  # type: ignore[attr-defined]
                    break
                tell(port.statistics)
            move(port, setup.name)
        port.close()


def move(port: Endpoint, name: bytes) -> None:
    """What has come, and what is due."""
    for _ in range(8):
        if not port.pump(time.monotonic()):
            break
    port.handle_timers(time.monotonic())
    port.accepted()
    for connection in port.ready():
        while connection.received and not connection.gone:
            with suppress(OSError):  # a full buffer: lost, as on any network
                connection.send(name + connection.received.pop(0))
        if connection.peer_closed:
            connection.close()


def blocking(setup: Setup) -> None:
    """A thread for each peer, which is what `serve_forever` does."""
    threading.stack_size(STACK)
    give_room_to_futexes()

    def handle(conn: dtlsffi.DTLSServerConnection, _address: Any) -> None:
        with suppress(dtlsffi.DTLSError):  # a client that has begun again from the same address
            while data := conn.recv():
                conn.send(setup.name + data)

    with dtlsffi.create_server(setup.address, **setup.arguments) as server:
        server.listen(1000)
        serving = threading.Thread(target=server.serve_forever, args=(handle,))
        serving.start()
        print(server.getsockname()[1], flush=True)
        for _ in sys.stdin:
            tell(server.statistics)
        server.shutdown()
        serving.join()


# ---- with asynchrony ----


async def echo(setup: Setup, conn: Any) -> None:
    """The same in asyncio, trio and anyio."""
    with suppress(dtlsffi.DTLSError):  # as above
        async for data in conn:
            await conn.send(setup.name + data)


async def asyncio_serve(setup: Setup) -> None:
    """`dtlsffi.asyncio.serve`: a coroutine for each peer."""
    import asyncio

    import dtlsffi.asyncio

    server = await dtlsffi.asyncio.serve(partial(echo, setup), *setup.address, **setup.arguments)
    print(server.getsockname()[1], flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        tell(server.statistics)
    server.close()
    await server.wait_closed()


async def asyncio_protocol(setup: Setup) -> None:
    """`dtlsffi.asyncio.create_dtls_endpoint`: an ordinary protocol, which knows of no encryption."""
    import asyncio

    import dtlsffi.asyncio

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(setup.name + data, addr)

    transport, _ = await dtlsffi.asyncio.create_dtls_endpoint(Echo, local_addr=setup.address, **setup.arguments)
    print(transport.get_extra_info("sockname")[1], flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        tell(transport.statistics)
    transport.close()


async def anyio_serve(setup: Setup) -> None:
    """`dtlsffi.anyio.serve`: a task for each peer, in trio or asyncio."""
    import anyio

    import dtlsffi.anyio

    async with anyio.create_task_group() as tasks:
        serve = partial(dtlsffi.anyio.serve, partial(echo, setup), *setup.address, **setup.arguments)
        server = await tasks.start(serve)
        print(server.getsockname()[1], flush=True)
        while await anyio.to_thread.run_sync(sys.stdin.readline):
            tell(server.statistics)
        tasks.cancel_scope.cancel()


def in_asyncio(serve: Callable[[Setup], Any], setup: Setup) -> None:
    """Runs a coroutine in asyncio."""
    import asyncio

    asyncio.run(serve(setup))


def in_anyio(backend: str, setup: Setup) -> None:
    """Runs anyio's server in trio or in asyncio."""
    import anyio

    anyio.run(anyio_serve, setup, backend=backend)


# ---- all of them ----

DOORS: dict[str, tuple[Callable[[Setup], None], tuple[str, ...]]] = {
    "endpoint": (endpoint, ()),
    "blocking": (blocking, ()),
    "asyncio": (partial(in_asyncio, asyncio_serve), ("dtlsffi.asyncio",)),
    "asyncio-protocol": (partial(in_asyncio, asyncio_protocol), ("dtlsffi.asyncio",)),
    "anyio-trio": (partial(in_anyio, "trio"), ("dtlsffi.anyio", "anyio", "trio")),
    "anyio-asyncio": (partial(in_anyio, "asyncio"), ("dtlsffi.anyio", "anyio")),
}
"""By name: the server, and the modules that it needs."""


def doors() -> list[str]:
    """Those whose modules are there."""
    return [name for name, (_, modules) in DOORS.items() if all(map(importlib.util.find_spec, modules))]


def main() -> None:
    setup = Setup(sys.argv[1])
    DOORS[setup.door][0](setup)


if __name__ == "__main__":
    main()
