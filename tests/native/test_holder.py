"""holder.c: what a Connection begins with in memory."""

from __future__ import annotations

import copy
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from dtlsffi import Connection, DTLSContext
from dtlsffi._native import Holder, calls
from dtlsffi.testing import MemoryLink
from tests.helpers import HOST


@pytest.mark.parametrize("method", ["send", "receive_datagram"])
def test_a_connection_that_was_never_made_says_so(method: str) -> None:
    """There is nothing in it."""
    blank = Connection.__new__(Connection)
    with pytest.raises(ValueError, match="never made"):
        getattr(blank, method)(b"data")
    with pytest.raises(ValueError, match="never made"):
        blank.datagrams_to_send()
    with pytest.raises(ValueError, match="never made"):
        blank.send_many([b"data"])
    assert blank.data_received() == []


def test_nothing_else_is_taken_for_a_connection() -> None:
    """Whatever it may look like."""
    somebody: Any = MemoryLink
    with pytest.raises(TypeError, match="a connection is needed"):
        calls.send(somebody, b"data")
    with pytest.raises(TypeError, match="a connection is needed"):
        calls.receive_all(somebody, [b"data"])
    with pytest.raises(TypeError, match="a connection is needed"):
        calls.hold(somebody, 0)


def test_a_connection_is_made_once(joined: MemoryLink, client_context: DTLSContext) -> None:
    """Somebody may be at it: it stays what it is."""
    with pytest.raises(ValueError, match="__init__ is called once"):
        joined.client.__init__(client_context, server_hostname=HOST)  # type: ignore[misc]
    with pytest.raises(ValueError, match="__init__ is called once"):
        calls.hold(joined.client, 0)
    free = Connection.__new__(Connection)
    calls.claim(free)
    with pytest.raises(ValueError, match="__init__ is called once"):
        calls.claim(free)  # by another thread
    assert joined.client.is_established
    assert joined.server.send(b"still there") == 11


def test_what_has_come_is_taken_once_and_is_the_taker_s(joined: MemoryLink) -> None:
    """What comes later does not get into a list that has been taken."""
    joined.client.send_many([b"one", b"two"])
    first, second = joined.client.datagrams_to_send()
    joined.server.receive_datagram(first)
    taken = joined.server.data_received()
    joined.server.receive_datagram(second)
    assert taken == [b"one"]
    assert joined.server.data_received() == [b"two"]
    assert joined.server.data_received() == []


@pytest.mark.parametrize("method", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_connection_has_no_copy(joined: MemoryLink, method: Callable[[object], object]) -> None:
    """Two objects would own one C side, and two copies of it would encrypt under one nonce."""
    with pytest.raises(TypeError, match="cannot pickle 'Connection' object"):
        method(joined.client)


def test_a_holder_without_a_connection_goes_like_anything_else() -> None:
    """Where a connection could not be made."""

    class Held(Holder):
        __slots__ = ("__weakref__",)

    held = Held()
    gone = weakref.ref(held)
    del held
    assert gone() is None
