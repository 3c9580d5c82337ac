"""dtlsffi's contexts, as all of its programs use them."""

from __future__ import annotations

import dtlsffi

from .common import CIPHER, PSK, PSK_CIPHER, Options

RECORD_OVERHEAD = 256
"""Bytes that a record is longer than its data, or less."""


def fitted(context: dtlsffi.DTLSContext, options: Options) -> dtlsffi.DTLSContext:
    """A context for datagrams that hold the data, where no kernel is asked how large they may be."""
    context.mtu = max(1200, options.size + RECORD_OVERHEAD)
    return context


def client_context(options: Options, *, psk: bool = False) -> dtlsffi.DTLSContext:
    """A client's: it verifies the server's certificate, or has a key."""
    context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
    context.maximum_version = dtlsffi.DTLSVersion.DTLSv1_2
    if psk:
        context.check_hostname = False
        context.set_psk_client_callback(lambda _hint: ("me", PSK))
        context.set_ciphers(PSK_CIPHER)
        context.options |= dtlsffi.OP_NO_TICKET
    else:
        context.load_verify_locations(options.ca)
        context.set_ciphers(CIPHER)
        context.set_ecdh_curve("P-256")
    return context


def server_context(options: Options, *, psk: bool = False) -> dtlsffi.DTLSContext:
    """A server's, with a certificate or a key."""
    context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    context.maximum_version = dtlsffi.DTLSVersion.DTLSv1_2
    context.session_cache_size = 0  # as the reference: sessions are in tickets, and those of a PSK are not kept
    if psk:
        context.set_psk_server_callback({"me": PSK}.get)
        context.set_ciphers(PSK_CIPHER)
        context.options |= dtlsffi.OP_NO_TICKET
    else:
        context.load_cert_chain(options.cert, options.key)
        context.set_ciphers(CIPHER)
        context.set_ecdh_curve("P-256")
    return context
