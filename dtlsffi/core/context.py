"""What many connections have in common: identity, trust, versions, ciphers. After `ssl.SSLContext`."""

from __future__ import annotations

import enum
import errno
import hashlib
import os
import ssl
import sys
from typing import TYPE_CHECKING, Any, Literal, overload

from .._native import lib
from .arguments import TIMERS, unsigned, valid_mtu, valid_timers
from .constants import DTLSProtocol, DTLSVersion, Options
from .credentials import Credentials
from .observation import Observation
from .pins import Fingerprints, Keys
from .psk import PreSharedKeys
from .resumption import Resumption
from .stapling import Stapling
from .trust import Trust, is_nothing

if TYPE_CHECKING:  # for the type checker only: at run time the doors hand their classes down (see dtlssocket_class)
    from socket import socket

    from ..objects import DTLSObject, MemoryBIO
    from ..server import DTLSListener
    from ..sockets import DTLSSocket
    from .session import DTLSSession

__all__ = ["DTLSContext", "create_default_context"]

NOT_HERE = {
    "post_handshake_auth": "",
    "sslobject_class": ": set dtlsobject_class",
    "sslsocket_class": ": set dtlssocket_class",
}
SECURITY_LEVEL = 2  # 112 bits of security: SSL_CTX_set_security_level(3)


