"""What many connections have in common: identity, trust, versions, ciphers. After `ssl.SSLContext`."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .._native import ffi, lib
from . import certificates
from .arguments import c_string, valid_mtu, valid_timers
from .callbacks import PasswordSource
from .certificates import Source
from .ciphers import describe
from .constants import DTLSProtocol, DTLSVersion, HAS_DTLSv1, HAS_DTLSv1_3, Options
from .errors import take_fault
from .trust import Trust

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


class DTLSContext(Trust):
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
        method = {
            DTLSProtocol.PROTOCOL_DTLS: lib.DTLS_method,
            DTLSProtocol.PROTOCOL_DTLS_CLIENT: lib.DTLS_client_method,
            DTLSProtocol.PROTOCOL_DTLS_SERVER: lib.DTLS_server_method,
        }[self._protocol]
        lib.ERR_clear_error()
        ctx = lib.SSL_CTX_new(method())
        if ctx == ffi.NULL:
            raise take_fault("OpenSSL cannot make a DTLS context")
        super().__init__(ffi.gc(ctx, lib.SSL_CTX_free))
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
