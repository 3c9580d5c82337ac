"""dtlsffi.server: serve_forever(), its handlers, and what it logs of them."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

import dtlsffi
from dtlsffi.accepted import DTLSServerConnection
from dtlsffi.server import DTLSListener, create_server
from tests.doors.accepting import LOOPBACK, Stepwise, connect, echo, serving


def test_serve_forever_ends_with_shutdown(listener: DTLSListener, client_context: dtlsffi.DTLSContext) -> None:
    """The connection is closed when its handler ends; handlers that run go on."""
    with (
        serving(listener, lambda conn, _: conn.send(conn.recv())),
        connect(listener.getsockname(), client_context) as client,
    ):
        client.send(b"once")
        assert client.recv() == b"once"
        assert client.recv() == b""
    listener.shutdown()
    listener.serve_forever(echo)  # shutdown() came first
    with serving(listener, echo):
        client = connect(listener.getsockname(), client_context)
        client.send(b"x")
        assert client.recv() == b"x"
        with pytest.raises(RuntimeError, match="running already"):
            listener.serve_forever(echo)
    with client:
        client.send(b"after shutdown")
        assert client.recv() == b"after shutdown"
    with pytest.raises(ValueError, match="threads"):
        listener.serve_forever(echo, threads=0)


def test_threads_bounds_the_handlers(listener: DTLSListener, client_context: dtlsffi.DTLSContext) -> None:
    """The third client waits for one of the first two to go."""
    running: list[int] = []
    most: list[int] = []

    def handler(conn: DTLSServerConnection, address: Any) -> None:
        running.append(address[1])
        most.append(len(running))
        echo(conn)
        running.remove(address[1])

    with serving(listener, handler, threads=2):
        clients = [connect(listener.getsockname(), client_context) for _ in range(3)]
        for client in clients:
            client.send(b"x")
        for client in clients:
            assert client.recv() == b"x"
            client.close()
    listener.close()
    assert max(most) == 2
    assert len(most) == 3


def test_a_handlers_exception_is_logged_and_ends_its_connection_only(
    listener: DTLSListener, client_context: dtlsffi.DTLSContext, caplog: pytest.LogCaptureFixture
) -> None:
    """With a traceback, in the logger dtlsffi.server."""

    def handler(conn: DTLSServerConnection, _address: Any) -> None:
        while data := conn.recv():
            conn.send(b"%d" % (10 // int(data)))

    with (
        serving(listener, handler),
        connect(listener.getsockname(), client_context) as one,
        connect(listener.getsockname(), client_context) as two,
    ):
        one.send(b"0")
        assert one.recv() == b""
        two.send(b"5")
        assert two.recv() == b"2"
    listener.close()
    (record,) = [record for record in caplog.records if record.name == "dtlsffi.server" and record.levelno >= 30]
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    assert "the handler of 127.0.0.1:" in record.getMessage()


def test_a_handshake_that_fails_is_no_news(
    server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no fault of the handler's: a line at level INFO, no traceback."""
    with (
        caplog.at_level(logging.INFO, "dtlsffi.server"),
        create_server(LOOPBACK, context=server_context, handshake_timeout=0.05) as listener,
        serving(listener, echo),
        Stepwise(listener.getsockname(), client_context),
    ):
        while not caplog.records:
            threading.Event().wait(0.001)
    assert [(record.levelno, record.exc_info) for record in caplog.records] == [(logging.INFO, None)]
    assert "did not finish its handshake" in caplog.text


@pytest.mark.parametrize("by_handler", [False, True])
def test_close_ends_serve_forever_and_its_handlers(
    server_context: dtlsffi.DTLSContext,
    client_context: dtlsffi.DTLSContext,
    caplog: pytest.LogCaptureFixture,
    by_handler: bool,
) -> None:
    """From another thread, or from a handler; nothing is logged for that."""
    listener = create_server(LOOPBACK, context=server_context)
    handlers: list[threading.Thread] = []

    def handler(conn: DTLSServerConnection, _address: Any) -> None:
        handlers.append(threading.current_thread())
        conn.send(b"here")
        if conn.recv() == b"close":
            listener.close()
        conn.recv()

    server = threading.Thread(target=listener.serve_forever, args=(handler,))
    server.start()
    with connect(listener.getsockname(), client_context) as client:
        assert client.recv() == b"here"
        if by_handler:
            client.send(b"close")
            handlers[0].join()
        else:
            listener.close()
            assert not handlers[0].is_alive()
        assert client.recv() == b""
        server.join()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
