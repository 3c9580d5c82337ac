"""dtlsffi.engine: the thread behind a listener, signals that come in the middle of its calls, and what it logs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

import dtlsffi
from dtlsffi.accepted import DTLSServerConnection
from dtlsffi.server import DTLSListener, create_server
from tests.doors.accepting import LOOPBACK, Both, Pair, accept, connect, echo, serving

Lock = Callable[[DTLSListener, DTLSServerConnection], AbstractContextManager[object]]


@pytest.mark.parametrize(
    "lock",
    [
        lambda listener, _: listener._engine.arrivals,
        lambda listener, _: listener._engine.lock,
        lambda listener, _: listener._engine.waking,
        lambda _, conn: conn._changed,
    ],
    ids=["arrivals", "lock", "waking", "changed"],
)
def test_a_signal_handler_may_close_the_listener(pair: Pair, listener: DTLSListener, lock: Lock) -> None:
    """It comes upon its own thread with a lock for which the engine waits: to wait for the engine would be for ever."""
    closing = threading.Thread(target=lambda: close_within(lock(listener, pair[1]), listener), daemon=True)
    closing.start()
    closing.join(5)
    assert not closing.is_alive()
    listener.close()  # and this waits
    assert not listener._engine.thread.is_alive()
    assert pair[0].recv() == b""


def close_within(lock: AbstractContextManager[object], listener: DTLSListener) -> None:
    with lock:
        listener.close()


def test_to_close_it_again_waits_for_the_handlers(
    server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext
) -> None:
    """A signal handler's close() waited for nobody; the one at the end of the block does."""
    finished = threading.Event()

    def handler(conn: DTLSServerConnection, _address: object) -> None:
        conn.send(b"here")
        conn.recv()

    def slow(conn: DTLSServerConnection, address: object) -> None:
        try:
            handler(conn, address)
        finally:
            threading.Event().wait(0.05)
            finished.set()

    with create_server(LOOPBACK, context=server_context) as listener:
        server = threading.Thread(target=listener.serve_forever, args=(slow,))
        server.start()
        with connect(listener.getsockname(), client_context) as client:
            assert client.recv() == b"here"
            close_within(listener._engine.arrivals, listener)
            assert not finished.is_set()
    assert finished.is_set()
    server.join()


