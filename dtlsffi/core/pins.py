"""A peer that is known by its certificate's fingerprint or its public key, with no authority: RFC 8122, RFC 7250."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Any

from .._native import CData, ffi, lib
from . import certificates
from .arguments import check_is
from .certificates import Source

# RFC 8122 section 5 has sha-1 as well, and warns of it; nothing needs it any more.
ALGORITHMS = {"sha-224": "sha224", "sha-256": "sha256", "sha-384": "sha384", "sha-512": "sha512"}

PATTERN = r"(?:a=fingerprint:)? ?([\w-]+) ((?:[0-9A-Fa-f]{2}:?)+)"
LONGEST = 256  # characters: more than any of these needs

Fingerprints = str | Iterable[str]
Keys = Source | Iterable[Source]


def fingerprint(der: bytes, algorithm: str = "sha-256") -> str:
    """A certificate's fingerprint as in SDP, `"sha-256 AB:CD:..."`; ValueError for an unknown algorithm."""
    name = str(algorithm).lower()
    if name not in ALGORITHMS:
        raise ValueError(f"{algorithm!r} is no hash for fingerprints: {', '.join(ALGORITHMS)}")
    return f"{name} {hashlib.new(ALGORITHMS[name], der).digest().hex(':').upper()}"


def valid_fingerprint(text: str) -> str:
    """A fingerprint in the form that `fingerprint` gives it, from an SDP line or a part of one; or ValueError."""
    check_is(text, str, "a fingerprint is a str")
    line = text.strip()
    match = re.fullmatch(PATTERN, line) if len(line) <= LONGEST else None
    algorithm, digits = match.groups() if match else ("", "")
    if algorithm.lower() not in ALGORITHMS:
        raise ValueError(f"a fingerprint reads 'sha-256 AB:CD:...', with one of {', '.join(ALGORITHMS)}, not {text!r}")
    digest = bytes.fromhex(digits.replace(":", ""))
    if len(digest) != hashlib.new(ALGORITHMS[algorithm.lower()]).digest_size:
        raise ValueError(f"a {algorithm} fingerprint does not have {len(digest)} bytes: {text!r}")
    return f"{algorithm.lower()} {digest.hex(':').upper()}"


class Pins:
    """What a connection's peer has to show: one of these certificates, by fingerprint, or one of these public keys."""

    def __init__(self, fingerprints: Fingerprints | None, keys: Keys | None) -> None:
        one = isinstance(fingerprints, (str, bytes))  # the latter is refused by name
        given: list[Any] = [fingerprints] if one else list(fingerprints or ())
        self.fingerprints = tuple(sorted(valid_fingerprint(text) for text in given))
        if fingerprints is not None and not self.fingerprints:
            raise ValueError("verify_fingerprint names at least one fingerprint")
        one = isinstance(keys, (str, bytes, bytearray, memoryview)) or any(
            hasattr(keys, name) for name in ("__fspath__", "public_bytes", "private_bytes")
        )
        sources: Any = () if keys is None else (keys,) if one else keys
        self.keys = tuple(sorted(certificates.public_key(source) for source in sources))
        if keys is not None and not self.keys:
            raise ValueError("verify_public_key names at least one public key")

    @property
    def identifier(self) -> bytes:
        """What stands for them in a session: nobody is to come in with one that was made under other pins."""
        parts = [text.encode() for text in self.fingerprints] + list(self.keys)
        return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()

    def fit(self, certificate: bytes | None, key: bytes) -> bool:
        """Whether a certificate (DER, None for a raw public key) or its public key (DER) is one of those wanted."""
        if any(hmac.compare_digest(key, wanted) for wanted in self.keys):
            return True
        return certificate is not None and any(
            hmac.compare_digest(fingerprint(certificate, wanted.split()[0]), wanted) for wanted in self.fingerprints
        )

    def refusal(self, certificate: bytes | None) -> str:
        """Why one does not fit, in words."""
        names = sorted({text.split()[0] for text in self.fingerprints}) or ["sha-256"]
        shown = "a raw public key"
        if certificate is not None:
            shown = ", ".join(fingerprint(certificate, name) for name in names)
        wanted = [*self.fingerprints, *(["a public key that is pinned"] if self.keys else [])]
        return f"it is {shown}, not {' or '.join(wanted)}"


def pins_of(fingerprints: Fingerprints | Pins | None, keys: Keys | None) -> Pins | None:
    """What is given of them, or None; ValueError or TypeError where that is none. `Pins` are for many connections."""
    if isinstance(fingerprints, Pins):
        return fingerprints
    return None if fingerprints is None and keys is None else Pins(fingerprints, keys)


def shown(store: CData) -> tuple[bytes | None, bytes]:
    """What the peer has shown of itself: its certificate, or None, and its public key, or b"" for an unknown kind."""
    x509 = lib.X509_STORE_CTX_get0_cert(store)
    if x509 != ffi.NULL:
        certificate, key = certificates.encode(x509), lib.X509_get0_pubkey(x509)
    else:
        certificate = None
        key = lib.X509_STORE_CTX_get0_rpk(store) if hasattr(lib, "X509_STORE_CTX_get0_rpk") else ffi.NULL
    return certificate, b"" if key == ffi.NULL else certificates.encode_key(key)
