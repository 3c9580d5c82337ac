"""dtlsffi.core.address."""

from __future__ import annotations

from typing import Any

import pytest

from dtlsffi.core import address

SAME = [
    [("192.0.2.7", 5684), ("::ffff:192.0.2.7", 5684, 0, 0), ("::ffff:c000:207", 5684, 3, 9)],
    [("2001:db8::1", 5684), ("2001:0db8:0::1", 5684, 7, 0), ("2001:db8::1", 5684, 0, 5)],
    [("fe80::1", 5684, 0, 2), ("fe80::1%eth0", 5684, 9, 2)],
]


@pytest.mark.parametrize("spellings", SAME)
def test_one_peer_has_one_key(spellings: list[Any]) -> None:
    """However the socket spells it: IPv4 mapped into IPv6, flow labels, the scope of what is not link-local."""
    assert len({address.key(address.pack(spelling)) for spelling in spellings}) == 1


def test_different_peers_have_different_keys() -> None:
    """Host, port, family, and the interface of a link-local address."""
    peers = [("192.0.2.7", 1), ("192.0.2.7", 2), ("192.0.2.8", 1), ("::192.0.2.7", 1), ("fe80::1", 1, 0, 2),
             ("fe80::1", 1, 0, 3)]  # fmt: skip
    assert len({address.key(address.pack(peer)) for peer in peers}) == len(peers)


def test_an_address_comes_back_as_the_socket_spells_it() -> None:
    """A dual-stack socket wants IPv4 mapped."""
    v4 = address.pack(("192.0.2.7", 5684))
    assert address.unpack(v4, False) == ("192.0.2.7", 5684)
    assert address.unpack(v4, True) == ("::ffff:192.0.2.7", 5684, 0, 0)
    v6 = address.pack(("fe80::1", 5684, 0, 2))
    assert address.unpack(v6, True) == ("fe80::1", 5684, 0, 2)
    assert address.text(("192.0.2.7", 1)) == "192.0.2.7:1"
    assert address.text(("fe80::1", 1, 0, 0)) == "[fe80::1]:1"


@pytest.mark.parametrize(
    ("bad", "error"),
    [("192.0.2.7", TypeError), (None, TypeError), ((1, 2), TypeError), (("localhost", 1), ValueError),
     (("192.0.2.7", 65536), OverflowError), (("192.0.2.7", -1), OverflowError), (("192.0.2.7", True), TypeError),
     (("192.0.2.7", 9.7), TypeError), (("192.0.2.7", "9"), TypeError)],
)  # fmt: skip
def test_what_is_no_address_is_refused(bad: Any, error: type[Exception]) -> None:
    """Names are for doors to look up."""
    with pytest.raises(error):
        address.pack(bad)


def test_a_host_name_stands_before_its_address() -> None:
    """Unless it says nothing more."""
    place = ("::1", 5684, 0, 0)
    assert address.named(place, "device.example") == "device.example ([::1]:5684)"
    assert address.named(place, "::1") == address.named(place, None) == "[::1]:5684"
