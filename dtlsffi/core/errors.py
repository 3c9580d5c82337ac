"""The exceptions, and how the C side's answers become one.

Every class is also the one of `ssl` (or the built-in one) that an existing `except` clause expects. The text reads
`[SSL: REASON] what happened, with whom, and what to do`.
"""

from __future__ import annotations

import copy
import errno
import os
import ssl
from contextlib import suppress
from typing import TypeVar

from .._native import CData, lib, text
from .constants import ALERT_NAMES

__all__ = [
    "DTLSCertVerificationError",
    "DTLSError",
    "DTLSWantReadError",
    "DTLSWantWriteError",
    "DTLSZeroReturnError",
    "DatagramTooLarge",
    "HandshakeTimeout",
]


class DTLSError(ssl.SSLError):
    """A DTLS error. The connection has failed for good, unless the subclass says that it goes on."""

    library: str = ""
    """The part of OpenSSL that failed, such as `"SSL"` or `"X509"`, as in `ssl.SSLError`."""
    reason: str = ""
    """Why, in one word that stays the same in every version: `"CERTIFICATE_VERIFY_FAILED"`."""


class DTLSWantReadError(DTLSError, ssl.SSLWantReadError):
    """The call needs a datagram, or the timer to expire, and has to be repeated then. The connection goes on."""


class DTLSWantWriteError(DTLSError, ssl.SSLWantWriteError):
    """The socket's send buffer is full; nothing was sent. The connection goes on."""


class DTLSZeroReturnError(DTLSError, ssl.SSLZeroReturnError):
    """One side has closed the connection with close_notify."""


class DTLSCertVerificationError(DTLSError, ssl.SSLCertVerificationError):
    """The peer's certificate was refused."""

    verify_code: int = 0
    """OpenSSL's number for the reason: X509_STORE_CTX_get_error(3)."""
    verify_message: str = ""
    """The reason in words, as in `ssl.SSLCertVerificationError`."""


class HandshakeTimeout(DTLSError, TimeoutError):
    """The handshake did not finish in time, with all its retransmissions."""


class DatagramTooLarge(DTLSError):
    """A record is larger than one datagram, or the buffer given, can hold (`errno.EMSGSIZE`).

    The connection goes on, and nothing is lost: what could not be sent was not sent, and what did not fit into the
    buffer is still there for a larger one. There is one exception: if the path carries less than the kernel knew, a
    record that was sent is lost, and the next call raises this exception.
    """


E = TypeVar("E", bound=DTLSError)


def too_large(length: int, limit: int, what: str = "record") -> DatagramTooLarge:
    """The exception for something that is kept for a call with more room."""
    words = f"the next {what} has {length} bytes, more than the {limit} asked for; it is kept for a call with more room"
    return make(DatagramTooLarge, f"{what.upper()}_TOO_LARGE", words)


def make(kind: type[E], reason: str, words: str, *, library: str = "SSL") -> E:
    """Builds an exception of `kind` whose text is `[library: reason] words`."""
    error = kind(NUMBERS.get(kind, ssl.SSL_ERROR_SSL), f"[{library}: {reason}] {words}")
    error.library = library
    error.reason = reason
    return error


NUMBERS: dict[type[DTLSError], int] = {
    DTLSWantReadError: ssl.SSL_ERROR_WANT_READ,
    DTLSWantWriteError: ssl.SSL_ERROR_WANT_WRITE,
    DTLSZeroReturnError: ssl.SSL_ERROR_ZERO_RETURN,
    HandshakeTimeout: errno.ETIMEDOUT,
    DatagramTooLarge: errno.EMSGSIZE,
}

