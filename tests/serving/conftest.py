"""Every test here is run on every door."""

from __future__ import annotations

import pytest

from tests.serving.doors import DOORS, Door


@pytest.fixture(params=list(DOORS))
def door(request: pytest.FixtureRequest) -> Door:
    """One of all the doors."""
    return DOORS[request.param]


@pytest.fixture(params=[name for name, door in DOORS.items() if door.has_connections])
def handling_door(request: pytest.FixtureRequest) -> Door:
    """One of those that call a handler for each connection."""
    return DOORS[request.param]
