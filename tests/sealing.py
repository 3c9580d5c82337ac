"""A peer that holds the keys and breaks the rules: records of any type that authenticate, sealed by hand."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import dtlsffi
from dtlsffi import Connection
from tests.helpers import CLIENT_HELLO, FAST, SERVER_HELLO, record, records, start

SUITE = "ECDHE-PSK-NULL-SHA256:@SECLEVEL=0"  # signs, and hides nothing (RFC 5489): there is no cipher to be done here
MAC = 32  # bytes, and of its key
RANDOM = slice(14, 46)  # of a hello: behind the message's header and the version


def _expand(secret: bytes, seed: bytes, length: int) -> bytes:
    """The PRF of DTLS 1.2: RFC 5246 section 5."""
    out, a = b"", seed
    while len(out) < length:
        a = hmac.digest(secret, a, hashlib.sha256)
        out += hmac.digest(secret, a + seed, hashlib.sha256)
    return out[:length]


def _context(protocol: int) -> dtlsffi.DTLSContext:
    context = dtlsffi.DTLSContext(protocol)
    context.retransmission = FAST
    context.options |= dtlsffi.OP_NO_ENCRYPT_THEN_MAC  # under which a forged record ends the connection
    context.set_ciphers(SUITE)
    return context


class Sealing:
    """Two connections that have shaken hands, and what either has to sign its records with."""

    def __init__(self, folder: Path) -> None:
        client, server = _context(dtlsffi.PROTOCOL_DTLS_CLIENT), _context(dtlsffi.PROTOCOL_DTLS_SERVER)
        client.set_psk_client_callback(lambda hint: ("device", b"k" * 16))
        server.set_psk_server_callback(lambda identity: b"k" * 16)
        client.keylog_filename = str(folder / "keys")
        self.client = Connection(client, server_hostname="device.example")
        self.server = Connection(server, server_side=True)
        self._number = 0
        randoms = self._shake_hands()
        secret = bytes.fromhex((folder / "keys").read_text().split("CLIENT_RANDOM")[1].split()[1])
        block = _expand(secret, b"key expansion" + randoms[SERVER_HELLO] + randoms[CLIENT_HELLO], 2 * MAC)
        self._keys = {self.client: block[:MAC], self.server: block[MAC:]}

    def _shake_hands(self) -> dict[int, bytes]:
        randoms = {}
        flight, ends = start(self.client), [(self.server, self.client), (self.client, self.server)]
        while flight:
            receiver, _ = ends[0]
            for datagram in flight:
                randoms.update({part[0]: part[RANDOM] for kind, _, _, part in records(datagram) if kind == 22})
                receiver.receive_datagram(datagram)
            flight = receiver.datagrams_to_send()
            ends.reverse()
        assert self.client.is_established
        assert self.server.is_established
        return randoms

    def seal(self, sender: Connection, kind: int, fragment: bytes) -> bytes:
        """A record of the sender's that its peer takes for genuine, far ahead of what it has sent itself."""
        self._number += 1
        number = 1000 + self._number
        signed = record(kind, fragment, epoch=1, number=number)
        header = signed[3:11] + signed[:3] + signed[11:13]  # RFC 6347 section 4.1.2.1
        mac = hmac.digest(self._keys[sender], header + fragment, hashlib.sha256)
        return record(kind, fragment + mac, epoch=1, number=number)
