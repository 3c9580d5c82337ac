"""Clients of a DTLSListener, what answers them, and threads that wait in its calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dtlsffi
from dtlsffi.accepted import DTLSServerConnection
from dtlsffi.server import DTLSListener
from tests.helpers import HOST
from tests.serving.clients import Client

LOOPBACK = ("127.0.0.1", 0)
Both = Callable[..., list[Any]]
Pair = tuple[dtlsffi.DTLSSocket, DTLSServerConnection]


def connect(address: Any, context: dtlsffi.DTLSContext, **more: Any) -> dtlsffi.DTLSSocket:
    return dtlsffi.create_connection(address[:2], context=context, **{"server_hostname": HOST, "timeout": 10} | more)


def accept(listener: DTLSListener) -> DTLSServerConnection:
    conn, _ = listener.accept()
    conn.settimeout(10)
    return conn


@contextmanager
def serving(listener: DTLSListener, handler: Callable[..., object], **more: Any) -> Iterator[None]:
    """serve_forever in a thread, until the end of the block."""
    thread = threading.Thread(target=listener.serve_forever, args=(handler,), kwargs=more)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown()
        thread.join()


def echo(conn: DTLSServerConnection, _address: Any = None) -> None:
    while data := conn.recv():
        conn.send(data)


def raises_in_thread(call: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """A thread that is in `call`, and what that will raise."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, failures


def waits_in(
    client: dtlsffi.DTLSSocket, server: Any, call: Callable[[], object]
) -> tuple[threading.Thread, list[BaseException]]:
    """`raises_in_thread` of a call that receives, and is waiting in C: calls before it have looked in vain."""
    for _ in range(2):
        server.send(b"warm")
        client.recv()
    found = raises_in_thread(call)
    while not client._carrier.is_waited_for:
        pass
    return found


class Stepwise(Client):
    """A client that goes on only when it is told to: it has been accepted, and stops there."""

    def __init__(self, address: Any, context: dtlsffi.DTLSContext) -> None:
        super().__init__(address, context)
        self.begin()
        self.until(lambda: self.received)  # the HelloVerifyRequest
