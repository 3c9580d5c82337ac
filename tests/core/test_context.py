"""dtlsffi.core.context."""

from __future__ import annotations

import gc
import os
import ssl
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import dtlsffi
from dtlsffi import DTLSContext, DTLSVersion
from dtlsffi.testing import Authority, MemoryLink
from tests.helpers import HOST


@pytest.fixture
def client() -> DTLSContext:
    return DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)


# ---- safe defaults ----


@pytest.mark.parametrize(
    ("protocol", "mode", "check"),
    [
        (dtlsffi.PROTOCOL_DTLS, ssl.CERT_REQUIRED, True),
        (dtlsffi.PROTOCOL_DTLS_CLIENT, ssl.CERT_REQUIRED, True),
        (dtlsffi.PROTOCOL_DTLS_SERVER, ssl.CERT_NONE, False),
    ],
)
def test_defaults_are_safe(protocol: dtlsffi.DTLSProtocol, mode: ssl.VerifyMode, check: bool) -> None:
    """Verification on wherever a server is met, DTLS 1.2, no renegotiation, 112 bits."""
    context = DTLSContext(protocol)
    assert context.protocol is protocol
    assert (context.verify_mode, context.check_hostname) == (mode, check)
    assert context.minimum_version is DTLSVersion.MINIMUM_SUPPORTED
    assert context.maximum_version is DTLSVersion.MAXIMUM_SUPPORTED
    assert dtlsffi.OP_NO_RENEGOTIATION in context.options
    assert context.security_level >= 2
    assert context.verify_flags == ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST
    assert context.hostname_checks_common_name
    assert context.cert_store_stats() == {"x509": 0, "x509_ca": 0, "crl": 0}
    assert context.mtu is None
    assert context.retransmission == (1.0, 2.0, 60.0)
    assert context.keylog_filename is None


def test_the_protocol_is_for_either_side_unless_given() -> None:
    """As in ssl, but verified."""
    assert DTLSContext().protocol is dtlsffi.PROTOCOL_DTLS


def test_default_context_is_that_of_ssl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mode, host name and flags are those of Python 3.13's ssl.create_default_context()."""
    monkeypatch.delenv("SSLKEYLOGFILE", raising=False)
    strict = ssl.VerifyFlags.VERIFY_X509_STRICT | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    for purpose in ssl.Purpose:
        ours, theirs = dtlsffi.create_default_context(purpose), ssl.create_default_context(purpose)
        assert (ours.verify_mode, ours.check_hostname) == (theirs.verify_mode, theirs.check_hostname)
        assert ours.verify_flags == theirs.verify_flags | strict
        assert ours.cert_store_stats() == theirs.cert_store_stats()
        assert ours.keylog_filename is None
    assert dtlsffi.create_default_context().protocol is dtlsffi.PROTOCOL_DTLS_CLIENT
    assert dtlsffi.create_default_context(ssl.Purpose.CLIENT_AUTH).protocol is dtlsffi.PROTOCOL_DTLS_SERVER
    with pytest.raises(TypeError, match=r"ssl\.Purpose"):
        dtlsffi.create_default_context("client")  # type: ignore[arg-type]


def test_default_context_trusts_what_it_is_given(authority: Authority) -> None:
    """And not the system's authorities then."""
    context = dtlsffi.create_default_context(cadata=authority.certificate)
    assert context.cert_store_stats()["x509"] == 1


def test_sslkeylogfile_is_obeyed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By create_default_context() only, as in ssl."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    assert dtlsffi.create_default_context().keylog_filename == str(tmp_path / "keys")
    assert DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT).keylog_filename is None


# ---- setters ----


