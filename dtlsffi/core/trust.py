"""Whom a context trusts, and how closely it looks: the half of `DTLSContext` that is about the peer."""

from __future__ import annotations

import errno
import hashlib
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from .._native import CData, ffi, lib, text
from . import certificates, pins
from .arguments import check_callback, unsigned
from .certificates import Source
from .constants import DTLSProtocol
from .errors import take_fault
from .peercert import decode
from .settings import Settings

if TYPE_CHECKING:
    from .association import Association

__all__ = ["CertificateCheck", "get_default_verify_paths"]


@dataclass(frozen=True)
class CertificateCheck:
    """What has been found of one certificate of the peer's chain: for `DTLSContext.verify_callback`."""

    certificate: bytes | None
    """The certificate in DER; None where it is not about one (a raw public key)."""
    depth: int
    """Its place in the chain: 0 is the peer's own."""
    verify_code: int
    """0 where nothing is wrong, or what is: X509_STORE_CTX_get_error(3)."""
    verify_message: str
    """The same in words."""

    @property
    def ok(self) -> bool:
        """Whether it would be accepted without the callback."""
        return self.verify_code == 0


VerifyCallback = Callable[[Any, CertificateCheck], bool]


class Trust(Settings):
    """Authorities, revocation lists, and what is verified of a peer."""

    def __init__(self, protocol: DTLSProtocol) -> None:
        super().__init__(protocol)
        self._param = lib.SSL_CTX_get0_param(self._ctx)
        self._check_hostname = False
        self._checks_common_name = True
        self._verify_mode = ssl.CERT_NONE
        self._verify_callback: VerifyCallback | None = None
        self._accept_any = False
        self._places: set[str] = set()  # where authorities are looked for as they are needed
        self._revocations: set[bytes] = set()  # the lists of them, by their hash
        self._set_verify()  # whatever OpenSSL's configuration has (VerifyMode)

    def load_verify_locations(
        self,
        cafile: str | bytes | os.PathLike[str] | None = None,
        capath: str | bytes | os.PathLike[str] | None = None,
        cadata: Any = None,
    ) -> None:
        """Trusts certificate authorities, and learns of what they have revoked.

        `cafile` names a file, `cadata` is such a file's contents: certificates and revocation lists, in PEM (bytes or
        str), DER (bytes), or as objects of `cryptography`. `capath` names a directory of them, or several as in PATH,
        hashed as by openssl-rehash(1), read when needed. Raises `DTLSError` for contents that cannot be understood,
        OSError for a file that cannot be read, TypeError or ValueError for a wrong argument; nothing is added then.
        """
        self._changing()
        if cafile is None and capath is None and cadata is None:
            raise TypeError("cafile, capath and cadata cannot be all omitted")
        found = []
        if cafile is not None:
            cafile = certificates.path_of(cafile)
            if not certificates.is_path(cafile):
                raise TypeError(f"cafile is a file name, not {type(cafile).__name__}; contents go into cadata")
            found.append(certificates.authorities(cafile, "authority"))
        if cadata is not None:
            found.append(certificates.authorities(contents_of(cadata), "cadata"))
        directories = [] if capath is None else existing(capath)
        for x509s, crls in found:
            self._trust(x509s, crls)
        for directory in directories:
            self._trust_directory(directory)

    def _trust_directory(self, directory: str) -> None:
        lib.ERR_clear_error()
        if lib.SSL_CTX_load_verify_dir(self._ctx, os.fsencode(directory)) != 1:
            raise take_fault(f"capath {directory!r} cannot be used")
        self._places.add(directory)

    def _trust(self, x509s: list[CData], crls: list[CData]) -> None:
        store = lib.SSL_CTX_get_cert_store(self._ctx)
        lib.ERR_clear_error()
        added = [lib.X509_STORE_add_cert(store, x509) for x509 in x509s]
        added += [lib.X509_STORE_add_crl(store, crl) for crl in crls]
        if not all(added):
            raise take_fault("an authority cannot be added")
        self._revocations |= {hashlib.sha256(certificates.encode_list(crl)).digest() for crl in crls}

    def load_default_certs(self, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH) -> None:
        """Trusts the authorities that the system trusts; `purpose` is one of `ssl.Purpose`."""
        if not isinstance(purpose, ssl.Purpose):
            raise TypeError(f"purpose is one of ssl.Purpose, not {purpose!r}")
        self.set_default_verify_paths()

    def set_default_verify_paths(self) -> None:
        """Trusts the authorities in OpenSSL's default places: `SSL_CERT_FILE`, `SSL_CERT_DIR`, or as it was built."""
        self._changing()
        lib.ERR_clear_error()
        if lib.SSL_CTX_set_default_verify_paths(self._ctx) != 1:
            raise take_fault("the system's certificate authorities cannot be loaded")
        self._places.add("the system's")

    def _stored(self) -> tuple[list[CData], int]:
        """The certificates in the store, and how many revocation lists there are."""
        store, crls = lib.SSL_CTX_get_cert_store(self._ctx), ffi.new("int *")
        room = lib.dtlsffi_store_list(store, ffi.NULL, 0, crls)
        found = ffi.new("X509 *[]", room)
        count = min(room, lib.dtlsffi_store_list(store, found, room, crls))
        return [certificates.certificate(found[i]) for i in range(count)], crls[0]

    def _policy(self) -> bytes:
        """What stands for the rules by which a peer is verified: sessions do not cross from one set to another."""
        rules: list[object] = [self._verify_mode.name]
        if self._verify_mode is not ssl.CERT_NONE:
            x509s, _ = self._stored()
            rules += [
                self._check_hostname,
                self._checks_common_name,
                self._accept_any,
                self._verify_callback is not None,
                int(self.verify_flags),
                lib.SSL_CTX_get_security_level(self._ctx),
                sorted(self._revocations),
                sorted(self._places),
                sorted(certificates.encode_trusted(x509) for x509 in x509s),
            ]
        return hashlib.sha256(repr(rules).encode()).digest()

    def cert_store_stats(self) -> dict[str, int]:
        """How many certificates (`x509`), authorities among them (`x509_ca`) and revocation lists (`crl`) there are.

        Those of a `capath` count once they have been used.
        """
        x509s, crls = self._stored()
        return {
            "x509": len(x509s),
            "crl": crls,
            "x509_ca": sum(lib.X509_check_ca(x509) != 0 for x509 in x509s),
        }

    @overload
    def get_ca_certs(self, binary_form: Literal[False] = False) -> list[dict[str, Any]]: ...
    @overload
    def get_ca_certs(self, binary_form: Literal[True]) -> list[bytes]: ...
    @overload
    def get_ca_certs(self, binary_form: bool) -> list[dict[str, Any]] | list[bytes]: ...
    def get_ca_certs(self, binary_form: bool = False) -> list[dict[str, Any]] | list[bytes]:
        """The authorities trusted, as `getpeercert` gives certificates, or in DER where `binary_form`."""
        x509s = [x509 for x509 in self._stored()[0] if lib.X509_check_ca(x509)]
        return [certificates.encode(x) for x in x509s] if binary_form else [decode(x) for x in x509s]

    @property
    def verify_mode(self) -> ssl.VerifyMode:
        """Whether the peer must (`CERT_REQUIRED`), may (`CERT_OPTIONAL`) or need not (`CERT_NONE`) prove who it is."""
        return self._verify_mode

    @verify_mode.setter
    def verify_mode(self, mode: ssl.VerifyMode) -> None:
        self._changing()
        mode = ssl.VerifyMode(mode)
        if mode is ssl.CERT_NONE and self._check_hostname:
            raise ValueError("Cannot set verify_mode to CERT_NONE when check_hostname is enabled.")
        self._verify_mode = mode
        self._set_verify()

    def _set_verify(self) -> None:
        number = {
            ssl.CERT_NONE: lib.SSL_VERIFY_NONE,
            ssl.CERT_OPTIONAL: lib.SSL_VERIFY_PEER,
            ssl.CERT_REQUIRED: lib.SSL_VERIFY_PEER | lib.SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
        }[self._verify_mode]
        asks = self._verify_mode is not ssl.CERT_NONE and (self._verify_callback is not None or self._accept_any)
        lib.dtlsffi_ctx_set_verify(self._ctx, number, asks)

    @property
    def verify_callback(self) -> VerifyCallback | None:
        """Called as `verify_callback(connection, check)` for each certificate of the peer's chain, and each fault.

        `check` is a `CertificateCheck`. The callback has the last word, except over pins that do not match: it returns
        True to accept the certificate, whatever is wrong with it, and False to end the handshake. It is called where
        `verify_mode` asks for certificates, and in full handshakes only: whoever resumes a session was looked at then.
        """
        return self._verify_callback

    @verify_callback.setter
    def verify_callback(self, callback: VerifyCallback | None) -> None:
        self._changing()
        check_callback(callback, "verify_callback")
        self._verify_callback = callback
        self._set_verify()

    @property
    def accept_any_certificate(self) -> bool:
        """Whether any certificate is accepted where `verify_mode` asks for one: INSECURE on its own.

        It proves only that the peer holds its private key: find out who that is from `getpeercert(True)`. Like
        `verify_mode = CERT_NONE` it cannot be set while `check_hostname` is.
        """
        return self._accept_any

    @accept_any_certificate.setter
    def accept_any_certificate(self, accept: bool) -> None:
        self._changing()
        if accept and self._check_hostname:
            raise ValueError("Cannot set accept_any_certificate when check_hostname is enabled.")
        self._accept_any = bool(accept)
        self._set_verify()

    def _judge(self, connection: Association, ok: bool, store: CData) -> int:
        """What becomes of one finding: pins come before the chain, and the callback after both.

        A fault that is overruled stays in `store`, so that SSL_get_verify_result(3) tells of it.
        """
        if connection._pins is not None:
            certificate, key = pins.shown(store)
            if not connection._pins.fit(certificate, key):
                lib.X509_STORE_CTX_set_error(store, lib.X509_V_ERR_CERT_REJECTED)  # RFC 8122 section 6.2
                connection._refusal = connection._pins.refusal(certificate)
                return False
        if self._verify_callback is not None and self._verify_mode is not ssl.CERT_NONE:
            accepted = connection._pins is not None or self._accept_any
            return self._ask_verify_callback(self._verify_callback, connection, store, accepted=accepted)
        return ok or connection._pins is not None or self._accept_any

    @staticmethod
    def _ask_verify_callback(callback: VerifyCallback, connection: Association, store: CData, *, accepted: bool) -> int:
        x509 = lib.X509_STORE_CTX_get_current_cert(store)
        code = 0 if accepted else lib.X509_STORE_CTX_get_error(store)
        check = CertificateCheck(
            certificate=None if x509 == ffi.NULL else certificates.encode(x509),
            depth=lib.X509_STORE_CTX_get_error_depth(store),
            verify_code=code,
            verify_message=text(lib.X509_verify_cert_error_string(code)),
        )
        answer = callback(connection._subject(), check)
        if not isinstance(answer, bool):
            raise TypeError(f"a verify_callback returns True or False, not {answer!r}")
        if check.ok and not answer:
            lib.X509_STORE_CTX_set_error(store, lib.X509_V_ERR_CERT_REJECTED)
            connection._refusal = f"the verify_callback has refused the certificate at depth {check.depth}"
        return answer

    def load_client_ca(self, source: Source) -> None:
        """Sets the authorities, given by their certificates, that a server names when it asks clients for one.

        It is a hint only: what is trusted is `load_verify_locations`'s matter. `source` is a file name, contents in PEM
        or DER, or certificates of `cryptography`. Raises `DTLSError` or OSError where it cannot be read.
        """
        self._changing()
        self._not_for(DTLSProtocol.PROTOCOL_DTLS_CLIENT, "a list of client authorities")
        certificates.names(source, lambda x509: int(lib.SSL_CTX_add_client_CA(self._ctx, x509)))

    @property
    def check_hostname(self) -> bool:
        """Whether a client checks that the certificate is for `server_hostname`; implies verification."""
        return self._check_hostname

    @check_hostname.setter
    def check_hostname(self, check: bool) -> None:
        self._changing()
        if check and self._accept_any:
            raise ValueError("Cannot set check_hostname when accept_any_certificate is enabled.")
        if check and self._verify_mode is ssl.CERT_NONE:
            self.verify_mode = ssl.CERT_REQUIRED
        self._check_hostname = bool(check)

    @property
    def hostname_checks_common_name(self) -> bool:
        """Whether the subject's common name counts where the certificate has no alternative name for hosts."""
        return self._checks_common_name

    @hostname_checks_common_name.setter
    def hostname_checks_common_name(self, check: bool) -> None:
        self._changing()
        self._checks_common_name = bool(check)
        lib.X509_VERIFY_PARAM_set_hostflags(self._param, self._host_flags())

    def _host_flags(self) -> int:
        never = 0 if self._checks_common_name else lib.X509_CHECK_FLAG_NEVER_CHECK_SUBJECT
        return int(lib.X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | never)

    @property
    def verify_flags(self) -> ssl.VerifyFlags:
        """How certificates are verified: `ssl.VerifyFlags`."""
        return ssl.VerifyFlags(lib.X509_VERIFY_PARAM_get_flags(self._param))

    @verify_flags.setter
    def verify_flags(self, flags: ssl.VerifyFlags) -> None:
        self._changing()
        new = unsigned(flags, "verify_flags")
        lib.X509_VERIFY_PARAM_clear_flags(self._param, lib.X509_VERIFY_PARAM_get_flags(self._param) & ~new)
        lib.X509_VERIFY_PARAM_set_flags(self._param, new)


