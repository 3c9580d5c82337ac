"""A crowd of clients, each behind a bad network of its own: `ci/lossy` has more of them."""

from __future__ import annotations

from dtlsffi.testing import Authority
from tests.serving.crowd import crowd_through
from tests.serving.doors import Door

CLIENTS = 40


def test_a_crowd_behind_lossy_wires_is_served(door: Door, authority: Authority) -> None:
    """30 % of what either side sends is lost: each client gets its own answer, and nothing is left at the end."""
    counts = crowd_through(door, authority, CLIENTS)
    assert CLIENTS <= counts["handshakes_completed"] <= counts["attempts"]
    assert counts["pending"] == 0
    assert counts["cookies_sent"] >= CLIENTS
