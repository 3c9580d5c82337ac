"""dtlsffi.core.trust: who is believed, and who is refused."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

import dtlsffi
from dtlsffi import Connection, DTLSContext
from dtlsffi.testing import Authority, MemoryLink
from tests.bad_certificates import CASES, self_signed
from tests.helpers import HOST, handshake, load, wait_for

FIRST_VERSION = """\
-----BEGIN CERTIFICATE-----
MIIBSTCB7wIUV3ULuryAg2hgXGvv50R63xtwo/IwCgYIKoZIzj0EAwIwJjEkMCIG
A1UEAwwbYSByb290IG9mIHRoZSBmaXJzdCB2ZXJzaW9uMCAXDTI2MTEyODEwMDYz
M1oYDzIxMjYxMTA0MTAwNjMzWjAmMSQwIgYDVQQDDBthIHJvb3Qgb2YgdGhlIGZp
cnN0IHZlcnNpb24wWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAR+kVLyMy/H1W4l
g0UqpMMGwCXpqjkhLjRX8XWBHHHinCcspJ9Pk5AlqZOaGybTVD2WG4SmTA598ARG
x8UQ/WZQMAoGCCqGSM49BAMCA0kAMEYCIQCpvzCOqPzxvfIj46hKe/VOxwJchBqx
DZHutjr06VM+ZwIhALenePn4ONAeC+sl5iuIOi07goDWuE4Jy3hKH4fpN2vX
-----END CERTIFICATE-----
"""  # self-signed, by a key that is gone; openssl-x509(1) makes none any more


@pytest.fixture
def client() -> DTLSContext:
    return DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)


def test_default_certs_are_the_systems(
    client: DTLSContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: Authority
) -> None:
    """SSL_CERT_FILE says where they are."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    client.load_default_certs()
    assert client.cert_store_stats()["x509"] == 1
    other = DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    other.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    assert other.get_ca_certs() == client.get_ca_certs()
    with pytest.raises(TypeError, match="purpose"):
        client.load_default_certs("server")  # type: ignore[arg-type]


def test_only_authorities_are_listed(client: DTLSContext, authority: Authority) -> None:
    """get_ca_certs() leaves out what cannot sign, cert_store_stats() counts it."""
    client.load_verify_locations(cadata=authority.certificate + authority.issue("x.example").certificate)
    assert client.cert_store_stats() == {"x509": 2, "x509_ca": 1, "crl": 0}
    (shown,) = client.get_ca_certs()
    assert shown["issuer"] == shown["subject"]


def test_a_root_of_the_first_version_is_an_authority(client: DTLSContext, tmp_path: Path) -> None:
    """It cannot say that it is one, and ssl lists it; a file's name may be bytes, also of an object that names it."""
    root = tmp_path / "root.pem"
    root.write_text(FIRST_VERSION)
    assert x509.load_pem_x509_certificate(root.read_bytes()).version is x509.Version.v1

    class Named:
        def __fspath__(self) -> bytes:
            return os.fsencode(root)

    client.load_verify_locations(os.fsencode(root))
    client.load_verify_locations(Named())  # type: ignore[arg-type]
    assert client.cert_store_stats() == {"x509": 1, "x509_ca": 1, "crl": 0}
    assert len(client.get_ca_certs()) == 1
    with pytest.raises(TypeError, match="contents go into cadata"):
        client.load_verify_locations(root.read_bytes())
    with pytest.raises(dtlsffi.DTLSError, match="the cadata given as bytes"):
        client.load_verify_locations(cadata="broken")


# ---- verification ----


@pytest.mark.parametrize("name", CASES)
def test_a_bad_certificate_is_refused_in_words(name: str, authority: Authority) -> None:
    """Exception, verify_code, verify_message, and the alert that the server gets."""
    case = CASES[name]
    client, server = authority.client_context(), dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    load(server, case.prepare(client, authority))
    link = handshake(client, server, case.hostname)
    with pytest.raises(dtlsffi.DTLSCertVerificationError) as caught:
        link.shake_hands()
    case.check(caught.value)
    assert not link.client.is_established
    for datagram in link.client.datagrams_to_send():
        link.server.receive_datagram(datagram)
    with pytest.raises(dtlsffi.DTLSError, match=rf"\(alert {case.alert}\)") as at_the_server:
        wait_for(link.server)
    assert at_the_server.value.reason.startswith(("SSLV3_ALERT", "TLSV1_ALERT"))
    events = link.server.events_received()  # on a busy machine flights have been lost, too
    assert [event for event in events if not isinstance(event, dtlsffi.MTUChanged)] == [
        dtlsffi.AlertReceived(case.alert)
    ]


