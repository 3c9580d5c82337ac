"""dtlsffi.core.errors."""

from __future__ import annotations

import errno
import pickle
import ssl

import pytest

import dtlsffi
from dtlsffi.core import errors


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (dtlsffi.DTLSError, ssl.SSLError),
        (dtlsffi.DTLSWantReadError, ssl.SSLWantReadError),
        (dtlsffi.DTLSWantWriteError, ssl.SSLWantWriteError),
        (dtlsffi.DTLSZeroReturnError, ssl.SSLZeroReturnError),
        (dtlsffi.DTLSCertVerificationError, ssl.SSLCertVerificationError),
        (dtlsffi.DTLSCertVerificationError, ssl.CertificateError),
        (dtlsffi.DTLSCertVerificationError, ValueError),
        (dtlsffi.HandshakeTimeout, TimeoutError),
        (dtlsffi.DatagramTooLarge, OSError),
    ],
)
def test_existing_except_clauses_work(ours: type[BaseException], theirs: type[BaseException]) -> None:
    """Each class is the one that code written to ssl or socket catches, and a DTLSError."""
    assert issubclass(ours, theirs)
    assert issubclass(ours, dtlsffi.DTLSError)


def test_text_says_library_reason_and_words() -> None:
    """`[SSL: REASON] words`, as ssl has it."""
    error = errors.make(dtlsffi.DTLSError, "NO_SHARED_CIPHER", "nothing in common")
    assert str(error) == "[SSL: NO_SHARED_CIPHER] nothing in common"
    assert (error.library, error.reason, error.errno) == ("SSL", "NO_SHARED_CIPHER", ssl.SSL_ERROR_SSL)


def test_numbers_are_those_of_ssl_and_errno() -> None:
    """What code looks up in `errno` is there."""
    expected = {
        dtlsffi.DTLSWantReadError: ssl.SSL_ERROR_WANT_READ,
        dtlsffi.DTLSWantWriteError: ssl.SSL_ERROR_WANT_WRITE,
        dtlsffi.DTLSZeroReturnError: ssl.SSL_ERROR_ZERO_RETURN,
        dtlsffi.HandshakeTimeout: errno.ETIMEDOUT,
        dtlsffi.DatagramTooLarge: errno.EMSGSIZE,
    }
    assert {kind: errors.make(kind, "X", "y").errno for kind in expected} == expected


def test_exceptions_survive_pickling() -> None:
    """As multiprocessing and concurrent.futures need it."""
    error = errors.certificate_refused(20, "unable to get local issuer certificate", "192.0.2.1:5684")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is dtlsffi.DTLSCertVerificationError
    assert (str(copy), copy.reason, copy.verify_code) == (str(error), error.reason, 20)
    assert copy.verify_message == "unable to get local issuer certificate"


def test_again_is_an_equal_copy() -> None:
    """A later call raises the earlier failure, not the same object with a growing traceback."""
    error = errors.make(dtlsffi.DTLSError, "X", "y")
    copy = errors.again(error)
    assert copy is not error
    assert (str(copy), copy.reason, copy.library) == (str(error), "X", "SSL")


def test_alerts_are_explained() -> None:
    """A name, a number, and what it usually means."""
    assert errors.alert_text(48).startswith("unknown_ca (alert 48): it does not know the authority")
    assert errors.alert_text(80) == "internal_error (alert 80)"
    assert errors.alert_text(255) == "unknown (alert 255)"


def test_alert_reasons_are_those_of_ssl() -> None:
    """`.reason` of a received alert is what ssl gives for the same one with OpenSSL 3.0."""
    assert errors.ALERT_REASONS[40] == "SSLV3_ALERT_HANDSHAKE_FAILURE"
    assert errors.ALERT_REASONS[48] == "TLSV1_ALERT_UNKNOWN_CA"
    known = set(getattr(ssl._ssl, "err_names_to_codes", ()))  # type: ignore[attr-defined]
    if not known:
        pytest.skip("this Python's ssl does not list its reasons")
    missing = {reason for reason in errors.ALERT_REASONS.values() if reason not in known}
    assert missing <= {"TLSV1_ALERT_NO_APPLICATION_PROTOCOL", "TLSV13_ALERT_CERTIFICATE_REQUIRED",
                       "TLSV13_ALERT_MISSING_EXTENSION", "TLSV1_ALERT_UNKNOWN_PSK_IDENTITY"}  # fmt: skip


def test_an_authority_without_key_usage_is_explained() -> None:
    """The first wall for whoever makes one with `openssl req -x509`; ssl refuses it as well."""
    error = errors.certificate_refused(92, "CA cert does not include key usage extension", "x")
    assert "keyUsage=critical,keyCertSign" in str(error)
    assert error.verify_message == "CA cert does not include key usage extension"
