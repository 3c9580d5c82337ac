"""What is measured, a file each; every one has a function `run(bench)`."""

from __future__ import annotations

from ..suite import Suite
from . import echo, flood, growth, handshakes, memory, oneway, pingpong, record, threads

SUITES: tuple[Suite, ...] = (
    record.SUITE,
    oneway.SUITE,
    pingpong.SUITE,
    threads.SUITE,
    echo.SUITE,
    handshakes.SUITE,
    memory.SUITE,
    growth.SUITE,
    flood.SUITE,
)