def test_a_signal_handler_may_shut_it_down(listener: DTLSListener, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes when serve_forever() has looked, and not begun to wait."""
    wait, calls = listener._engine.wait, []

    def interrupted(*arguments: object) -> None:
        if not calls:
            calls.append(None)
            listener.shutdown()
        wait(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(listener._engine, "wait", interrupted)
    server = threading.Thread(target=listener.serve_forever, args=(echo,), daemon=True)
    server.start()
    server.join(5)
    assert not server.is_alive()


def test_the_first_client_behind_a_full_queue_is_logged(
    server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext, caplog: pytest.LogCaptureFixture
) -> None:
    """Who serves with too few threads finds out why clients get no answer."""
    client_context.retransmission = (0.01, 2.0, 0.05)
    with create_server(LOOPBACK, context=server_context) as listener:
        listener.listen(1)
        first = connect(listener.getsockname(), client_context)
        for _ in range(2):
            with pytest.raises(dtlsffi.HandshakeTimeout):
                connect(listener.getsockname(), client_context, timeout=0.2)
        first.close()
        assert listener.statistics()["refused_backlog"] >= 2
    (entry,) = caplog.records
    assert (entry.name, entry.levelno) == ("dtlsffi.server", logging.WARNING)
    assert "1 connections wait to be accepted or served" in entry.getMessage()


def test_a_client_that_begins_again_is_no_mistake_of_the_handlers(
    listener: DTLSListener, client_context: dtlsffi.DTLSContext, caplog: pytest.LogCaptureFixture
) -> None:
    """A device that has been switched off and on: a line at level INFO, no traceback, as in asyncio."""
    client_context.retransmission = (60, 1, 60)  # says nothing twice: the answer would be the second client's
    ended = threading.Event()

    def handler(conn: DTLSServerConnection, _address: object) -> None:
        try:
            echo(conn)
        finally:
            ended.set()

    with caplog.at_level(logging.INFO, "dtlsffi.server"), serving(listener, handler):
        first = connect(listener.getsockname(), client_context)
        source = first.getsockname()
        first._carrier.release()  # so that it says no goodbye
        first.close()
        with connect(listener.getsockname(), client_context, source_address=source) as again:
            again.send(b"new")
            assert again.recv() == b"new"
            assert ended.wait(5)
        listener.close()
    assert {(entry.levelno, entry.exc_info) for entry in caplog.records} == {(logging.INFO, None)}
    assert "REPLACED" in caplog.text


def test_a_handlers_own_mistake_while_it_is_closed_is_logged(
    listener: DTLSListener, client_context: dtlsffi.DTLSContext, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody's last file that could not be written is not the listener's end."""

    def handler(conn: DTLSServerConnection, _address: object) -> None:
        conn.send(b"here")
        try:
            conn.recv()
        finally:
            raise FileNotFoundError("no spool")

    server = threading.Thread(target=listener.serve_forever, args=(handler,))
    server.start()
    with connect(listener.getsockname(), client_context) as client:
        assert client.recv() == b"here"
        listener.close()
    server.join()
    (entry,) = caplog.records
    assert entry.exc_info is not None
    assert isinstance(entry.exc_info[1], FileNotFoundError)


def test_a_lost_socket_ends_serve_forever_with_an_error(
    server_context: dtlsffi.DTLSContext, caplog: pytest.LogCaptureFixture
) -> None:
    """So that whoever runs the program hears of it; all descriptors are closed nevertheless."""
    with caplog.at_level(logging.CRITICAL, "dtlsffi.server"):
        listener = create_server(LOOPBACK, context=server_context)
        engine = listener._engine
        engine.sock.close()
        engine.wake()
        with pytest.raises(OSError, match="is closed"):
            listener.serve_forever(echo)
        engine.thread.join()
        assert engine.bell.fileno() == engine.ear.fileno() == -1
        listener.close()


def test_a_callback_may_look_at_all_connections_and_not_open_one(
    server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext, both: Both
) -> None:
    """In the thread that sends, which has the connection's lock: the engine's may be waiting for that."""
    seen: list[object] = []

    def look(_conn: object, _event: object) -> None:
        if threading.current_thread() is not threading.main_thread() or seen:
            return
        found: list[object] = []
        looking = threading.Thread(target=lambda: found.extend(listener.connections), daemon=True)
        with listener._engine.lock:
            looking.start()
            looking.join(5)
        seen.extend(found)
        with pytest.raises(dtlsffi.DTLSError, match="REENTERED"):
            listener.connect(("127.0.0.1", 9), context=client_context)

    server_context.trace = look
    with create_server(LOOPBACK, context=server_context) as listener:
        client, server = both(lambda: connect(listener.getsockname(), client_context), lambda: accept(listener))
        with client, server:
            server.do_handshake()
            server.send(b"x")
            assert seen == [server]


@pytest.mark.parametrize("where", ["engine", "handler"])
def test_a_callback_may_shut_it_down(
    where: str, server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext
) -> None:
    """In the engine's own thread, or in a handler's while the engine waits for its connection."""
    armed = threading.Event()

    def trace(*_: object) -> None:
        if armed.is_set() and (threading.current_thread() is listener._engine.thread) == (where == "engine"):
            armed.clear()
            listener.shutdown()

    server_context.trace = trace
    with create_server(LOOPBACK, context=server_context) as listener:
        server = threading.Thread(target=listener.serve_forever, args=(echo,), daemon=True)
        server.start()
        with connect(listener.getsockname(), client_context) as client:
            client.send(b"x")
            assert client.recv() == b"x"
            armed.set()
            client.send(b"y")
            server.join(5)
            assert not server.is_alive()
            assert client.recv() == b"y"
