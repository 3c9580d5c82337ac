"""The other side, with pre-shared keys: openssl(1), GnuTLS, Mbed TLS."""

from __future__ import annotations

from typing import Any

from tests.interop.mbed import MbedTLS
from tests.interop.peers import Server
from tests.interop.programs import Files, Program, free_port, wait_until_bound

PSK_SUITES = {
    "PSK-AES128-GCM-SHA256": ("PSK:+AES-128-GCM", "TLS-PSK-WITH-AES-128-GCM-SHA256"),
    "PSK-AES128-CCM8": ("PSK:+AES-128-CCM-8", "TLS-PSK-WITH-AES-128-CCM-8"),
    "DHE-PSK-AES128-GCM-SHA256": ("DHE-PSK:+AES-128-GCM", "TLS-DHE-PSK-WITH-AES-128-GCM-SHA256"),
    "ECDHE-PSK-CHACHA20-POLY1305": ("ECDHE-PSK:+CHACHA20-POLY1305", "TLS-ECDHE-PSK-WITH-CHACHA20-POLY1305-SHA256"),
}
"""Suites by OpenSSL's name, and what GnuTLS and Mbed TLS call them."""


def openssl_suite(suite: str) -> str:
    """How OpenSSL has to be told: a tag of 8 bytes is below its security level 1."""
    return f"{suite}:@SECLEVEL=0"


def gnutls_suite(suite: str) -> str:
    return f"NONE:+VERS-DTLS1.2:+COMP-NULL:+AEAD:+GROUP-ALL:+SIGN-ALL:+{PSK_SUITES[suite][0]}"


class OpenSSLPSKServer(Server):
    """`openssl s_server -psk`."""

    def __init__(self, files: Files, suite: str, identity: str, key: bytes, hint: str | None = None) -> None:
        self.port = free_port()
        hinting = [] if hint is None else ["-psk_hint", hint]
        super().__init__(
            ["openssl", "s_server", "-dtls", "-accept", f"127.0.0.1:{self.port}", "-nocert", "-cipher",
             openssl_suite(suite), "-psk", key.hex(), "-psk_identity", identity, *hinting]
        )  # fmt: skip
        wait_until_bound(self.port)


class GnuTLSPSKServer(Server):
    """`gnutls-serv --pskpasswd`."""

    def __init__(self, files: Files, suite: str, identity: str, key: bytes, hint: str | None = None) -> None:
        self.port = free_port()
        hinting = [] if hint is None else ["--pskhint", hint]
        super().__init__(
            ["gnutls-serv", "--udp", "--echo", "-p", str(self.port), "--priority", gnutls_suite(suite), "--pskpasswd",
             files.write(f"{identity}:{key.hex()}\n".encode()), *hinting]
        )  # fmt: skip
        wait_until_bound(self.port)


class OpenSSLPSKClient(Program):
    """`openssl s_client -psk`."""

    def __init__(self, files: Files, address: tuple[str, int], suite: str, identity: str, key: bytes) -> None:
        super().__init__(
            ["openssl", "s_client", "-dtls", "-connect", f"{address[0]}:{address[1]}", "-cipher", openssl_suite(suite),
             "-psk", key.hex(), "-psk_identity", identity]
        )  # fmt: skip


class GnuTLSPSKClient(Program):
    """`gnutls-cli --pskkey`."""

    def __init__(self, files: Files, address: tuple[str, int], suite: str, identity: str, key: bytes) -> None:
        super().__init__(
            ["gnutls-cli", "--udp", "-p", str(address[1]), "--priority", gnutls_suite(suite), "--pskusername", identity,
             "--pskkey", key.hex(), address[0]]
        )  # fmt: skip


class MbedTLSPSKServer(MbedTLS):
    """With one client's key."""

    def __init__(self, files: Files, suite: str, identity: str, key: bytes, hint: str | None = None) -> None:
        assert hint is None, "Mbed TLS cannot give one"
        super().__init__({"ciphers": (PSK_SUITES[suite][1],), "pre_shared_key_store": {identity: key}}, None)


class MbedTLSPSKClient(MbedTLS):
    """With a key."""

    def __init__(self, files: Files, address: tuple[str, int], suite: str, identity: str, key: bytes) -> None:
        super().__init__({"ciphers": (PSK_SUITES[suite][1],), "pre_shared_key": (identity, key)}, address)


PSK_SERVERS: dict[str, Any] = {"openssl": OpenSSLPSKServer, "gnutls": GnuTLSPSKServer, "mbedtls": MbedTLSPSKServer}
PSK_CLIENTS: dict[str, Any] = {"openssl": OpenSSLPSKClient, "gnutls": GnuTLSPSKClient, "mbedtls": MbedTLSPSKClient}
