"""The doors themselves."""

from __future__ import annotations

import pytest

from dtlsffi import DTLSContext
from tests.serving.doors import DOORS, Door


def test_no_door_is_left_out() -> None:
    """Where all that the tests need is installed, as here."""
    assert list(DOORS) == ["blocking", "asyncio", "asyncio-protocol", "anyio-asyncio", "anyio-trio"]


def test_a_server_that_cannot_be_opened_says_why(door: Door, server_context: DTLSContext) -> None:
    """Its limits make no sense, or somebody has its address; nothing is left of it."""
    with pytest.raises(ValueError, match="max_queue"), door.serving(server_context, max_queue=0):
        pass
    with (
        door.serving(server_context) as served,
        pytest.raises(OSError, match="while attempting to bind on address"),
        door.serving(server_context, port=served.port),
    ):
        pass
