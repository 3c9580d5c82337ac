"""Keys for SRTP (RFC 5764), and for any other protocol (RFC 5705): both sides have the same."""

from __future__ import annotations

import pytest

import dtlsffi
from dtlsffi.testing import Authority
from tests.helpers import HOST
from tests.interop.peers import CLIENTS, SERVERS, Serve, connect
from tests.interop.programs import Files

pytestmark = pytest.mark.interop

MATERIAL = {  # bytes: two keys and two salts, RFC 5764 section 4.1.2 and RFC 7714 section 12
    "SRTP_AES128_CM_SHA1_80": 60,
    "SRTP_AES128_CM_SHA1_32": 60,
    "SRTP_AEAD_AES_128_GCM": 56,
    "SRTP_AEAD_AES_256_GCM": 88,
}
SRTP_LABEL = "EXTRACTOR-dtls_srtp"
LABEL = "EXPORTER-dtlsffi-test"


def srtp(profiles: str, length: int = 60) -> list[str]:
    """What openssl(1) is told."""
    return ["-use_srtp", profiles, "-keymatexport", SRTP_LABEL, "-keymatexportlen", str(length)]


def material(conn: dtlsffi.DTLSSocket) -> str:
    """Our keys in the order of RFC 5764 section 4.2, in hexadecimal."""
    keys = conn.srtp_keys()
    return (keys.client_key + keys.server_key + keys.client_salt + keys.server_salt).hex().upper()


@pytest.mark.parametrize("profile", MATERIAL)
def test_our_client_and_their_server_have_the_same_keys(profile: str, authority: Authority, files: Files) -> None:
    """For every profile."""
    context = authority.client_context()
    context.set_srtp_profiles([profile])
    with (
        SERVERS["openssl"](files, authority.issue(HOST), *srtp(profile, MATERIAL[profile])) as server,
        connect(server.address, context) as conn,
    ):
        assert conn.selected_srtp_profile() == conn.srtp_keys().profile == profile
        assert server.match(r"Keying material: ([0-9A-F]+)\n") == material(conn)
        server.expect(f"SRTP Extension negotiated, profile={profile}\n")


@pytest.mark.parametrize("profile", MATERIAL)
def test_their_client_and_our_server_have_the_same_keys(
    profile: str, authority: Authority, files: Files, serve: Serve
) -> None:
    """For every profile."""
    context = authority.server_context(HOST)
    context.set_srtp_profiles([profile])
    server = serve(context)
    with (
        CLIENTS["openssl"](files, server.address, authority.certificate, *srtp(profile, MATERIAL[profile])) as client,
        server.accept() as conn,
    ):
        assert conn.selected_srtp_profile() == conn.srtp_keys().profile == profile
        assert client.match(r"Keying material: ([0-9A-F]+)\n") == material(conn)
        client.expect(f"SRTP Extension negotiated, profile={profile}\n")


def test_their_server_chooses(authority: Authority, files: Files) -> None:
    """Its first that we offer."""
    context = authority.client_context()
    context.set_srtp_profiles(["SRTP_AES128_CM_SHA1_80", "SRTP_AEAD_AES_128_GCM"])
    theirs = "SRTP_AEAD_AES_256_GCM:SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80"
    with (
        SERVERS["openssl"](files, authority.issue(HOST), *srtp(theirs, 56)) as server,
        connect(server.address, context) as conn,
    ):
        assert conn.selected_srtp_profile() == "SRTP_AEAD_AES_128_GCM"
        assert server.match(r"Keying material: ([0-9A-F]+)\n") == material(conn)


def test_our_server_chooses(authority: Authority, files: Files, serve: Serve) -> None:
    """Its first that they offer."""
    context = authority.server_context(HOST)
    context.set_srtp_profiles(["SRTP_AEAD_AES_256_GCM", "SRTP_AEAD_AES_128_GCM", "SRTP_AES128_CM_SHA1_80"])
    server = serve(context)
    theirs = srtp("SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_128_GCM", 56)
    with (
        CLIENTS["openssl"](files, server.address, authority.certificate, *theirs) as client,
        server.accept() as conn,
    ):
        assert conn.selected_srtp_profile() == "SRTP_AEAD_AES_128_GCM"
        assert client.match(r"Keying material: ([0-9A-F]+)\n") == material(conn)


def test_no_profile_in_common(authority: Authority, files: Files) -> None:
    """DTLS goes on, and there are no keys for SRTP: RFC 5764 section 4.1.1."""
    context = authority.client_context()
    context.set_srtp_profiles(["SRTP_AEAD_AES_256_GCM"])
    with (
        SERVERS["openssl"](files, authority.issue(HOST), *srtp("SRTP_AES128_CM_SHA1_80")) as server,
        connect(server.address, context) as conn,
    ):
        assert conn.selected_srtp_profile() is None
        with pytest.raises(ValueError, match="no SRTP profile was agreed on"):
            conn.srtp_keys()
        assert "SRTP Extension negotiated" not in server.expect("Keying material: ")


EXPORT = {
    "openssl": (["-keymatexport", LABEL, "-keymatexportlen", "45"], r"Keying material: ([0-9A-F]+)\n"),
    "gnutls": (["--keymatexport", LABEL, "--keymatexportsize", "45"], r"Key material: ([0-9a-f]+)\n"),
}


def test_our_client_exports_what_their_server_does(authority: Authority, files: Files) -> None:
    """Without a context (gnutls-serv exports nothing, over UDP)."""
    arguments, pattern = EXPORT["openssl"]
    with (
        SERVERS["openssl"](files, authority.issue(HOST), *arguments) as server,
        connect(server.address, authority.client_context()) as conn,
    ):
        assert server.match(pattern) == conn.export_keying_material(LABEL, 45).hex().upper()


@pytest.mark.parametrize("peer", EXPORT)
def test_our_server_exports_what_their_client_does(peer: str, authority: Authority, files: Files, serve: Serve) -> None:
    """Without a context."""
    server = serve(authority.server_context(HOST))
    arguments, pattern = EXPORT[peer]
    with (
        CLIENTS[peer](files, server.address, authority.certificate, *arguments) as client,
        server.accept() as conn,
    ):
        assert client.match(pattern).lower() == conn.export_keying_material(LABEL, 45).hex()