def test_no_verification_needs_two_steps(client: DTLSContext) -> None:
    """As in ssl: the host name first."""
    with pytest.raises(ValueError, match="Cannot set verify_mode to CERT_NONE when check_hostname is enabled"):
        client.verify_mode = ssl.CERT_NONE
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.check_hostname = True
    assert client.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("verify_mode", 7, ValueError),
        ("verify_mode", "none", ValueError),
        ("verify_flags", -1, ValueError),
        ("verify_flags", 1 << 70, OverflowError),
        ("verify_flags", "x", TypeError),
        ("options", -1, ValueError),
        ("options", 1 << 70, OverflowError),
        ("options", 1.5, TypeError),
        ("options", None, TypeError),
        ("session_cache_size", 1 << 63, OverflowError),
        ("session_cache_size", -1, ValueError),
        ("session_timeout", "x", TypeError),
        ("retransmission", 5, ValueError),
        ("retransmission", (1.0, 2.0), ValueError),
        ("security_level", 6, ValueError),
        ("security_level", -1, ValueError),
        ("minimum_version", 0xFEFD + 1, ValueError),
        ("minimum_version", ssl.TLSVersion.TLSv1_2, ValueError),
        ("maximum_version", "DTLSv1.2", ValueError),
        ("mtu", 207, ValueError),
        ("mtu", 65528, ValueError),
        ("mtu", -1, ValueError),
        ("mtu", 1200.0, TypeError),
        ("mtu", True, TypeError),
        ("retransmission", (0.0, 2.0, 60.0), ValueError),
        ("retransmission", (2.0, 2.0, 1.0), ValueError),
        ("retransmission", (1.0, 0.5, 60.0), ValueError),
        ("retransmission", (1.0, 2.0, 1e9), ValueError),
        ("retransmission", (float("nan"), 2.0, 60.0), ValueError),
        ("keylog_filename", "/nonexistent/keys", FileNotFoundError),
    ],
)
def test_bad_values_are_refused_and_change_nothing(
    client: DTLSContext, name: str, value: object, error: type[Exception]
) -> None:
    """At once, and with the argument's name."""
    before = getattr(client, name)
    with pytest.raises(error) as caught:
        setattr(client, name, value)
    assert getattr(client, name) == before
    if error is ValueError and name not in ("verify_mode", "minimum_version", "maximum_version"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("verify_mode", ssl.CERT_OPTIONAL),
        ("verify_flags", ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF),
        ("verify_flags", ssl.VerifyFlags.VERIFY_DEFAULT),
        ("options", dtlsffi.OP_NO_TICKET | dtlsffi.OP_NO_RENEGOTIATION),
        ("security_level", 3),
        ("minimum_version", DTLSVersion.DTLSv1_2),
        ("maximum_version", DTLSVersion.DTLSv1_2),
        ("mtu", 208),
        ("mtu", 65527),
        ("mtu", None),
        ("retransmission", (0.001, 1.0, 3600.0)),
        ("hostname_checks_common_name", False),
        ("check_hostname", False),
    ],
)
def test_good_values_are_taken(client: DTLSContext, name: str, value: object) -> None:
    """And read back."""
    setattr(client, name, value)
    assert getattr(client, name) == value


def test_options_are_set_and_cleared(client: DTLSContext) -> None:
    """Assigning replaces them all, as in ssl."""
    client.options |= dtlsffi.OP_NO_TICKET
    assert dtlsffi.OP_NO_TICKET in client.options
    client.options &= ~dtlsffi.OP_NO_TICKET
    assert dtlsffi.OP_NO_TICKET not in client.options


def test_a_version_that_openssl_lacks_is_said(client: DTLSContext) -> None:
    """With the constant that tells."""
    if dtlsffi.HAS_DTLSv1_3:
        client.maximum_version = DTLSVersion.DTLSv1_3
    else:
        with pytest.raises(ValueError, match=r"does not have DTLSv1_3 \(see dtlsffi.HAS_DTLSv1_3\)"):
            client.maximum_version = DTLSVersion.DTLSv1_3


def test_bounds_that_leave_no_version_are_said(client: DTLSContext) -> None:
    """When the first connection is made: either bound may be set first."""
    client.minimum_version = DTLSVersion.DTLSv1_2
    client.maximum_version = DTLSVersion.DTLSv1
    with pytest.raises(ValueError, match="minimum_version is DTLSv1_2, but maximum_version is DTLSv1"):
        dtlsffi.Connection(client, server_hostname=HOST)


@pytest.mark.parametrize(
    ("minimum", "maximum", "good"),
    [
        (DTLSVersion.MINIMUM_SUPPORTED, DTLSVersion.MINIMUM_SUPPORTED, True),
        (DTLSVersion.DTLSv1_2, DTLSVersion.MINIMUM_SUPPORTED, True),
        (DTLSVersion.MINIMUM_SUPPORTED, DTLSVersion.DTLSv1, False),
        (DTLSVersion.MAXIMUM_SUPPORTED, DTLSVersion.MAXIMUM_SUPPORTED, True),
        (DTLSVersion.MAXIMUM_SUPPORTED, DTLSVersion.DTLSv1, False),
        (DTLSVersion.DTLSv1, DTLSVersion.MINIMUM_SUPPORTED, True),
    ],
)
def test_bounds_count_for_what_they_stand_for(
    client: DTLSContext, minimum: DTLSVersion, maximum: DTLSVersion, good: bool
) -> None:
    """The oldest secure version, and the newest there is: as a bound on either side."""
    if DTLSVersion.DTLSv1 in (minimum, maximum) and not dtlsffi.HAS_DTLSv1:
        pytest.skip("this OpenSSL has no DTLS 1.0")
    client.minimum_version, client.maximum_version = minimum, maximum
    if good:
        dtlsffi.Connection(client, server_hostname=HOST)
    else:
        with pytest.raises(ValueError, match=f"minimum_version is {minimum.name}, but maximum_version is DTLSv1"):
            dtlsffi.Connection(client, server_hostname=HOST)


