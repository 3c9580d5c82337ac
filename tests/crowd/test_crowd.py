"""The short form of ci/crowd."""

from __future__ import annotations

import sysconfig

import pytest

from tests.crowd.crowd import complaints, measure
from tests.crowd.doors import doors

FREE_THREADED = sysconfig.get_config_var("Py_GIL_DISABLED")
"""Where each thread has a heap of its own, and the blocking door a thread for each peer."""


@pytest.mark.parametrize("door", doors())
def test_peers_behind_one_port_are_not_mixed_up(door: str) -> None:
    """Two hundred shake hands at the same time, and each hears what it has said, through every door."""
    result = measure(door, 200)
    assert complaints(result, 200) == []
    assert result["kB a peer"] < (500 if FREE_THREADED and door == "blocking" else 150)
