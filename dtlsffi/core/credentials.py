"""Who a context's connections are: certificate and key, or a raw public key, and what is stapled to them."""

from __future__ import annotations

from collections.abc import Iterable

from .._native import ffi, lib
from . import certificates, pins
from .callbacks import PasswordSource
from .certificates import Source
from .constants import HAS_RAW_PUBLIC_KEYS, DTLSProtocol
from .errors import take_fault
from .settings import Settings

CERTIFICATE_TYPES: dict[str, int] = {
    "x509": lib.TLSEXT_cert_type_x509,
    "raw_public_key": lib.TLSEXT_cert_type_rpk,
}


class Credentials(Settings):
    """The part of `DTLSContext` that is about ourselves."""

    def __init__(self, protocol: DTLSProtocol) -> None:
        super().__init__(protocol)
        self._certificate_types: tuple[bytes, bytes] | None = None

    def load_cert_chain(self, certfile: Source, keyfile: Source | None = None, password: PasswordSource = None) -> None:
        """Loads our certificate, the rest of its chain and its private key: SSL_CTX_use_cert_and_key(3).

        `certfile` and `keyfile` are file names (str, PathLike), contents (bytes: PEM or DER), or objects of the package
        `cryptography` (for the chain a list of certificates); without `keyfile` the key is looked for in `certfile`.
        `password` is a str, bytes, bytearray, or a callable that returns one; it is asked only if the key is encrypted.
        One certificate for each kind of key may be loaded: RSA or ECDSA (with Ed25519 and Ed448, which load, too, no
        client finds a cipher suite: OpenSSL has them for TLS, not for DTLS).

        Raises `DTLSError` where anything cannot be read or the two do not belong together, OSError where a file cannot
        be read, ValueError where a password is missing; the context is then as it was.
        """
        self._changing()
        chain = certificates.certificate_chain(certfile)
        key = certificates.private_key(certfile if keyfile is None else keyfile, password)
        self._changing()  # a callable that was asked for the password may have used it
        certificates.use(self._ctx, chain, key)

    def fingerprint(self, algorithm: str = "sha-256") -> str | None:
        """The fingerprint of the certificate loaded last, as in SDP: `"sha-256 AB:CD:..."`; None without one.

        RFC 8122 section 5. Raises ValueError for a hash other than sha-224, sha-256, sha-384, sha-512.
        """
        x509 = lib.SSL_CTX_get0_certificate(self._ctx)
        der = b"" if x509 == ffi.NULL else certificates.encode(x509)
        text = pins.fingerprint(der, algorithm)
        return None if x509 == ffi.NULL else text

    # ---- raw public keys: RFC 7250 ----

    def load_private_key(self, keyfile: Source, password: PasswordSource = None) -> None:
        """Loads a private key without a certificate, for `set_certificate_types(own=["raw_public_key"])`.

        The arguments and exceptions are `load_cert_chain`'s. Raises NotImplementedError where `HAS_RAW_PUBLIC_KEYS` is
        false.
        """
        self._changing()
        need_raw_public_keys()
        key = certificates.private_key(keyfile, password)
        self._changing()
        lib.ERR_clear_error()
        if lib.SSL_CTX_use_PrivateKey(self._ctx, key) != 1:
            raise take_fault("the private key cannot be used")

    def set_certificate_types(self, *, own: Iterable[str] = ("x509",), peer: Iterable[str] = ("x509",)) -> None:
        """Allows raw public keys in place of certificates, for ourselves and for the peer: RFC 7250.

        Each is a list of `"x509"` and `"raw_public_key"`, most wanted first. A peer's raw key is trusted only if the
        connection names it (`verify_public_key=`) or a `verify_callback` accepts it. Raises ValueError for another
        type, NotImplementedError where `HAS_RAW_PUBLIC_KEYS` is false (before OpenSSL 3.2).
        """
        self._changing()
        types = []
        for what, given in (("own", own), ("peer", peer)):
            if isinstance(given, str):
                raise TypeError(f"{what} is a list of certificate types, not a str")
            names = list(given)
            for name in names:
                if name not in CERTIFICATE_TYPES:
                    raise ValueError(f"{what} names the certificate types 'x509' and 'raw_public_key', not {name!r}")
            if not names or len(set(names)) != len(names):
                raise ValueError(f"{what} names one or two different certificate types, not {names}")
            types.append(bytes(CERTIFICATE_TYPES[name] for name in names))
        need_raw_public_keys()
        self._certificate_types = (types[0], types[1])


def need_raw_public_keys() -> None:
    """Raises NotImplementedError where this OpenSSL has none."""
    if not HAS_RAW_PUBLIC_KEYS:
        raise NotImplementedError("raw public keys need OpenSSL 3.2 or newer (dtlsffi.HAS_RAW_PUBLIC_KEYS)")