def test_the_newest_version_as_a_lower_bound_keeps_the_oldest_out(authority: Authority) -> None:
    """OpenSSL's own word for the newest is its word for no bound at all."""
    client, server = authority.client_context(), authority.server_context(HOST)
    client.minimum_version = DTLSVersion.MAXIMUM_SUPPORTED
    for context in (client, server):
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.retransmission = (0.005, 2.0, 0.04)
    server.minimum_version = server.maximum_version = DTLSVersion.DTLSv1
    link = MemoryLink(dtlsffi.Connection(client, server_hostname=HOST), dtlsffi.Connection(server, server_side=True))
    with pytest.raises(dtlsffi.DTLSError):
        link.shake_hands()


def test_names_of_ssl_that_are_not_here_are_not_set_in_vain(client: DTLSContext) -> None:
    """And a protocol of ssl's, whose numbers mean something else here, is none."""
    for name, words in (("post_handshake_auth", "no post_handshake_auth"), ("sslsocket_class", "set dtlssocket_class")):
        with pytest.raises(AttributeError, match=words):
            setattr(client, name, True)
    with pytest.raises(ValueError, match="protocol is a DTLSProtocol"):
        DTLSContext(ssl.PROTOCOL_TLS)  # type: ignore[arg-type]


def test_sslkeylogfile_is_the_environments() -> None:
    """Which python -E is told to ignore."""
    script = "import dtlsffi; print(dtlsffi.create_default_context(cadata=None).keylog_filename)"
    environment = {**os.environ, "SSLKEYLOGFILE": "/nonexistent/keys"}
    for switch in ("-E", "-I"):
        out = subprocess.run(
            [sys.executable, switch, "-c", script], env=environment, capture_output=True, text=True, check=False
        )
        assert out.stdout == "None\n", out.stderr


def test_ciphers_are_selected_in_order(client: DTLSContext) -> None:
    """What openssl-ciphers(1) says."""
    names = ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"]
    client.set_ciphers(":".join(names))
    assert [suite["name"] for suite in client.get_ciphers() if suite["protocol"] != "TLSv1.3"] == names


@pytest.mark.parametrize("ciphers", ["NO-SUCH-SUITE", "", "TLS_AES_128_GCM_SHA256"])
def test_ciphers_that_select_nothing_are_refused(client: DTLSContext, ciphers: str) -> None:
    """And the context keeps those it had: OpenSSL would have dropped them."""
    before = client.get_ciphers()
    with pytest.raises(dtlsffi.DTLSError) as caught:
        client.set_ciphers(ciphers)
    assert caught.value.reason == "NO_CIPHER_MATCH"
    assert repr(ciphers) in str(caught.value)
    assert client.get_ciphers() == before
    with pytest.raises(ValueError, match="NUL"):
        client.set_ciphers("ALL\0")
    with pytest.raises(TypeError, match="ciphers is a str"):
        client.set_ciphers(b"ALL")  # type: ignore[arg-type]


# ---- frozen once used ----


SETTINGS: dict[str, Any] = {
    "accept_any_certificate": True,
    "check_hostname": False,
    "hostname_checks_common_name": False,
    "keylog_filename": None,
    "maximum_version": DTLSVersion.DTLSv1_2,
    "minimum_version": DTLSVersion.DTLSv1_2,
    "mtu": 1300,
    "num_tickets": 1,
    "options": dtlsffi.OP_ALL,
    "retransmission": (1.0, 1.0, 1.0),
    "security_level": 1,
    "session_cache_size": 1,
    "session_id_context": b"",
    "session_timeout": 60,
    "sni_callback": None,
    "trace": None,
    "verify_callback": None,
    "verify_flags": ssl.VerifyFlags.VERIFY_DEFAULT,
    "verify_mode": ssl.CERT_OPTIONAL,
}


