"""Wireshark reads what we log: SSL_CTX_set_keylog_callback(3), and its tls.keylog_file."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import dtlsffi
from tests.interop.peers import Serve, connect
from tests.interop.programs import PATIENCE, Program

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed"),
]

SECRET = b"for your eyes only"
APPLICATION_DATA = "23"  # RFC 5246 section 6.2.1


class Capture(Program):
    """`tshark -w`: writes what goes over UDP port `port` of loopback into `file`, and prints its payloads in hex."""

    def __init__(self, port: int, file: Path) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        address = self._sock.getsockname()
        self._sock.connect(address)  # to itself
        super().__init__(
            ["tshark", "-i", "lo", "-f", f"udp port {port} or udp port {address[1]}", "-w", str(file), "-P", "-l",
             "-T", "fields", "-e", "udp.payload"]
        )  # fmt: skip

    def __enter__(self) -> Capture:
        try:
            self._see(b"the beginning")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()  # kill() would leave dumpcap behind
        self._process.wait(PATIENCE)
        super().__exit__()
        self._sock.close()

    def see_all(self) -> None:
        """Waits until everything sent so far is in the file: a later datagram was read back from it."""
        self._see(b"the end")

    def _see(self, marker: bytes) -> None:
        """Sends a datagram until it is seen: however late the capture starts, it has started then."""
        end = time.monotonic() + PATIENCE
        while not self.prints(marker.hex(), within=0.1):
            if self._process.poll() is not None and "permission" in self.output:
                pytest.skip(f"nothing can be captured here: {self.output}")
            assert time.monotonic() < end, self.output
            self._sock.send(marker)


def dissect(file: Path, port: int, keys: Path | None) -> list[list[str]]:
    """Each DTLS datagram as tshark understands it: the types of its records, and the data that it could decrypt."""
    logged = [] if keys is None else ["-o", f"tls.keylog_file:{keys}"]
    result = subprocess.run(
        ["tshark", "-r", str(file), *logged, "-d", f"udp.port=={port},dtls", "-Y", "dtls", "-T", "fields",
         "-e", "dtls.record.content_type", "-e", "data.data"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return [line.split("\t") for line in result.stdout.splitlines()]


def test_tshark_decrypts_with_the_keys_that_either_side_logged(
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    serve: Serve,
    both: Callable[..., list[dtlsffi.DTLSSocket]],
    tmp_path: Path,
) -> None:
    """And cannot without."""
    keys = {}
    for name, context in (("client", client_context), ("server", server_context)):
        keys[name] = tmp_path / f"{name} keys"
        context.keylog_filename = keys[name]
    server = serve(server_context)
    port = server.address[1]
    file = tmp_path / "capture"
    with Capture(port, file) as capture:
        client_conn, server_conn = both(lambda: connect(server.address, client_context), server.accept)
        with client_conn, server_conn:
            client_conn.send(SECRET)
            assert server_conn.recv() == SECRET
            server_conn.send(SECRET[::-1])
            assert client_conn.recv() == SECRET[::-1]
        capture.see_all()
    readable = [[APPLICATION_DATA, SECRET.hex()], [APPLICATION_DATA, SECRET[::-1].hex()]]
    for name, logged in keys.items():
        assert [line for line in dissect(file, port, logged) if line[0] == APPLICATION_DATA] == readable, name
    hidden = [[APPLICATION_DATA, ""], [APPLICATION_DATA, ""]]
    assert [line for line in dissect(file, port, None) if line[0] == APPLICATION_DATA] == hidden
