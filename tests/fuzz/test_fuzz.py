"""The short form of the fuzzer: tests/fuzz/fuzzer.py."""

from __future__ import annotations

import pytest

from tests.fuzz.fuzzer import STAGES, Fuzzer


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1])
def test_nothing_comes_of_junk(seed: int) -> None:
    """200,000 datagrams: no crash, no exception but a handshake's own failure, no growth."""
    fuzzer = Fuzzer(seed)
    fuzzer.run(200_000)
    assert fuzzer.thrown.total() >= 200_000
    assert fuzzer.thrown["established"] > 50_000
    for stage in range(STAGES):
        side = "client" if stage % 2 else "server"
        assert fuzzer.thrown[f"{side}, stage {stage}"] > 1000, fuzzer.thrown
    assert len(fuzzer.failures) > 10, "the mutations reach the handshake"
