"""What a callback raises while something is closed, and Ctrl-C then: it is told, and all is closed all the same."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import dtlsffi
from dtlsffi import Connection
from dtlsffi.server import create_server
from tests.doors.accepting import LOOPBACK, Both, accept, connect, raises_in_thread, waits_in
from tests.doors.loops import Runner, dial, serving
from tests.doors.traps import Trap


def next_good(listener: dtlsffi.DTLSListener) -> dtlsffi.DTLSServerConnection:
    """The next client that stays: one that has failed may have said hello again before it gave up."""
    while True:
        conn = accept(listener)
        with suppress(dtlsffi.DTLSError):
            conn.do_handshake()
            return conn
        conn.close()


def test_a_socket_is_closed(
    udp_pair: tuple[socket.socket, socket.socket],
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    both: Callable[..., list[dtlsffi.DTLSSocket]],
) -> None:
    """Whoever waits in recv() is woken, and later calls do not reach whoever has the descriptor's number by then."""
    trap = Trap(client_context)
    client, server = both(
        lambda: client_context.wrap_socket(udp_pair[0], server_hostname="device.example"),
        lambda: server_context.wrap_socket(udp_pair[1], server_side=True),
    )
    client.settimeout(None)
    with server:
        waiting, failures = waits_in(client, server, client.recv)
        trap.armed = True
        with pytest.raises(ZeroDivisionError):
            client.close()
        trap.armed = False
        waiting.join()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            other.sendto(b"for the other", other.getsockname())
            for call in (client.recv, client.recv_many, lambda: client.send(b"x")):
                with pytest.raises(OSError, match="closed") as caught:
                    call()
                assert caught.value.errno == errno.EBADF
            assert other.recv(100) == b"for the other"
        assert [type(failure) for failure in failures] in ([], [OSError])  # recv() may give b""


def test_a_listener_is_closed(
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    both: Both,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its connections, too; the log tells what was raised."""
    trap = Trap(server_context)
    listener = create_server(LOOPBACK, context=server_context)
    client, server = both(lambda: connect(listener.getsockname(), client_context), lambda: accept(listener))
    with client:
        server.do_handshake()
        server.settimeout(None)
        waiting, failures = raises_in_thread(server.recv)
        trap.armed = True
        with caplog.at_level(logging.ERROR):
            listener.close()
        trap.armed = False
        waiting.join()
        assert [getattr(failure, "errno", None) for failure in failures] == [errno.EBADF]
        assert listener._engine.sock.fileno() < 0
        assert "ZeroDivisionError" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("kind", [SystemExit, ZeroDivisionError])
def test_a_listener_outlives_what_a_callback_raises(
    kind: type[BaseException],
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    both: Both,
) -> None:
    """Whatever it is: there is one thread for all, and no signal arrives in it."""
    failing = [True]

    def choose(*_: object) -> None:
        if failing:
            failing.pop()
            raise kind

    server_context.sni_callback = choose
    client_context.retransmission = (60, 1, 60)  # a hello that was said again would be let in
    with create_server(LOOPBACK, context=server_context) as listener:
        with pytest.raises(TimeoutError):
            connect(listener.getsockname(), client_context, timeout=1)
        with accept(listener) as failed, pytest.raises(kind):
            failed.do_handshake()
        client, server = both(lambda: connect(listener.getsockname(), client_context), lambda: next_good(listener))
        with client, server:
            client.send(b"still there")
            assert server.recv() == b"still there"


def test_an_endpoint_closes_all(client_context: dtlsffi.DTLSContext) -> None:
    """And raises the first."""
    endpoint = dtlsffi.Endpoint(None)
    made = [
        endpoint.connect(("192.0.2.1", port), 0, context=client_context, server_hostname="device.example")
        for port in (1, 2, 3)
    ]
    closed = []
    shutdown = Connection.close

    def close(connection: Connection) -> None:
        shutdown(connection)
        closed.append(connection)
        raise ZeroDivisionError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Connection, "close", close)
        with pytest.raises(ZeroDivisionError):
            endpoint.close()
    assert set(closed) == set(made)
    assert all(connection.gone for connection in made)
    assert not endpoint.connections


def test_a_server_of_a_loop_is_closed(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Its handlers see the end, and whoever waits for that is told."""
    trap = Trap(server_context)
    seen: list[bytes] = []

    async def handler(conn: Any) -> None:
        seen.append(await conn.recv())

    async def main() -> None:
        async with serving(server_context, handler) as server:
            clients = [await dial(server.getsockname(), client_context) for _ in range(2)]
            while len(server._tasks) < 2:
                await asyncio.sleep(0)
            trap.armed = True
            with pytest.raises(ZeroDivisionError):
                server.close()
            trap.armed = False
            await server.wait_closed()
            assert server._port.sock.fileno() < 0
            assert seen == [b"", b""]
            for client in clients:
                await client.aclose()

    run(main)
