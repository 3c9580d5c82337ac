"""dtlsffi.core.peercert: ssl's own decoder is the judge."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from dtlsffi.core import certificates, peercert
from dtlsffi.testing import Authority

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)


def rich_certificate() -> bytes:
    """A certificate with everything that getpeercert() can show."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Prüfstelle für Dämme"),
            x509.NameAttribute(NameOID.COMMON_NAME, "device.example"),
            x509.NameAttribute(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), "unnamed"),
        ]
    )
    relative = x509.Name(
        [x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, "a"),
                                         x509.NameAttribute(NameOID.ORGANIZATION_NAME, "b")])]
    )  # fmt: skip
    names = [
        x509.DNSName("device.example"),
        x509.DNSName("*.example"),
        x509.RFC822Name("ops@device.example"),
        x509.UniformResourceIdentifier("coaps://device.example/"),
        x509.IPAddress(ipaddress.ip_address("192.0.2.7")),
        x509.IPAddress(ipaddress.ip_address("2001:db8::7")),
        x509.DirectoryName(relative),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4")),
        x509.OtherName(x509.ObjectIdentifier("1.2.3.5"), b"\x0c\x01x"),
    ]
    access = [
        x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier("http://o.example")),
        x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://i.example")
        ),
    ]
    points = [
        x509.DistributionPoint([x509.UniformResourceIdentifier(f"http://c{i}.example")], None, None, None)
        for i in range(2)
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(relative)
        .public_key(key.public_key())
        .serial_number(0x0ABC)
        .not_valid_before(NOW)
        .not_valid_after(NOW + datetime.timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityInformationAccess(access), critical=False)
        .add_extension(x509.CRLDistributionPoints(points), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def ssls_view(pem: bytes, tmp_path: Path) -> dict[str, object]:
    file = tmp_path / "certificate.pem"
    file.write_bytes(pem)
    view: dict[str, object] = ssl._ssl._test_decode_cert(str(file))  # type: ignore[attr-defined]
    return view


def our_view(pem: bytes) -> dict[str, object]:
    return peercert.decode(certificates.certificate_chain(pem)[0])


def test_everything_is_shown_as_ssl_shows_it(tmp_path: Path) -> None:
    """Names of all kinds, access points, distribution points, an unknown attribute, UTF-8."""
    pem = rich_certificate()
    view = our_view(pem)
    assert view == ssls_view(pem, tmp_path)
    assert view["notBefore"] == "Jan  2 03:04:05 2026 GMT"
    assert view["serialNumber"] == "0ABC"
    assert ("IP Address", "2001:DB8:0:0:0:0:0:7") in view["subjectAltName"]  # type: ignore[operator]


@pytest.mark.parametrize("rsa", [False, True])
def test_plain_certificates_too(rsa: bool, authority: Authority, tmp_path: Path) -> None:
    """What trustme issues."""
    pem = authority.issue("a.example", "10.0.0.1", rsa=rsa).certificate
    assert our_view(pem) == ssls_view(pem, tmp_path)


def test_the_systems_authorities_are_shown_as_ssl_shows_them(tmp_path: Path) -> None:
    """A hundred certificates that others have made."""
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    if not bundle.exists():
        pytest.skip("no bundle of authorities on this machine")
    blocks = bundle.read_bytes().split(b"-----END CERTIFICATE-----\n")[:-1]
    for block in blocks:
        pem = block + b"-----END CERTIFICATE-----\n"
        assert our_view(pem) == ssls_view(pem, tmp_path)


def test_an_address_of_no_family_is_said() -> None:
    """As ssl says it."""
    assert peercert.address(b"12345") == "<invalid>"
