"""Whom a context trusts, and how closely it looks: the half of `ssl.SSLContext` that is about the peer."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any, Literal, overload

from .._native import CData, ffi, lib
from . import certificates
from .errors import take_fault
from .peercert import decode


class Trust:
    """Authorities, revocation lists, and what is verified of a peer."""

    def __init__(self, ctx: CData) -> None:
        self._ctx = ctx
        self._param = lib.SSL_CTX_get0_param(ctx)
        self._frozen = False
        self._check_hostname = False
        self._checks_common_name = True
        self._verify_mode = ssl.CERT_NONE

    def _changing(self) -> None:
        """Every setter begins here."""
        if self._frozen:
            raise RuntimeError(
                "this DTLSContext has been in use since its first connection, and no longer changes: "
                "make a new one for new connections"
            )

    def load_verify_locations(
        self,
        cafile: str | os.PathLike[str] | None = None,
        capath: str | os.PathLike[str] | None = None,
        cadata: str | bytes | bytearray | None = None,
    ) -> None:
        """Trusts certificate authorities, and learns of what they have revoked.

        `cafile` names a file, `cadata` is such a file's contents: certificates and revocation lists, in PEM (bytes or
        str) or DER (bytes). `capath` names a directory of them, hashed as by openssl-rehash(1), read when needed.
        Raises `DTLSError` where something cannot be read, OSError where a file cannot be; nothing is trusted then.
        """
        self._changing()
        if cafile is None and capath is None and not cadata:
            raise TypeError("cafile, capath and cadata cannot be all omitted")
        found: list[tuple[list[CData], list[CData]]] = []
        if cafile is not None:
            if not certificates.is_path(cafile):
                raise TypeError(f"cafile is a file name, not {type(cafile).__name__}; contents go into cadata")
            found.append(certificates.authorities(cafile, "authority"))
        if cadata is not None:
            contents = cadata.encode("ascii") if isinstance(cadata, str) else cadata
            found.append(certificates.authorities(contents, "authority"))
        if capath is not None and not Path(capath).is_dir():
            raise NotADirectoryError(20, os.strerror(20), os.fspath(capath))
        for x509s, crls in found:
            self._trust(x509s, crls)
        lib.ERR_clear_error()
        if capath is not None and lib.SSL_CTX_load_verify_dir(self._ctx, os.fsencode(capath)) != 1:
            raise take_fault(f"capath {os.fspath(capath)!r} cannot be used")

    def _trust(self, x509s: list[CData], crls: list[CData]) -> None:
        store = lib.SSL_CTX_get_cert_store(self._ctx)
        lib.ERR_clear_error()
        added = [lib.X509_STORE_add_cert(store, x509) for x509 in x509s]
        added += [lib.X509_STORE_add_crl(store, crl) for crl in crls]
        if not all(added):
            raise take_fault("an authority cannot be added")

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

    def _objects(self) -> list[tuple[int, CData]]:
        """The store's objects as (type, X509 or NULL)."""
        store = lib.SSL_CTX_get_cert_store(self._ctx)
        lib.X509_STORE_lock(store)
        try:
            stack = lib.X509_STORE_get0_objects(store)
            items = [lib.sk_X509_OBJECT_value(stack, i) for i in range(lib.sk_X509_OBJECT_num(stack))]
            return [(lib.X509_OBJECT_get_type(item), lib.X509_OBJECT_get0_X509(item)) for item in items]
        finally:
            lib.X509_STORE_unlock(store)

    def cert_store_stats(self) -> dict[str, int]:
        """How many certificates (`x509`), authorities among them (`x509_ca`) and revocation lists (`crl`) there are.

        Those of a `capath` count once they have been used.
        """
        objects = self._objects()
        x509s = [x509 for kind, x509 in objects if kind == lib.X509_LU_X509]
        return {
            "x509": len(x509s),
            "crl": sum(kind == lib.X509_LU_CRL for kind, _ in objects),
            "x509_ca": sum(lib.X509_check_ca(x509) == 1 for x509 in x509s),
        }

    @overload
    def get_ca_certs(self, binary_form: Literal[False] = False) -> list[dict[str, Any]]: ...
    @overload
    def get_ca_certs(self, binary_form: Literal[True]) -> list[bytes]: ...
    @overload
    def get_ca_certs(self, binary_form: bool) -> list[dict[str, Any]] | list[bytes]: ...
    def get_ca_certs(self, binary_form: bool = False) -> list[dict[str, Any]] | list[bytes]:
        """The authorities trusted, as `getpeercert` gives certificates, or in DER where `binary_form`."""
        x509s = [x509 for kind, x509 in self._objects() if kind == lib.X509_LU_X509 and lib.X509_check_ca(x509) == 1]
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
        number = {
            ssl.CERT_NONE: lib.SSL_VERIFY_NONE,
            ssl.CERT_OPTIONAL: lib.SSL_VERIFY_PEER,
            ssl.CERT_REQUIRED: lib.SSL_VERIFY_PEER | lib.SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
        }[mode]
        lib.SSL_CTX_set_verify(self._ctx, number, ffi.NULL)
        self._verify_mode = mode

    @property
    def check_hostname(self) -> bool:
        """Whether a client checks that the certificate is for `server_hostname`; implies verification."""
        return self._check_hostname

    @check_hostname.setter
    def check_hostname(self, check: bool) -> None:
        self._changing()
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
        never = 0 if check else lib.X509_CHECK_FLAG_NEVER_CHECK_SUBJECT
        lib.X509_VERIFY_PARAM_set_hostflags(self._param, lib.X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | never)

    @property
    def verify_flags(self) -> ssl.VerifyFlags:
        """How certificates are verified: `ssl.VerifyFlags`."""
        return ssl.VerifyFlags(lib.X509_VERIFY_PARAM_get_flags(self._param))

    @verify_flags.setter
    def verify_flags(self, flags: ssl.VerifyFlags) -> None:
        self._changing()
        new = int(flags)
        if new < 0:
            raise ValueError(f"verify_flags must not be negative: {new}")
        lib.X509_VERIFY_PARAM_clear_flags(self._param, lib.X509_VERIFY_PARAM_get_flags(self._param) & ~new)
        lib.X509_VERIFY_PARAM_set_flags(self._param, new)
