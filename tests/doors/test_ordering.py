"""dtlsffi.ordering: in which order addresses are tried, and from where."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from dtlsffi.ordering import alternate, routes

SIX, FOUR = socket.AF_INET6, socket.AF_INET


def place(family: int, host: str) -> tuple[Any, ...]:
    return family, socket.SOCK_DGRAM, 17, "", (host, 5684)


def test_families_take_turns() -> None:
    """RFC 8305 section 4: the first family found begins, and within one the order stays."""
    assert alternate([(SIX, 1), (SIX, 2), (SIX, 3), (FOUR, 4), (FOUR, 5)]) == [
        (SIX, 1), (FOUR, 4), (SIX, 2), (FOUR, 5), (SIX, 3),
    ]  # fmt: skip
    assert alternate([]) == []


def test_without_a_local_address_any_will_do() -> None:
    """None, for each."""
    found = [place(FOUR, "192.0.2.1"), place(SIX, "2001:db8::1")]
    assert routes(found, None) == [(found[0], None), (found[1], None)]


def test_each_family_goes_from_its_own_address() -> None:
    """The first local address of the family; without one, the address is left out."""
    found = [place(SIX, "2001:db8::1"), place(FOUR, "192.0.2.1")]
    local = [place(FOUR, "127.0.0.1"), place(FOUR, "127.0.0.2")]
    assert routes(found, local) == [(found[1], ("127.0.0.1", 5684))]
    both = [*local, place(SIX, "::1")]
    assert routes(found, both) == [(found[0], ("::1", 5684)), (found[1], ("127.0.0.1", 5684))]


def test_families_that_do_not_meet_are_said() -> None:
    """With both addresses in the words."""
    with pytest.raises(ValueError, match=r"192\.0\.2\.1 cannot be reached from ::1: they are of different families"):
        routes([place(FOUR, "192.0.2.1")], [place(SIX, "::1")])
