"""Certificates and keys, from files or from memory, PEM or DER, to OpenSSL's objects.

Everything is read and checked before anything is changed: a file that cannot be used leaves its context as it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from .._native import CData, ffi, lib
from .callbacks import Password, PasswordSource
from .errors import DTLSError, make, take_fault


class PublicBytes(Protocol):
    """A certificate, a revocation list or a public key of the package `cryptography`."""

    def public_bytes(self, *args: Any, **kwargs: Any) -> bytes:
        """It in PEM."""


class PrivateBytes(Protocol):
    """A private key of the package `cryptography`."""

    def private_bytes(self, *args: Any, **kwargs: Any) -> bytes:
        """It in PEM."""


Source = str | os.PathLike[str] | bytes | bytearray | memoryview | PublicBytes | PrivateBytes | Sequence[PublicBytes]
"""A file's name (str or PathLike), its contents (bytes: PEM or DER), or an object of the package `cryptography`."""

Reader = Callable[[CData, CData, CData, CData], CData]
"""One of OpenSSL's PEM readers."""

PEM_MARK = b"-----BEGIN "


def is_path(source: Source) -> bool:
    """Whether `source` names a file."""
    return isinstance(source, (str, os.PathLike))


def path_of(source: Any) -> Any:
    """A file's name, as text where it is bytes; whatever is none as it is."""
    is_name = isinstance(source, bytes) and b"-----BEGIN" not in source and b"\n" not in source
    return os.fsdecode(source) if is_name else source


def name_of(source: Source, what: str) -> str:
    """What to call `source` in an error: its file name, or `what` it was given as."""
    return repr(os.fspath(source)) if isinstance(source, (str, os.PathLike)) else f"the {what} given as bytes"


def read(source: Source, what: str) -> bytearray:
    """The contents of `source`, in memory that `wipe` can clear; OSError where the file cannot be read."""
    if isinstance(source, str) and ("-----BEGIN" in source or "\n" in source):
        raise ValueError(f"{what} is a str, which names a file, but holds PEM: give contents as bytes")
    if isinstance(source, (str, os.PathLike)):
        with open(os.fsdecode(source), "rb", buffering=0) as file:  # noqa: PTH123 - Path("") is the directory
            contents = bytearray(os.fstat(file.fileno()).st_size or 65536)
            length = file.readinto(contents)
            del contents[length:]
            contents += file.read()
    elif isinstance(source, (bytes, bytearray, memoryview)):
        contents = bytearray(source)
    elif hasattr(source, "public_bytes") or hasattr(source, "private_bytes"):
        contents = bytearray(serialized(source))
    elif isinstance(source, (list, tuple)) and all(hasattr(item, "public_bytes") for item in source):
        contents = bytearray(b"".join(serialized(item) for item in source))
    else:
        raise TypeError(
            f"{what} is a file name (str, PathLike), its contents (bytes) or an object of `cryptography`, "
            f"not {type(source).__name__}"
        )
    if not contents:
        raise make(DTLSError, "NO_START_LINE", f"{name_of(source, what)} is empty", library="PEM")
    return contents


