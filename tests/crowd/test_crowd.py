"""The short form of ci/crowd."""

from __future__ import annotations

import pytest

from tests.crowd.crowd import complaints, measure
from tests.crowd.doors import doors


@pytest.mark.parametrize("door", doors())
def test_peers_behind_one_port_are_not_mixed_up(door: str) -> None:
    """Two hundred shake hands at the same time, and each hears what it has said, through every door."""
    result = measure(door, 200)
    assert complaints(result, 200) == []
    assert result["kB a peer"] < 150
