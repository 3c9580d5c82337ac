"""dtlsffi.accepted. What a connection does is in test_server.py: it needs a listener."""

from __future__ import annotations

import pytest

import dtlsffi


def test_it_is_accepted_and_never_made() -> None:
    """As sockets of ssl."""
    with pytest.raises(TypeError):
        dtlsffi.DTLSServerConnection()