class DTLSContext(PreSharedKeys, Credentials, Trust, Stapling, Resumption, Observation):
    """Settings that connections share, and that stay as they are from the first connection on.

    `protocol` is `PROTOCOL_DTLS_CLIENT`, `PROTOCOL_DTLS_SERVER`, or `PROTOCOL_DTLS` for one that takes either side.
    Certificates are verified and host names checked unless the context is for servers only; DTLS 1.2 is the oldest
    version; renegotiation is off. A context may be shared between threads.

    Every setter raises RuntimeError once a connection has been made from the context, except `set_ticket_keys`.
    """

    dtlssocket_class: type[DTLSSocket]
    """What `wrap_socket` returns; `dtlsffi.sockets` sets it. Like `ssl.SSLContext.sslsocket_class`."""
    dtlslistener_class: type[DTLSListener]
    """What `wrap_socket` returns for a server's socket that is not connected; `dtlsffi.server` sets it."""
    dtlsobject_class: type[DTLSObject]
    """What `wrap_bio` returns; `dtlsffi.objects` sets it. Like `ssl.SSLContext.sslobject_class`."""

    def __init__(self, protocol: DTLSProtocol = DTLSProtocol.PROTOCOL_DTLS) -> None:
        if isinstance(protocol, enum.Enum) and not isinstance(protocol, DTLSProtocol):  # ssl's have other numbers
            raise ValueError(f"protocol is a DTLSProtocol, not {protocol!r}")
        super().__init__(DTLSProtocol(protocol))
        self._mtu: int | None = None
        self._timers = TIMERS
        self._set_safe_defaults()

    def _set_safe_defaults(self) -> None:
        lib.SSL_CTX_set_mode(self._ctx, lib.SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | lib.SSL_MODE_AUTO_RETRY)
        lib.SSL_CTX_set_dh_auto(self._ctx, 1)
        self.options = (
            Options.OP_NO_RENEGOTIATION | Options.OP_NO_COMPRESSION | Options.OP_CIPHER_SERVER_PREFERENCE
            | Options.OP_SINGLE_DH_USE | Options.OP_SINGLE_ECDH_USE
        )  # fmt: skip
        self.security_level = max(SECURITY_LEVEL, lib.SSL_CTX_get_security_level(self._ctx))
        self._default_ciphers(psk=False)
        self.minimum_version = DTLSVersion.MINIMUM_SUPPORTED
        self.maximum_version = DTLSVersion.MAXIMUM_SUPPORTED
        self.verify_flags = ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST
        self.hostname_checks_common_name = True
        if self._protocol is not DTLSProtocol.PROTOCOL_DTLS_SERVER:
            self.check_hostname = True

    def __repr__(self) -> str:
        """Name the protocol and what is verified."""
        return f"<DTLSContext {self._protocol.name} {self._verify_mode.name} check_hostname={self._check_hostname}>"

    def _freeze(self) -> None:
        """Every connection begins here."""
        if not self._frozen:
            self._check_bounds()
            policy = self._policy()
            self._rules = [policy + self._duties(server_side=side) + self._session_id_context for side in (False, True)]
            self._rules_digests = [hashlib.sha256(rules).digest() for rules in self._rules]
            first, factor, longest = self._timers
            lib.dtlsffi_ctx_begin_with(
                self._ctx, self._rules_digests[True], self._mtu or 0, round(first * 1e6), factor, round(longest * 1e6)
            )
            self._asks = bool(lib.dtlsffi_ctx_asks(self._ctx))
            self._frozen = True

    if not TYPE_CHECKING:  # to which any name would be one

        def __setattr__(self, name: str, value: object) -> None:
            """Refuse ssl's names for what is not here, which would be set in vain."""
            if name in NOT_HERE:
                raise AttributeError(f"DTLSContext has no {name}{NOT_HERE[name]}")
            super().__setattr__(name, value)

    def _duties(self, *, server_side: bool) -> bytes:
        """The same as `_policy` for what a peer has to show beside certificates, and what has to vouch for those.

        A client is held to the suites that it offers, a server to those of the session: so only to those it allows.
        """
        duties: list[object] = [callback is not None for callback in (self._psk_server, self._psk_client)]
        duties.append(self._check_staple is not None)
        if server_side and self._protocol is not DTLSProtocol.PROTOCOL_DTLS_CLIENT:
            duties += [self.fingerprint() is not None, sorted(suite["name"] for suite in self.get_ciphers())]
        return hashlib.sha256(repr(duties).encode()).digest()

    # ---- protocol ----

    @property
    def security_level(self) -> int:
        """0 to 5: the higher, the fewer weak keys and algorithms. 2 unless set. SSL_CTX_set_security_level(3)."""
        level: int = lib.SSL_CTX_get_security_level(self._ctx)
        return level

    @security_level.setter
    def security_level(self, level: int) -> None:
        self._changing()
        if isinstance(level, bool) or level not in range(6):
            raise ValueError(f"security_level is 0 to 5, not {level!r}")
        lib.SSL_CTX_set_security_level(self._ctx, level)

    @property
    def options(self) -> Options:
        """OpenSSL's options, as `Options`. `OP_NO_RENEGOTIATION` is always set, whatever is assigned.

        Raises ValueError for SSL_OP_COOKIE_EXCHANGE: cookies are what an `Endpoint` asks for by itself.
        """
        return Options(lib.SSL_CTX_get_options(self._ctx))

    @options.setter
    def options(self, options: Options) -> None:
        self._changing()
        new = unsigned(options, "options") | lib.SSL_OP_NO_RENEGOTIATION
        if new & lib.SSL_OP_COOKIE_EXCHANGE:
            raise ValueError("options cannot hold SSL_OP_COOKIE_EXCHANGE: listeners ask for cookies by themselves")
        lib.SSL_CTX_clear_options(self._ctx, lib.SSL_CTX_get_options(self._ctx) & ~new)
        lib.SSL_CTX_set_options(self._ctx, new)

    # ---- datagrams ----

    @property
    def mtu(self) -> int | None:
        """The ceiling for a datagram's UDP payload in bytes, 208 to 65527, or None.

        None: a connection with a socket of its own goes by the path MTU that the kernel knows, any other by 1200.
        """
        return self._mtu

    @mtu.setter
    def mtu(self, mtu: int | None) -> None:
        self._changing()
        self._mtu = None if mtu is None else valid_mtu(mtu)

    @property
    def retransmission(self) -> tuple[float, float, float]:
        """The retransmission timer of a handshake: first duration in seconds, factor after each loss, longest duration.

        RFC 6347 section 4.2.4.1 proposes the default, `(1.0, 2.0, 60.0)`. OpenSSL gives up where the first try and
        twelve more are lost. Where the path's round trip is longer than that, flights are sent several times, which
        costs no more than datagrams. Each flight begins with the first duration again.
        """
        return self._timers

    @retransmission.setter
    def retransmission(self, timers: tuple[float, float, float]) -> None:
        self._changing()
        self._timers = valid_timers(timers)

    @overload
    def wrap_socket(
        self,
        sock: socket,
        server_side: Literal[False] = False,
        do_handshake_on_connect: bool = True,
        server_hostname: str | None = None,
        session: DTLSSession | None = None,
        *,
        verify_fingerprint: Fingerprints | None = None,
        verify_public_key: Keys | None = None,
    ) -> DTLSSocket: ...
    @overload
    def wrap_socket(
        self,
        sock: socket,
        server_side: bool,
        do_handshake_on_connect: bool = True,
        server_hostname: str | None = None,
        session: DTLSSession | None = None,
        *,
        verify_fingerprint: Fingerprints | None = None,
        verify_public_key: Keys | None = None,
    ) -> Any: ...
    def wrap_socket(
        self,
        sock: socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        server_hostname: str | None = None,
        session: DTLSSession | None = None,
        *,
        verify_fingerprint: Fingerprints | None = None,
        verify_public_key: Keys | None = None,
    ) -> DTLSSocket | DTLSListener:
        """Returns a `DTLSSocket` that speaks DTLS over a UDP socket, and owns it: `sock` itself is detached.

        With a socket that is connected the handshake takes place at once, within the socket's timeout, unless
        `do_handshake_on_connect` is false; a client's may also be connected later, by `DTLSSocket.connect`. A server's
        that is bound only becomes a `DTLSListener` for any number of peers (see `create_server`, which has more to
        set). `verify_fingerprint` and `verify_public_key` are `Connection`'s.

        Raises ValueError for a socket that is none of datagrams, is a server's and neither connected nor bound, or does
        not block while a handshake is to take place, and OSError for a closed one; the socket is untouched then.
        """
        if server_side and not is_connected(sock):
            if server_hostname is not None or session is not None:
                raise ValueError("a listener for many peers takes neither a host name nor a session")
            return self.dtlslistener_class._create(
                sock, self, verify_fingerprint=verify_fingerprint, verify_public_key=verify_public_key
            )
        return self.dtlssocket_class._create(
            sock,
            self,
            server_side=server_side,
            do_handshake_on_connect=do_handshake_on_connect,
            server_hostname=server_hostname,
            session=session,
            verify_fingerprint=verify_fingerprint,
            verify_public_key=verify_public_key,
        )

    def wrap_bio(
        self,
        incoming: MemoryBIO,
        outgoing: MemoryBIO,
        server_side: bool = False,
        server_hostname: str | None = None,
        session: DTLSSession | None = None,
        *,
        verify_fingerprint: Fingerprints | None = None,
        verify_public_key: Keys | None = None,
    ) -> DTLSObject:
        """Speaks DTLS between two `MemoryBIO`s, for code written to `ssl.SSLObject`: `DTLSObject`.

        The arguments are `wrap_socket`'s. Raises TypeError for what is no `MemoryBIO` of dtlsffi: ssl's does not keep
        datagrams apart.
        """
        return self.dtlsobject_class._create(
            incoming,
            outgoing,
            self,
            server_side=server_side,
            server_hostname=server_hostname,
            session=session,
            verify_fingerprint=verify_fingerprint,
            verify_public_key=verify_public_key,
        )


