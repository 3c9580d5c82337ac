"""dtlsffi/_native/handshake.c: what a connection that only sends owes a peer whose handshake is not finished."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

import dtlsffi
from dtlsffi import Connection, DTLSSocket
from dtlsffi.testing import MemoryLink
from tests.helpers import HOST, Sockets
from tests.native.by_hand import ByHand

Send = Callable[[DTLSSocket, bytes], object]
SENDS: list[Send] = [lambda conn, data: conn.send(data), lambda conn, data: conn.send_many([data])]


@pytest.fixture
def sending_server(
    udp_pair: Sockets, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> Iterator[tuple[ByHand, DTLSSocket]]:
    """A client, and a server that has finished its handshake in a flight which the client has lost."""
    client = ByHand(Connection(client_context, server_hostname=HOST), udp_pair[0])
    udp_pair[1].settimeout(10)
    with server_context.wrap_socket(udp_pair[1], server_side=True, do_handshake_on_connect=False) as server:
        thread = threading.Thread(target=server.do_handshake)
        thread.start()
        client.say()
        client.take()
        thread.join()
        client.lose()
        yield client, server


def finish(client: ByHand, received: list[bytes]) -> None:
    while not received or not client.connection.is_established:
        received += client.take()


@pytest.mark.parametrize("send", SENDS)
def test_a_server_that_only_sends_repeats_its_last_flight(
    sending_server: tuple[ByHand, DTLSSocket], send: Send
) -> None:
    """RFC 6347 section 4.2.4: whoever has spoken last answers what is repeated."""
    client, server = sending_server
    client.repeat()
    received: list[bytes] = []
    send(server, b"telemetry")
    finish(client, received)
    assert received == [b"telemetry"]


@pytest.mark.parametrize("send", SENDS)
def test_a_client_that_only_sends_repeats_its_last_flight(
    udp_pair: Sockets, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, send: Send
) -> None:
    """Of a resumed handshake the client's flight is the last."""
    session = resumable(client_context, server_context)
    server = ByHand(Connection(server_context, server_side=True), udp_pair[1])
    udp_pair[0].settimeout(10)
    with client_context.wrap_socket(
        udp_pair[0], server_hostname=HOST, session=session, do_handshake_on_connect=False
    ) as client:
        thread = threading.Thread(target=client.do_handshake)
        thread.start()
        server.take()
        thread.join()
        assert client.session_reused
        server.lose()
        server.repeat()
        received: list[bytes] = []
        send(client, b"frame")
        finish(server, received)
        assert received == [b"frame"]


def resumable(client: dtlsffi.DTLSContext, server: dtlsffi.DTLSContext) -> dtlsffi.DTLSSession:
    link = MemoryLink(Connection(client, server_hostname=HOST), Connection(server, server_side=True))
    link.shake_hands()
    assert link.client.session is not None
    return link.client.session


def test_junk_and_plaintext_alerts_hide_nothing(sending_server: tuple[ByHand, DTLSSocket]) -> None:
    """Anybody can send them."""
    client, server = sending_server
    client.sock.send(b"junk")
    client.sock.send(b"\x15\xfe\xfd" + bytes(8) + b"\0\2\2\50")
    client.repeat()
    received: list[bytes] = []
    server.send(b"telemetry")
    finish(client, received)
    assert received == [b"telemetry"]


def test_what_is_not_of_a_handshake_is_left_to_others(sending_server: tuple[ByHand, DTLSSocket]) -> None:
    """Data, and the end, may be waited for by a thread that looks at the socket."""
    client, server = sending_server
    client.repeat()
    server.send(b"first")
    finish(client, [])
    client.connection.send(b"data")
    client.send()
    server.send(b"second")
    assert server.pending() == 0
    assert server.recv() == b"data"
    client.connection.close()
    client.send()
    server.send(b"third")
    assert server.recv() == b""


def test_what_the_kernel_says_meanwhile_is_raised(sending_server: tuple[ByHand, DTLSSocket]) -> None:
    """A look at the socket takes its error, which is what a send would have found."""
    client, server = sending_server
    client.sock.close()
    server.send(b"into the void")
    with pytest.raises(ConnectionRefusedError):
        for _ in range(100):
            server.send(b"again")
    server.send(b"the connection goes on")