# Alerts by number, with the reason that ssl gives them in every version of OpenSSL.
ALERT_REASONS: dict[int, str] = {
    10: "SSLV3_ALERT_UNEXPECTED_MESSAGE",
    20: "SSLV3_ALERT_BAD_RECORD_MAC",
    21: "TLSV1_ALERT_DECRYPTION_FAILED",
    22: "TLSV1_ALERT_RECORD_OVERFLOW",
    30: "SSLV3_ALERT_DECOMPRESSION_FAILURE",
    40: "SSLV3_ALERT_HANDSHAKE_FAILURE",
    41: "SSLV3_ALERT_NO_CERTIFICATE",
    42: "SSLV3_ALERT_BAD_CERTIFICATE",
    43: "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
    44: "SSLV3_ALERT_CERTIFICATE_REVOKED",
    45: "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    46: "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    47: "SSLV3_ALERT_ILLEGAL_PARAMETER",
    48: "TLSV1_ALERT_UNKNOWN_CA",
    49: "TLSV1_ALERT_ACCESS_DENIED",
    50: "TLSV1_ALERT_DECODE_ERROR",
    51: "TLSV1_ALERT_DECRYPT_ERROR",
    60: "TLSV1_ALERT_EXPORT_RESTRICTION",
    70: "TLSV1_ALERT_PROTOCOL_VERSION",
    71: "TLSV1_ALERT_INSUFFICIENT_SECURITY",
    80: "TLSV1_ALERT_INTERNAL_ERROR",
    86: "TLSV1_ALERT_INAPPROPRIATE_FALLBACK",
    90: "TLSV1_ALERT_USER_CANCELLED",
    100: "TLSV1_ALERT_NO_RENEGOTIATION",
    109: "TLSV13_ALERT_MISSING_EXTENSION",
    110: "TLSV1_UNSUPPORTED_EXTENSION",
    111: "TLSV1_CERTIFICATE_UNOBTAINABLE",
    112: "TLSV1_UNRECOGNIZED_NAME",
    113: "TLSV1_BAD_CERTIFICATE_STATUS_RESPONSE",
    114: "TLSV1_BAD_CERTIFICATE_HASH_VALUE",
    115: "TLSV1_ALERT_UNKNOWN_PSK_IDENTITY",
    116: "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    120: "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
}

# What an alert usually means for whoever receives it.
ALERT_ADVICE: dict[int, str] = {
    40: "usually there is no cipher suite, group or signature algorithm that both sides allow, or it wants a "
    "certificate from us",
    41: "it wants a certificate from us",
    42: "it refused our certificate, which is for another host name, or not the one that it wanted, or too weak, or "
    "damaged",
    43: "it does not take certificates of this kind",
    44: "our certificate is on its revocation list",
    45: "our certificate has expired, or its clock is wrong",
    46: "it would not accept our certificate",
    48: "it does not know the authority that signed our certificate",
    49: "it knows us, and does not let us in",
    51: "it could not verify a signature, or our pre-shared key differs from its own",
    70: "the two sides have no protocol version in common",
    71: "what we offer is too weak for it",
    112: "it does not serve the host name we asked for",
    115: "it does not know our PSK identity",
    116: "it wants a certificate from us",
    120: "the two sides have no application protocol (ALPN) in common",
}

# What OpenSSL's own reasons leave unsaid.
ADVICE: dict[str, str] = {
    "NO_SHARED_CIPHER": "client and server have no usable cipher suite in common: compare set_ciphers(), groups, "
    "signature algorithms and security_level on both sides, and whether the server has a certificate or key of the "
    "kind the client asks for (Ed25519 is none: OpenSSL has it for TLS only)",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "the certificate's key cannot sign in a way that the other side accepts",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client was asked for a certificate and has none: give it one with "
    "load_cert_chain(), or set verify_mode to CERT_OPTIONAL",
    "NO_CIPHERS_AVAILABLE": "no cipher suite is left for the versions and the security level allowed",
    "NO_PROTOCOLS_AVAILABLE": "no protocol version is left between minimum_version and maximum_version",
    "TOO_MANY_WARN_ALERTS": "the peer has sent a warning, over which OpenSSL ends the connection",
    "UNEXPECTED_MESSAGE": "is it a client, too, or something that sends back what it gets?",
    "INVALID_STATUS_RESPONSE": "the OCSP response that it has stapled, or that it has none, was refused: see "
    "set_ocsp_client_callback()",
    "UNSUPPORTED_PROTOCOL": "the other side speaks a version that this side does not allow",
}

# What is to be done about a certificate that is refused.
VERIFY_ADVICE: dict[int, str] = {
    lib.X509_V_ERR_CA_CERT_MISSING_KEY_USAGE: ": the authority has to be made with keyUsage=critical,keyCertSign, or "
    "VERIFY_X509_STRICT be taken from verify_flags",
}


def alert_text(description: int) -> str:
    """An alert in words: its name, its number, and what it usually means."""
    advice = ALERT_ADVICE.get(description)
    return alert_name(description) + (f": {advice}" if advice else "")


def alert_name(description: int) -> str:
    """An alert's name and number."""
    return f"{ALERT_NAMES.get(description, 'unknown')} (alert {description})"


def in_words(error: object) -> str:
    """An exception for a log: a callback's own may mean nothing without its class."""
    return str(error) if isinstance(error, OSError) else repr(error)


def from_errno(number: int, peer: str) -> OSError:
    """What a socket has said: OSError picks ConnectionRefusedError and its like by itself."""
    whom = peer and f" ({peer})"
    if number == errno.EMSGSIZE:  # ICMP, later
        words = f"the path carries less than was sent, which is lost: data_mtu tells what fits now{whom}"
        return make(DatagramTooLarge, "DTLS_MESSAGE_TOO_BIG", words)
    return OSError(number, f"{os.strerror(number)}{whom}")


