"""So many records, in the same way each time: to be counted by callgrind.

python -m benchmarks.subjects.ours_instructions SCENARIO RECORDS CERT KEY CA
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable

from dtlsffi import Connection, DTLSSocket, Endpoint

from .common import HOST, Options, bound, connected
from .contexts import client_context, server_context
from .ours_echo import echo_all, echo_each
from .ours_memory import by_the_batch, one_by_one, shake_hands
from .ours_sockets import socket_pair

BATCH = 32
DATA = bytes(64)
Run = Callable[[int], None]


def lacks(*needed: tuple[type, str]) -> str:
    """What is not there yet, if anything."""
    return ", ".join(f"{where.__name__}.{name}" for where, name in needed if not hasattr(where, name))


def memory_single(options: Options) -> Run:
    return one_by_one(*shake_hands(client_context(options), server_context(options), HOST), DATA)


def memory_batch(options: Options) -> Run:
    run = by_the_batch(*shake_hands(client_context(options), server_context(options), HOST), [DATA] * BATCH)
    return lambda records: run(records // BATCH)


def socket_single(options: Options) -> Run:
    client, server = socket_pair(options)

    def run(records: int) -> None:
        for _ in range(records):
            client.send(DATA)
            server.recv()

    return run


def socket_batch(options: Options) -> Run:
    client, server = socket_pair(options)
    buffers = [DATA] * BATCH

    def run(records: int) -> None:
        for _ in range(records // BATCH):
            client.send_many(buffers)
            left = BATCH
            while left:
                left -= len(server.recv_many(left))

    return run


def endpoint_echo(options: Options) -> Run:
    """An endpoint with BATCH peers; the peers' own work is counted, too, and is the same each time."""
    sock = bound()
    sock.setblocking(False)
    endpoint = Endpoint(server_context(options), fileno=sock.fileno())
    answer = echo_all if hasattr(Endpoint, "send_many") else echo_each
    context = client_context(options)
    peers = [(Connection(context, server_hostname=HOST), connected(sock.getsockname()[1])) for _ in range(BATCH)]

    def pump(_kept_open: socket.socket = sock) -> None:
        while endpoint.pump(time.monotonic()):
            pass
        endpoint.accepted()
        answer(endpoint)

    for client, own in peers:
        own.settimeout(5)
        settle(client, own, pump)

    def run(records: int) -> None:
        for _ in range(records // BATCH):
            for client, own in peers:
                client.send(DATA)
                own.send(client.datagrams_to_send()[0])
            pump()
            for _, own in peers:
                own.recv(2048)

    return run


def settle(client: Connection, own: socket.socket, pump: Callable[[], None]) -> None:
    """A handshake with the endpoint."""
    try:
        client.do_handshake()
    except OSError:
        pass
    while not client.is_established:
        for datagram in client.datagrams_to_send():
            own.send(datagram)
        pump()
        client.receive_datagram(own.recv(2048))
    pump()


SCENARIOS: dict[str, tuple[Callable[[Options], Run], str]] = {
    "memory, one call a record": (memory_single, ""),
    "memory, batch of 32": (memory_batch, lacks((Connection, "send_many"), (Connection, "receive_datagrams"))),
    "socket, send and recv": (socket_single, ""),
    "socket, send_many and recv_many": (socket_batch, lacks((DTLSSocket, "send_many"), (DTLSSocket, "recv_many"))),
    "endpoint, echo": (endpoint_echo, ""),
}


def main() -> None:
    name, records, cert, key, ca = sys.argv[1:]
    make, _ = SCENARIOS[name]
    run = make(Options(cert=cert, key=key, ca=ca))
    run(int(records))


if __name__ == "__main__":
    main()
