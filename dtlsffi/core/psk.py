"""Pre-shared keys: RFC 4279, RFC 5489, and those of DTLS 1.3 through the same callbacks. After `ssl` of Python 3.13."""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import Any

from .._native import ffi, lib
from .arguments import check_callback, check_is, exactly
from .callbacks import adapted
from .constants import DTLSProtocol
from .errors import take_fault
from .negotiation import Negotiation

Name = str | bytes | None
Identified = tuple[Name, bytes]
ClientCallback = Callable[[str | None], Identified] | Callable[[str | None, Any], Identified]
ServerCallback = Callable[[str], bytes | None] | Callable[[str, Any], bytes | None]

HINT_MAX = 128  # bytes: RFC 4279 section 5.3


def octets(name: Name, what: str, room: int) -> bytes:
    """An identity or a hint as it goes over the wire; TypeError or ValueError where it cannot."""
    check_is(name, (str, bytes, bytearray, NoneType), f"{what} is a str or bytes")
    encoded = exactly(str.encode(name, "utf-8", "surrogateescape") if isinstance(name, str) else name or b"", what)
    if len(encoded) > room:
        raise ValueError(f"{what} has {len(encoded)} bytes; at most {room} can be sent")
    if 0 in encoded:
        raise ValueError(f"{what} must not contain a NUL: OpenSSL would cut it there")
    return encoded


def readable(name: bytes) -> str:
    """An identity or a hint off the wire: UTF-8 (RFC 4279 section 5.1), with `surrogateescape` for what is not."""
    return name.decode("utf-8", "surrogateescape")


def secret(key: object, room: int) -> bytes:
    """A key, of 1 to `room` bytes; TypeError or ValueError otherwise, without a word of its contents."""
    if type(key) is bytes and 1 <= len(key) <= room:  # what it nearly always is
        return key
    exact = exactly(key, "a pre-shared key")
    if not 1 <= len(exact) <= room:
        raise ValueError(f"a pre-shared key has 1 to {room} bytes, not {len(exact)}")
    return exact


class PreSharedKeys(Negotiation):
    """The part of `DTLSContext` that is about pre-shared keys."""

    def __init__(self, protocol: DTLSProtocol) -> None:
        super().__init__(protocol)
        self._psk_client: Callable[[Any, Any], Any] | None = None
        self._psk_server: Callable[[Any, Any], Any] | None = None
        self._psk_hint: str | None = None

    def set_psk_client_callback(self, callback: ClientCallback | None) -> None:
        """Has `callback(hint)` say who we are to a server: it returns the pair of our identity and our key.

        `hint` is the server's identity hint, or None. The identity is a str or bytes of up to 128 bytes (more where
        this OpenSSL allows it), or None for an empty one; the key is bytes, up to 512. A callback that requires two
        arguments gets the connection as the second one. What it raises is raised by the call that moved the handshake
        on. None takes the callback away.

        Unless `set_ciphers` has been called, PSK suites are allowed from now on, before those with certificates, and
        with forward secrecy first. While the callback runs, other handshakes wait, and where one thread or loop
        serves all connections, so does data: do no I/O here. Raises ValueError for a context of servers
        only.
        """
        self._changing()
        self._not_for(DTLSProtocol.PROTOCOL_DTLS_SERVER, "a PSK client callback")
        check_callback(callback)
        self._psk_client = None if callback is None else adapted(callback)
        self._ask_for_keys()

    def set_psk_server_callback(
        self, callback: ServerCallback | None, identity_hint: str | bytes | None = None
    ) -> None:
        """Has `callback(identity)` find the key of a client; None (or b"") refuses it: unknown_psk_identity.

        It is not called when a session is resumed: the client had the key when the session was made. To lock a client
        out at once, check `psk_identity` where `session_reused`, or disable tickets (`OP_NO_TICKET`). If the callback
        raises, the client gets internal_error.

        `identity` is a str; bytes that are not UTF-8 are escaped as `os.fsdecode` does. A callback that requires two
        arguments gets the connection as the second one. `identity_hint`, of up to 128 bytes, is sent to every client.
        Otherwise as `set_psk_client_callback`.
        """
        self._changing()
        self._not_for(DTLSProtocol.PROTOCOL_DTLS_CLIENT, "a PSK server callback")
        check_callback(callback)
        hint = None if identity_hint is None else octets(identity_hint, "identity_hint", HINT_MAX)
        lib.ERR_clear_error()
        if lib.SSL_CTX_use_psk_identity_hint(self._ctx, ffi.NULL if hint is None else hint) != 1:
            raise take_fault("identity_hint cannot be used")
        self._psk_server = None if callback is None else adapted(callback)
        self._psk_hint = None if hint is None else readable(hint)
        self._ask_for_keys()

    def _ask_for_keys(self) -> None:
        lib.dtlsffi_ctx_ask_psk(self._ctx, self._psk_client is not None, self._psk_server is not None)
        self._default_ciphers(psk=self._psk_client is not None or self._psk_server is not None)

    def _psk_for_server(
        self, connection: Any, hint: bytes | None, identity_room: int, room: int
    ) -> tuple[bytes, bytes]:
        if self._psk_client is None:
            return b"", b""
        answer = self._psk_client(None if hint is None else readable(hint), connection)
        try:
            identity, key = answer
        except (TypeError, ValueError):
            raise TypeError("a PSK client callback returns the pair of identity and key") from None
        return octets(identity, "a PSK identity", identity_room), secret(key, room)

    def _psk_for_client(self, connection: Any, identity: bytes, room: int) -> bytes:
        if self._psk_server is None:
            return b""
        key = self._psk_server(readable(identity), connection)
        return b"" if key is None or key == b"" else secret(key, room)
