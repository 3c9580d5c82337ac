"""dtlsffi.core.knowledge: what every door knows of its connection."""

from __future__ import annotations

import socket

import dtlsffi

HOST = "device.example"
Sockets = tuple[socket.socket, socket.socket]
Pair = tuple[dtlsffi.DTLSSocket, dtlsffi.DTLSSocket]


def test_everything_known_is_passed_on(dtls_pair: Pair, client_context: dtlsffi.DTLSContext) -> None:
    """Ssl's names, on the socket."""
    client, server = dtls_pair
    assert (client.context, client.server_side, client.server_hostname) == (client_context, False, HOST)
    assert (server.server_side, server.server_hostname) == (True, None)
    assert client.version() == server.version() == "DTLSv1.2"
    assert client.cipher() == server.cipher()
    assert client.cipher() in (server.shared_ciphers() or [])
    assert client.shared_ciphers() is None
    certificate = client.getpeercert()
    assert certificate is not None
    assert ("DNS", HOST) in certificate["subjectAltName"]
    assert isinstance(client.getpeercert(binary_form=True), bytes)
    assert client.pending() == 0
    assert client.session is not None
    assert not client.session_reused
    assert client.get_timer() is None
    assert client.statistics()["datagrams_sent"] >= 2
    assert client.retransmission == (0.005, 2.0, 0.04)
    client.retransmission = (0.5, 2.0, 4.0)
    assert client.retransmission == (0.5, 2.0, 4.0)
    assert client.getpeername() == server.getsockname()
    client.handle_timer()
