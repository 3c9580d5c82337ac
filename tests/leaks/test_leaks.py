"""The short form of ci/leaks."""

from __future__ import annotations

import pytest

from tests.leaks.leaks import KINDS, growth


@pytest.mark.parametrize("kind", KINDS)
def test_memory_stays_what_it_was(kind: str) -> None:
    """A kB leaked by each of 300 handshakes would show twice; the allocator's own habits show once at the most."""
    assert min(growth(kind, 300), growth(kind, 300)) < 250
