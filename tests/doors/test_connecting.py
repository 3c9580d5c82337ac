"""dtlsffi.connecting: create_connection, over real UDP."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

import pytest

import dtlsffi
from dtlsffi.testing import Authority
from tests.doors.listening import address_of, echo, listening
from tests.helpers import HOST


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_client_connects_and_talks(
    host: str, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Over IPv4 and IPv6; the host's name is what the certificate must be for."""
    with (
        listening(server_context, echo, host) as server,
        dtlsffi.create_connection(address := address_of(server), context=client_context, timeout=10) as conn,
    ):
        assert conn.server_hostname == host
        assert conn.getpeername()[:2] == address
        assert conn.gettimeout() == 10
        assert conn.version() == "DTLSv1.2"
        conn.send(b"hello")
        assert conn.recv() == b"hello"


def test_a_name_is_looked_up_and_every_address_tried(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server on any of a name's addresses is found, though nobody listens on the others."""
    look_up = socket.getaddrinfo
    for host in ("127.0.0.1", "::1"):
        with listening(server_context, echo, host) as server:
            port = address_of(server)[1]
            found = [info for h in ("127.0.0.1", "::1") for info in look_up(h, port, type=socket.SOCK_DGRAM)]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, found=found, **__: found)
            with dtlsffi.create_connection((HOST, port), context=client_context, timeout=10) as conn:
                assert conn.getpeername()[0] == host
                conn.send(b"hello")
                assert conn.recv() == b"hello"


