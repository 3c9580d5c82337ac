"""What the tests with other implementations share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import dtlsffi
from tests.interop.peers import OurServer, Serve
from tests.interop.programs import Files


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Where programs find their certificates and keys."""
    return Files(tmp_path)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Makes servers of ours, each on a port of its own."""
    servers: list[OurServer] = []

    def make(context: dtlsffi.DTLSContext) -> OurServer:
        servers.append(OurServer(context))
        return servers[-1]

    yield make
    for server in servers:
        server.close()
