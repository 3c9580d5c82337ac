"""locked.c: a look at a connection while no other thread moves it."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable

import pytest

import dtlsffi
from dtlsffi._native import calls, lib
from dtlsffi.testing import MemoryLink
from tests.helpers import HOST, only, start


def test_it_gives_its_value_while_it_has_the_lock(joined: MemoryLink, both: Callable[..., list[object]]) -> None:
    """Another thread waits until it is let go of, also by an exception; the same thread may have it twice."""
    asked, value = threading.Event(), object()

    def look() -> object:
        with pytest.raises(ZeroDivisionError), calls.locked(joined.client, value) as got:
            asked.set()
            with calls.locked(joined.client, value):
                assert got is value
            raise ZeroDivisionError
        return got

    def move() -> int:
        asked.wait()
        return joined.client.send(b"data")

    assert both(look, move) == [value, 4]


def test_only_a_connection_that_was_made_has_a_lock() -> None:
    """Whatever is asked for."""
    blank = dtlsffi.Connection.__new__(dtlsffi.Connection)
    with pytest.raises(ValueError, match="never made"):
        calls.locked(blank, None)
    with pytest.raises(TypeError, match="a connection is needed"):
        calls.locked(None, None)  # type: ignore[arg-type]


def test_ctrl_c_while_it_waits_leaves_nothing_locked(
    ctrl_c: None, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """It comes as soon as the lock is there, and the lock is let go of."""
    asked, pause = threading.Event(), threading.Event()

    def choose(*_: object) -> None:
        asked.set()
        for _turn in range(50):  # the main thread has its turns meanwhile, and is at the lock then
            pause.wait(0.001)
        _thread.interrupt_main()

    server_context.sni_callback = choose
    server = dtlsffi.Connection(server_context, server_side=True)
    hello = only(start(dtlsffi.Connection(client_context, server_hostname=HOST)))
    shaking = threading.Thread(target=server.receive_datagram, args=(hello,))
    shaking.start()
    asked.wait()
    with pytest.raises(KeyboardInterrupt):
        server.cipher()
    shaking.join()
    looking = threading.Thread(target=server.cipher, daemon=True)
    looking.start()
    looking.join(10)
    assert not looking.is_alive()
    assert lib.dtlsffi_conn_lock(server._conn) == 0
    lib.dtlsffi_conn_unlock(server._conn)
