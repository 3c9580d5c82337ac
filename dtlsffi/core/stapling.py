"""OCSP stapling: proof, brought along by the server, that its certificate is not revoked. RFC 6066 section 8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._native import ffi, lib
from .arguments import check_callback, check_is
from .constants import DTLSProtocol
from .settings import Settings

StapleCallback = Callable[[Any], bytes | None]
StatusCallback = Callable[[Any, bytes | None], bool]


class Stapling(Settings):
    """The part of `DTLSContext` that is about OCSP responses."""

    def __init__(self, protocol: DTLSProtocol) -> None:
        super().__init__(protocol)
        self._staple: StapleCallback | None = None
        self._check_staple: StatusCallback | None = None

    def set_ocsp_server_callback(self, callback: StapleCallback | None) -> None:
        """Has `callback(connection)` give the OCSP response (DER) to staple to our certificate, or None for none.

        It is asked for each client that wants one. Raises ValueError for a context of clients only.
        """
        self._changing()
        self._not_for(DTLSProtocol.PROTOCOL_DTLS_CLIENT, "an OCSP server callback")
        check_callback(callback)
        self._staple = callback
        self._ask_status()

    def set_ocsp_client_callback(self, callback: StatusCallback | None) -> None:
        """Asks servers for a stapled OCSP response, and `callback(connection, response)` whether to go on.

        `response` is DER, or None where the server sent none; False ends the handshake. dtlsffi does not look into it:
        whoever asks for it has to verify it, with `cryptography.x509.ocsp` for instance. It is asked in full handshakes
        only: whoever resumes a session was looked at then. Raises ValueError for a context of servers only.
        """
        self._changing()
        self._not_for(DTLSProtocol.PROTOCOL_DTLS_SERVER, "an OCSP client callback")
        check_callback(callback)
        self._check_staple = callback
        lib.SSL_CTX_set_tlsext_status_type(self._ctx, -1 if callback is None else lib.TLSEXT_STATUSTYPE_ocsp)
        self._ask_status()

    def _ask_status(self) -> None:
        lib.dtlsffi_ctx_ask_status(self._ctx, self._staple is not None or self._check_staple is not None)

    def _exchange_status(self, connection: Any) -> int:
        """The one callback that OpenSSL has for both sides."""
        return self._give(connection) if connection.server_side else self._look(connection)

    def _give(self, connection: Any) -> int:
        response = None if self._staple is None else self._staple(connection)
        if not response:
            return int(lib.SSL_TLSEXT_ERR_NOACK)
        check_is(response, (bytes, bytearray, memoryview), "an OCSP server callback returns bytes (DER) or None")
        response = bytes(response)
        copy = lib.OPENSSL_malloc(len(response))  # OpenSSL takes it over
        ffi.memmove(copy, response, len(response))
        with connection._association._locked() as ssl_object:
            lib.SSL_set_tlsext_status_ocsp_resp(ssl_object, copy, len(response))
        return int(lib.SSL_TLSEXT_ERR_OK)

    def _look(self, connection: Any) -> int:
        if self._check_staple is None:
            return 1
        answer = self._check_staple(connection, connection.ocsp_response)
        if not isinstance(answer, bool):
            raise TypeError(f"an OCSP client callback returns True or False, not {answer!r}")
        return answer
