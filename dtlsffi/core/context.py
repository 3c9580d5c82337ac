"""What many connections have in common: identity, trust, versions, ciphers. After `ssl.SSLContext`."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

from .._native import CData, ffi, lib
from . import certificates
from .callbacks import PasswordSource
from .certificates import Source
from .ciphers import describe
from .constants import DTLSProtocol, DTLSVersion, HAS_DTLSv1, HAS_DTLSv1_3, Options
from .errors import take_fault
from .peercert import decode

if TYPE_CHECKING:  # for the type checker only: at run time the door hands its class down (see dtlssocket_class)
    from socket import socket

    from ..sockets import DTLSSocket
    from .session import DTLSSession

__all__ = ["DTLSContext", "create_default_context"]

# AEAD suites only, forward secrecy before speed. A bad record under a CBC suite with encrypt-then-MAC ends the
# connection in OpenSSL instead of being dropped, so with those suites a single forged datagram would do it.
DEFAULT_CIPHERS = (
    "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AESCCM:DHE+AESGCM:DHE+CHACHA20:DHE+AESCCM:!aNULL:!eNULL:!aDSS:!PSK:!SRP:!AESCCM8"
)
SECURITY_LEVEL = 2  # 112 bits of security: SSL_CTX_set_security_level(3)

# The version of each name; what is None is the library's own bound.
BOUNDS: dict[DTLSVersion, int] = {
    DTLSVersion.MINIMUM_SUPPORTED: DTLSVersion.DTLSv1_2.value,
    DTLSVersion.MAXIMUM_SUPPORTED: 0,
}


class DTLSContext:
    """Settings that connections share, and that stay as they are from the first connection on.

    `protocol` is `PROTOCOL_DTLS_CLIENT`, `PROTOCOL_DTLS_SERVER`, or `PROTOCOL_DTLS` for one that takes either side.
    Certificates are verified and host names checked unless the context is for servers only; DTLS 1.2 is the oldest
    version; renegotiation is off. A context may be shared between threads.

    Every setter raises RuntimeError once a connection has been made from the context.
    """

    dtlssocket_class: ClassVar[type[DTLSSocket]]
    """What `wrap_socket` returns; `dtlsffi.sockets` sets it. Like `ssl.SSLContext.sslsocket_class`."""

    def __init__(self, protocol: DTLSProtocol = DTLSProtocol.PROTOCOL_DTLS) -> None:
        self._protocol = DTLSProtocol(protocol)
        self._frozen = False
        method = {
            DTLSProtocol.PROTOCOL_DTLS: lib.DTLS_method,
            DTLSProtocol.PROTOCOL_DTLS_CLIENT: lib.DTLS_client_method,
            DTLSProtocol.PROTOCOL_DTLS_SERVER: lib.DTLS_server_method,
        }[self._protocol]
        lib.ERR_clear_error()
        ctx = lib.SSL_CTX_new(method())
        if ctx == ffi.NULL:
            raise take_fault("OpenSSL cannot make a DTLS context")
        self._ctx = ffi.gc(ctx, lib.SSL_CTX_free)
        self._param = lib.SSL_CTX_get0_param(self._ctx)
        self._check_hostname = False
        self._checks_common_name = True
        self._verify_mode = ssl.CERT_NONE
        self._bounds = {"minimum": DTLSVersion.MINIMUM_SUPPORTED, "maximum": DTLSVersion.MAXIMUM_SUPPORTED}
        self._keylog_filename: str | None = None
        self._mtu: int | None = None
        self._timers = (1.0, 2.0, 60.0)
        self._set_safe_defaults()

    def _set_safe_defaults(self) -> None:
        lib.SSL_CTX_set_mode(self._ctx, lib.SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | lib.SSL_MODE_AUTO_RETRY)
        self.options = (
            Options.OP_NO_RENEGOTIATION | Options.OP_NO_COMPRESSION | Options.OP_CIPHER_SERVER_PREFERENCE
            | Options.OP_SINGLE_DH_USE | Options.OP_SINGLE_ECDH_USE
        )  # fmt: skip
        self.security_level = max(SECURITY_LEVEL, lib.SSL_CTX_get_security_level(self._ctx))
        self.set_ciphers(DEFAULT_CIPHERS)
        self.minimum_version = DTLSVersion.MINIMUM_SUPPORTED
        self.maximum_version = DTLSVersion.MAXIMUM_SUPPORTED
        self.verify_flags = ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST
        self.hostname_checks_common_name = True
        if self._protocol is not DTLSProtocol.PROTOCOL_DTLS_SERVER:
            self.check_hostname = True
        # Without it a server that asks for certificates refuses to resume: SSL_CTX_set_session_id_context(3).
        lib.SSL_CTX_set_session_id_context(self._ctx, b"dtlsffi", 7)

    def __repr__(self) -> str:
        """Name the protocol and what is verified."""
        return f"<DTLSContext {self._protocol.name} {self._verify_mode.name} check_hostname={self._check_hostname}>"

    def _changing(self) -> None:
        """Every setter begins here."""
        if self._frozen:
            raise RuntimeError(
                "this DTLSContext has been in use since its first connection, and no longer changes: "
                "make a new one for new connections"
            )

    def _freeze(self) -> None:
        """Every connection begins here."""
        low, high = self._bounds["minimum"], self._bounds["maximum"]
        if low > high and low is not DTLSVersion.MINIMUM_SUPPORTED:
            raise ValueError(f"minimum_version is {low.name}, but maximum_version is {high.name}")
        self._frozen = True

    @property
    def protocol(self) -> DTLSProtocol:
        """The protocol given when the context was made."""
        return self._protocol

    # ---- identity ----

    def load_cert_chain(self, certfile: Source, keyfile: Source | None = None, password: PasswordSource = None) -> None:
        """Loads our certificate, the rest of its chain and its private key: SSL_CTX_use_cert_and_key(3).

        `certfile` and `keyfile` are file names (str, PathLike) or contents (bytes), PEM or DER; without `keyfile` the
        key is looked for in `certfile`. `password` is a str, bytes, bytearray, or a callable that returns one; it is
        asked only if the key is encrypted. Raises `DTLSError` where anything cannot be read or the two do not belong
        together, OSError where a file cannot be read, ValueError where a password is missing; the context is then
        as it was.
        """
        self._changing()
        chain = certificates.certificate_chain(certfile)
        key = certificates.private_key(certfile if keyfile is None else keyfile, password)
        certificates.use(self._ctx, chain, key)

    # ---- trust ----

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

    # ---- protocol ----

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
        if setter(self._ctx, BOUNDS.get(version, version.value)) != 1:
            raise take_fault(f"{which}_version cannot be {version.name}")
        self._bounds[which] = version

    def set_ciphers(self, ciphers: str) -> None:
        """Allows the cipher suites that `ciphers` selects, in that order, for DTLS up to 1.2: openssl-ciphers(1).

        Raises `DTLSError` where it selects none; the suites are then as they were.
        """
        self._changing()
        if not isinstance(ciphers, str):
            raise TypeError(f"ciphers is a str, not {type(ciphers).__name__}")
        text = c_string(ciphers, "ciphers")
        lib.ERR_clear_error()
        # A string that selects nothing leaves a context with nothing, so it is tried on another one first.
        trial = ffi.gc(lib.SSL_CTX_new(lib.DTLS_method()), lib.SSL_CTX_free)
        for ctx in (trial, self._ctx):
            if lib.SSL_CTX_set_cipher_list(ctx, text) != 1:
                raise take_fault(f"no cipher suite can be selected with {ciphers!r}")

    def get_ciphers(self) -> list[dict[str, Any]]:
        """The cipher suites allowed, most wanted first, each as `ssl.SSLContext.get_ciphers` describes it."""
        with_13 = HAS_DTLSv1_3 and self._bounds["maximum"] > DTLSVersion.DTLSv1_2
        ssl_object = ffi.gc(lib.SSL_new(self._ctx), lib.SSL_free)
        stack = lib.SSL_get_ciphers(ssl_object)
        suites = [describe(lib.sk_SSL_CIPHER_value(stack, i)) for i in range(lib.sk_SSL_CIPHER_num(stack))]
        return [suite for suite in suites if with_13 or suite["protocol"] != "TLSv1.3"]

    @property
    def security_level(self) -> int:
        """0 to 5, what is too weak to be used: SSL_CTX_set_security_level(3). 2 unless set."""
        level: int = lib.SSL_CTX_get_security_level(self._ctx)
        return level

    @security_level.setter
    def security_level(self, level: int) -> None:
        self._changing()
        if level not in range(6):
            raise ValueError(f"security_level is 0 to 5, not {level!r}")
        lib.SSL_CTX_set_security_level(self._ctx, level)

    @property
    def options(self) -> Options:
        """Switches: `Options`."""
        return Options(lib.SSL_CTX_get_options(self._ctx))

    @options.setter
    def options(self, options: Options) -> None:
        self._changing()
        new = int(options)
        if new < 0:
            raise ValueError(f"options must not be negative: {new}")
        lib.SSL_CTX_clear_options(self._ctx, lib.SSL_CTX_get_options(self._ctx) & ~new)
        lib.SSL_CTX_set_options(self._ctx, new)

    # ---- datagrams ----

    @property
    def mtu(self) -> int | None:
        """The ceiling for a datagram's UDP payload in bytes, 208 to 65527, or None.

        None leaves it to the connection: over a socket, what the kernel knows of the path; else 1200.
        """
        return self._mtu

    @mtu.setter
    def mtu(self, mtu: int | None) -> None:
        self._changing()
        self._mtu = None if mtu is None else valid_mtu(mtu)

    @property
    def retransmission(self) -> tuple[float, float, float]:
        """The retransmission timer of a handshake: first duration in seconds, factor after each loss, longest duration.

        RFC 6347 section 4.2.4.1 proposes the default, `(1.0, 2.0, 60.0)`. OpenSSL gives up after twelve losses.
        """
        return self._timers

    @retransmission.setter
    def retransmission(self, timers: tuple[float, float, float]) -> None:
        self._changing()
        self._timers = valid_timers(timers)

    def wrap_socket(
        self,
        sock: socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        server_hostname: str | None = None,
        session: DTLSSession | None = None,
    ) -> DTLSSocket:
        """Speaks DTLS over a connected UDP socket, which is used up: `DTLSSocket`.

        The handshake takes place at once, within the socket's timeout, unless `do_handshake_on_connect` is false.
        Raises ValueError for a socket that is no UDP socket, is not connected, or does not block while a handshake is
        wanted, and OSError for a closed one; the socket is untouched then.
        """
        return self.dtlssocket_class._create(
            sock,
            self,
            server_side=server_side,
            do_handshake_on_connect=do_handshake_on_connect,
            server_hostname=server_hostname,
            session=session,
        )

    # ---- observation ----

    @property
    def keylog_filename(self) -> str | None:
        """A file to which every connection's secrets are appended, for Wireshark; None unless set.

        Whoever reads it can decrypt everything. The format is NSS's: SSL_CTX_set_keylog_callback(3).
        """
        return self._keylog_filename

    @keylog_filename.setter
    def keylog_filename(self, filename: str | os.PathLike[str] | None) -> None:
        self._changing()
        if filename is not None:
            with Path(filename).open("ab", buffering=0) as file:
                if file.seekable() and file.tell() == 0:
                    file.write(b"# TLS secrets log file, generated by OpenSSL / Python\n")
        self._keylog_filename = None if filename is None else os.fspath(filename)
        lib.dtlsffi_ctx_log_keys(self._ctx, filename is not None)

    def _log_keys(self, line: bytes) -> None:
        """Appends one line, in one piece, whatever other thread or process does the same."""
        if self._keylog_filename is not None:
            with Path(self._keylog_filename).open("ab", buffering=0) as file:
                file.write(line + b"\n")


def c_string(text: str, what: str) -> bytes:
    """`text` for a C function; ValueError where it holds a NUL or what is not ASCII."""
    if "\0" in text:
        raise ValueError(f"{what} must not contain a NUL character")
    try:
        return text.encode("ascii")
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be ASCII: {text!r}") from None


def valid_mtu(mtu: int) -> int:
    """`mtu` if it is one; TypeError or ValueError otherwise."""
    if not isinstance(mtu, int) or isinstance(mtu, bool):
        raise TypeError(f"mtu is a number of bytes (int), not {type(mtu).__name__}")
    if not lib.DTLSFFI_MTU_MIN <= mtu <= lib.DTLSFFI_MTU_MAX:
        raise ValueError(f"mtu is {lib.DTLSFFI_MTU_MIN} to {lib.DTLSFFI_MTU_MAX} bytes of UDP payload, not {mtu}")
    return mtu


def valid_timers(timers: tuple[float, float, float]) -> tuple[float, float, float]:
    """`timers` if they make sense; ValueError otherwise."""
    first, factor, longest = (float(number) for number in timers)
    if not 0.001 <= first <= longest <= 3600:
        raise ValueError(
            f"retransmission begins with at least 0.001 s and ends with its longest duration, at most 3600 s, "
            f"not {first} and {longest}"
        )
    if not 1 <= factor <= 100:
        raise ValueError(f"retransmission's factor is 1 to 100, not {factor}")
    return first, factor, longest


def create_default_context(
    purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH,
    *,
    cafile: str | os.PathLike[str] | None = None,
    capath: str | os.PathLike[str] | None = None,
    cadata: str | bytes | bytearray | None = None,
) -> DTLSContext:
    """Builds a context with safe settings, as `ssl.create_default_context` does (that of Python 3.13).

    With `Purpose.SERVER_AUTH` it is for clients, and trusts what is given, or the system's authorities; with
    `Purpose.CLIENT_AUTH` it is for servers. Verification is strict (RFC 5280) and may end at any certificate
    that is trusted. The environment variable `SSLKEYLOGFILE` sets `keylog_filename`.
    """
    if not isinstance(purpose, ssl.Purpose):
        raise TypeError(f"purpose is one of ssl.Purpose, not {purpose!r}")
    if purpose is ssl.Purpose.SERVER_AUTH:
        context = DTLSContext(DTLSProtocol.PROTOCOL_DTLS_CLIENT)
    else:
        context = DTLSContext(DTLSProtocol.PROTOCOL_DTLS_SERVER)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if cafile or capath or cadata:
        context.load_verify_locations(cafile, capath, cadata)
    elif context.verify_mode is not ssl.CERT_NONE:
        context.load_default_certs(purpose)
    keylog = os.environ.get("SSLKEYLOGFILE")
    if keylog:
        context.keylog_filename = keylog
    return context
