"""dtlsffi.core.pending: who has to make room; through the endpoint in test_admission.py."""

from __future__ import annotations

from dtlsffi.core.address import key, pack
from dtlsffi.core.pending import Pending, host_of


def test_a_host_is_an_address_or_a_network() -> None:
    """Ports do not count, nor which address of an IPv6 network it is."""
    assert host_of(key(pack(("192.0.2.7", 1)))) == host_of(key(pack(("192.0.2.7", 2))))
    assert host_of(key(pack(("192.0.2.7", 1)))) != host_of(key(pack(("192.0.2.8", 1))))
    assert host_of(key(pack(("2001:db8::1", 1)))) == host_of(key(pack(("2001:db8::ffff:2", 1))))
    assert host_of(key(pack(("2001:db8:0:1::1", 1)))) == host_of(key(pack(("2001:db8:0:1:ff00::1", 1))))
    assert host_of(key(pack(("2001:db8:0:1::1", 1)))) != host_of(key(pack(("2001:db8:0:2::1", 1))))
    assert host_of(key(pack(("2001:db8::1", 1)))) != host_of(key(pack(("2001:db8:1::1", 1))))


def test_without_anybody_there_is_room() -> None:
    """For one at least."""
    pending = Pending(1)
    assert len(pending) == 0
    assert pending.has_room()
