"""dtlsffi.made: who has no public constructor says where its instances come from."""

from __future__ import annotations

import pytest

import dtlsffi
import dtlsffi.anyio
import dtlsffi.asyncio
from dtlsffi.made import Made


@pytest.mark.parametrize(
    ("kind", "maker"),
    [
        (dtlsffi.DTLSSocket, "DTLSContext.wrap_socket() or dtlsffi.create_connection()"),
        (dtlsffi.DTLSObject, "DTLSContext.wrap_bio()"),
        (dtlsffi.DTLSListener, "dtlsffi.create_server()"),
        (dtlsffi.DTLSServerConnection, "DTLSListener.accept()"),
        (dtlsffi.asyncio.DTLSConnection, "dtlsffi.asyncio.connect()"),
        (dtlsffi.asyncio.DTLSServer, "dtlsffi.asyncio.serve()"),
        (dtlsffi.asyncio.DTLSTransport, "dtlsffi.asyncio.create_dtls_endpoint()"),
        (dtlsffi.anyio.DTLSStream, "dtlsffi.anyio.connect()"),
    ],
)
def test_there_is_no_public_constructor(kind: type[Made], maker: str) -> None:
    """In the words of ssl."""
    with pytest.raises(TypeError) as caught:
        kind("anything")
    assert str(caught.value) == f"{kind.__name__} does not have a public constructor. {maker} returns instances."
