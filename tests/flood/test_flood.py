"""The short form of ci/flood."""

from __future__ import annotations

import pytest

from tests.flood.flood import run


@pytest.mark.parametrize("in_fragments", [False, True])
def test_honest_clients_get_in(in_fragments: bool) -> None:
    """While strangers send hellos, or first fragments of them, as fast as they can; memory stays, the cap holds."""
    result = run(2, 5, in_fragments=in_fragments)
    assert result["honest clients"] >= 5
    assert result["kB grown"] < 65536
    assert result["half-open"] <= 500
    assert result["hellos a second"] > 1000