def contents_of(cadata: Any) -> Source:
    """What `cadata` holds; ValueError where that is nothing, TypeError for a str that is no PEM."""
    if is_nothing(cadata):
        raise ValueError("cadata is empty: it holds certificates or revocation lists")
    if isinstance(cadata, os.PathLike):
        raise TypeError("cadata is the contents themselves, a str of PEM or bytes: a file is for cafile")
    if not isinstance(cadata, str):
        return cast("Source", cadata)
    if not cadata.isascii():
        raise TypeError("cadata is a str of ASCII characters (PEM), or bytes")
    return cadata.encode()


def existing(capath: str | bytes | os.PathLike[str]) -> list[str]:
    """The directories that `capath` names; OSError where one is none."""
    directories = list(filter(None, os.fsdecode(capath).split(os.pathsep)))
    if not directories:
        raise ValueError("capath names no directory")
    for name in directories:
        if not Path(name).is_dir():
            number = errno.ENOTDIR if Path(name).exists() else errno.ENOENT
            raise OSError(number, os.strerror(number), name)
    return directories


def is_nothing(cadata: object) -> bool:
    """Whether there is no `cadata`; an empty revocation list is false, too, but something."""
    return cadata is None or (isinstance(cadata, (str, bytes, bytearray)) and not cadata)


def get_default_verify_paths() -> ssl.DefaultVerifyPaths:
    """Where this OpenSSL, which need not be ssl's, looks for authorities: `ssl.get_default_verify_paths`."""
    file_env, file, dir_env, directory = (
        text(name())
        for name in (
            lib.X509_get_default_cert_file_env, lib.X509_get_default_cert_file,
            lib.X509_get_default_cert_dir_env, lib.X509_get_default_cert_dir,
        )
    )  # fmt: skip
    cafile, capath = os.environ.get(file_env, file), os.environ.get(dir_env, directory)
    return ssl.DefaultVerifyPaths(
        cafile if Path(cafile).is_file() else None,  # type: ignore[arg-type]
        capath if Path(capath).is_dir() else None,  # type: ignore[arg-type]
        file_env, file, dir_env, directory,
    )  # fmt: skip