def is_connected(sock: socket) -> bool:
    """Whether a socket has a peer, or is none that could have one: then somebody else says what is wrong with it."""
    try:
        sock.getpeername()
    except OSError as error:
        return error.errno != errno.ENOTCONN
    except AttributeError:
        pass
    return True


def create_default_context(
    purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH,
    *,
    cafile: str | os.PathLike[str] | None = None,
    capath: str | os.PathLike[str] | None = None,
    cadata: Any = None,
) -> DTLSContext:
    """Builds a context with safe settings, as `ssl.create_default_context` does (that of Python 3.13).

    With `Purpose.SERVER_AUTH` it is for clients, and trusts what is given, or the system's authorities; with
    `Purpose.CLIENT_AUTH` it is for servers. Verification is strict (RFC 5280) and may end at any certificate
    that is trusted. The environment variable `SSLKEYLOGFILE` sets `keylog_filename` (not with `python -E` or `-I`).
    """
    if not isinstance(purpose, ssl.Purpose):
        raise TypeError(f"purpose is one of ssl.Purpose, not {purpose!r}")
    if purpose is ssl.Purpose.SERVER_AUTH:
        context = DTLSContext(DTLSProtocol.PROTOCOL_DTLS_CLIENT)
    else:
        context = DTLSContext(DTLSProtocol.PROTOCOL_DTLS_SERVER)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if cafile or capath or not is_nothing(cadata):
        context.load_verify_locations(cafile, capath, cadata)
    elif context.verify_mode is not ssl.CERT_NONE:
        context.load_default_certs(purpose)
    keylog = os.environ.get("SSLKEYLOGFILE")
    if keylog and not sys.flags.ignore_environment:
        context.keylog_filename = keylog
    return context