def test_a_silent_address_delays_the_next_by_a_quarter_second(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 8305: the handshakes run side by side, and the first to finish wins."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as silent, listening(server_context, echo) as server:
        silent.bind(("::1", 0))
        found = [
            (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", silent.getsockname()),
            (socket.AF_INET, socket.SOCK_DGRAM, 17, "", server.getsockname()),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        begin = time.monotonic()
        with dtlsffi.create_connection((HOST, 1), context=client_context, timeout=10) as conn:
            took = time.monotonic() - begin
            assert conn.family == socket.AF_INET
            assert conn.server_hostname == HOST
        assert 0.2 < took < 2


def test_nobody_there_is_connection_refused(client_context: dtlsffi.DTLSContext, nobody: tuple[str, int]) -> None:
    """ICMP says so; with whom is in the text."""
    with pytest.raises(ConnectionRefusedError, match=f"{nobody[0]}:{nobody[1]}"):
        dtlsffi.create_connection(nobody, context=client_context, timeout=10)


def test_silence_is_a_handshake_timeout_in_time(client_context: dtlsffi.DTLSContext, silent: socket.socket) -> None:
    """With every retransmission inside, and what was tried in the text."""
    begin = time.monotonic()
    with pytest.raises(dtlsffi.HandshakeTimeout, match=r"within 0.2 s \(\d+ datagrams sent\): nothing came back"):
        dtlsffi.create_connection(silent.getsockname(), context=client_context, timeout=0.2)
    assert 0.2 <= time.monotonic() - begin < 1
    silent.setblocking(False)
    received = 0
    while True:
        try:
            silent.recv(65535)
        except BlockingIOError:
            break
        received += 1
    assert 4 <= received <= 12, "5, 10, 20, 40, 40, 40, 40 ms"


def test_a_bad_certificate_ends_the_search(client_context: dtlsffi.DTLSContext, stranger: Authority) -> None:
    """It is not tried elsewhere, and the server hears why."""
    context = stranger.server_context(HOST)
    context.retransmission = (0.01, 2.0, 0.1)
    with pytest.raises(dtlsffi.DTLSError, match="it does not know the authority") as at_the_server:  # noqa: SIM117
        with listening(context, echo) as server:
            with pytest.raises(dtlsffi.DTLSCertVerificationError, match=r"device.example \(127.0.0.1:\d+\)"):
                dtlsffi.create_connection(address_of(server), context=client_context, server_hostname=HOST, timeout=10)
    assert at_the_server.value.reason == "TLSV1_ALERT_UNKNOWN_CA"


def test_where_it_sends_from_can_be_chosen(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, free_port: int
) -> None:
    """source_address, as in socket.create_connection."""
    with (
        listening(server_context, echo) as server,
        dtlsffi.create_connection(
            address_of(server), context=client_context, timeout=10, source_address=("127.0.0.1", free_port)
        ) as conn,
    ):
        assert conn.getsockname() == ("127.0.0.1", free_port)


def test_the_default_timeout_is_sockets(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """socket.setdefaulttimeout()."""
    socket.setdefaulttimeout(7.5)
    try:
        with (
            listening(server_context, echo) as server,
            dtlsffi.create_connection(address_of(server), context=client_context) as conn,
        ):
            assert conn.gettimeout() == 7.5
    finally:
        socket.setdefaulttimeout(None)


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_that_is_none_is_refused(client_context: dtlsffi.DTLSContext, timeout: float) -> None:
    """Before a socket is made."""
    with pytest.raises(ValueError, match="timeout is a number of seconds above 0"):
        dtlsffi.create_connection(("127.0.0.1", 1), context=client_context, timeout=timeout)


def test_a_session_is_resumed(client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext) -> None:
    """session=, as in wrap_socket."""
    session = None
    for reused in (False, True):
        with (
            listening(server_context, echo) as server,
            dtlsffi.create_connection(address_of(server), context=client_context, timeout=10, session=session) as conn,
        ):
            assert conn.session_reused is reused
            session = conn.session


def test_the_certificate_of_a_server_that_is_not_known(
    authority: Authority, server_context: dtlsffi.DTLSContext, tmp_path: Path, silent: socket.socket
) -> None:
    """dtlsffi.get_server_certificate: in PEM, verified only where authorities are given."""
    with listening(server_context, echo) as server:
        pem = dtlsffi.get_server_certificate(address_of(server))
    der = dtlsffi.PEM_cert_to_DER_cert(pem)
    server = authority.server_context(HOST, "127.0.0.1")
    with listening(server, echo) as sock:
        (tmp_path / "ca.pem").write_bytes(authority.certificate)
        other = dtlsffi.get_server_certificate(address_of(sock), ca_certs=tmp_path / "ca.pem", timeout=5)
    assert dtlsffi.PEM_cert_to_DER_cert(other) != der
    with pytest.raises(dtlsffi.HandshakeTimeout):
        dtlsffi.get_server_certificate(silent.getsockname(), timeout=0.1)


def test_a_peer_is_pinned(server_context: dtlsffi.DTLSContext) -> None:
    """By fingerprint, with no authority and whatever it is called."""
    context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
    with (
        listening(server_context, echo) as server,
        dtlsffi.create_connection(
            address_of(server), context=context, timeout=10, verify_fingerprint=server_context.fingerprint()
        ) as conn,
    ):
        conn.send(b"hello")
        assert conn.recv() == b"hello"


def test_a_wrong_key_is_guessed_at(authority: Authority) -> None:
    """Nobody says so on the wire; the exception does."""
    client, server = (
        dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT),
        dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER),
    )
    client.check_hostname = False
    client.set_psk_client_callback(lambda _hint: ("me", b"one"))
    server.set_psk_server_callback(lambda _identity: b"two")
    client.retransmission = server.retransmission = (0.02, 1.0, 0.02)
    with (
        pytest.raises((dtlsffi.HandshakeTimeout, ConnectionRefusedError)),  # the client's port is gone by then
        listening(server, echo) as sock,
        pytest.raises(dtlsffi.HandshakeTimeout, match="the two sides may have different pre-shared keys"),
    ):
        dtlsffi.create_connection(address_of(sock), context=client, timeout=0.2)


def test_arguments_are_checked_before_anything_is_sent(client_context: dtlsffi.DTLSContext) -> None:
    """A context of ssl's is the likeliest slip; a timeout that no call could have is none for all of them."""
    for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), None):
        with pytest.raises(TypeError, match="context is a DTLSContext, not"):
            dtlsffi.create_connection(("127.0.0.1", 9), context=context)  # type: ignore[arg-type]
    for timeout in (0, -1, float("nan"), float("inf"), 1e10):
        with pytest.raises(ValueError, match="timeout is a number of seconds above 0"):
            dtlsffi.create_connection(("127.0.0.1", 9), context=client_context, timeout=timeout)