def test_a_missing_client_certificate_is_refused(authority: Authority) -> None:
    """The server says what is missing, and the client gets the alert."""
    client, server = authority.client_context(), authority.server_context(HOST)
    server.load_verify_locations(cadata=authority.certificate)
    server.verify_mode = ssl.CERT_REQUIRED
    link = handshake(client, server)
    with pytest.raises(dtlsffi.DTLSError, match="has none: give it one") as caught:
        link.shake_hands()
    assert caught.value.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    for datagram in link.server.datagrams_to_send():
        link.client.receive_datagram(datagram)
    with pytest.raises(dtlsffi.DTLSError) as at_the_client:
        wait_for(link.client)
    assert at_the_client.value.reason == "SSLV3_ALERT_HANDSHAKE_FAILURE"


def test_a_client_certificate_may_be_optional(authority: Authority) -> None:
    """CERT_OPTIONAL takes none, or a good one."""
    for identity in (None, authority.issue("client.example")):
        client, server = authority.client_context(), authority.server_context(HOST)
        server.load_verify_locations(cadata=authority.certificate)
        server.verify_mode = ssl.CERT_OPTIONAL
        if identity is not None:
            load(client, identity)
        link = handshake(client, server)
        link.shake_hands()
        assert (link.server.getpeercert() is None) is (identity is None)


@pytest.mark.parametrize(
    ("certified", "asked", "good"),
    [
        (HOST, HOST, True),
        (HOST, HOST.upper(), True),
        ("*.site.example", "a.site.example", True),
        ("*.site.example", "a.b.site.example", False),
        ("*.site.example", "site.example", False),
        ("*.example", HOST, False),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "0:0:0:0:0:0:0:1", True),
        ("fe80::1", "fe80::1%lo", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("bücher.example", "bücher.example", True),
        ("xn--bcher-kva.example", "BÜCHER.example", True),
    ],
)
def test_names_are_checked_as_ssl_checks_them(authority: Authority, certified: str, asked: str, good: bool) -> None:
    """Wildcards stand for one whole label; addresses are compared as addresses; names go through IDNA."""
    link = handshake(authority.client_context(), authority.server_context(certified), asked)
    if good:
        link.shake_hands()
    else:
        with pytest.raises(dtlsffi.DTLSCertVerificationError, match="mismatch"):
            link.shake_hands()


def test_a_common_name_counts_where_there_is_no_other_and_it_may(authority: Authority) -> None:
    """hostname_checks_common_name."""
    identity = self_signed(HOST, common_name_only=True)
    for allowed in (True, False):
        client = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
        client.load_verify_locations(cadata=identity.certificate)
        client.hostname_checks_common_name = allowed
        server = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
        load(server, identity)
        link = handshake(client, server)
        if allowed:
            link.shake_hands()
        else:
            with pytest.raises(dtlsffi.DTLSCertVerificationError, match="Hostname mismatch"):
                link.shake_hands()


def test_without_verification_anybody_is_accepted_and_nothing_claimed(
    stranger: Authority, authority: Authority
) -> None:
    """getpeercert() is empty then, as in ssl; the DER is there to look at."""
    client = authority.client_context()
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    link = handshake(client, stranger.server_context("whoever.example"), None)
    link.shake_hands()
    assert link.client.getpeercert() == {}
    der = link.client.getpeercert(binary_form=True)
    assert der is not None
    assert der.startswith(b"\x30\x82")


def test_a_context_for_either_side_verifies_on_both(authority: Authority) -> None:
    """PROTOCOL_DTLS: each side has to show a certificate."""
    contexts = []
    for name in (HOST, "client.example"):
        context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS)
        identity = authority.issue(name)
        context.load_cert_chain(identity.certificate, identity.key)
        context.load_verify_locations(cadata=authority.certificate)
        contexts.append(context)
    server, client = contexts
    link = MemoryLink(Connection(client, server_hostname=HOST), Connection(server, server_side=True))
    link.shake_hands()
    assert link.server.getpeercert()["subjectAltName"] == (("DNS", "client.example"),)  # type: ignore[index]


# ---- the verify callback ----


