"""What users write, for mypy --strict: see tests/test_typing.py. It is never run."""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from typing_extensions import assert_type

import dtlsffi
from dtlsffi.testing import Authority, Identity

context = dtlsffi.create_default_context(ssl.Purpose.SERVER_AUTH, cafile="ca.pem")
assert_type(context, dtlsffi.DTLSContext)
context.verify_mode = ssl.CERT_REQUIRED
context.minimum_version = dtlsffi.DTLSVersion.DTLSv1_2
context.options |= dtlsffi.OP_NO_TICKET
context.load_cert_chain("cert.pem", b"key", lambda: "password")
assert_type(context.get_ca_certs(), list[dict[str, Any]])
assert_type(context.get_ca_certs(binary_form=True), list[bytes])

sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
assert_type(context.wrap_socket(sock, server_hostname="device.example"), dtlsffi.DTLSSocket)

with dtlsffi.create_connection(("device.example", 5684), context=context, timeout=5) as conn:
    assert_type(conn, dtlsffi.DTLSSocket)
    assert_type(conn.send(b"hello"), int)
    assert_type(conn.recv(), bytes)
    assert_type(conn.recv_into(bytearray(100)), int)
    assert_type(conn.version(), str | None)
    assert_type(conn.cipher(), tuple[str, str, int] | None)
    assert_type(conn.getpeercert(), dict[str, Any] | None)
    assert_type(conn.getpeercert(binary_form=True), bytes | None)
    assert_type(conn.session, dtlsffi.DTLSSession | None)
    assert_type(conn.unwrap(), socket.socket)
    assert_type(conn.get_timer(), float | None)

    assert_type(conn.read(), bytes)
    assert_type(conn.read(10), bytes)
    assert_type(conn.read(10, bytearray(10)), int)
    assert_type(conn.read(buffer=bytearray(10)), int)


class MySocket(dtlsffi.DTLSSocket):
    """One of a user's own."""


context.dtlssocket_class = MySocket
context.verify_mod = ssl.CERT_NONE  # type: ignore[attr-defined] # a slip of the pen
context.post_handshake_auth = True  # type: ignore[attr-defined] # ssl's, of TLS 1.3
dtlsffi.DTLSConext  # type: ignore[attr-defined] # noqa: B018

connection = dtlsffi.Connection(context, server_hostname="device.example")
assert_type(connection.datagrams_to_send(), list[bytes])
assert_type(connection.data_received(), list[bytes])
for event in connection.events_received():
    if isinstance(event, dtlsffi.AlertReceived):
        assert_type(event.name, str)
assert_type(connection.statistics(), dict[str, int])

try:
    connection.do_handshake()
except dtlsffi.DTLSCertVerificationError as error:
    assert_type(error.verify_code, int)
    assert_type(error.verify_message, str)
    assert_type(error.reason, str)

assert_type(Authority().issue("a.example"), Identity)


# ---- callbacks, pins ----

keys = {"lamp": b"secret"}
context.set_psk_client_callback(lambda hint: ("lamp", keys["lamp"]))
context.set_psk_server_callback(lambda identity: keys.get(identity))
context.set_psk_server_callback(keys.get)


def key_of(identity: str, conn: dtlsffi.DTLSServerConnection) -> bytes | None:
    return keys.get(identity)


def no_key_of(identity: int) -> bytes | None:
    return None


context.set_psk_server_callback(key_of)
context.set_psk_server_callback(no_key_of)  # type: ignore[arg-type] # an identity is a str
context.load_cert_chain(3)  # type: ignore[arg-type]


def with_objects(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    """Those of `cryptography`."""
    context.load_cert_chain(certificate, key)
    context.load_cert_chain([certificate, certificate], key)
    dtlsffi.Connection(context, verify_public_key=key.public_key())
    dtlsffi.Connection(context, verify_public_key=[certificate, Path("peer.pem")], verify_fingerprint="sha-256 AB:CD")


# ---- many clients ----


def handle(conn: dtlsffi.DTLSServerConnection, addr: Any) -> None:
    while data := conn.recv():
        assert_type(conn.send(data), int)


with dtlsffi.create_server(("", 5684), context=context, idle_timeout=60.0) as listener:
    assert_type(listener, dtlsffi.DTLSListener)
    assert_type(listener.accept(), tuple[dtlsffi.DTLSServerConnection, Any])
    assert_type(listener.statistics(), dict[str, int])
    listener.serve_forever(handle, threads=100)

dtlsffi.create_server(("", 5684), context=context, max_conections=3)  # type: ignore[call-arg] # a slip of the pen
dtlsffi.create_server(("", 5684), context=context, idle_timeout="60")  # type: ignore[arg-type]


# ---- asyncio ----


class Protocol(asyncio.DatagramProtocol):
    """One for plain UDP."""


async def in_asyncio() -> None:
    async with await dtlsffi.asyncio.connect("device.example", 5684, context=context, idle_timeout=60) as conn:
        assert_type(conn, dtlsffi.asyncio.DTLSConnection)
        assert_type(await conn.send(b"hello"), int)
        assert_type(await conn.send_many([b"hello", bytearray(b"again")]), int)
        assert_type(await conn.recv(), bytes)
        assert_type(await conn.recv_many(), list[bytes])
        async for data in conn:
            assert_type(data, bytes)
        assert_type(conn.cipher(), tuple[str, str, int] | None)

    async def handler(conn: dtlsffi.asyncio.DTLSConnection) -> None:
        await conn.send(await conn.recv())

    async with await dtlsffi.asyncio.serve(handler, port=5684, context=context) as server:
        assert_type(server, dtlsffi.asyncio.DTLSServer)
        assert_type(server.connections, list[dtlsffi.asyncio.DTLSConnection])
        await server.serve_forever()

    transport, protocol = await dtlsffi.asyncio.create_dtls_endpoint(Protocol, local_addr=("", 5684), context=context)
    assert_type(transport, dtlsffi.asyncio.DTLSTransport)
    assert_type(protocol, Protocol)
    plain: asyncio.DatagramTransport = transport
    plain.sendto(b"hello", ("192.0.2.1", 5684))
    assert_type(transport.get_connection(("192.0.2.1", 5684)), dtlsffi.asyncio.DTLSConnection | None)


# ---- trio and anyio ----


async def in_anyio() -> None:
    async with await dtlsffi.anyio.connect("device.example", 5684, context=context) as stream:
        assert_type(stream, dtlsffi.anyio.DTLSStream)
        general: anyio.abc.UnreliableObjectStream[bytes] = stream
        await general.send(b"hello")
        assert_type(await stream.send(b"hello"), int)
        assert_type(await stream.receive(), bytes)
        assert_type(stream.extra(dtlsffi.anyio.DTLSAttribute.data_mtu), int)

    async def handler(stream: dtlsffi.anyio.DTLSStream) -> None:
        async for data in stream:
            await stream.send(data)

    async with anyio.create_task_group() as group:
        group.start_soon(partial(dtlsffi.anyio.serve, handler, local_port=5684, context=context))
