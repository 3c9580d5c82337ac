"""The constants: ssl's where ssl has them, with ssl's names where DTLS needs its own."""

from __future__ import annotations

import enum

from .._native import lib, text

__all__ = [
    "HAS_ALPN",
    "HAS_ECDH",
    "HAS_NEVER_CHECK_COMMON_NAME",
    "HAS_PSK",
    "HAS_RAW_PUBLIC_KEYS",
    "HAS_SNI",
    "OPENSSL_BUILD_VERSION",
    "OPENSSL_VERSION",
    "OPENSSL_VERSION_INFO",
    "OPENSSL_VERSION_NUMBER",
    "OP_ALL",
    "OP_CIPHER_SERVER_PREFERENCE",
    "OP_LEGACY_SERVER_CONNECT",
    "OP_NO_COMPRESSION",
    "OP_NO_ENCRYPT_THEN_MAC",
    "OP_NO_EXTENDED_MASTER_SECRET",
    "OP_NO_QUERY_MTU",
    "OP_NO_RENEGOTIATION",
    "OP_NO_TICKET",
    "OP_PRIORITIZE_CHACHA",
    "OP_SINGLE_DH_USE",
    "OP_SINGLE_ECDH_USE",
    "PROTOCOL_DTLS",
    "PROTOCOL_DTLS_CLIENT",
    "PROTOCOL_DTLS_SERVER",
    "DTLSProtocol",
    "DTLSVersion",
    "HAS_DTLSv1",
    "HAS_DTLSv1_2",
    "HAS_DTLSv1_3",
    "OP_NO_DTLSv1",
    "OP_NO_DTLSv1_2",
    "Options",
    "get_protocol_name",
]


class DTLSProtocol(enum.IntEnum):
    """Which side of the handshake a context may take; the names are MicroPython's `ssl`'s."""

    PROTOCOL_DTLS = 0
    """Either side; every peer has to show a certificate until the context says otherwise."""
    PROTOCOL_DTLS_CLIENT = 1
    """Clients only; the server's certificate and host name are verified."""
    PROTOCOL_DTLS_SERVER = 2
    """Servers only; clients need no certificate until the context says otherwise."""


PROTOCOL_DTLS = DTLSProtocol.PROTOCOL_DTLS
PROTOCOL_DTLS_CLIENT = DTLSProtocol.PROTOCOL_DTLS_CLIENT
PROTOCOL_DTLS_SERVER = DTLSProtocol.PROTOCOL_DTLS_SERVER


def get_protocol_name(protocol_code: int) -> str:
    """The name of one of `DTLSProtocol`'s numbers, or `"<unknown>"`."""
    return next((protocol.name for protocol in DTLSProtocol if protocol == protocol_code), "<unknown>")


@enum.unique
class DTLSVersion(enum.Enum):
    """A protocol version; the value is its number on the wire (RFC 6347 section 4.1, RFC 9147 section 5.3).

    Numbers on the wire fall as versions rise, so versions compare by age: `DTLSv1 < DTLSv1_2`.
    """

    MINIMUM_SUPPORTED = -2
    """The oldest version that is considered secure: DTLS 1.2."""
    DTLSv1 = 0xFEFF
    """DTLS 1.0 (RFC 4347): obsolete (RFC 8996), and refused by OpenSSL above security level 0."""
    DTLSv1_2 = 0xFEFD
    """DTLS 1.2 (RFC 6347)."""
    DTLSv1_3 = 0xFEFC
    """DTLS 1.3 (RFC 9147), where `HAS_DTLSv1_3`."""
    MAXIMUM_SUPPORTED = -1
    """The newest version this OpenSSL has."""

    def _age(self) -> int:
        return list(type(self)).index(self)

    def __lt__(self, other: DTLSVersion) -> bool:
        """Whether this version is the older one."""
        return self._age() < other._age() if isinstance(other, DTLSVersion) else NotImplemented

    def __le__(self, other: DTLSVersion) -> bool:
        """Whether this version is not the newer one."""
        return self._age() <= other._age() if isinstance(other, DTLSVersion) else NotImplemented

    def __gt__(self, other: DTLSVersion) -> bool:
        """Whether this version is the newer one."""
        return self._age() > other._age() if isinstance(other, DTLSVersion) else NotImplemented

    def __ge__(self, other: DTLSVersion) -> bool:
        """Whether this version is not the older one."""
        return self._age() >= other._age() if isinstance(other, DTLSVersion) else NotImplemented


