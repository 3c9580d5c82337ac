"""dtlsffi's DTLSSocket: one way, there and back; blocking."""

from __future__ import annotations

import threading
import time
from typing import Any

import dtlsffi

from .common import END, HOST, PATIENCE, Options, bound, connected, first_client, obey, say, skip
from .contexts import client_context, server_context
from .flows import echo, end_one_way, ping, receive_one_way, send_one_way, tell_received

BATCH = 128  # records that are sent in a call


def accept(options: Options) -> Any:
    """A server's side, for the first client."""
    conn = server_context(options).wrap_socket(first_client(options.port), server_side=True)
    conn.settimeout(PATIENCE)
    return conn


def connect(options: Options) -> Any:
    """A client's side."""
    conn = client_context(options).wrap_socket(connected(options.port), server_hostname=HOST)
    conn.settimeout(PATIENCE)
    return conn


def socket_pair(options: Options) -> tuple[Any, Any]:
    """A client and a server in one process."""
    ours = bound()
    theirs = connected(ours.getsockname()[1])
    ours.connect(theirs.getsockname())
    made: list[Any] = []
    server = server_context(options)
    thread = threading.Thread(target=lambda: made.append(server.wrap_socket(ours, server_side=True)))
    thread.start()
    client = client_context(options).wrap_socket(theirs, server_hostname=HOST)
    thread.join()
    return client, made[0]


def needs(name: str) -> None:
    if not hasattr(dtlsffi.DTLSSocket, name):
        skip(f"there is no DTLSSocket.{name}")


def receive(options: Options) -> None:
    """Mode `many`: recv_many; `into`: recv_into; anything else: recv."""
    if options.mode == "many":
        needs("recv_many")
    conn = accept(options)
    if options.mode == "many":
        receive_many(conn)
    elif options.mode == "into":
        receive_into(conn)
    else:
        receive_one_way(conn.recv)


def receive_many(conn: Any) -> None:
    """Batches until one ends with a record of one byte."""
    batch = conn.recv_many()
    start = time.perf_counter()
    count = 0
    while len(batch[-1]) > END:
        count += len(batch)
        batch = conn.recv_many()
    tell_received(count, time.perf_counter() - start)


def receive_into(conn: Any) -> None:
    """Without a bytes object for each."""
    buffer = bytearray(16384)
    count = 0
    length = conn.recv_into(buffer)
    start = time.perf_counter()
    while length > END:
        count += 1
        length = conn.recv_into(buffer)
    tell_received(count, time.perf_counter() - start)


def send(options: Options) -> None:
    """Mode `many`: send_many; anything else: send."""
    if options.mode == "many":
        needs("send_many")
    conn = connect(options)
    if options.mode != "many":
        send_one_way(conn.send, options.size, options.seconds)
        return
    buffers = [bytes(options.size)] * BATCH
    sent = 0
    end = time.perf_counter() + options.seconds
    while time.perf_counter() < end:
        sent += conn.send_many(buffers)
    say(sent=sent)
    end_one_way(conn.send)


def pingpong_serve(options: Options) -> None:
    conn = accept(options)
    echo(conn.send, conn.recv)


def pingpong(options: Options) -> None:
    conn = connect(options)
    ping(conn.send, conn.recv, options.size, options.seconds)


if __name__ == "__main__":
    obey({"oneway-receive": receive, "oneway-send": send, "pingpong-serve": pingpong_serve, "pingpong": pingpong})
