"""dtlsffi.core.association: what is known of a connection."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import dtlsffi
from dtlsffi.core.arguments import TIMERS
from dtlsffi.testing import Authority, MemoryLink
from tests.helpers import HOST, start


def test_what_is_known_before_the_handshake(link: MemoryLink) -> None:
    """Nothing, and no call fails over it but getpeercert(), as in ssl."""
    for side in (link.client, link.server):
        assert side.version() is None
        assert side.cipher() is None
        assert side.shared_ciphers() is None
        assert side.data_mtu is None
        assert not side.is_established
        with pytest.raises(ValueError, match="handshake not done yet"):
            side.getpeercert()


def test_what_is_known_after_it(joined: MemoryLink, client_context: dtlsffi.DTLSContext) -> None:
    """Ssl's names, ssl's shapes."""
    client, server = joined.client, joined.server
    assert client.version() == server.version() == "DTLSv1.2"
    assert client.cipher() == server.cipher()
    name, version, bits = client.cipher() or ("", "", 0)
    assert (version, bits) == ("TLSv1.2", 256)
    assert name.startswith("ECDHE-")
    assert client.shared_ciphers() is None
    assert client.cipher() in (server.shared_ciphers() or [])
    assert client.getpeercert()["subjectAltName"][0] == ("DNS", HOST)  # type: ignore[index]
    assert server.getpeercert() is None
    assert server.getpeercert(binary_form=True) is None
    assert (client.context, client.server_side, client.server_hostname) == (client_context, False, HOST)
    assert (server.server_side, server.server_hostname) == (True, None)


def test_repr_tells_the_state_and_no_secret(link: MemoryLink) -> None:
    """Side, peer, state."""
    assert repr(link.client) == f"<Connection client {HOST!r} handshake not finished>"
    link.shake_hands()
    assert repr(link.client) == f"<Connection client {HOST!r} DTLSv1.2>"
    assert repr(link.server) == "<Connection server DTLSv1.2>"


def test_it_can_be_closed_by_a_finalizer_in_the_same_garbage(joined: MemoryLink) -> None:
    """Its C side is there until every `__del__` has been called, whomever the garbage collector has met first."""
    closed: list[int] = []

    class Owner:
        def __init__(self, conn: object) -> None:
            self.conn: Any = conn

        def __del__(self) -> None:
            self.conn.close()
            closed.append(self.conn.statistics()["datagrams_sent"])

    sides = [joined.client, joined.server]
    before = sorted(side.statistics()["datagrams_sent"] for side in sides)
    joined.__dict__.clear()
    gc.collect()  # they are older than their owners then, and met first
    gc.disable()
    while sides:
        conn: Any = sides.pop()
        conn.owner = Owner(conn)
        del conn
    gc.enable()
    gc.collect()
    assert sorted(closed) == [sent + 1 for sent in before], "each has said close_notify"


def test_c_begins_with_the_timers_of_a_new_context(authority: dtlsffi.testing.Authority) -> None:
    """They are not set again for each connection."""
    context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
    context.load_verify_locations(cadata=authority.certificate)
    client = dtlsffi.Connection(context, server_hostname=HOST)
    assert client.retransmission == context.retransmission == TIMERS
    with pytest.raises(dtlsffi.DTLSWantReadError):
        client.do_handshake()
    left = client.get_timer()
    assert left is not None
    assert TIMERS[0] / 2 < left <= TIMERS[0]


def test_closing_ends_a_handshake(link: MemoryLink) -> None:
    """Nothing is sent again, nothing is answered, and it stays closed."""
    first = start(link.client)
    link.client.close()
    assert link.client.get_timer() is None
    for datagram in first:
        link.server.receive_datagram(datagram)
    for datagram in link.server.datagrams_to_send():
        link.client.receive_datagram(datagram)
    for call in (link.client.do_handshake, lambda: link.client.send(b"x")):
        with pytest.raises(dtlsffi.DTLSZeroReturnError):
            call()
    link.client.handle_timer()
    link.client.close()
    assert link.client.datagrams_to_send() == []
    assert not link.client.is_established


def test_closing_after_a_failure_does_not_hide_it(client_context: dtlsffi.DTLSContext, stranger: Authority) -> None:
    """Who takes the end for a clean one would be wrong."""
    link = MemoryLink(
        dtlsffi.Connection(client_context, server_hostname=HOST),
        dtlsffi.Connection(stranger.server_context(HOST), server_side=True),
    )
    for call in (link.shake_hands, link.client.do_handshake):
        with pytest.raises(dtlsffi.DTLSCertVerificationError):
            call()
        link.client.close()


def test_pins_are_read_once(authority: Authority, stranger: Authority, tmp_path: Path) -> None:
    """For all clients of an endpoint: not from a file each time, nor from what can be read once only."""
    server, client = authority.server_context(HOST), authority.client_context()
    own = stranger.issue("client.example")
    client.load_cert_chain(own.certificate, own.key)
    certificate = x509.load_pem_x509_certificate(own.certificate)
    file = tmp_path / "key.pem"
    file.write_bytes(certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    given: list[dict[str, Any]] = [{"verify_fingerprint": iter([client.fingerprint()])}, {"verify_public_key": file}]
    endpoints = [dtlsffi.Endpoint(server, cookies=False, **pins) for pins in given]
    file.unlink()
    for endpoint in endpoints:
        for number in range(2):
            conn = dtlsffi.Connection(client, server_hostname=HOST)
            datagrams = start(conn)
            while not conn.is_established:
                for datagram in datagrams:
                    endpoint.receive_datagram(datagram, ("192.0.2.1", 1000 + number), 0)
                for datagram, _ in endpoint.datagrams_to_send():
                    conn.receive_datagram(datagram)
                datagrams = conn.datagrams_to_send()
    with pytest.raises(ValueError, match="no context for them"):
        dtlsffi.Endpoint(verify_fingerprint=client.fingerprint())


@pytest.mark.parametrize("nonsense", [{"fileno": "x"}, {"fileno": 1 << 31}, {"fileno": -2}, {"session": 5}])
def test_what_fails_leaves_the_context_as_it_was(client_context: dtlsffi.DTLSContext, nonsense: dict[str, Any]) -> None:
    """It can still be changed, for it is not in use."""
    with pytest.raises((TypeError, ValueError)):
        dtlsffi.Connection(client_context, server_hostname=HOST, **nonsense)
    client_context.mtu = 1000


def test_another_contexts_session_leaves_it_so_too(joined: MemoryLink, authority: Authority) -> None:
    """Ssl's words."""
    context = authority.client_context()
    with pytest.raises(ValueError, match=r"Session refers to a different DTLSContext"):
        dtlsffi.Connection(context, server_hostname=HOST, session=joined.client.session)
    context.mtu = 1000
