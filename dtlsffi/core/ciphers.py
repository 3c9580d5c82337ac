"""Cipher suites, described as `ssl` describes them."""

from __future__ import annotations

from typing import Any

from .._native import CData, ffi, lib, text


def short_name(nid: int) -> str | None:
    """An algorithm's name in small letters, as `ssl.SSLContext.get_ciphers` has it."""
    return None if nid == 0 else text(lib.OBJ_nid2ln(nid)).lower()


def bits(cipher: CData) -> tuple[int, int]:
    """How many bits of secret are used, and how many the algorithm takes."""
    algorithm = ffi.new("int *")
    used = lib.SSL_CIPHER_get_bits(cipher, algorithm)
    return used, algorithm[0]


def summary(cipher: CData) -> tuple[str, str, int]:
    """A suite as `ssl.SSLSocket.cipher` gives it: name, the version that defined it, bits of secret."""
    return text(lib.SSL_CIPHER_get_name(cipher)), text(lib.SSL_CIPHER_get_version(cipher)), bits(cipher)[0]


def signature_name(ssl_object: CData, *, own: bool) -> str | None:
    """How one side signed in the handshake, by the name of RFC 8446 section 4.2.3; None where it did not."""
    if hasattr(lib, "SSL_get0_signature_name"):
        name = ffi.new("const char **")
        get = lib.SSL_get0_signature_name if own else lib.SSL_get0_peer_signature_name
        return text(name[0]) if get(ssl_object, name) == 1 and name[0] != ffi.NULL else None
    kind, digest = ffi.new("int *"), ffi.new("int *")
    get_kind = lib.SSL_get_signature_type_nid if own else lib.SSL_get_peer_signature_type_nid
    get_digest = lib.SSL_get_signature_nid if own else lib.SSL_get_peer_signature_nid
    if get_kind(ssl_object, kind) != 1:
        return None
    get_digest(ssl_object, digest)
    family, hashed = short_name(kind[0]) or "", short_name(digest[0]) or ""
    pattern = SIGNATURES.get(family, family + "_{}")
    return pattern.format({"sha256": "secp256r1_sha256", "sha384": "secp384r1_sha384", "sha512": "secp521r1_sha512"}
                          .get(hashed, hashed) if family == "id-ecpublickey" else hashed)  # fmt: skip


# Key types by OpenSSL's names; the placeholder is the hash, for ECDSA with the curve.
SIGNATURES: dict[str, str] = {
    "id-ecpublickey": "ecdsa_{}",
    "rsaencryption": "rsa_pkcs1_{}",
    "rsassapss": "rsa_pss_rsae_{}",
    "ed25519": "ed25519",
    "ed448": "ed448",
}


def describe(cipher: CData) -> dict[str, Any]:
    """A suite as `ssl.SSLContext.get_ciphers` gives it."""
    buffer = ffi.new("char[]", 512)
    used, algorithm = bits(cipher)
    return {
        "id": lib.SSL_CIPHER_get_id(cipher),
        "name": text(lib.SSL_CIPHER_get_name(cipher)),
        "protocol": text(lib.SSL_CIPHER_get_version(cipher)),
        "description": text(lib.SSL_CIPHER_description(cipher, buffer, len(buffer))).strip(),
        "strength_bits": used,
        "alg_bits": algorithm,
        "aead": bool(lib.SSL_CIPHER_is_aead(cipher)),
        "symmetric": short_name(lib.SSL_CIPHER_get_cipher_nid(cipher)),
        "digest": short_name(lib.SSL_CIPHER_get_digest_nid(cipher)),
        "kea": short_name(lib.SSL_CIPHER_get_kx_nid(cipher)),
        "auth": short_name(lib.SSL_CIPHER_get_auth_nid(cipher)),
    }
