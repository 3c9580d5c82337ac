"""What is said when something goes wrong: what, with whom, and what to do, of the right side, by every door."""

from __future__ import annotations

import asyncio
import io
import logging
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

import dtlsffi
from dtlsffi import Connection
from dtlsffi.cli import main
from dtlsffi.testing import Authority, MemoryLink
from tests.helpers import FAST, HOST, handshake
from tests.sealing import Sealing


def failure_of(link: MemoryLink, side: str = "client") -> str:
    with suppress(dtlsffi.DTLSError):
        link.shake_hands()
    with pytest.raises(dtlsffi.DTLSError) as again:
        getattr(link, side).do_handshake()
    return str(again.value)


def test_a_servers_log_does_not_speak_for_the_client(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    server_context.sni_callback = lambda *_: dtlsffi.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    link = handshake(client_context, server_context)
    assert "we asked for" not in failure_of(link, "server")


def test_a_wrong_name_is_not_a_certificate_that_cannot_be_read(
    authority: Authority, client_context: dtlsffi.DTLSContext
) -> None:
    server = authority.server_context("another.example")
    link = handshake(client_context, server)
    with pytest.raises(dtlsffi.DTLSCertVerificationError):
        link.shake_hands()
    for datagram in link.client.datagrams_to_send():
        link.server.receive_datagram(datagram)
    words = str(link.server.alert_held())
    assert words.startswith("bad_certificate")  # OpenSSL's alert for a wrong name, and ours for a pin that does not fit
    assert "could not read" not in words
    assert "host name" in words


def test_no_group_in_common_is_not_blamed_on_suites_alone(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    client_context.set_groups("P-256")
    server_context.set_groups("P-521")
    link = handshake(client_context, server_context)
    assert "group" in failure_of(link, "server")


def test_an_alert_in_a_connection_gets_no_advice_for_handshakes(tmp_path: Path) -> None:
    """A peer that may not have another handshake goes with handshake_failure: suites have nothing to do with it."""
    sealing = Sealing(tmp_path)
    with pytest.raises(dtlsffi.DTLSError, match=r"ended the connection: handshake_failure \(alert 40\)$"):
        sealing.client.receive_datagram(sealing.seal(sealing.server, 21, bytes((2, 40))))


def test_what_does_not_speak_dtls_is_called_so(client_context: dtlsffi.DTLSContext) -> None:
    client = Connection(client_context, server_hostname=HOST)
    with pytest.raises(dtlsffi.DTLSWantReadError):
        client.do_handshake()
    for _ in range(2):
        client.receive_datagram(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert client.statistics()["dropped_junk"] == 2
    assert "but none of DTLS (2): is the port right?" in str(client._unfinished(1.0))


@pytest.mark.parametrize("port", [None, "0", 0])
def test_no_port_is_no_port(client_context: dtlsffi.DTLSContext, port: int | None) -> None:
    with pytest.raises(ValueError, match="port 0 cannot be connected to"):
        dtlsffi.create_connection(("127.0.0.1", port), context=client_context, server_hostname=HOST, timeout=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="port 0 cannot be connected to"):
        asyncio.run(dtlsffi.asyncio.connect("127.0.0.1", port, context=client_context, server_hostname=HOST))  # type: ignore[arg-type]


def test_every_door_names_the_host(client_context: dtlsffi.DTLSContext, authority: Authority) -> None:
    server = authority.server_context("another.example")
    with dtlsffi.create_server(("127.0.0.1", 0), context=server) as listener:
        threading.Thread(target=listener.serve_forever, args=(print,), daemon=True).start()
        with pytest.raises(dtlsffi.DTLSCertVerificationError, match=rf"peer: {HOST} \(127\.0\.0\.1:"):
            asyncio.run(dtlsffi.asyncio.connect(*listener.getsockname(), context=client_context, server_hostname=HOST))


def test_whoever_gives_up_a_handshake_finds_why_in_the_log(
    client_context: dtlsffi.DTLSContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "dtlsffi")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))

        async def main() -> None:
            await asyncio.wait_for(
                dtlsffi.asyncio.connect(*silent.getsockname(), context=client_context, server_hostname=HOST), 0.1
            )

        with pytest.raises((asyncio.TimeoutError, TimeoutError)):
            asyncio.run(main())
    assert "nothing came back" in caplog.text


def test_a_handshake_that_times_out_is_in_the_log(
    server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "dtlsffi")
    endpoint = dtlsffi.Endpoint(handshake_timeout=1)
    endpoint.connect(("192.0.2.1", 5684), 0.0, context=client_context, server_hostname=HOST)
    endpoint.handle_timers(2.0)
    assert "nothing came back" in caplog.text


def test_a_fingerprint_is_compared_in_its_own_hash(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    wanted = "sha-512 " + ":".join(["AB"] * 64)
    link = MemoryLink(
        Connection(client_context, server_hostname=HOST, verify_fingerprint=wanted),
        Connection(server_context, server_side=True),
    )
    with pytest.raises(dtlsffi.DTLSCertVerificationError, match=r"it is sha-512 .*, not sha-512"):
        link.shake_hands()
    with pytest.raises(TypeError, match="not bytes"):
        Connection(client_context, server_hostname=HOST, verify_fingerprint=b"sha-256 AB")  # type: ignore[arg-type]


def test_a_key_for_an_authority_is_refused_in_ssls_words(authority: Authority) -> None:
    key = authority.issue("x.example").key
    with pytest.raises(ssl.SSLError) as caught:
        dtlsffi.create_default_context(cadata=key)
    assert (caught.value.library, caught.value.reason) == ("X509", "NO_CERTIFICATE_OR_CRL_FOUND")


def test_a_verify_callback_that_raises_is_our_mistake_not_the_clients(
    authority: Authority, stranger: Authority, server_context: dtlsffi.DTLSContext
) -> None:
    def broken(*_: object) -> bool:
        raise KeyError("my own mistake")

    server_context.verify_mode = ssl.CERT_REQUIRED
    server_context.verify_callback = broken
    client = authority.client_context()
    client.retransmission = FAST
    identity = stranger.issue("client")
    client.load_cert_chain(identity.certificate, identity.key)
    link = handshake(client, server_context)
    with pytest.raises(KeyError):
        link.shake_hands()
    for datagram in link.server.datagrams_to_send():
        link.client.receive_datagram(datagram)
    assert "internal_error" in str(link.client.alert_held())


def test_a_coroutine_function_serves_nobody_in_threads(server_context: dtlsffi.DTLSContext) -> None:
    """Nobody would await what it returns."""

    async def handler(*_: object) -> None:
        """Never runs."""

    with (
        dtlsffi.create_server(("127.0.0.1", 0), context=server_context) as listener,
        pytest.raises(TypeError, match=r"serve\(\) of dtlsffi.asyncio"),
    ):
        listener.serve_forever(handler)


@pytest.mark.parametrize("address", ["127.0.0.1:5684", ("127.0.0.1",), ("127.0.0.1", None)])
def test_an_address_is_a_host_and_a_port(
    server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext, address: object
) -> None:
    """From a listener's port, too."""
    with (
        dtlsffi.create_server(("127.0.0.1", 0), context=server_context) as listener,
        pytest.raises((TypeError, ValueError), match=r"address is a host and a port|port 0 cannot be connected to"),
    ):
        listener.connect(address, context=client_context, server_hostname=HOST)


def test_a_client_that_a_callback_does_not_know_is_told_of_by_class(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, caplog: pytest.LogCaptureFixture
) -> None:
    """The identity alone would mean nothing."""
    caplog.set_level(logging.INFO, "dtlsffi.server")
    server_context.set_psk_server_callback(lambda identity: {}[identity])
    client_context.set_psk_client_callback(lambda _: ("me", b"k" * 16))
    client_context.set_ciphers("PSK-AES128-GCM-SHA256")
    client_context.retransmission = FAST
    with dtlsffi.create_server(("127.0.0.1", 0), context=server_context) as listener:
        threading.Thread(target=listener.serve_forever, args=(print,), daemon=True).start()
        with pytest.raises(dtlsffi.DTLSError):
            dtlsffi.create_connection(listener.getsockname(), context=client_context, server_hostname=HOST, timeout=5)
    assert "KeyError('me')" in caplog.text


def test_a_key_that_is_not_in_the_file(authority: Authority, tmp_path: Path) -> None:
    """It may be in another one."""
    context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    (tmp_path / "cert.pem").write_bytes(authority.certificate)
    with pytest.raises(dtlsffi.DTLSError, match="'.*cert.pem' holds no readable private key.*keyfile"):
        context.load_cert_chain(tmp_path / "cert.pem")
    with pytest.raises(dtlsffi.DTLSError, match="a file is named by a str"):
        context.load_cert_chain(b"cert.pem", b"key.pem")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["client", "localhost", "abc"], "a port is 0 to 65535, not 'abc'"),
        (["client", "localhost", "5684", "--timeout", "5000ms"], "seconds are 0 to 31622400, not '5000ms'"),
        (["client", "localhost", "5684", "--psk", "@/no/such/file"], "No such file or directory: '/no/such/file'"),
    ],
)
def test_the_command_line_says_what_is_wrong(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert words in capsys.readouterr().err


def test_a_key_whose_password_nobody_gives(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line asks for it; where there is nobody to be asked, it says so."""
    identity = authority.issue("device")
    key = serialization.load_pem_private_key(identity.key, None)
    encryption = serialization.BestAvailableEncryption(b"secret")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    (tmp_path / "both.pem").write_bytes(identity.certificate + pem)
    for answer, words in ((b"", "nobody to ask for its password"), (b"wrong\n", "the password is wrong")):
        monkeypatch.setattr(dtlsffi.cli, "getpass", lambda _, answer=answer: answer.decode() or input())
        monkeypatch.setattr("sys.stdin", io.StringIO())
        assert main(["server", "0", "--cert", str(tmp_path / "both.pem")]) == 1
        assert words in capsys.readouterr().err
