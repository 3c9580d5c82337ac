"""A WebRTC-style media server's port: STUN, DTLS and SRTP of any number of peers on one UDP port (RFC 7983).

The first byte of a datagram says what it is. DTLS goes through an `Endpoint` without a socket of its own; what else
comes is told, and whoever has finished a handshake gets keys for SRTP (RFC 5764). The program prints its fingerprint
for SDP:

    python webrtc_demux.py 5004

STUN is answered by an ICE library, and SRTP opened by an SRTP library; here both are but counted. Peers show whatever
certificate they have: compare `conn.peer_fingerprint()` with the one in the peer's SDP before you trust its keys.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import subprocess
from typing import Any

import dtlsffi

PROFILES = ["SRTP_AEAD_AES_128_GCM", "SRTP_AES128_CM_SHA1_80"]
NEW_CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout - -out - -subj /CN=WebRTC -days 30"
)


def make_context() -> dtlsffi.DTLSContext:
    """A server's context with a new certificate, which asks every peer for its own."""
    context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    context.load_cert_chain(subprocess.run(NEW_CERTIFICATE.split(), capture_output=True, check=True).stdout)
    context.verify_mode = ssl.CERT_REQUIRED
    context.accept_any_certificate = True  # its fingerprint says whose it is, once SDP has told
    context.set_srtp_profiles(PROFILES)
    return context


class MediaPort(asyncio.DatagramProtocol):
    """One UDP port, and the DTLS endpoint that it carries."""

    transport: asyncio.DatagramTransport

    def __init__(self, context: dtlsffi.DTLSContext) -> None:
        """In a running loop."""
        self.loop = asyncio.get_running_loop()
        self.endpoint = dtlsffi.Endpoint(context, idle_timeout=30)
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """The socket is there."""
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """RFC 7983 section 7: what the first byte says."""
        first = data[0] if data else -1
        if 20 <= first <= 63:
            self.endpoint.receive_datagram(data, addr, self.loop.time())
            self.go_on()
        elif 0 <= first <= 3:
            print(f"STUN from {addr}", flush=True)
        elif 128 <= first <= 191:
            print(f"SRTP from {addr}", flush=True)

    def go_on(self) -> None:
        """Sends what is to be sent, tells of what has happened, and sets the timer."""
        for datagram, addr in self.endpoint.datagrams_to_send():
            self.transport.sendto(datagram, addr)
        for conn in self.endpoint.accepted():
            print(f"a handshake with {conn.address} has begun", flush=True)
        for conn in self.endpoint.ready():
            self.tell(conn)
        if self.timer is not None:
            self.timer.cancel()
        left = self.endpoint.get_timer(self.loop.time())
        self.timer = None if left is None else self.loop.call_later(left, self.run_out)

    def run_out(self) -> None:
        """A flight is to be sent again, or somebody has been silent for too long."""
        self.endpoint.handle_timers(self.loop.time())
        self.go_on()

    def tell(self, conn: dtlsffi.EndpointConnection) -> None:
        """What has happened to a peer."""
        if conn.failure is not None:
            print(f"{conn.address} has failed: {conn.failure}", flush=True)
        elif conn.peer_closed:
            conn.close()
            print(f"{conn.address} has closed", flush=True)
        elif conn.received:  # SCTP of data channels would be here
            print(f"data from {conn.address}: {len(conn.received)} records", flush=True)
            conn.received.clear()
        elif conn.is_established:
            print(f"{conn.address} has keys for {conn.selected_srtp_profile()}: {conn.peer_fingerprint()}", flush=True)


async def main(port: int) -> None:
    """Serves for ever."""
    context = make_context()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: MediaPort(context), local_addr=("127.0.0.1", port))
    print(f"a=fingerprint:{context.fingerprint('sha-256')}", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        transport.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A port for STUN, DTLS and SRTP.")
    parser.add_argument("port", type=int)
    asyncio.run(main(parser.parse_args().port))
