"""examples/webrtc_demux.py, run as it stands, over UDP on loopback."""

from __future__ import annotations

import socket

import pytest

import dtlsffi
from dtlsffi.testing import Authority
from tests.interop.programs import free_port
from tests.test_examples import Example


def test_stun_dtls_and_srtp_share_a_port() -> None:
    """RFC 7983: each gets where it belongs, and the DTLS among them keys for the SRTP."""
    port = free_port()
    with Example("webrtc_demux.py", str(port)) as program, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fingerprint = program.match(r"a=fingerprint:(.+)\n")
        context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
        context.set_srtp_profiles(["SRTP_AES128_CM_SHA1_80"])
        identity = Authority().issue("peer.example")
        context.load_cert_chain(identity.certificate, identity.key)
        client = dtlsffi.Connection(context, verify_fingerprint=fingerprint)
        sock.connect(("127.0.0.1", port))
        sock.settimeout(10)
        sock.send(b"\0\1\0\0" + bytes(16))
        with pytest.raises(dtlsffi.DTLSWantReadError):
            client.do_handshake()
        while not client.is_established:
            for datagram in client.datagrams_to_send():
                sock.send(datagram)
            client.receive_datagram(sock.recv(65535))
        sock.send(b"\x80" + bytes(20))
        client.send(b"data")
        client.close()
        for datagram in client.datagrams_to_send():
            sock.send(datagram)
        keys = f"has keys for SRTP_AES128_CM_SHA1_80: {context.fingerprint()}"
        for words in ("STUN from", keys, "SRTP from", "data from", "has closed"):
            program.expect(words)
        assert program.output.index("STUN from") < program.output.index("has keys for")
