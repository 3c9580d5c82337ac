"""What users write, for mypy --strict: see tests/test_typing.py. It is never run."""

from __future__ import annotations

import socket
import ssl
from typing import Any

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
