"""dtlsffi.server: how a DTLSListener ends: closed, forgotten, in a child, without its socket."""

from __future__ import annotations

import errno
import gc
import logging
import os
import warnings
from contextlib import suppress

import pytest

import dtlsffi
from dtlsffi.server import DTLSListener, create_server
from tests.doors.accepting import LOOPBACK, Both, Pair, accept, connect, echo, raises_in_thread


def test_close_ends_whatever_waits(
    server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext, both: Both
) -> None:
    """accept() and recv() in other threads get EBADF; the clients get close_notify."""
    listener = create_server(LOOPBACK, context=server_context)
    client, server = both(lambda: connect(listener.getsockname(), client_context), lambda: accept(listener))
    with client:
        server.settimeout(None)
        waiting = [raises_in_thread(listener.accept), raises_in_thread(server.recv)]
        listener.close()
        for thread, failures in waiting:
            thread.join()
            assert [getattr(failure, "errno", None) for failure in failures] == [errno.EBADF]
        assert client.recv() == b""
        listener.close()
        assert listener.fileno() == -1
        for call in (
            listener.accept,
            lambda: listener.connect(("127.0.0.1", 9)),
            lambda: listener.serve_forever(echo),
            server.recv,
            server.do_handshake,
            server.shutdown,
            lambda: server.send(b"x"),
        ):
            with pytest.raises(OSError, match="closed") as caught:
                call()
            assert caught.value.errno == errno.EBADF
        server.close()


def test_a_forgotten_listener_warns(server_context: dtlsffi.DTLSContext) -> None:
    """ResourceWarning, and its thread and its socket end."""
    listener = create_server(LOOPBACK, context=server_context)
    thread, descriptor = listener._engine.thread, listener.fileno()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del listener
        gc.collect()
        thread.join()
    assert [str(warning.message)[:22] for warning in caught] == ["unclosed <DTLSListener"]
    assert caught[0].category is ResourceWarning
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_connection_keeps_its_listener(
    server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext
) -> None:
    """Who has only the connection can go on with it."""
    listener = create_server(LOOPBACK, context=server_context)
    with connect(listener.getsockname(), client_context) as client:
        conn = accept(listener)
        thread = listener._engine.thread
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del listener
            gc.collect()
            assert not caught
            with conn:
                conn.send(b"still here")
                assert client.recv() == b"still here"
            del conn
            gc.collect()
            assert [warning.category for warning in caught] == [ResourceWarning]
        thread.join()


def test_after_fork_it_is_the_parents(pair: Pair, listener: DTLSListener) -> None:
    """The child's copies raise, and closing them disturbs nobody."""
    client, server = pair
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        with suppress(BaseException):
            for call in (
                server.recv,
                lambda: server.send(b"x"),
                listener.accept,
                listener.shutdown,
                lambda: listener.connections,
            ):
                with pytest.raises(dtlsffi.DTLSError, match="USED_AFTER_FORK"):
                    call()
            server.close()
            listener.close()
            status = 0
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    client.send(b"the parent goes on")
    assert server.recv() == b"the parent goes on"


def test_a_lost_socket_is_said(server_context: dtlsffi.DTLSContext, caplog: pytest.LogCaptureFixture) -> None:
    """Who closes the descriptor behind its back finds out from accept()."""
    listener = create_server(LOOPBACK, context=server_context)
    with listener, caplog.at_level(logging.CRITICAL, "dtlsffi.server"):
        thread, failures = raises_in_thread(listener.accept)
        listener._engine.sock.close()
        listener._engine.wake()
        thread.join()
        assert [getattr(failure, "errno", None) for failure in failures] == [errno.EBADF]
        assert isinstance(failures[0].__cause__, (OSError, ValueError))