def serialized(thing: Any) -> bytes:
    """A certificate, list or key of `cryptography`, which is installed where there is such an object, in PEM."""
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    if hasattr(thing, "private_bytes"):
        return bytes(thing.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    if hasattr(thing, "verify_directly_issued_by") or hasattr(thing, "issuer"):  # a certificate or revocation list
        return bytes(thing.public_bytes(Encoding.PEM))
    return bytes(thing.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


@contextmanager
def memory_bio(contents: bytearray) -> Iterator[CData]:
    """A BIO that reads `contents`."""
    with ffi.from_buffer(contents) as view:
        bio = lib.BIO_new_mem_buf(view, len(contents))
        if bio == ffi.NULL:
            raise MemoryError
        try:
            yield bio
        finally:
            lib.BIO_free(bio)


def certificate(pointer: CData) -> CData:
    """An X509 that frees itself."""
    return ffi.gc(pointer, lib.X509_free)


def pem_blocks(bio: CData, first: Reader, following: Reader) -> Iterator[CData]:
    """What the PEM reader `first`, and then `following`, finds in `bio`, until there is no more."""
    reader = first
    while (found := reader(bio, ffi.NULL, lib.dtlsffi_no_password, ffi.NULL)) != ffi.NULL:
        yield found
        reader = following


def ran_dry() -> bool:
    """Whether the last PEM reader stopped because nothing more follows; clears the error queue if so."""
    error = lib.ERR_peek_last_error()
    dry: bool = (lib.ERR_GET_LIB(error), lib.ERR_GET_REASON(error)) == (lib.ERR_LIB_PEM, lib.PEM_R_NO_START_LINE)
    if dry:
        lib.ERR_clear_error()
    return dry


def certificate_chain(source: Source) -> list[CData]:
    """The certificates in `source`, in their order, the first one being the end entity's.

    Raises `DTLSError` where there is none, or one that cannot be read; OSError where the file cannot be.
    """
    name = name_of(source, "certificate")
    contents = read(source, "certificate")
    lib.ERR_clear_error()
    with memory_bio(contents) as bio:
        if PEM_MARK not in contents:
            found = lib.d2i_X509_bio(bio, ffi.NULL)
            if found == ffi.NULL:
                advice = "" if is_path(source) else ": a file is named by a str or a PathLike"
                raise take_fault(f"{name} holds no certificate, in PEM or in DER form{advice}")
            return [certificate(found)]
        chain = [certificate(x) for x in pem_blocks(bio, lib.PEM_read_bio_X509_AUX, lib.PEM_read_bio_X509)]
    if not chain or not ran_dry():
        raise take_fault(f"{name} holds {'a certificate that cannot be read' if chain else 'no readable certificate'}")
    return chain


def private_key(source: Source, password: PasswordSource = None) -> CData:
    """The private key in `source`, an EVP_PKEY that frees itself.

    Raises `DTLSError` where there is none or the password is wrong, ValueError where a password is needed, whatever a
    password callable raises, and OSError where the file cannot be read.
    """
    if not (password is None or callable(password) or isinstance(password, (str, bytes, bytearray))):
        raise TypeError("password should be a string or callable")
    name = name_of(source, "private key")
    contents = read(source, "private key")
    asker = Password(password)
    handle = ffi.new_handle(asker)
    lib.ERR_clear_error()
    try:
        with memory_bio(contents) as bio:
            key = read_key(bio, PEM_MARK in contents, handle)
    finally:
        contents[:] = bytes(len(contents))
    if asker._parked is not None:
        lib.ERR_clear_error()
        asker._collect()
    if key == ffi.NULL:
        if asker.asked:
            raise take_fault(f"{name} cannot be decrypted: the password is wrong")
        raise take_fault(f"{name} holds no readable private key, which may be in a file of its own (keyfile)")
    lib.ERR_clear_error()
    return ffi.gc(key, lib.EVP_PKEY_free)


def read_key(bio: CData, is_pem: bool, handle: CData) -> CData:
    """The key that `bio` holds, or NULL."""
    if is_pem:
        return lib.PEM_read_bio_PrivateKey(bio, ffi.NULL, lib.dtlsffi_on_password, handle)
    key = lib.d2i_PrivateKey_bio(bio, ffi.NULL)
    if key == ffi.NULL:
        lib.BIO_reset(bio)
        key = lib.d2i_PKCS8PrivateKey_bio(bio, ffi.NULL, lib.dtlsffi_on_password, handle)
    return key


def use(ctx: CData, chain: list[CData], key: CData) -> None:
    """Gives `ctx` a certificate, the rest of its chain and its key, all or none of them."""
    lib.ERR_clear_error()
    if lib.X509_check_private_key(chain[0], key) != 1:
        words = "the private key does not belong to the certificate, the first one where there is a chain"
        raise take_fault(words)
    rest = ffi.gc(lib.sk_X509_new_null(), lib.sk_X509_free)
    for extra in chain[1:]:
        lib.sk_X509_push(rest, extra)
    if lib.SSL_CTX_use_cert_and_key(ctx, chain[0], key, rest, 1) != 1:
        raise take_fault("the certificate cannot be used")


def authorities(source: Source, what: str) -> tuple[list[CData], list[CData]]:
    """The certificates and the revocation lists in `source`, as two lists.

    PEM may hold any number of each, DER any number of certificates one behind the other, or one revocation list.
    Raises `DTLSError` where there is nothing, or something that cannot be read.
    """
    name = name_of(source, what)
    contents = read(source, what)
    lib.ERR_clear_error()
    found = pem_authorities(contents) if PEM_MARK in contents else der_authorities(contents)
    if found is None:
        raise take_fault(f"{name} holds something that is no certificate or revocation list, or cannot be read")
    if not any(found):
        words = f"{name} holds neither a certificate nor a revocation list"
        raise make(DTLSError, "NO_CERTIFICATE_OR_CRL_FOUND", words, library="X509")
    return found


Authorities = tuple[list[CData], list[CData]]


def pem_authorities(contents: bytearray) -> Authorities | None:
    """`authorities` of PEM, or None if part of it cannot be read."""
    with memory_bio(contents) as bio:
        reader = lib.PEM_read_bio_X509_AUX
        certificates = [certificate(x) for x in pem_blocks(bio, reader, reader)]
        if not ran_dry():
            return None
        lib.BIO_reset(bio)
        reader = lib.PEM_read_bio_X509_CRL
        lists = [ffi.gc(crl, lib.X509_CRL_free) for crl in pem_blocks(bio, reader, reader)]
        return (certificates, lists) if ran_dry() else None


def der_authorities(contents: bytearray) -> Authorities | None:
    """`authorities` of DER, or None if part of it cannot be read."""
    with memory_bio(contents) as bio:
        crl = lib.d2i_X509_CRL_bio(bio, ffi.NULL)
        if crl != ffi.NULL:
            return [], [ffi.gc(crl, lib.X509_CRL_free)]
        lib.BIO_reset(bio)
        certificates = []
        while lib.BIO_pending(bio) > 0:
            found = lib.d2i_X509_bio(bio, ffi.NULL)
            if found == ffi.NULL:
                return None
            certificates.append(certificate(found))
    lib.ERR_clear_error()
    return certificates, []


def encode(x509: CData) -> bytes:
    """A certificate in DER."""
    return der(lib.i2d_X509, x509, "a certificate")


def encode_trusted(x509: CData) -> bytes:
    """A certificate in DER, with what it is trusted for, where that is said: X509_add1_trust_object(3)."""
    return der(lib.i2d_X509_AUX, x509, "a certificate")


def encode_list(crl: CData) -> bytes:
    """A revocation list in DER."""
    return der(lib.i2d_X509_CRL, crl, "a revocation list")


def encode_key(key: CData) -> bytes:
    """A public key (that of an EVP_PKEY) in DER, as SubjectPublicKeyInfo: RFC 5280 section 4.1."""
    return der(lib.i2d_PUBKEY, key, "a public key")


def der(encoder: Callable[[CData, CData], int], thing: CData, what: str) -> bytes:
    """What one of OpenSSL's i2d functions makes of `thing`."""
    length = encoder(thing, ffi.NULL)
    if length <= 0:
        raise take_fault(f"{what} cannot be encoded")
    encoded = bytearray(length)
    with ffi.from_buffer("unsigned char[]", encoded) as view:
        encoder(thing, ffi.new("unsigned char **", view))
    return bytes(encoded)


def public_key(source: Source) -> bytes:
    """The public key in `source`, PEM or DER, in DER; `DTLSError` where there is none, OSError as for other sources."""
    name = name_of(source, "public key")
    contents = read(source, "public key")
    lib.ERR_clear_error()
    with memory_bio(contents) as bio:
        if PEM_MARK in contents:
            key = lib.PEM_read_bio_PUBKEY(bio, ffi.NULL, lib.dtlsffi_no_password, ffi.NULL)
        else:
            key = lib.d2i_PUBKEY_bio(bio, ffi.NULL)
    if key == ffi.NULL:
        raise take_fault(f"{name} holds no readable public key (SubjectPublicKeyInfo)")
    return encode_key(ffi.gc(key, lib.EVP_PKEY_free))


def names(source: Source, add: Callable[[CData], int]) -> None:
    """Hands every certificate in `source` to `add`; `DTLSError` where one cannot be taken, and as `authorities`.

    ValueError where there are revocation lists only.
    """
    x509s, _ = authorities(source, "authority")
    if not x509s:
        raise ValueError(f"{name_of(source, 'authority')} holds no certificate that could be named")
    for x509 in x509s:
        if add(x509) != 1:
            raise take_fault(f"a name in {name_of(source, 'authority')} cannot be used")
