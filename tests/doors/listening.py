"""A server for one client, in a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dtlsffi


@contextmanager
def listening(
    context: dtlsffi.DTLSContext, handle: Callable[[dtlsffi.DTLSSocket], object], host: str = "127.0.0.1"
) -> Iterator[socket.socket]:
    """A server for one client on a port of its own; what it raises is raised at the end."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.settimeout(10)
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            _, client = sock.recvfrom(1, socket.MSG_PEEK)
            sock.connect(client)
            with context.wrap_socket(sock, server_side=True) as conn:
                handle(conn)
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield sock
    finally:
        thread.join(timeout=30)
        sock.close()
    if failures:
        raise failures[0]


def echo(conn: dtlsffi.DTLSSocket) -> None:
    while data := conn.recv():
        conn.send(data)


def address_of(sock: socket.socket) -> tuple[str, int]:
    host, port = sock.getsockname()[:2]
    return host, port
