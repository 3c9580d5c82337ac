"""What two sides have to agree on: versions, ciphers, groups, signatures, names, protocols."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import Any

from .._native import ffi, lib, text
from . import certificates
from .arguments import c_string, check_callback, check_is
from .ciphers import describe
from .constants import DTLSProtocol, DTLSVersion, HAS_DTLSv1, HAS_DTLSv1_3
from .errors import DTLSError, make, take_fault
from .settings import Settings

__all__ = ["get_sigalgs"]

# AEAD suites only, forward secrecy before speed. A bad record under a CBC suite with encrypt-then-MAC ends the
# connection in OpenSSL instead of being dropped, so with those suites a single forged datagram would do it.
CERTIFICATE_CIPHERS = (
    "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AESCCM:DHE+AESGCM:DHE+CHACHA20:DHE+AESCCM:!aNULL:!eNULL:!aDSS:!SRP:!AESCCM8"
)
DEFAULT_CIPHERS = CERTIFICATE_CIPHERS + ":!PSK"
PSK_CIPHERS = "kECDHEPSK+CHACHA20:kDHEPSK+AESGCM:kDHEPSK+CHACHA20:kDHEPSK+AESCCM:kPSK+AESGCM:kPSK+CHACHA20:kPSK+AESCCM"

# What stands for a version, and for which.
SUPPORTED: dict[DTLSVersion, DTLSVersion] = {
    DTLSVersion.MINIMUM_SUPPORTED: DTLSVersion.DTLSv1_2,
    DTLSVersion.MAXIMUM_SUPPORTED: DTLSVersion.DTLSv1_3 if HAS_DTLSv1_3 else DTLSVersion.DTLSv1_2,
}

ServerNameCallback = Callable[[Any, str | None, Any], int | None]


class Negotiation(Settings):
    """The part of `DTLSContext` that is about what is agreed on in a handshake."""

    def __init__(self, protocol: DTLSProtocol) -> None:
        super().__init__(protocol)
        self._bounds = {"minimum": DTLSVersion.DTLSv1_2, "maximum": DTLSVersion.MAXIMUM_SUPPORTED}
        self._ciphers_chosen = False
        self._sni_callback: ServerNameCallback | None = None

    # ---- versions ----

    @property
    def minimum_version(self) -> DTLSVersion:
        """The oldest version to speak; DTLS 1.2 unless set."""
        return self._bounds["minimum"]

    @minimum_version.setter
    def minimum_version(self, version: DTLSVersion) -> None:
        self._set_bound("minimum", version, lib.SSL_CTX_set_min_proto_version)

    @property
    def maximum_version(self) -> DTLSVersion:
        """The newest version to speak; the newest that this OpenSSL has unless set."""
        return self._bounds["maximum"]

    @maximum_version.setter
    def maximum_version(self, version: DTLSVersion) -> None:
        self._set_bound("maximum", version, lib.SSL_CTX_set_max_proto_version)

    def _set_bound(self, which: str, version: DTLSVersion, setter: Any) -> None:
        self._changing()
        version = DTLSVersion(version)
        missing = {DTLSVersion.DTLSv1: not HAS_DTLSv1, DTLSVersion.DTLSv1_3: not HAS_DTLSv1_3}
        if missing.get(version):
            raise ValueError(f"this OpenSSL does not have {version.name} (see dtlsffi.HAS_{version.name})")
        if setter(self._ctx, SUPPORTED.get(version, version).value) != 1:
            raise take_fault(f"{which}_version cannot be {version.name}")
        self._bounds[which] = version

    def _check_bounds(self) -> None:
        low, high = self._bounds["minimum"], self._bounds["maximum"]
        if SUPPORTED.get(low, low) > SUPPORTED.get(high, high):
            raise ValueError(f"minimum_version is {low.name}, but maximum_version is {high.name}")

    # ---- ciphers ----

    def set_ciphers(self, ciphers: str) -> None:
        """Allows the cipher suites that `ciphers` selects, in that order, for DTLS up to 1.2: openssl-ciphers(1).

        Raises `DTLSError` where it selects none; the suites are then as they were.
        """
        self._changing()
        self._select_ciphers(ciphers)
        self._ciphers_chosen = True

    def _default_ciphers(self, *, psk: bool) -> None:
        if not self._ciphers_chosen:
            self._select_ciphers(f"{PSK_CIPHERS}:{CERTIFICATE_CIPHERS}" if psk else DEFAULT_CIPHERS)

    def _select_ciphers(self, ciphers: str) -> None:
        self._set_list(lib.SSL_CTX_set_cipher_list, ciphers, "ciphers", "no cipher suite can be selected with")

    def set_ciphersuites(self, ciphersuites: str) -> None:
        """Allows these suites for DTLS 1.3, names joined by colons: SSL_CTX_set_ciphersuites(3).

        Raises NotImplementedError where `HAS_DTLSv1_3` is false.
        """
        self._changing()
        if not HAS_DTLSv1_3:
            raise NotImplementedError("this OpenSSL has no DTLS 1.3 (dtlsffi.HAS_DTLSv1_3), so it has no suites for it")
        self._set_list(lib.SSL_CTX_set_ciphersuites, ciphersuites, "ciphersuites", "unknown suites in")

    def _set_list(self, setter: Any, names: str, what: str, complaint: str) -> None:
        """Hands a list over, after a trial on another SSL_CTX: a list that is refused may leave one with nothing."""
        check_is(names, str, f"{what} is a str")
        encoded = c_string(names, what)
        lib.ERR_clear_error()
        trial = ffi.gc(lib.dtlsffi_ctx_new(lib.DTLS_method()), lib.SSL_CTX_free)
        for ctx in (trial, self._ctx):
            if setter(ctx, encoded) != 1:
                raise take_fault(f"{complaint} {names!r}")

    def get_ciphers(self) -> list[dict[str, Any]]:
        """The cipher suites allowed, most wanted first, each as `ssl.SSLContext.get_ciphers` describes it."""
        newest = self._bounds["maximum"]
        with_13 = SUPPORTED.get(newest, newest) > DTLSVersion.DTLSv1_2
        ssl_object = ffi.gc(lib.SSL_new(self._ctx), lib.SSL_free)
        stack = lib.SSL_get_ciphers(ssl_object)
        suites = [describe(lib.sk_SSL_CIPHER_value(stack, i)) for i in range(lib.sk_SSL_CIPHER_num(stack))]
        return [suite for suite in suites if with_13 or suite["protocol"] != "TLSv1.3"]

    # ---- groups and signatures ----

    def set_groups(self, groups: str) -> None:
        """Allows these groups for the key exchange, most wanted first, joined by colons: SSL_CTX_set1_groups_list(3).

        Raises `DTLSError` for a name that this OpenSSL does not know.
        """
        self._changing()
        self._set_list(lib.SSL_CTX_set1_groups_list, groups, "groups", "unknown groups in")

    def set_ecdh_curve(self, curve_name: str | bytes) -> None:
        """`set_groups` with one group: ssl's name for it. Raises ValueError for a name that OpenSSL does not know."""
        name = os.fsdecode(curve_name) if isinstance(curve_name, (str, bytes)) else curve_name
        check_is(name, str, "curve_name is a str")
        try:
            self.set_groups(name)
        except DTLSError:
            raise ValueError(f"unknown elliptic curve name {name!r}") from None

    def get_groups(self, *, include_aliases: bool = False) -> list[str]:
        """The groups that could be negotiated: SSL_CTX_get0_implemented_groups(3).

        Raises NotImplementedError before OpenSSL 3.5.
        """
        if not hasattr(lib, "SSL_CTX_get0_implemented_groups"):
            raise NotImplementedError("Getting implemented groups requires OpenSSL 3.5 or later.")
        found = string_stack()
        if lib.SSL_CTX_get0_implemented_groups(self._ctx, include_aliases, found) != 1:
            raise take_fault("the groups cannot be listed")
        return [text(lib.sk_OPENSSL_CSTRING_value(found, i)) for i in range(lib.sk_OPENSSL_CSTRING_num(found))]

    def load_dh_params(self, dhfile: str | bytes | os.PathLike[str]) -> None:
        """Loads parameters for DHE suites from a PEM file; unless it is called, OpenSSL chooses them by itself.

        Raises `DTLSError` where they cannot be read or are too weak, OSError where the file cannot be read.
        """
        self._changing()
        dhfile = certificates.path_of(dhfile)
        check_is(dhfile, (str, os.PathLike), "dhfile is a file name")
        contents = certificates.read(dhfile, "dhfile")
        lib.ERR_clear_error()
        with certificates.memory_bio(contents) as bio:
            parameters = lib.PEM_read_bio_Parameters(bio, ffi.NULL)
        if parameters == ffi.NULL or not any(lib.EVP_PKEY_is_a(parameters, kind) for kind in (b"DH", b"DHX")):
            lib.EVP_PKEY_free(parameters)
            raise take_fault(f"{os.fspath(dhfile)!r} holds no readable DH parameters")
        if lib.SSL_CTX_set0_tmp_dh_pkey(self._ctx, parameters) != 1:
            lib.EVP_PKEY_free(parameters)
            raise take_fault(f"the DH parameters in {os.fspath(dhfile)!r} cannot be used")
        lib.SSL_CTX_set_dh_auto(self._ctx, 0)  # which would come first

    def set_server_sigalgs(self, sigalgs: str) -> None:
        """Allows a server these signature algorithms, joined by colons: SSL_CTX_set1_sigalgs_list(3).

        Raises `DTLSError` for an unknown one.
        """
        self._changing()
        self._set_list(lib.SSL_CTX_set1_sigalgs_list, sigalgs, "sigalgs", "unknown signature algorithms in")

    def set_client_sigalgs(self, sigalgs: str) -> None:
        """The same for a client that proves who it is: SSL_CTX_set1_client_sigalgs_list(3)."""
        self._changing()
        self._set_list(lib.SSL_CTX_set1_client_sigalgs_list, sigalgs, "sigalgs", "unknown signature algorithms in")

    # ---- application protocols: RFC 7301 ----

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Offers these protocols, or as a server takes the first of them that the client offers, too.

        Without one in common the handshake goes on without a protocol, as in `ssl`; so it does with an empty list.
        Raises ValueError for a name that does not have 1 to 255 bytes, TypeError for what is no list of str.
        """
        self._changing()
        if isinstance(alpn_protocols, (str, bytes)):
            raise TypeError(f"alpn_protocols is a list of str, not {type(alpn_protocols).__name__}")
        wire = bytearray()
        for protocol in alpn_protocols:
            if not isinstance(protocol, str):
                raise TypeError(f"alpn_protocols is a list of str, and one is {type(protocol).__name__}")
            name = c_string(protocol, "an ALPN protocol")
            if not 1 <= len(name) <= 255:
                raise ValueError(f"ALPN protocols have 1 to 255 bytes, not {len(name)}")
            wire += bytes([len(name)]) + name
        if len(wire) > 65535:
            raise ValueError("alpn_protocols has at most 65535 bytes, with one more for each protocol")
        if lib.dtlsffi_ctx_set_protocols(self._ctx, bytes(wire), len(wire)) != 1:
            raise MemoryError

    # ---- keys for SRTP: RFC 5764 ----

    def set_srtp_profiles(self, profiles: Iterable[str]) -> None:
        """Offers, or as a server takes, SRTP protection profiles, most wanted first: SSL_CTX_set_tlsext_use_srtp(3).

        They are known by OpenSSL's names: `SRTP_AES128_CM_SHA1_80`, `SRTP_AES128_CM_SHA1_32`,
        `SRTP_AEAD_AES_128_GCM`, `SRTP_AEAD_AES_256_GCM`. Raises ValueError for another one.
        """
        self._changing()
        names = [profiles] if isinstance(profiles, str) else list(profiles)
        for name in names:
            if name not in SRTP_LENGTHS:
                raise ValueError(f"{name!r} is no SRTP profile known here: {', '.join(SRTP_LENGTHS)}")
        if not names:
            raise ValueError("profiles names at least one SRTP profile")
        lib.ERR_clear_error()
        if lib.SSL_CTX_set_tlsext_use_srtp(self._ctx, ":".join(names).encode("ascii")) != 0:  # 0 is success here
            raise take_fault(f"SRTP profiles {names} cannot be used")

    # ---- the server's name: RFC 6066 section 3 ----

    @property
    def sni_callback(self) -> ServerNameCallback | None:
        """Called by a server as `callback(connection, server_name, context)` when a ClientHello comes.

        `server_name` is a str in its ASCII form, or None where the client has not said; `connection` what the
        handshake is for. The callback may set `connection.context`, and nobody else may: the handshake goes on with
        that one's certificate, verification, versions, ciphers and pre-shared keys (its groups, mtu, timers, tickets
        and session callbacks remain those of the first). It returns None to go on, or an `AlertDescription` to end
        the handshake.
        """
        return self._sni_callback

    @sni_callback.setter
    def sni_callback(self, callback: ServerNameCallback | None) -> None:
        self._changing()
        self._not_for(DTLSProtocol.PROTOCOL_DTLS_CLIENT, "sni_callback")
        check_callback(callback, "sni_callback")
        self._sni_callback = callback
        lib.dtlsffi_ctx_ask_by_name(self._ctx, callback is not None)

    def set_servername_callback(self, server_name_callback: ServerNameCallback | None) -> None:
        """Sets `sni_callback`, whose older name in `ssl` this is."""
        self.sni_callback = server_name_callback

    def _choose_by_name(self, connection: Any, name: bytes | None) -> int:
        """The alert to send, or -1 to go on."""
        if self._sni_callback is None:
            return -1
        if name is not None and not re.fullmatch(rb"[\x21-\x7e]+", name):
            return UNRECOGNIZED_NAME
        server_name = None if name is None else name.decode("ascii")
        answer = self._sni_callback(connection, server_name, self)
        if answer is None:
            return -1
        if not isinstance(answer, int) or not 0 <= answer <= 255:
            raise TypeError(f"an sni_callback returns None or an AlertDescription, not {answer!r}")
        return int(answer)


UNRECOGNIZED_NAME = 112

SRTP_LENGTHS: dict[str, tuple[int, int]] = {
    "SRTP_AES128_CM_SHA1_80": (16, 14),
    "SRTP_AES128_CM_SHA1_32": (16, 14),
    "SRTP_AEAD_AES_128_GCM": (16, 12),
    "SRTP_AEAD_AES_256_GCM": (32, 12),
}
"""Bytes of master key and master salt: RFC 5764 section 4.1.2, RFC 7714 section 12."""


def string_stack() -> Any:
    """An empty stack of strings that OpenSSL owns."""
    return ffi.gc(lib.sk_OPENSSL_CSTRING_new_null(), lib.sk_OPENSSL_CSTRING_free)


def get_sigalgs() -> list[str]:
    """The signature algorithms that this OpenSSL knows: SSL_get1_builtin_sigalgs(3).

    Raises NotImplementedError before OpenSSL 3.4.
    """
    if not hasattr(lib, "SSL_get1_builtin_sigalgs"):
        raise NotImplementedError("Getting signature algorithms requires OpenSSL 3.4 or later.")
    names = lib.SSL_get1_builtin_sigalgs(ffi.NULL)
    if names == ffi.NULL:
        raise make(DTLSError, "UNKNOWN", "the signature algorithms cannot be listed")
    try:
        return text(names).split(":")
    finally:
        lib.OPENSSL_free(names)
