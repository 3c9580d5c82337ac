"""Certificates that have to be refused, and how: shared by the tests of the core and of interoperation."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import dtlsffi
from dtlsffi.testing import Authority, Identity
from tests.helpers import HOST

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.timezone.utc)


def self_signed(
    name: str, *, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None, common_name_only: bool = False
) -> Identity:
    """A certificate that vouches for itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
    )
    if not common_name_only:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    pem = serialization.Encoding.PEM
    return Identity(
        builder.sign(key, hashes.SHA256()).public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


@dataclass
class Case:
    """A server that a client has to refuse."""

    identity: Callable[[Authority], Identity]
    """What the server shows."""
    code: int
    """verify_code"""
    message: str
    """verify_message"""
    alert: int
    """What the server hears."""
    hostname: str = HOST
    """What the client asks for."""
    revoked: bool = False
    """Whether the client has a list that revokes it."""
    lists: bool = False
    """Whether the client insists on a list."""

    def prepare(self, client: dtlsffi.DTLSContext, authority: Authority) -> Identity:
        """Sets the client up; returns what the server has to show."""
        identity = self.identity(authority)
        if self.revoked:
            client.load_verify_locations(cadata=authority.revoke(identity))
        if self.revoked or self.lists:
            client.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        return identity

    def check(self, error: dtlsffi.DTLSCertVerificationError) -> None:
        """Asserts that the client's exception is the right one."""
        assert error.verify_message.startswith(self.message)  # OpenSSL 3.6 has more to say of clocks
        assert error.verify_code == self.code
        assert (error.reason, error.library) == ("CERTIFICATE_VERIFY_FAILED", "SSL")
        words = f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {error.verify_message}"
        assert str(error).startswith(words)
        assert self.hostname in str(error)


def with_root(name: str) -> Identity:
    """A certificate of an unknown authority, which comes along."""
    stranger = Authority()
    identity = stranger.issue(name)
    return Identity(identity.certificate + stranger.certificate, identity.key)


CASES: dict[str, Case] = {
    "unknown authority": Case(lambda _: Authority().issue(HOST), 20, "unable to get local issuer certificate", 48),
    "expired": Case(
        lambda a: a.issue(HOST, not_before=NOW - 9 * DAY, not_after=NOW - DAY), 10, "certificate has expired", 45
    ),
    "not yet valid": Case(
        lambda a: a.issue(HOST, not_before=NOW + DAY, not_after=NOW + 9 * DAY), 9, "certificate is not yet valid", 42
    ),
    "wrong name": Case(
        lambda a: a.issue(HOST),
        62,
        "Hostname mismatch, certificate is not valid for 'other.example'.",
        42,
        hostname="other.example",
    ),
    "wrong address": Case(
        lambda a: a.issue(HOST, "127.0.0.1"),
        64,
        "IP address mismatch, certificate is not valid for '192.0.2.1'.",
        42,
        hostname="192.0.2.1",
    ),
    "self-signed": Case(lambda _: self_signed(HOST), 18, "self-signed certificate", 48),
    "self-signed in the chain": Case(lambda _: with_root(HOST), 19, "self-signed certificate in certificate chain", 48),
    "revoked": Case(lambda a: a.issue(HOST), 23, "certificate revoked", 44, revoked=True),
    "no revocation list": Case(lambda a: a.issue(HOST), 3, "unable to get certificate CRL", 48, lists=True),
}
