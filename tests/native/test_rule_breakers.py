"""What a peer that has the keys may send, and OpenSSL is not at ease with."""

from __future__ import annotations

from pathlib import Path

import pytest

import dtlsffi
from dtlsffi import AlertReceived, CloseReceived, Connection
from tests.helpers import HOST, record, records, start, wait_for
from tests.sealing import Sealing

ALERTS, HANDSHAKE, DATA = 21, 22, 23
WARNING, FATAL = 1, 2
CLOSE_NOTIFY, USER_CANCELED, NO_RENEGOTIATION = 0, 90, 100


@pytest.fixture
def sealing(tmp_path: Path) -> Sealing:
    return Sealing(tmp_path)


def message(kind: int, body: bytes = b"") -> bytes:
    """A handshake message in one piece, number 0: with that one a handshake begins (RFC 6347 section 4.2.2)."""
    length = len(body).to_bytes(3, "big")
    return bytes((kind,)) + length + bytes(5) + length + body


HELLO_REQUEST = message(0)
CLIENT_HELLO = message(1, b"\xfe\xfd" + bytes(34) + b"\x00\x02\xc0\x3b" + b"\x01\x00")


def sides(sealing: Sealing, to_client: bool) -> tuple[Connection, Connection]:
    return (sealing.client, sealing.server) if to_client else (sealing.server, sealing.client)


@pytest.mark.parametrize("to_client", [True, False])
def test_what_is_sealed_is_taken_for_genuine(sealing: Sealing, to_client: bool) -> None:
    """Or nothing below would mean anything."""
    side, peer = sides(sealing, to_client)
    side.receive_datagram(sealing.seal(peer, DATA, b"genuine"))
    side.receive_datagram(sealing.seal(peer, DATA, b"forged")[:-1] + b"\x00")
    assert side.data_received() == [b"genuine"]


@pytest.mark.parametrize("to_client", [True, False])
def test_a_second_wish_for_another_handshake_is_dropped(sealing: Sealing, to_client: bool) -> None:
    """The first is answered with no_renegotiation; over the next OpenSSL would let no data pass any more."""
    side, peer = sides(sealing, to_client)
    wish = HELLO_REQUEST if to_client else CLIENT_HELLO
    side.receive_datagram(sealing.seal(peer, HANDSHAKE, wish))
    assert [records(datagram)[0][0] for datagram in side.datagrams_to_send()] == [ALERTS]
    for number in range(3):
        side.receive_datagram(sealing.seal(peer, HANDSHAKE, wish))
        assert side.datagrams_to_send() == []
        side.receive_datagram(sealing.seal(peer, DATA, bytes([number])))
        assert side.data_received() == [bytes([number])]
        assert side.send(b"on") == 2
        assert len(side.datagrams_to_send()) == 1
    assert side.statistics()["dropped_junk"] == 3


@pytest.mark.parametrize("level", [WARNING, FATAL])
def test_close_notify_is_the_end_at_whatever_level(sealing: Sealing, level: int) -> None:
    """TinyDTLS says it at level fatal; to OpenSSL that is an error."""
    client = sealing.client
    client.events_received()
    client.receive_datagram(sealing.seal(sealing.server, DATA, b"last words"))
    client.receive_datagram(sealing.seal(sealing.server, ALERTS, bytes((level, CLOSE_NOTIFY))))
    assert client.events_received() == [AlertReceived(CLOSE_NOTIFY), CloseReceived()]
    assert client.data_received() == [b"last words"]
    client.receive_datagram(sealing.seal(sealing.server, DATA, b"one thing more"))
    assert client.events_received() == client.data_received() == []
    if level == FATAL:
        with pytest.raises(dtlsffi.DTLSZeroReturnError, match="the peer has closed the connection"):
            client.send(b"too late")
    client.close()


def test_a_fatal_close_notify_ends_a_handshake(client_context: dtlsffi.DTLSContext) -> None:
    """Which nobody goes on with: there is no timer any more."""
    client = Connection(client_context, server_hostname=HOST)
    start(client)
    client.receive_datagram(record(ALERTS, bytes((FATAL, CLOSE_NOTIFY))))
    with pytest.raises(dtlsffi.DTLSError, match="ended the handshake: close_notify"):
        wait_for(client)
    assert client.get_timer() is None


@pytest.mark.parametrize(
    ("level", "description", "words"),
    [
        (FATAL, USER_CANCELED, r"the peer \(device.example\) ended the connection: user_canceled"),
        (WARNING, USER_CANCELED, "the peer has sent a warning, over which OpenSSL ends the connection"),
        (WARNING, NO_RENEGOTIATION, "NO_RENEGOTIATION"),
    ],
)
def test_other_alerts_are_errors(sealing: Sealing, level: int, description: int, words: str) -> None:
    """As OpenSSL has it."""
    with pytest.raises(dtlsffi.DTLSError, match=words):
        sealing.client.receive_datagram(sealing.seal(sealing.server, ALERTS, bytes((level, description))))
