"""Every test here is run on every door."""

from __future__ import annotations

import pytest

from dtlsffi import DTLSContext
from dtlsffi.testing import Authority
from tests.helpers import HOST
from tests.serving.doors import DOORS, Door


@pytest.fixture
def client_context(authority: Authority) -> DTLSContext:
    """A client in no hurry: loopback loses nothing, and what is sent again would be counted."""
    return authority.client_context()


@pytest.fixture
def server_context(authority: Authority) -> DTLSContext:
    """A server named HOST, in no hurry either."""
    return authority.server_context(HOST)


@pytest.fixture(params=list(DOORS))
def door(request: pytest.FixtureRequest) -> Door:
    """One of all the doors."""
    return DOORS[request.param]


@pytest.fixture(params=[name for name, door in DOORS.items() if door.has_connections])
def handling_door(request: pytest.FixtureRequest) -> Door:
    """One of those that call a handler for each connection."""
    return DOORS[request.param]
