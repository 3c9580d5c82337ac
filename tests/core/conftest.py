"""What the tests of endpoints share: a net, and a server in it."""

from __future__ import annotations

import pytest

from dtlsffi import DTLSContext, Endpoint
from tests.core.net import SERVER, Net


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def server(net: Net, server_context: DTLSContext) -> Endpoint:
    return net.add(SERVER, server_context)
