"""dtlsffi.anyio: streams on trio and on asyncio, their data, attributes and errors."""

from __future__ import annotations

import errno
import socket

import anyio
import pytest
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSAttribute

import dtlsffi
from dtlsffi.anyio import DTLSAttribute, DTLSStream
from dtlsffi.core.errors import make
from tests.doors.loops import vanish
from tests.doors.streams import AnyRun, joined
from tests.helpers import HOST

# ---- data ----


def test_it_is_an_object_stream(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """One send is one record, one receive returns one; the methods of the other doors are there as well."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            assert isinstance(client, anyio.abc.UnreliableObjectStream)
            assert await client.send(b"one") == 3
            assert await server.receive() == b"one"
            assert await server.send_many([b"two", bytearray(b"three")]) == 2
            received: list[bytes] = []
            while len(received) < 2:
                received += await client.recv_many()
            assert received == [b"two", b"three"]
            await client.send(b"four")
            assert await server.recv() == b"four"
            for data, error in ((b"", ValueError), ("text", TypeError), (bytes(20_000), dtlsffi.DatagramTooLarge)):
                with pytest.raises(error):
                    await client.send(data)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="does not have a public constructor"):
                DTLSStream()

    anyrun(main)


def test_iteration_ends_with_the_peer(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """EndOfStream from receive(), b"" from recv(), each time."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            await client.send_many([b"1", b"2"])
            await client.aclose()
            assert [data async for data in server] == [b"1", b"2"]
            for _ in range(2):
                with pytest.raises(anyio.EndOfStream):
                    await server.receive()
                assert await server.recv() == b""
                assert await server.recv_many() == []

    anyrun(main)


def test_typed_attributes(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Those of sockets, of TLS and of DTLS, on both sides."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            for stream, peer in ((client, server), (server, client)):
                ask = stream.extra
                assert ask(SocketAttribute.family) == socket.AF_INET
                assert ask(SocketAttribute.local_address) == peer.extra(SocketAttribute.remote_address)
                assert ask(SocketAttribute.local_port) == peer.extra(SocketAttribute.remote_port)
                assert ask(SocketAttribute.raw_socket).fileno() >= 0
                assert ask(TLSAttribute.cipher) == stream.cipher()
                assert ask(TLSAttribute.tls_version) == "DTLSv1.2"
                assert ask(TLSAttribute.server_side) == (stream is server)
                assert ask(TLSAttribute.alpn_protocol) is None
                assert ask(TLSAttribute.ssl_object) is ask(DTLSAttribute.connection) is stream
                assert ask(TLSAttribute.standard_compatible) is True
                assert ask(TLSAttribute.channel_binding_tls_unique) == peer.get_channel_binding()
                assert bool(ask(TLSAttribute.shared_ciphers)) == (stream is server)
                assert ask(DTLSAttribute.mtu) == stream.mtu
                assert ask(DTLSAttribute.data_mtu) == stream.data_mtu
                assert ask(DTLSAttribute.session_reused) is False
                assert ask(DTLSAttribute.psk_identity) is None
                assert ask(DTLSAttribute.srtp_profile) is None
                assert ask(DTLSAttribute.statistics) == stream.statistics()
            assert client.extra(DTLSAttribute.session) is not None
            certificate = client.extra(TLSAttribute.peer_certificate)
            assert certificate is not None
            assert ("DNS", HOST) in certificate["subjectAltName"]  # type: ignore[operator]
            assert client.extra(TLSAttribute.peer_certificate_binary) == client.getpeercert(True)

    anyrun(main)


# ---- errors ----


def test_errors_are_anyios(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """BrokenResourceError from what ended it, which recv() raises itself; ICMP is told and survived."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, _):
            client._port._refused(ConnectionRefusedError(errno.ECONNREFUSED, "said by ICMP"))
            with pytest.raises(ConnectionRefusedError):
                await client.receive()
            client._port._end(client._connection, make(dtlsffi.DTLSError, "BROKEN", "for once"))
            for call in (client.receive, client.__anext__, lambda: client.send(b"x"), lambda: client.send_many([b"x"])):
                with pytest.raises(anyio.BrokenResourceError, match="BROKEN") as caught:
                    await call()
                assert isinstance(caught.value.__cause__, dtlsffi.DTLSError)
            with pytest.raises(dtlsffi.DTLSError, match="BROKEN"):
                await client.recv()

    anyrun(main)


def test_a_socket_that_is_closed_under_it_is_said(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """BrokenResourceError, from receive() and send()."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, _):
            client.extra(SocketAttribute.raw_socket).close()
            for call in (client.receive, lambda: client.send(b"x")):
                with pytest.raises(anyio.BrokenResourceError, match="closed"):
                    await call()

    anyrun(main)


def test_who_only_sends_hears_of_the_end(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Nobody receives on the client: send() looks at what has come."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            vanish(server)
            with pytest.raises(ConnectionRefusedError):
                for _ in range(100):
                    await client.send(b"x")
            await client.send(b"it goes on")
            client._port._end(client._connection, make(dtlsffi.DTLSError, "BROKEN", "for once"))
            with pytest.raises(anyio.BrokenResourceError, match="BROKEN"):
                await client.send(b"x")

    anyrun(main)
