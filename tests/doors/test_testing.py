"""dtlsffi.testing: the wire itself is in tests/property/test_wire.py."""

from __future__ import annotations

import builtins
import datetime
import socket
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509

import dtlsffi
from dtlsffi.testing import (
    Authority,
    Identity,
    MemoryLink,
    Relay,
    dtls_authority,
    dtls_client_context,
    dtls_server_context,
)

__all__ = ["dtls_authority", "dtls_client_context", "dtls_server_context"]


def test_an_identity_does_not_show_its_key(authority: Authority) -> None:
    """In its repr."""
    identity = authority.issue("a.example")
    assert "PRIVATE" in identity.key.decode()
    assert "PRIVATE" not in repr(identity)


def test_certificates_say_what_was_asked_for(authority: Authority) -> None:
    """Names, dates, kind of key."""
    now = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    later = now + datetime.timedelta(days=1)
    identity = authority.issue("a.example", "192.0.2.1", common_name="An A", not_before=now, not_after=later, rsa=True)
    certificate = x509.load_pem_x509_certificate(identity.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example"]
    assert certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value == "An A"
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (now, later)
    assert identity.key.startswith(b"-----BEGIN RSA PRIVATE KEY")


def test_a_revocation_list_names_what_was_revoked(authority: Authority) -> None:
    """And nothing else."""
    revoked, good = authority.issue("a.example"), authority.issue("b.example")
    crl = x509.load_pem_x509_crl(authority.revoke(revoked))

    def serial(identity: Identity) -> int:
        return x509.load_pem_x509_certificate(identity.certificate).serial_number

    assert crl.get_revoked_certificate_by_serial_number(serial(revoked)) is not None
    assert crl.get_revoked_certificate_by_serial_number(serial(good)) is None


def test_without_trustme_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dtlsffi itself needs cffi alone."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> object:
        if name == "trustme":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="the extra `testing`, or pip install it"):
        Authority()


def test_the_fixtures_fit_together(
    dtls_client_context: dtlsffi.DTLSContext, dtls_server_context: dtlsffi.DTLSContext
) -> None:
    """For anybody's conftest.py."""
    link = MemoryLink(
        dtlsffi.Connection(dtls_client_context, server_hostname="localhost"),
        dtlsffi.Connection(dtls_server_context, server_side=True),
    )
    link.shake_hands()


def test_a_link_that_cannot_finish_says_so(link: MemoryLink) -> None:
    """TimeoutError with both sides' states: after a time, or at once where nothing can happen."""
    with pytest.raises(TimeoutError, match="handshake not finished"):
        link.run_until(lambda: False)
    link.client.retransmission = link.server.retransmission = (0.001, 1.0, 0.01)
    deaf = MemoryLink(link.client, link.server, loss=1.0)
    with pytest.raises((TimeoutError, dtlsffi.HandshakeTimeout)):
        deaf.shake_hands(within=0.05)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_relay_carries_both_ways(host: str, both: Callable[..., list[object]]) -> None:
    """For any number of clients, each from a port of its own; late datagrams arrive after a silence."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((host, 0))
        server.settimeout(5)
        with (
            Relay(server.getsockname()[:2], seed=3, reordering=1.0) as relay,
            socket.socket(family, socket.SOCK_DGRAM) as one,
            socket.socket(family, socket.SOCK_DGRAM) as two,
        ):
            addresses = {}
            for sock in (one, two):
                sock.settimeout(5)
                sock.sendto(b"from %d" % sock.fileno(), relay.address)
                data, addresses[sock] = server.recvfrom(100)
                assert data == b"from %d" % sock.fileno()
            assert addresses[one] != addresses[two]
            for sock in (two, one):
                server.sendto(b"to %d" % sock.fileno(), addresses[sock])
                assert sock.recvfrom(100)[0] == b"to %d" % sock.fileno()
            assert (relay.up.carried, relay.down.carried) == (2, 2)


def test_a_relay_survives_a_target_that_is_not_there() -> None:
    """ICMP's refusals are lost like everything else."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        target = probe.getsockname()
    with Relay(target) as relay, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(relay.address)
        for _ in range(3):
            client.send(b"anybody?")
        late = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with late:
            late.bind(target)
            late.settimeout(0.05)
            data = b""
            while data != b"now":
                client.send(b"now")
                try:
                    data = late.recv(100)
                except TimeoutError:
                    continue


def test_a_relay_gives_nobody_what_is_anothers() -> None:
    """A datagram that is late goes to whom it was for, whoever comes next."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        with Relay(server.getsockname(), seed=5, reordering=0.5) as relay:
            clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
            for number, sock in enumerate(clients):
                sock.settimeout(5)
                for _ in range(20):
                    sock.sendto(b"%d" % number, relay.address)
            for _ in range(60):
                data, address = server.recvfrom(100)
                server.sendto(data, address)
            for number, sock in enumerate(clients):
                assert {sock.recv(100) for _ in range(20)} == {b"%d" % number}
                sock.close()
