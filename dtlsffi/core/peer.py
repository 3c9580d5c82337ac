"""Who the peer is: its certificates, as it sent them and as they were verified."""

from __future__ import annotations

import ssl
from typing import Any, Literal, overload

from .._native import CData, ffi, lib
from . import certificates, peercert, pins
from .association import Association


class Peer:
    """The half of `Knowledge` that is about certificates, the peer's and our own."""

    @property
    def _association(self) -> Association:
        """Whom to ask."""
        raise NotImplementedError

    @property
    def is_established(self) -> bool:
        """Whether the handshake is finished."""
        return self._association.is_established

    def _need_handshake(self) -> None:
        if not self.is_established:
            raise ValueError("handshake not done yet")

    @overload
    def getpeercert(self, binary_form: Literal[False] = False) -> dict[str, Any] | None: ...
    @overload
    def getpeercert(self, binary_form: Literal[True]) -> bytes | None: ...
    @overload
    def getpeercert(self, binary_form: bool) -> dict[str, Any] | bytes | None: ...
    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """The peer's certificate: a dict as `ssl` gives it, or DER where `binary_form`; None if there is none.

        The dict is empty where the certificate was not verified. Raises ValueError before the handshake is finished.
        """
        self._need_handshake()
        with self._association._locked() as ssl_object:
            x509 = lib.SSL_get1_peer_certificate(ssl_object)
        if x509 == ffi.NULL:
            return None
        x509 = certificates.certificate(x509)
        if binary_form:
            return certificates.encode(x509)
        return peercert.decode(x509) if self._is_verified() else {}

    def _is_verified(self) -> bool:
        """Whether anything stood up for the peer's certificate."""
        context = self._association._context
        if self._association._pins is not None:
            return True
        accepted_unseen = context.accept_any_certificate and context.verify_callback is None
        return context.verify_mode is not ssl.CERT_NONE and not accepted_unseen

    def get_verified_chain(self) -> list[bytes]:
        """The chain (DER) that the peer's certificate was verified with, from it to an authority; [] without one.

        It is empty where nothing was verified, a callback overruled a failure, or a pin took an authority's place.
        """
        self._need_handshake()
        if not self._is_verified() or self._association._pins is not None:
            return []
        with self._association._locked() as ssl_object:
            if lib.SSL_get_verify_result(ssl_object) != lib.X509_V_OK:
                return []
            return encoded_chain(lib.SSL_get0_verified_chain(ssl_object))

    def get_unverified_chain(self) -> list[bytes]:
        """The certificates (DER) that the peer sent, its own first; [] if it sent none."""
        self._need_handshake()
        with self._association._locked() as ssl_object:
            chain = encoded_chain(lib.SSL_get_peer_cert_chain(ssl_object))
        if self._association._server_side:  # OpenSSL leaves the peer's own out here
            own = self.getpeercert(True)
            return chain if own is None else [own, *chain]
        return chain

    def fingerprint(self, algorithm: str = "sha-256") -> str | None:
        """The fingerprint of our own certificate, as in SDP: `"sha-256 AB:CD:..."` (RFC 8122); None without one.

        Raises ValueError for a hash other than sha-224, sha-256, sha-384, sha-512.
        """
        with self._association._locked() as ssl_object:
            x509 = lib.SSL_get_certificate(ssl_object)
            der = b"" if x509 == ffi.NULL else certificates.encode(x509)
        text = pins.fingerprint(der, algorithm)
        return text if der else None

    def peer_fingerprint(self, algorithm: str = "sha-256") -> str | None:
        """The same of the peer's certificate; ValueError before the handshake is finished."""
        der = self.getpeercert(True)
        text = pins.fingerprint(der or b"", algorithm)
        return text if der else None

    def peer_public_key(self) -> bytes | None:
        """The peer's public key (DER, SubjectPublicKeyInfo), of its certificate or raw (RFC 7250); None without one.

        Raises ValueError before the handshake is finished.
        """
        self._need_handshake()
        with self._association._locked() as ssl_object:
            raw = lib.SSL_get0_peer_rpk(ssl_object) if hasattr(lib, "SSL_get0_peer_rpk") else ffi.NULL
            if raw != ffi.NULL:
                return certificates.encode_key(raw)
            x509 = lib.SSL_get1_peer_certificate(ssl_object)
        if x509 == ffi.NULL:
            return None
        certificate = certificates.certificate(x509)  # which the key is a part of
        return certificates.encode_key(lib.X509_get0_pubkey(certificate))

    def client_ca_names(self) -> list[tuple[tuple[tuple[str, str], ...], ...]]:
        """The authorities that the server wants client certificates from, each as `getpeercert` gives a subject."""
        with self._association._locked() as ssl_object:
            names = lib.SSL_get_client_CA_list(ssl_object)
            count = 0 if names == ffi.NULL else lib.sk_X509_NAME_num(names)
            return [peercert.name(lib.sk_X509_NAME_value(names, i)) for i in range(count)]

    @property
    def ocsp_response(self) -> bytes | None:
        """The OCSP response (DER) stapled to the server's certificate, or None: RFC 6066 section 8. Not verified."""
        response = ffi.new("const unsigned char **")
        with self._association._locked() as ssl_object:
            length = lib.SSL_get_tlsext_status_ocsp_resp(ssl_object, response)
            return None if length <= 0 or response[0] == ffi.NULL else ffi.buffer(response[0], length)[:]


def encoded_chain(stack: CData) -> list[bytes]:
    """The certificates of an OpenSSL stack, in DER."""
    if stack == ffi.NULL:
        return []
    return [certificates.encode(lib.sk_X509_value(stack, i)) for i in range(lib.sk_X509_num(stack))]
