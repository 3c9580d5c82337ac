"""dtlsffi.core.stapling: OCSP responses, brought along by the server."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

import dtlsffi
from dtlsffi import DTLSContext
from dtlsffi.testing import Authority, MemoryLink
from tests.helpers import HOST, handshake, load


@pytest.fixture(scope="module")
def stapled(authority: Authority) -> tuple[Any, bytes]:
    """A server's identity, and a response that vouches for it."""
    identity = authority.issue(HOST)
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    now = datetime.datetime.now(datetime.timezone.utc)
    key: Any = serialization.load_pem_private_key(authority._ca.private_key_pem.bytes(), None)
    response = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            x509.load_pem_x509_certificate(identity.certificate), issuer, hashes.SHA1(),  # noqa: S303 - OCSP's own
            ocsp.OCSPCertStatus.GOOD, now, now + datetime.timedelta(days=1), None, None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, issuer)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    return identity, response.public_bytes(serialization.Encoding.DER)


def connect(authority: Authority, stapled: tuple[Any, bytes], staple: Any, look: Any) -> MemoryLink:
    client, server = authority.client_context(), DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    load(server, stapled[0])
    server.set_ocsp_server_callback(staple)
    client.set_ocsp_client_callback(look)
    return handshake(client, server)


def test_the_client_gets_what_the_server_stapled(authority: Authority, stapled: tuple[Any, bytes]) -> None:
    """Both callbacks know their connection; the response can be read and is good."""
    met: list[Any] = []

    def staple(connection: Any) -> bytes:
        met.append(connection)
        return stapled[1]

    def look(connection: Any, response: bytes | None) -> bool:
        met.append(connection)
        assert response is not None
        return ocsp.load_der_ocsp_response(response).certificate_status is ocsp.OCSPCertStatus.GOOD

    link = connect(authority, stapled, staple, look)
    link.shake_hands()
    assert met == [link.server, link.client]
    assert link.client.ocsp_response == stapled[1]


@pytest.mark.parametrize("staple", [lambda _: None, lambda _: b"", None])
def test_a_server_may_have_nothing_to_staple(authority: Authority, stapled: tuple[Any, bytes], staple: Any) -> None:
    """The client is asked all the same."""
    asked: list[bytes | None] = []

    def look(_: Any, response: bytes | None) -> bool:
        asked.append(response)
        return True

    link = connect(authority, stapled, staple, look)
    link.shake_hands()
    assert asked == [None]
    assert link.client.ocsp_response is None


def test_nobody_is_asked_who_does_not_want_to_know(authority: Authority, stapled: tuple[Any, bytes]) -> None:
    """A client without a callback gets nothing."""
    asked: list[Any] = []
    link = connect(authority, stapled, lambda connection: asked.append(connection), None)
    link.shake_hands()
    assert asked == []


def test_the_client_may_refuse(authority: Authority, stapled: tuple[Any, bytes]) -> None:
    """The server hears of it by an alert."""
    link = connect(authority, stapled, lambda _: stapled[1], lambda *_: False)
    with pytest.raises(dtlsffi.DTLSError, match="INVALID_STATUS_RESPONSE"):
        link.shake_hands()
    for datagram in link.client.datagrams_to_send():
        link.server.receive_datagram(datagram)
    assert "bad_certificate_status_response (alert 113)" in str(link.server.alert_held())


@pytest.mark.parametrize(
    ("staple", "look", "error"),
    [
        (lambda _: 1 // 0, lambda *_: True, ZeroDivisionError),
        (lambda _: "text", lambda *_: True, TypeError),
        (lambda _: None, lambda *_: 1 // 0, ZeroDivisionError),
        (lambda _: None, lambda *_: None, TypeError),
    ],
)
def test_a_callback_that_fails_ends_the_handshake(
    authority: Authority, stapled: tuple[Any, bytes], staple: Any, look: Any, error: type[Exception]
) -> None:
    """On either side, with its own exception."""
    with pytest.raises(error):
        connect(authority, stapled, staple, look).shake_hands()


def test_each_side_has_its_callback() -> None:
    """A context for the other side says so."""
    with pytest.raises(ValueError, match="an OCSP server callback cannot be set on a PROTOCOL_DTLS_CLIENT context"):
        DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT).set_ocsp_server_callback(lambda _: None)
    with pytest.raises(ValueError, match="an OCSP client callback cannot be set on a PROTOCOL_DTLS_SERVER context"):
        DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER).set_ocsp_client_callback(lambda *_: True)


def test_a_callback_is_one(authority: Authority) -> None:
    """TypeError at once, not in every handshake."""
    with pytest.raises(TypeError, match="callback is a callable or None, not int"):
        authority.client_context().set_ocsp_client_callback(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callback is a callable or None, not str"):
        authority.server_context(HOST).set_ocsp_server_callback("x")  # type: ignore[arg-type]


def test_a_response_may_be_any_kind_of_bytes(authority: Authority, stapled: tuple[Any, bytes]) -> None:
    """A memoryview, too."""
    link = connect(authority, stapled, lambda _: memoryview(stapled[1]), lambda *_: True)
    link.shake_hands()
    assert link.client.ocsp_response == stapled[1]
