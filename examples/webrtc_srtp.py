"""A WebRTC-style pair: two strangers authenticate each other by fingerprints, and agree on keys for SRTP.

Each side prints what it would put into SDP, is told what the other has printed, and shakes hands: RFC 5763, RFC 5764.
No authority is involved; the SDP has to come over a channel that can be trusted. Run this in one terminal, and the same
with `passive` in another; then paste the lines of each into the other:

    python webrtc_srtp.py active

With --cert and --key it uses a certificate of yours; otherwise openssl(1) makes a new one, as browsers do.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import re
import socket
import subprocess
import sys
from collections.abc import Iterable

import dtlsffi

PROFILES = ["SRTP_AEAD_AES_128_GCM", "SRTP_AES128_CM_SHA1_80"]  # the second one everybody has: RFC 8827 section 6.5
NEW_CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout - -out - -subj /CN=WebRTC -days 30"
)


def make_context(certificate: str | None, key: str | None) -> dtlsffi.DTLSContext:
    """A context for either side, with a certificate; the fingerprint alone will say whom to trust."""
    context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS)
    if certificate is None:
        made = subprocess.run(NEW_CERTIFICATE.split(), capture_output=True, check=True)
        context.load_cert_chain(made.stdout)  # with its key, and never in a file
    else:
        context.load_cert_chain(certificate, key)
    context.set_srtp_profiles(PROFILES)
    return context


def description(context: dtlsffi.DTLSContext, sock: socket.socket, role: str) -> str:
    """Our SDP, no more of it than matters here."""
    host, port = sock.getsockname()
    return (
        f"m=audio {port} UDP/TLS/RTP/SAVPF 111\n"
        f"c=IN IP4 {host}\n"
        f"a=setup:{role}\n"
        f"a=fingerprint:{context.fingerprint('sha-256')}\n"
    )


def understand(lines: Iterable[str], role: str) -> tuple[tuple[str, int], str]:
    """The other side's address and fingerprint; reads as far as there is all of it."""
    other = {"active": "passive", "passive": "active"}[role]
    wanted = (r"m=audio (\d+) ", r"c=IN IP4 (\S+)", rf"a=setup:{other}()\s*$", r"a=fingerprint:(.+)")
    found: dict[str, str] = {}
    for line in lines:
        found |= {pattern: match[1] for pattern in wanted if (match := re.match(pattern, line))}
        if len(found) == len(wanted):
            port, host, _, fingerprint = (found[pattern] for pattern in wanted)
            return (host, int(port)), fingerprint
    raise ValueError(f"the other side's SDP lacks a line: it needs m=, c=, a=fingerprint and a=setup:{other}")


def report(conn: dtlsffi.DTLSSocket) -> None:
    """What was agreed on; of the keys only their lengths, and a hash for comparison."""
    keys = conn.srtp_keys()
    parts = dataclasses.asdict(keys)
    profile = parts.pop("profile")
    digest = hashlib.sha256(b"".join(parts.values())).hexdigest()
    print(f"peer: {conn.peer_fingerprint()}")
    print(f"profile: {profile}")
    print(f"lengths: {', '.join(f'{name} {len(part)}' for name, part in parts.items())}")
    print(f"SHA-256 of the keys: {digest}", flush=True)


def main() -> None:
    """Describes itself, is told of the other, and shakes hands."""
    parser = argparse.ArgumentParser(description="Agrees on SRTP keys with a peer known by its fingerprint.")
    parser.add_argument("role", choices=["active", "passive"], help="the active one is DTLS's client")
    parser.add_argument("--cert", help="certificate, PEM")
    parser.add_argument("--key", help="its private key, PEM; without it, it is looked for in --cert")
    parser.add_argument("--address", default="127.0.0.1", help="our own, IPv4")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for the handshake")
    options = parser.parse_args()
    try:
        context = make_context(options.cert, options.key)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((options.address, 0))
            print(description(context, sock, options.role), end="", flush=True)
            print("Paste the other side's lines here:", file=sys.stderr)
            address, fingerprint = understand(sys.stdin, options.role)
            sock.connect(address)
            sock.settimeout(options.timeout)
            server_side = options.role == "passive"
            with context.wrap_socket(sock, server_side=server_side, verify_fingerprint=fingerprint) as conn:
                report(conn)
                if server_side:  # our last flight may have got lost: stay here to repeat it until the peer leaves
                    with contextlib.suppress(TimeoutError):
                        conn.recv()
    except (OSError, ValueError) as error:
        sys.exit(f"webrtc_srtp: {error}")


if __name__ == "__main__":
    main()