def from_fault(peer: str, fault: CData, *, established: bool = False) -> OSError:
    """Builds the exception for a fault of the C side's; `peer` says with whom, or is empty.

    What alerts usually mean is said of handshakes only: in a connection they mean something else.
    """
    with_whom = f" with {peer}" if peer else ""
    if fault.library == 0 and fault.errno_value:
        return from_errno(fault.errno_value, peer)
    reason, words = reason_and_words(fault)
    if reason == "READ_TIMEOUT_EXPIRED":
        return make(HandshakeTimeout, reason, f"handshake{with_whom} timed out: no answer to any retransmission")
    library = library_name(fault.library, fault.library_name)
    alert = alert_of(fault)
    if alert is not None:
        what = f"connection: {alert_name(alert)}" if established else f"handshake: {alert_text(alert)}"
        return make(DTLSError, reason, f"the peer{peer and f' ({peer})'} ended the {what}")
    advice = ADVICE.get(reason)
    return make(DTLSError, reason, f"{words}{with_whom}" + (f": {advice}" if advice else ""), library=library)


def alert_of(fault: CData) -> int | None:
    """The peer's alert that the fault stands for, or None: SSL_R_TLSV1_ALERT_... are alerts plus 1000."""
    alert: int = fault.reason - lib.SSL_AD_REASON_OFFSET
    return alert if fault.library == lib.ERR_LIB_SSL and 0 <= alert < 256 else None


def reason_and_words(fault: CData) -> tuple[str, str]:
    """OpenSSL's reason as ssl spells it, and in OpenSSL's own words."""
    words = text(fault.reason_text) or f"reason {fault.reason}"
    alert = alert_of(fault)
    if alert is not None:
        return ALERT_REASONS.get(alert, f"ALERT_{alert}"), words
    detail = text(fault.detail)
    return "_".join(words.upper().split()), words + (f" ({detail})" if detail else "")


def library_name(number: int, words: CData) -> str:
    """OpenSSL's library by the short name that ssl gives it: "SSL routines" is "SSL"."""
    names = {
        lib.ERR_LIB_SSL: "SSL",
        lib.ERR_LIB_X509: "X509",
        lib.ERR_LIB_PEM: "PEM",
        lib.ERR_LIB_ASN1: "ASN1",
        lib.ERR_LIB_X509V3: "X509V3",
        lib.ERR_LIB_EVP: "EVP",
        lib.ERR_LIB_BIO: "BIO",
    }
    return names.get(number) or text(words).replace(" routines", "").upper() or "OPENSSL"


def take_fault(words: str) -> DTLSError:
    """Builds the exception for a libssl call that has just failed outside of any connection.

    `words` say what was attempted; OpenSSL's reason is added. The error queue is empty afterwards.
    """
    lib.dtlsffi_fault_take()
    fault = lib.dtlsffi_fault_last()
    if fault.library == 0:
        return make(DTLSError, "UNKNOWN", words)
    reason, reason_words = reason_and_words(fault)
    library = library_name(fault.library, fault.library_name)
    return make(DTLSError, reason, f"{words}: {reason_words}", library=library)


def certificate_refused(code: int, words: str, peer: str) -> DTLSCertVerificationError:
    """The exception for a peer's certificate that failed to verify: `code` X509_V_ERR_..., `words` its reason."""
    error = make(
        DTLSCertVerificationError,
        "CERTIFICATE_VERIFY_FAILED",
        f"certificate verify failed: {words}{peer and f' (peer: {peer})'}{VERIFY_ADVICE.get(code, '')}",
    )
    error.verify_code = code
    error.verify_message = words
    return error


B = TypeVar("B", bound=BaseException)


def again(error: B) -> B:
    """An earlier failure, for a call made after it: a copy, which nobody has raised yet, where that can be made.

    One that is raised again and again would know the frames of everybody whom it was raised to.
    """
    if isinstance(error, OSError):
        with suppress(Exception):  # somebody's own class, which a callback has raised
            return copy.copy(error)
    return error.with_traceback(None)


def is_again(error: BaseException, earlier: BaseException) -> bool:
    """Whether it is an earlier failure, or `again` of it."""
    return error is earlier or (type(error) is type(earlier) and error.args == earlier.args)


def is_end(error: BaseException, ending: BaseException) -> bool:
    """Whether what a handler has raised is but what has ended its connection, and no fault of the handler's.

    An error that was raised from the end (`from`) is that, too, one that came up while it was handled is not; a group
    of errors is where each of them is.
    """
    several = getattr(error, "exceptions", None)  # of a task group
    if several:
        return all(is_end(each, ending) for each in several)
    return any(is_again(each, ending) for each in (error, error.__cause__) if each)
