"""dtlsffi.core.ciphers, through DTLSContext.get_ciphers: ssl is the judge."""

from __future__ import annotations

import ssl

import dtlsffi


def test_suites_are_described_as_ssl_describes_them() -> None:
    """Every field of every suite that both modules know."""
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ours = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
    theirs.set_ciphers("ALL:@SECLEVEL=0")
    ours.set_ciphers("ALL:@SECLEVEL=0")
    expected = {suite["name"]: suite for suite in theirs.get_ciphers()}
    shown = ours.get_ciphers()
    assert len(shown) > 30
    for suite in shown:
        assert suite.keys() == expected[suite["name"]].keys()
        reference = expected[suite["name"]]
        assert {k: v for k, v in suite.items() if k != "description"} == {
            k: v for k, v in reference.items() if k != "description"
        }
        assert suite["description"].split() == reference["description"].split()


def test_dtls_12_offers_no_suite_of_tls_13() -> None:
    """They could not be negotiated."""
    context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
    context.maximum_version = dtlsffi.DTLSVersion.DTLSv1_2
    assert {suite["protocol"] for suite in context.get_ciphers()} == {"TLSv1.2"}


def test_by_default_every_suite_is_an_aead_with_forward_secrecy() -> None:
    """CBC with encrypt-then-MAC lets one forged record end a connection: OPENSSL.md, 49."""
    for context in (dtlsffi.DTLSContext(protocol) for protocol in dtlsffi.DTLSProtocol):
        suites = context.get_ciphers()
        assert suites
        assert all(suite["aead"] for suite in suites)
        assert {suite["kea"] for suite in suites if suite["protocol"] != "TLSv1.3"} <= {"kx-ecdhe", "kx-dhe"}
        assert all(suite["strength_bits"] >= 128 for suite in suites)
