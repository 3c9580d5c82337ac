"""Hellos from everywhere, as fast as another process can send them, while honest clients connect.

    python -m tests.flood.flood [--seconds N] [--clients N] [--fragments]

The strangers have some thousand addresses of 127.0.0.0/8 and never answer. Ends with status 1 where an honest client
does not get through, memory grows, or an answer is larger than its question.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from subprocess import PIPE

import dtlsffi
from dtlsffi import Connection, DTLSContext, Endpoint
from dtlsffi.testing import Authority

HOST = "device.example"


def resident() -> int:
    """The process's memory in kB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def serve(chain: str, key: str, limits: str) -> None:
    """An endpoint that sends all back, in a process of its own: its port, and at the end its numbers, on stdout."""
    context = DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    context.load_cert_chain(chain, key)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        endpoint = Endpoint(context, fileno=sock.fileno(), **json.loads(limits))
        print(sock.getsockname()[1], flush=True)
        before, begin = resident(), time.monotonic()
        while not select.select([sys.stdin], [], [], 0)[0]:
            step(sock, endpoint)
        counts = endpoint.statistics()
        print(json.dumps(counts | {"grown": resident() - before, "seconds": time.monotonic() - begin}))


def step(sock: socket.socket, endpoint: Endpoint) -> None:
    """What has come, and what is due."""
    timer = endpoint.get_timer(time.monotonic())
    if select.select([sock], [], [], min(0.05, 0.05 if timer is None else timer))[0]:
        for _ in range(8):
            if not endpoint.pump(time.monotonic()):
                break
    endpoint.handle_timers(time.monotonic())
    endpoint.accepted()
    for connection in endpoint.ready():
        while connection.received and not connection.gone:
            with contextlib.suppress(OSError):
                connection.send(connection.received.popleft())
        if connection.peer_closed:
            connection.close()


def hello(*, in_fragments: bool) -> bytes:
    """A ClientHello, or the first fragment of one."""
    client = Connection(Authority().client_context(), server_hostname=HOST)
    with contextlib.suppress(dtlsffi.DTLSWantReadError):
        client.do_handshake()
    (whole,) = client.datagrams_to_send()
    if not in_fragments:
        return whole
    piece = whole[25:85]
    message = whole[13:22] + len(piece).to_bytes(3, "big") + piece
    return whole[:11] + len(message).to_bytes(2, "big") + message


FLOODER = """
import socket, sys
port, count, data = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
sockets = []
for number in range(count):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)  # what comes back is not read
    sock.bind((f"127.{1 + number // 60000}.{number // 250 % 240}.{1 + number % 250}", 0))
    sock.connect(("127.0.0.1", port))
    sockets.append(sock)
print("ready", flush=True)
while True:
    for sock in sockets:
        try:
            sock.send(data)
        except OSError:
            pass
"""


def run(seconds: float, clients: int, *, in_fragments: bool) -> dict[str, float]:
    """The flood; what came of it."""
    authority = Authority()
    identity = authority.issue(HOST)
    limits = {"max_pending": 500, "handshake_timeout": 2.0} if in_fragments else {}
    python = [sys.executable, "-m", "tests.flood.flood"]
    with tempfile.TemporaryDirectory() as directory:
        chain, key = Path(directory, "chain"), Path(directory, "key")
        chain.write_bytes(identity.certificate)
        key.write_bytes(identity.key)
        with subprocess.Popen(
            [*python, "--serve", str(chain), str(key), json.dumps(limits)], stdin=PIPE, stdout=PIPE, text=True
        ) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            port = int(server.stdout.readline())
            command = [sys.executable, "-c", FLOODER, str(port), "1000", hello(in_fragments=in_fragments).hex()]
            with subprocess.Popen(command, stdout=PIPE) as flooder:
                try:
                    assert flooder.stdout is not None
                    flooder.stdout.readline()
                    result = measure(port, authority, seconds, clients)
                finally:
                    flooder.kill()
                    server.stdin.close()
            counts = json.loads(server.stdout.readline())
    return result | {
        "hellos a second": counts["datagrams_received"] / counts["seconds"],
        "kB grown": counts["grown"],
        "half-open": counts["pending"],
        "refused": counts["refused_pending"],
    }


def talk(address: tuple[str, int], context: DTLSContext, number: int) -> None:
    """One honest client: it connects, and gets back what it sends. Data may be lost on the way: it says it again."""
    with dtlsffi.create_connection(address, context=context, server_hostname=HOST, timeout=20) as conn:
        conn.settimeout(0.1)
        for _ in range(100):
            conn.send(b"%d" % number)
            with contextlib.suppress(TimeoutError):
                if conn.recv() == b"%d" % number:
                    return
    raise TimeoutError("an honest client had no answer")


def measure(port: int, authority: Authority, seconds: float, clients: int) -> dict[str, float]:
    """Honest clients one after the other, for as long as the flood lasts; as a person would, they try again once."""
    context = authority.client_context()
    context.retransmission = (0.05, 1.2, 0.5)
    begin, through, again, worst = time.monotonic(), 0, 0, 0.0
    while through < clients or time.monotonic() < begin + seconds:
        start = time.monotonic()
        try:
            talk(("127.0.0.1", port), context, through)
        except TimeoutError:
            again += 1
            talk(("127.0.0.1", port), context, through)
        through += 1
        worst = max(worst, time.monotonic() - start)
    return {"seconds": time.monotonic() - begin, "honest clients": through, "tried again": again, "slowest (s)": worst}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--fragments", action="store_true")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return 0
    result = run(options.seconds, options.clients, in_fragments=options.fragments)
    for name, value in result.items():
        print(f"{name}: {value:.1f}")
    return int(result["honest clients"] < options.clients or result["kB grown"] > 65536)


if __name__ == "__main__":
    sys.exit(main())