def test_a_context_in_use_no_longer_changes(client: DTLSContext, authority: Authority) -> None:
    """Every setter says so: connections of one context never differ in what they allow."""
    settable = {
        name for name in dir(DTLSContext) if getattr(getattr(DTLSContext, name, None), "fset", None) is not None
    }
    assert settable == set(SETTINGS)
    dtlsffi.Connection(client, server_hostname=HOST)
    for name, value in SETTINGS.items():
        with pytest.raises(RuntimeError, match="in use since its first connection"):
            setattr(client, name, value)


def test_a_refused_connection_does_not_freeze(client: DTLSContext) -> None:
    """Bad arguments change nothing."""
    with pytest.raises(ValueError, match="check_hostname requires server_hostname"):
        dtlsffi.Connection(client)
    client.mtu = 1300


# ---- the key log ----


def test_keys_are_logged_for_wireshark(link: MemoryLink, tmp_path: Path, authority: Authority) -> None:
    """One CLIENT_RANDOM line for each handshake, appended, with ssl's first line."""
    file = tmp_path / "keys.log"
    client, server = authority.client_context(), authority.server_context(HOST)
    client.keylog_filename = file
    server.keylog_filename = str(file)
    for _ in range(2):
        MemoryLink(
            dtlsffi.Connection(client, server_hostname=HOST), dtlsffi.Connection(server, server_side=True)
        ).shake_hands()
    header, *lines = file.read_text().splitlines()
    assert header.startswith("# ")
    assert len(lines) == 4
    assert len(set(lines)) == 2, "both sides log the same secret"
    for line in lines:
        label, random, secret = line.split()
        assert (label, len(random), len(secret)) == ("CLIENT_RANDOM", 64, 96)


def test_a_key_log_that_cannot_be_written_is_no_secret(tmp_path: Path, authority: Authority) -> None:
    """The exception comes out of the call in which the line got lost."""
    pipe = tmp_path / "keys"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    client, server = authority.client_context(), authority.server_context(HOST)
    client.keylog_filename = pipe
    os.close(reader)
    link = MemoryLink(dtlsffi.Connection(client, server_hostname=HOST), dtlsffi.Connection(server, server_side=True))
    with pytest.raises(BrokenPipeError):
        link.shake_hands()


def test_the_key_log_is_the_file_that_was_named(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the process goes afterwards, as in ssl; it is closed with its context, or for another one."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.chdir(first)
    client, server = authority.client_context(), authority.server_context(HOST)
    client.keylog_filename = "other.log"
    client.keylog_filename = "keys.log"
    monkeypatch.chdir(second)
    MemoryLink(
        dtlsffi.Connection(client, server_hostname=HOST), dtlsffi.Connection(server, server_side=True)
    ).shake_hands()
    assert len((first / "keys.log").read_text().splitlines()) == 2
    assert len((first / "other.log").read_text().splitlines()) == 1
    assert list(second.iterdir()) == []
    with pytest.raises(OSError, match="No space left"):
        authority.client_context().keylog_filename = "/dev/full"
    file = client._keylog
    assert file is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del client
        gc.collect()
    assert file.closed


# ---- what is shown ----


def test_repr_names_what_is_verified(client: DTLSContext) -> None:
    """And nothing secret."""
    assert repr(client) == "<DTLSContext PROTOCOL_DTLS_CLIENT CERT_REQUIRED check_hostname=True>"


def test_a_curve_is_named_as_in_ssl(authority: Authority) -> None:
    """By a str or bytes; ValueError for one that OpenSSL does not know."""
    client = authority.client_context()
    client.set_ecdh_curve(b"prime256v1")
    link = MemoryLink(
        dtlsffi.Connection(client, server_hostname=HOST),
        dtlsffi.Connection(authority.server_context(HOST), server_side=True),
    )
    link.shake_hands()
    assert link.client.group() == "secp256r1"
    with pytest.raises(ValueError, match="unknown elliptic curve name 'no-such-thing'"):
        DTLSContext().set_ecdh_curve("no-such-thing")
    with pytest.raises(TypeError, match="curve_name is a str, not list"):
        DTLSContext().set_ecdh_curve(["X25519"])  # type: ignore[arg-type]


def test_renegotiation_stays_off(client: DTLSContext) -> None:
    """Whatever the options are set to; and cookies are a listener's matter."""
    client.options = dtlsffi.OP_NO_TICKET
    assert client.options == dtlsffi.OP_NO_TICKET | dtlsffi.OP_NO_RENEGOTIATION
    before = client.options
    with pytest.raises(ValueError, match=r"listeners ask for cookies by themselves"):
        client.options |= dtlsffi.core.context.lib.SSL_OP_COOKIE_EXCHANGE
    assert client.options == before
