"""dtlsffi.objects: code written to ssl.SSLObject."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest

import dtlsffi
from dtlsffi import DTLSContext, DTLSObject, MemoryBIO
from dtlsffi.testing import Authority
from tests.helpers import HOST


class Pair:
    """Two objects and the wire between them, whose datagrams can be looked at."""

    def __init__(self, client: DTLSContext, server: DTLSContext, **more: Any) -> None:
        self.up, self.down = MemoryBIO(), MemoryBIO()
        self.client = client.wrap_bio(self.down, self.up, server_hostname=HOST, **more)
        self.server = server.wrap_bio(self.up, self.down, server_side=True)

    def shake_hands(self) -> None:
        """As code for ssl.SSLObject does it."""
        waiting = [self.client, self.server]
        for _ in range(20):
            for side in list(waiting):
                try:
                    side.do_handshake()
                    waiting.remove(side)
                except ssl.SSLWantReadError:
                    pass
            if not waiting:
                return
        pytest.fail("no handshake in 20 rounds")


@pytest.fixture
def pair(client_context: DTLSContext, server_context: DTLSContext) -> Pair:
    return Pair(client_context, server_context)


@pytest.fixture
def joined(pair: Pair) -> Iterator[Pair]:
    pair.shake_hands()
    return pair


# ---- MemoryBIO ----


def test_a_bio_keeps_datagrams_apart() -> None:
    """What ssl.MemoryBIO does not."""
    bio = MemoryBIO()
    assert (bio.pending, bio.read()) == (0, b"")
    assert [bio.write(data) for data in (b"one", bytearray(b"two!"), memoryview(b"x"), b"")] == [3, 4, 1, 0]
    assert bio.pending == 3
    assert bio.read() == b"one"
    with pytest.raises(dtlsffi.DatagramTooLarge, match="the next datagram has 4 bytes, more than the 3 asked for"):
        bio.read(3)
    assert bio.read(4) == b"two!"
    assert bio.read() == b"x"


# ---- DTLSObject ----


def test_a_handshake_and_data_both_ways(joined: Pair) -> None:
    """One write is one datagram and one read."""
    client, server = joined.client, joined.server
    assert isinstance(client, DTLSObject)
    assert (client.version(), client.cipher()) == (server.version(), server.cipher())
    assert ("DNS", HOST) in client.getpeercert()["subjectAltName"]  # type: ignore[index]
    assert (client.server_side, server.server_side, client.server_hostname) == (False, True, HOST)
    assert client.write(b"one") == 3
    assert client.write(memoryview(b"three")) == 5
    assert server.read(3) == b"one"
    assert server.pending() == 5
    buffer = bytearray(10)
    assert server.read(10, buffer) == 5
    assert buffer[:5] == b"three"
    with pytest.raises(dtlsffi.DTLSWantReadError):
        server.read()
    server.write(b"back")
    assert client.read() == b"back"


def test_a_record_that_does_not_fit_is_kept(joined: Pair) -> None:
    """As on a socket."""
    joined.client.write(b"12345")
    with pytest.raises(dtlsffi.DatagramTooLarge, match="the next record has 5 bytes, more than the 4 asked for"):
        joined.server.read(4)
    with pytest.raises(dtlsffi.DatagramTooLarge):
        joined.server.read(100, bytearray(4))
    assert joined.server.read(5) == b"12345"


def test_close_notify_ends_reading(joined: Pair) -> None:
    """After what came before it; the one who closed can write no more."""
    joined.client.write(b"last")
    joined.client.unwrap()
    joined.client.unwrap()
    assert joined.server.read() == b"last"
    assert joined.server.read() == b""
    assert joined.server.read(10, bytearray(10)) == 0
    with pytest.raises(ssl.SSLZeroReturnError):
        joined.client.write(b"more")


def test_a_lost_flight_is_sent_again(pair: Pair) -> None:
    """When the timer says so."""
    with pytest.raises(dtlsffi.DTLSWantReadError):
        pair.client.do_handshake()
    assert pair.up.read()
    assert pair.up.pending == 0
    timer = pair.client.get_timer()
    assert timer is not None
    end = time.monotonic() + timer
    while time.monotonic() < end:
        pass
    pair.client.handle_timer()
    assert pair.up.pending > 0
    pair.shake_hands()
    assert pair.client.get_timer() is None


def test_a_failure_is_told_to_the_peer(server_context: DTLSContext) -> None:
    """The alert is in `outgoing` when the exception comes."""
    pair = Pair(DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT), server_context)
    with pytest.raises(dtlsffi.DTLSCertVerificationError):
        pair.shake_hands()
    alert = pair.up.read()
    assert (alert[0], alert[-1]) == (21, 48)


def test_callbacks_get_the_object(client_context: DTLSContext, server_context: DTLSContext) -> None:
    """As in ssl, not something inside it."""
    met: list[Any] = []
    server_context.sni_callback = lambda connection, *_: met.append(connection)
    client_context.verify_callback = lambda connection, check: met.append(connection) is None and check.ok
    pair = Pair(client_context, server_context)
    pair.shake_hands()
    assert met == [pair.server, pair.client, pair.client]


def test_a_session_is_resumed(joined: Pair, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """`session=` as elsewhere."""
    again = Pair(client_context, server_context, session=joined.client.session)
    again.shake_hands()
    assert again.client.session_reused


def test_a_peer_is_pinned(authority: Authority, server_context: DTLSContext) -> None:
    """`verify_fingerprint=` as elsewhere."""
    Pair(
        DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT), server_context, verify_fingerprint=server_context.fingerprint()
    ).shake_hands()


def test_it_is_made_by_wrap_bio_only(client_context: DTLSContext) -> None:
    """From BIOs that keep datagrams apart."""
    with pytest.raises(TypeError, match="does not have a public constructor"):
        DTLSObject()
    with pytest.raises(TypeError, match=r"incoming is a dtlsffi\.MemoryBIO, which keeps datagrams apart"):
        client_context.wrap_bio(ssl.MemoryBIO(), MemoryBIO(), server_hostname=HOST)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="check_hostname requires server_hostname"):
        client_context.wrap_bio(MemoryBIO(), MemoryBIO())


def test_what_does_not_apply_says_so(joined: Pair) -> None:
    """As on a socket."""
    with pytest.raises(NotImplementedError, match="Post-handshake"):
        joined.client.verify_client_post_handshake()
    if joined.client.version() != "DTLSv1.3":
        with pytest.raises(ValueError, match="1.3 only"):
            joined.client.update_keys()


def test_a_buffer_that_cannot_be_written_to_takes_nothing(joined: Pair) -> None:
    """It is refused before the record is taken."""
    joined.server.write(b"one")
    with pytest.raises(TypeError, match="can be written to"):
        joined.client.read(10, bytes(10))
    assert joined.client.read() == b"one"


def test_arguments_are_those_of_ssl() -> None:
    """What is no buffer is none, nothing is nothing, and a negative size is no size."""
    bio = MemoryBIO()
    for nonsense in (5, True, [1, 2], "text"):
        with pytest.raises(TypeError):
            bio.write(nonsense)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        bio.read(None)  # type: ignore[arg-type]
    bio.write(b"datagram")
    assert bio.read(0) == b""
    assert bio.read() == b"datagram"


def test_a_size_of_zero_takes_nothing(client_context: DTLSContext, server_context: DTLSContext) -> None:
    """As in ssl; a negative one is ValueError."""
    pair = Pair(client_context, server_context)
    pair.shake_hands()
    pair.client.write(b"record")
    assert pair.server.read(0) == b""
    with pytest.raises(ValueError, match="size should not be negative"):
        pair.server.read(-1)
    assert pair.server.read(6) == b"record"