def test_the_callback_sees_every_certificate(client_context: DTLSContext, server_context: DTLSContext) -> None:
    """From the authority down, each with what has been found; certificate, depth and code as OpenSSL has them."""
    seen: list[dtlsffi.CertificateCheck] = []
    connections: list[object] = []

    def look(connection: object, check: dtlsffi.CertificateCheck) -> bool:
        connections.append(connection)
        seen.append(check)
        return check.ok

    client_context.verify_callback = look
    link = handshake(client_context, server_context)
    link.shake_hands()
    assert [check.depth for check in seen] == [1, 0]
    assert all(check.ok and check.verify_message == "ok" for check in seen)
    assert [check.certificate for check in reversed(seen)] == link.client.get_verified_chain()
    assert set(connections) == {link.client}
    assert link.client.getpeercert()


@pytest.mark.parametrize("name", CASES)
def test_the_callback_may_accept_in_spite_of_a_fault(name: str, authority: Authority) -> None:
    """Its word is the last, and the certificate counts as verified."""
    case = CASES[name]
    client, server = authority.client_context(), DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    load(server, case.prepare(client, authority))
    faults: list[int] = []

    def accept(_: object, check: dtlsffi.CertificateCheck) -> bool:
        if not check.ok:
            faults.append(check.verify_code)
        return True

    client.verify_callback = accept
    link = handshake(client, server, case.hostname)
    link.shake_hands()
    assert case.code in faults
    assert link.client.getpeercert()


def test_the_callback_may_refuse(client_context: DTLSContext, server_context: DTLSContext) -> None:
    """What was good, or what was not: then the fault keeps its code."""
    client_context.verify_callback = lambda _, check: check.depth != 0
    link = handshake(client_context, server_context)
    with pytest.raises(dtlsffi.DTLSCertVerificationError) as caught:
        link.shake_hands()
    assert (caught.value.verify_code, caught.value.verify_message) == (
        28,
        "the verify_callback has refused the certificate at depth 0",
    )
    stranger = DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
    stranger.verify_callback = lambda _, check: check.ok
    with pytest.raises(dtlsffi.DTLSCertVerificationError, match="unable to get local issuer certificate") as caught:
        handshake(stranger, server_context).shake_hands()
    assert caught.value.verify_code == 20


def test_a_server_has_its_callback(authority: Authority) -> None:
    """For its clients; a client without a certificate is not its matter."""
    client, server = authority.client_context(), authority.server_context(HOST)
    server.verify_mode = ssl.CERT_OPTIONAL
    seen: list[dtlsffi.CertificateCheck] = []
    server.verify_callback = lambda _, check: seen.append(check) is None
    handshake(client, server).shake_hands()
    assert seen == []
    load(client := authority.client_context(), self_signed("client.example"))
    link = handshake(client, server)
    link.shake_hands()
    assert {check.depth for check in seen} == {0}
    assert link.server.getpeercert()["subjectAltName"] == (("DNS", "client.example"),)  # type: ignore[index]


@pytest.mark.parametrize("answer", [None, 1, "yes"])
def test_the_callback_says_true_or_false(
    client_context: DTLSContext, server_context: DTLSContext, answer: object
) -> None:
    """Forgetting to is a mistake that must not let anybody in."""
    client_context.verify_callback = lambda *_: answer  # type: ignore[assignment, return-value]
    with pytest.raises(TypeError, match="a verify_callback returns True or False, not "):
        handshake(client_context, server_context).shake_hands()


# ---- any certificate ----


