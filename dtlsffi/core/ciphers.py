"""Cipher suites, described as `ssl` describes them."""

from __future__ import annotations

from typing import Any

from .._native import CData, ffi, lib


def text(pointer: CData) -> str:
    """A C string that OpenSSL owns."""
    return ffi.string(pointer).decode("ascii")


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
