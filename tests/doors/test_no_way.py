"""Where there is no way to a peer's address: over a socket that others share, the system says so when it is to send.

A connected socket has heard of it from connect(2) already.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import time
from contextlib import suppress
from typing import Any

import pytest

import dtlsffi
import dtlsffi.asyncio
from tests.doors.accepting import LOOPBACK
from tests.helpers import HOST

NOWHERE = ("255.255.255.255", 9)  # which a socket may send to only if it has asked for that


def test_of_an_endpoint(client_context: dtlsffi.DTLSContext) -> None:
    """The connection has failed at once; a lack of room, which passes, is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(LOOPBACK)
        sock.setblocking(False)
        endpoint = dtlsffi.Endpoint(None, fileno=sock.fileno())
        connection = endpoint.connect(NOWHERE, time.monotonic(), context=client_context, server_hostname=HOST)
        failure: Any = connection.failure
        assert failure.errno == errno.EACCES
        assert str(failure) == "[Errno 13] Permission denied (device.example (255.255.255.255:9))"
        assert endpoint.ready() == [connection]
        counts = endpoint.statistics()
        assert (counts["connections"], counts["pending"], counts["handshakes_failed"]) == (0, 0, 1)
        assert counts["dropped_unsent"] == 1
        endpoint.close()


def test_what_is_refused_later_is_in_the_words(client_context: dtlsffi.DTLSContext) -> None:
    """Why the handshake has not finished in time, where the way has gone meanwhile."""
    client_context.retransmission = (0.02, 1.0, 0.02)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent,
    ):
        for each in (sock, silent):
            each.bind(LOOPBACK)
            each.setblocking(False)
        endpoint = dtlsffi.Endpoint(None, fileno=sock.fileno(), handshake_timeout=30)
        connection = endpoint.connect(
            silent.getsockname(), time.monotonic(), context=client_context, server_hostname=HOST
        )
        with suppress(OSError):
            sock.shutdown(socket.SHUT_WR)  # which Linux does not like, and does
        while not connection.statistics()["flights_retransmitted"]:
            select.select([], [], [], endpoint.get_timer(time.monotonic()))
            endpoint.handle_timers(time.monotonic())
        endpoint.handle_timers(time.monotonic() + 30)
        words = r"\(1 datagrams sent\): the system refused to send 1 more: Broken pipe"
        with pytest.raises(dtlsffi.HandshakeTimeout, match=words):
            raise connection.failure or AssertionError
        endpoint.close()


def test_of_a_listener(client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext) -> None:
    """Whoever finishes the handshake hears of it."""
    with dtlsffi.create_server(LOOPBACK, context=server_context) as listener:
        conn = listener.connect(NOWHERE, context=client_context, server_hostname=HOST)
        conn.settimeout(10)
        with conn, pytest.raises(PermissionError, match=r"255\.255\.255\.255:9"):
            conn.do_handshake()


class Listening(dtlsffi.asyncio.DTLSDatagramProtocol):
    """A protocol that waits for an error."""

    def __init__(self) -> None:
        self.error: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def error_received(self, exc: Exception) -> None:
        self.error.set_result(exc)


def test_of_a_transport(client_context: dtlsffi.DTLSContext) -> None:
    """`error_received`, as asyncio's own transport has it."""

    async def main() -> None:
        transport, protocol = await dtlsffi.asyncio.create_dtls_endpoint(
            Listening, local_addr=LOOPBACK, context=client_context, server_hostname=HOST
        )
        try:
            transport.sendto(b"x", NOWHERE)
            assert isinstance(await asyncio.wait_for(protocol.error, 10), PermissionError)
        finally:
            transport.abort()

    asyncio.run(main())