def test_a_certificate_can_be_asked_for_whatever_it_is(authority: Authority) -> None:
    """By an explicit name; nothing counts as verified, but the peer has the key to what it shows."""
    client, server = authority.client_context(), authority.server_context(HOST)
    server.verify_mode = ssl.CERT_REQUIRED
    server.accept_any_certificate = True
    with pytest.raises(dtlsffi.DTLSError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake(authority.client_context(), server).shake_hands()
    load(client, self_signed("client.example"))
    link = handshake(client, server)
    link.shake_hands()
    assert link.server.getpeercert() == {}
    assert link.server.peer_fingerprint() == client.fingerprint()
    assert link.server.get_unverified_chain() == [link.server.getpeercert(True)]


def test_any_certificate_and_host_names_exclude_each_other(client: DTLSContext) -> None:
    """As CERT_NONE and check_hostname do in ssl."""
    with pytest.raises(ValueError, match="when check_hostname is enabled"):
        client.accept_any_certificate = True
    client.check_hostname = False
    client.accept_any_certificate = True
    assert client.accept_any_certificate
    with pytest.raises(ValueError, match="when accept_any_certificate is enabled"):
        client.check_hostname = True
    with pytest.raises(TypeError, match="verify_callback is a callable or None"):
        client.verify_callback = "yes"  # type: ignore[assignment]


# ---- authorities that a server names ----


def test_a_server_names_the_authorities_it_wants(authority: Authority, stranger: Authority) -> None:
    """The client can read them, as names."""
    client, server = authority.client_context(), authority.server_context(HOST)
    server.load_verify_locations(cadata=authority.certificate)
    server.load_client_ca(authority.certificate + stranger.certificate)
    server.verify_mode = ssl.CERT_OPTIONAL
    link = handshake(client, server)
    link.shake_hands()
    wanted = [
        certificate["subject"] for ca in (authority, stranger) for certificate in ca.client_context().get_ca_certs()
    ]
    assert sorted(link.client.client_ca_names()) == sorted(wanted)
    assert sorted(link.server.client_ca_names()) == sorted(wanted)
    with pytest.raises(ValueError, match="cannot be set on a PROTOCOL_DTLS_CLIENT context"):
        authority.client_context().load_client_ca(authority.certificate)
    with pytest.raises(dtlsffi.DTLSError, match="the authority given as bytes holds"):
        authority.server_context().load_client_ca(b"junk")


def test_where_openssl_looks_for_authorities(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As ssl tells it of its own OpenSSL."""
    paths = dtlsffi.get_default_verify_paths()
    assert (paths.openssl_cafile_env, paths.openssl_capath_env) == ("SSL_CERT_FILE", "SSL_CERT_DIR")
    (tmp_path / "ca.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    paths = dtlsffi.get_default_verify_paths()
    assert (paths.cafile, paths.capath) == (str(tmp_path / "ca.pem"), None)


# ---- what must not happen ----


def test_an_anonymous_suite_is_no_certificate(authority: Authority) -> None:
    """Where one is required, whatever the ciphers allow."""
    client, server = authority.client_context(), DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    client.set_ciphers("ALL:@SECLEVEL=0")
    server.set_ciphers("aNULL:@SECLEVEL=0")
    link = handshake(client, server)
    with pytest.raises(dtlsffi.DTLSError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        link.shake_hands()
    with pytest.raises(dtlsffi.DTLSError):
        link.client.send(b"secret")


def test_nothing_counts_as_verified_that_was_not(authority: Authority, stranger: Authority) -> None:
    """Neither the certificate nor its chain; and where nothing is verified no callback is asked."""
    careless = DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE
    careless.verify_callback = lambda *_: 1 // 0  # type: ignore[assignment, return-value]
    any_will_do = DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
    any_will_do.check_hostname = False
    any_will_do.accept_any_certificate = True
    server = stranger.server_context(HOST)
    for client in (careless, any_will_do):
        link = handshake(client, server)
        link.shake_hands()
        assert link.client.getpeercert() == {}
        assert link.client.get_verified_chain() == []
        assert len(link.client.get_unverified_chain()) == 1


def test_a_callback_does_not_overrule_a_pin(authority: Authority, server_context: DTLSContext) -> None:
    """It may refuse who is pinned, but not accept anybody else."""
    client = authority.client_context()
    client.verify_callback = lambda *_: True
    pin = authority.server_context(HOST).fingerprint()
    link = MemoryLink(
        Connection(client, server_hostname=HOST, verify_fingerprint=pin), Connection(server_context, server_side=True)
    )
    with pytest.raises(dtlsffi.DTLSCertVerificationError, match="it is sha-256"):
        link.shake_hands()


def test_two_threads_may_look_at_one_store(authority: Authority) -> None:
    """At the same time: nobody waits for a lock with the GIL in hand."""
    context = authority.client_context()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(look) for look in (context.cert_store_stats, context.get_ca_certs) * 400]
            for future in futures:
                future.result(timeout=30)
    finally:
        sys.setswitchinterval(before)


CONFIGURED = """
from dtlsffi.testing import Authority, MemoryLink
import dtlsffi
authority = Authority()
client, server = authority.client_context(), authority.server_context("device.example")
assert server.verify_mode == dtlsffi.CERT_NONE
link = MemoryLink(
    dtlsffi.Connection(client, server_hostname="device.example"), dtlsffi.Connection(server, server_side=True)
)
link.shake_hands()
"""


def test_verify_mode_is_what_it_says(tmp_path: Path) -> None:
    """Whatever OpenSSL's configuration has, as in ssl: what a program has not asked for is not asked of its clients."""
    lines = "openssl_conf = i", "[i]", "ssl_conf = s", "[s]", "system_default = d", "[d]", "VerifyMode = Require"
    (tmp_path / "openssl.cnf").write_text("\n".join(lines) + "\n")
    environment = os.environ | {"OPENSSL_CONF": str(tmp_path / "openssl.cnf")}
    subprocess.run([sys.executable, "-c", CONFIGURED], check=True, env=environment, timeout=60)
