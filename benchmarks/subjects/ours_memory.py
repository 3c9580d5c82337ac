"""dtlsffi without sockets: the cost of a record, and of a handshake."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import dtlsffi
from dtlsffi import Connection, DTLSContext
from dtlsffi.core.session import DTLSSession

from .common import HOST, Options, obey, skip
from .contexts import RECORD_OVERHEAD, client_context, server_context
from .flows import time_handshakes, time_records


def shake_hands(
    client_side: DTLSContext, server_side: DTLSContext, name: str | None, session: DTLSSession | None = None
) -> tuple[Connection, Connection]:
    """A client and a server, connected."""
    client = Connection(client_side, server_hostname=name, session=session)
    server = Connection(server_side, server_side=True)
    try:
        client.do_handshake()
    except dtlsffi.DTLSWantReadError:
        pass
    while not (client.is_established and server.is_established):
        for datagram in client.datagrams_to_send():
            server.receive_datagram(datagram)
        for datagram in server.datagrams_to_send():
            client.receive_datagram(datagram)
    return client, server


def spin() -> None:
    """A thread that has something else to do."""
    number = 0
    while True:
        number += 1


def one_by_one(client: Connection, server: Connection, data: bytes) -> Callable[[int], None]:
    """What seals and opens so many records, with a call for each."""

    def run(records: int) -> None:
        for _ in range(records):
            client.send(data)
            for datagram in client.datagrams_to_send():
                server.receive_datagram(datagram)
            server.data_received()

    return run


def by_the_batch(client: Any, server: Any, buffers: list[bytes]) -> Callable[[int], None]:
    """What seals so many batches, each in one call, and opens them."""

    def run(batches: int) -> None:
        for _ in range(batches):
            client.send_many(buffers)
            server.receive_datagrams(client.datagrams_to_send())
            server.data_received()

    return run


def record(options: Options) -> None:
    """Mode `batch`: `--batch` records a call; anything else: one call a record; `busy`: with a busy thread beside."""
    client, server = shake_hands(client_context(options), server_context(options), HOST)
    client.mtu = server.mtu = options.size + RECORD_OVERHEAD
    data = bytes(options.size)
    if options.mode == "batch":
        for name in ("send_many", "receive_datagrams"):
            if not hasattr(Connection, name):
                skip(f"there is no Connection.{name}")
        time_records(by_the_batch(client, server, [data] * options.batch), options.batch, options.seconds)
        return
    run = one_by_one(client, server, data)
    if options.mode == "busy":
        threading.Thread(target=spin, daemon=True).start()
        time_records(run, 1, options.seconds, time.perf_counter)
    else:
        time_records(run, 1, options.seconds)


def handshake(options: Options) -> None:
    """Mode `full`, `resumed` or `psk`."""
    psk = options.mode == "psk"
    name = None if psk else HOST
    contexts = client_context(options, psk=psk), server_context(options, psk=psk)
    session = None
    if options.mode == "resumed":
        client, _ = shake_hands(*contexts, name)
        session = client.session

    def once() -> None:
        client, server = shake_hands(*contexts, name, session)
        if client.session_reused != (session is not None):
            raise RuntimeError("the session was not resumed")
        client.close()
        server.close()

    time_handshakes(once, options.seconds)


if __name__ == "__main__":
    obey({"record": record, "handshake": handshake})
