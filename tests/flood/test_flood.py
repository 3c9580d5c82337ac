"""The short form of ci/flood."""

from __future__ import annotations

import pytest

from tests.crowd.doors import doors
from tests.flood.flood import complaints, run

FLOODS = [("endpoint", True), *((door, False) for door in doors())]


@pytest.mark.parametrize(("door", "in_fragments"), FLOODS)
def test_honest_clients_get_in(door: str, in_fragments: bool) -> None:
    """All at the same time, while strangers send hellos, or fragments of them, as fast as they can.

    Memory stays, few handshakes are half open, and no stranger gets more than it has sent.
    """
    assert complaints(run(1, 10, in_fragments=in_fragments, door=door), in_fragments=in_fragments) == []
