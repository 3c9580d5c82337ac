"""dtlsffi.core.constants."""

import ssl

import pytest

import dtlsffi
from dtlsffi import DTLSVersion
from dtlsffi.core.constants import ALERT_NAMES
from dtlsffi.testing import Authority


def test_versions_have_their_numbers_on_the_wire() -> None:
    """RFC 6347 section 4.1 and RFC 9147 section 5.3."""
    assert [version.value for version in (DTLSVersion.DTLSv1, DTLSVersion.DTLSv1_2, DTLSVersion.DTLSv1_3)] == [
        0xFEFF,
        0xFEFD,
        0xFEFC,
    ]


def test_versions_compare_by_age() -> None:
    """Numbers on the wire run backwards; comparisons do not."""
    ages = [
        DTLSVersion.MINIMUM_SUPPORTED,
        DTLSVersion.DTLSv1,
        DTLSVersion.DTLSv1_2,
        DTLSVersion.DTLSv1_3,
        DTLSVersion.MAXIMUM_SUPPORTED,
    ]
    assert sorted(ages, reverse=True) == ages[::-1]
    assert DTLSVersion.DTLSv1 < DTLSVersion.DTLSv1_2 <= DTLSVersion.DTLSv1_2
    assert DTLSVersion.DTLSv1_3 > DTLSVersion.DTLSv1_2 >= DTLSVersion.DTLSv1_2
    assert not DTLSVersion.DTLSv1 > DTLSVersion.DTLSv1_2
    for compare in ("__lt__", "__le__", "__gt__", "__ge__"):
        assert getattr(DTLSVersion.DTLSv1, compare)(0xFEFD) is NotImplemented


def test_a_version_is_no_number() -> None:
    """Comparing with ssl.TLSVersion, or with a number, is a mistake that shows."""
    with pytest.raises(TypeError):
        _ = DTLSVersion.DTLSv1_2 < 0xFEFF  # type: ignore[operator]


def test_options_are_those_of_ssl_where_ssl_has_them() -> None:
    """OpenSSL's bits mean the same for both modules."""
    ours = {option.name: int(option) for option in dtlsffi.Options}
    theirs = {option.name: int(option) for option in ssl.Options}
    common = ours.keys() & theirs.keys() - {"OP_ALL"}  # ssl leaves one bit out of OP_ALL
    assert common >= {"OP_NO_TICKET", "OP_NO_RENEGOTIATION", "OP_CIPHER_SERVER_PREFERENCE"}
    assert {name: ours[name] for name in common} == {name: theirs[name] for name in common}


def test_enums_of_ssl_are_used_as_they_are() -> None:
    """Code that says ssl.CERT_REQUIRED goes on saying so."""
    assert dtlsffi.CERT_REQUIRED is ssl.CERT_REQUIRED
    assert dtlsffi.Purpose is ssl.Purpose
    assert dtlsffi.VerifyFlags is ssl.VerifyFlags


def test_openssl_version_has_ssls_shape() -> None:
    """The same text, number and tuple that ssl would give for this library."""
    assert dtlsffi.OPENSSL_VERSION.startswith("OpenSSL ")
    assert dtlsffi.OPENSSL_VERSION_INFO[:3] >= (3, 0, 0)
    assert len(dtlsffi.OPENSSL_VERSION_INFO) == 5
    if dtlsffi.OPENSSL_VERSION == ssl.OPENSSL_VERSION:
        assert dtlsffi.OPENSSL_VERSION_INFO == ssl.OPENSSL_VERSION_INFO
        assert dtlsffi.OPENSSL_VERSION_NUMBER == ssl.OPENSSL_VERSION_NUMBER


def test_alert_names_are_those_of_ssl() -> None:
    """Every alert that ssl knows has its RFC name here."""
    special = {"user_cancelled": "user_canceled"}
    for alert in ssl.AlertDescription:
        name = alert.name.removeprefix("ALERT_DESCRIPTION_").lower()
        assert ALERT_NAMES[alert.value] == special.get(name, name)


def test_protocols_have_micropythons_names() -> None:
    """The only precedent for names."""
    assert [p.name for p in dtlsffi.DTLSProtocol] == ["PROTOCOL_DTLS", "PROTOCOL_DTLS_CLIENT", "PROTOCOL_DTLS_SERVER"]


def test_features_and_switches_are_those_of_ssl() -> None:
    """By ssl's names and numbers where it has them; OpenSSL's numbers for DTLS's own."""
    for name in ("HAS_ALPN", "HAS_ECDH", "HAS_NEVER_CHECK_COMMON_NAME", "HAS_PSK", "HAS_SNI", "HAS_DTLSv1_2"):
        assert getattr(dtlsffi, name) is True
    for name in ("OP_LEGACY_SERVER_CONNECT", "OP_NO_COMPRESSION", "OP_NO_RENEGOTIATION", "OP_NO_TICKET",
                 "OP_SINGLE_DH_USE", "OP_SINGLE_ECDH_USE", "OP_CIPHER_SERVER_PREFERENCE"):  # fmt: skip
        value = getattr(dtlsffi, name)
        assert value == getattr(ssl, name, value), "ssl has it by another number"
    assert dtlsffi.OP_NO_DTLSv1 == ssl.OP_NO_TLSv1
    assert dtlsffi.OP_NO_DTLSv1_2 == ssl.OP_NO_TLSv1_2


def test_protocols_have_names() -> None:
    """As ssl.get_protocol_name."""
    assert dtlsffi.get_protocol_name(dtlsffi.PROTOCOL_DTLS_SERVER) == "PROTOCOL_DTLS_SERVER"
    assert dtlsffi.get_protocol_name(77) == "<unknown>"


def test_a_version_can_be_switched_off(authority: Authority) -> None:
    """The other way to say maximum_version."""
    client = authority.client_context()
    client.options |= dtlsffi.OP_NO_DTLSv1_2 | dtlsffi.OP_NO_DTLSv1
    if not dtlsffi.HAS_DTLSv1_3:
        with pytest.raises(dtlsffi.DTLSError, match="NO_PROTOCOLS_AVAILABLE"):
            dtlsffi.Connection(client, server_hostname="x.example").do_handshake()
