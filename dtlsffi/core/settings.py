"""What every part of a context begins with: the SSL_CTX, and the rule that it stays as it is once it is in use."""

from __future__ import annotations

from typing import NoReturn

from .._native import CData, ffi, lib
from .constants import DTLSProtocol
from .errors import take_fault


class Settings:
    """One SSL_CTX; the parts of `DTLSContext` build on it."""

    def __init__(self, protocol: DTLSProtocol) -> None:
        method = {
            DTLSProtocol.PROTOCOL_DTLS: lib.DTLS_method,
            DTLSProtocol.PROTOCOL_DTLS_CLIENT: lib.DTLS_client_method,
            DTLSProtocol.PROTOCOL_DTLS_SERVER: lib.DTLS_server_method,
        }[protocol]
        self._protocol = protocol
        lib.ERR_clear_error()
        ctx: CData = lib.dtlsffi_ctx_new(method())
        if ctx == ffi.NULL:
            raise take_fault("OpenSSL cannot make a DTLS context")
        self._ctx = ffi.gc(ctx, lib.SSL_CTX_free)
        self._frozen = False

    def __reduce__(self) -> NoReturn:
        """Neither be pickled nor copied, as in ssl: two would change the one SSL_CTX."""
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    @property
    def protocol(self) -> DTLSProtocol:
        """The protocol given when the context was made."""
        return self._protocol

    def _changing(self) -> None:
        """Every setter begins here."""
        if self._frozen:
            raise RuntimeError(
                "this DTLSContext has been in use since its first connection, and no longer changes: "
                "make a new one for new connections"
            )

    def _not_for(self, protocol: DTLSProtocol, what: str) -> None:
        """Raises ValueError where the context is for the one side that `what` means nothing to."""
        if self._protocol is protocol:
            raise ValueError(f"{what} cannot be set on a {protocol.name} context")