class Options(enum.IntFlag):
    """Switches of a context: SSL_CTX_set_options(3)."""

    OP_ALL = lib.SSL_OP_ALL
    OP_CIPHER_SERVER_PREFERENCE = lib.SSL_OP_CIPHER_SERVER_PREFERENCE
    OP_LEGACY_SERVER_CONNECT = lib.SSL_OP_LEGACY_SERVER_CONNECT
    OP_NO_COMPRESSION = lib.SSL_OP_NO_COMPRESSION
    OP_NO_DTLSv1 = lib.SSL_OP_NO_DTLSv1
    OP_NO_DTLSv1_2 = lib.SSL_OP_NO_DTLSv1_2
    OP_NO_ENCRYPT_THEN_MAC = lib.SSL_OP_NO_ENCRYPT_THEN_MAC
    OP_NO_EXTENDED_MASTER_SECRET = lib.SSL_OP_NO_EXTENDED_MASTER_SECRET
    OP_NO_QUERY_MTU = lib.SSL_OP_NO_QUERY_MTU
    OP_NO_RENEGOTIATION = lib.SSL_OP_NO_RENEGOTIATION
    OP_NO_TICKET = lib.SSL_OP_NO_TICKET
    OP_PRIORITIZE_CHACHA = lib.SSL_OP_PRIORITIZE_CHACHA
    OP_SINGLE_DH_USE = lib.SSL_OP_SINGLE_DH_USE
    OP_SINGLE_ECDH_USE = lib.SSL_OP_SINGLE_ECDH_USE


OP_ALL = Options.OP_ALL
OP_CIPHER_SERVER_PREFERENCE = Options.OP_CIPHER_SERVER_PREFERENCE
OP_LEGACY_SERVER_CONNECT = Options.OP_LEGACY_SERVER_CONNECT
OP_NO_COMPRESSION = Options.OP_NO_COMPRESSION
OP_NO_DTLSv1 = Options.OP_NO_DTLSv1
OP_NO_DTLSv1_2 = Options.OP_NO_DTLSv1_2
OP_NO_ENCRYPT_THEN_MAC = Options.OP_NO_ENCRYPT_THEN_MAC
OP_NO_EXTENDED_MASTER_SECRET = Options.OP_NO_EXTENDED_MASTER_SECRET
OP_NO_QUERY_MTU = Options.OP_NO_QUERY_MTU
OP_NO_RENEGOTIATION = Options.OP_NO_RENEGOTIATION
OP_NO_TICKET = Options.OP_NO_TICKET
OP_PRIORITIZE_CHACHA = Options.OP_PRIORITIZE_CHACHA
OP_SINGLE_DH_USE = Options.OP_SINGLE_DH_USE
OP_SINGLE_ECDH_USE = Options.OP_SINGLE_ECDH_USE

HAS_ECDH = True
HAS_NEVER_CHECK_COMMON_NAME = True
HAS_SNI = True
HAS_ALPN = True
HAS_PSK = True
HAS_RAW_PUBLIC_KEYS = bool(lib.DTLSFFI_HAS_RPK)
HAS_DTLSv1 = bool(lib.DTLSFFI_HAS_DTLSv1)
HAS_DTLSv1_2 = True
HAS_DTLSv1_3 = bool(lib.DTLSFFI_HAS_DTLSv1_3)

OPENSSL_BUILD_VERSION = text(lib.OPENSSL_VERSION_TEXT)
"""The OpenSSL that dtlsffi was compiled against; `OPENSSL_VERSION` is the one that runs."""
OPENSSL_VERSION = text(lib.OpenSSL_version(lib.OPENSSL_VERSION))
OPENSSL_VERSION_NUMBER: int = lib.OpenSSL_version_num()
OPENSSL_VERSION_INFO: tuple[int, int, int, int, int] = (
    OPENSSL_VERSION_NUMBER >> 28 & 0xFF,
    OPENSSL_VERSION_NUMBER >> 20 & 0xFF,
    OPENSSL_VERSION_NUMBER >> 12 & 0xFF,
    OPENSSL_VERSION_NUMBER >> 4 & 0xFF,
    OPENSSL_VERSION_NUMBER & 0xF,
)

ALERT_NAMES: dict[int, str] = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    60: "export_restriction",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    111: "certificate_unobtainable",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    114: "bad_certificate_hash_value",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}
"""Alert descriptions by number, as the RFCs spell them: IANA's TLS alert registry."""

CONTENT_NAMES: dict[int, str] = {
    20: "change_cipher_spec",
    21: "alert",
    22: "handshake",
    23: "application_data",
    24: "heartbeat",
    25: "tls12_cid",
    26: "ack",
}
"""Content types of records: IANA's TLS ContentType registry."""

HANDSHAKE_NAMES: dict[int, str] = {
    0: "hello_request",
    1: "client_hello",
    2: "server_hello",
    3: "hello_verify_request",
    4: "new_session_ticket",
    5: "end_of_early_data",
    8: "encrypted_extensions",
    11: "certificate",
    12: "server_key_exchange",
    13: "certificate_request",
    14: "server_hello_done",
    15: "certificate_verify",
    16: "client_key_exchange",
    20: "finished",
    22: "certificate_status",
    24: "key_update",
    254: "message_hash",
}
"""Handshake messages: IANA's TLS HandshakeType registry."""


def version_name(version: int) -> str:
    """A version on the wire in words, such as "DTLSv1.2"."""
    names = {0xFEFF: "DTLSv1", 0xFEFD: "DTLSv1.2", 0xFEFC: "DTLSv1.3"}
    return names.get(version, f"0x{version:04X}")
