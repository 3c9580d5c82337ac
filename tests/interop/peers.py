"""Other implementations, run as programs: openssl(1) and GnuTLS's gnutls-cli(1) and gnutls-serv(1)."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dtlsffi.testing import Identity

HOST = "device.example"
PATIENCE = 15  # seconds


class Program:
    """A running program; what it prints is gathered by a thread."""

    def __init__(self, command: Sequence[str]) -> None:
        if shutil.which(command[0]) is None:
            pytest.fail(f"{command[0]} is not installed: run ./ci/test, which sees to it")
        self.command = command
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        )
        self._output = bytearray()
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._gather)
        self._reader.start()

    def _gather(self) -> None:
        assert self._process.stdout is not None
        while chunk := self._process.stdout.read(65536):
            with self._changed:
                self._output += chunk
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._process.stdin.close()
        self._process.stdout.close()

    @property
    def output(self) -> str:
        """Everything printed so far."""
        with self._changed:
            return self._output.decode("utf-8", "replace")

    def expect(self, text: str) -> str:
        """Waits until `text` was printed; returns all output."""
        with self._changed:
            if not self._changed.wait_for(lambda: text.encode() in self._output or self._ended, PATIENCE) or (
                text.encode() not in self._output
            ):
                pytest.fail(f"{' '.join(self.command)} did not print {text!r}, but:\n{self._output.decode()}")
        return self.output

    def say(self, line: str) -> None:
        """Types a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    def end_input(self) -> None:
        """Closes its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def result(self) -> int:
        """Waits for its end; returns the exit status."""
        return self._process.wait(PATIENCE)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def wait_until_bound(port: int) -> None:
    """Waits until somebody listens on a UDP port: Linux tells in /proc/net."""
    end = time.monotonic() + PATIENCE
    wanted = f":{port:04X} "
    while time.monotonic() < end:
        tables = [Path(f"/proc/net/{name}") for name in ("udp", "udp6")]
        if any(wanted in table.read_text() for table in tables if table.exists()):
            return
    pytest.fail(f"nobody listens on UDP port {port}")


class Files:
    """Certificates for programs, which want them in files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0

    def write(self, data: bytes) -> str:
        self._count += 1
        path = self._directory / f"{self._count}.pem"
        path.write_bytes(data)
        return str(path)


class Server(Program):
    """A DTLS server on a port of its own."""

    port: int

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port


class OpenSSLServer(Server):
    """`openssl s_server`: prints what it gets, sends the lines typed."""

    name = "openssl"

    def __init__(self, files: Files, identity: Identity, *more: str, client_ca: bytes | None = None) -> None:
        self.port = free_port()
        asking = (
            [] if client_ca is None else ["-Verify", "1", "-verify_return_error", "-CAfile", files.write(client_ca)]
        )
        super().__init__(
            ["openssl", "s_server", "-dtls", "-accept", f"127.0.0.1:{self.port}", "-cert_chain",
             files.write(identity.certificate), "-cert", files.write(identity.certificate),
             "-key", files.write(identity.key), *asking, *more]
        )  # fmt: skip
        wait_until_bound(self.port)


class GnuTLSServer(Server):
    """`gnutls-serv --udp --echo`: sends back what it gets."""

    name = "gnutls"

    def __init__(self, files: Files, identity: Identity, *more: str, client_ca: bytes | None = None) -> None:
        self.port = free_port()
        asking: list[str] = []
        if client_ca is not None:
            asking = ["--require-client-cert", "--verify-client-cert", "--x509cafile", files.write(client_ca)]
        super().__init__(
            ["gnutls-serv", "--udp", "--echo", "-p", str(self.port), "--x509certfile",
             files.write(identity.certificate), "--x509keyfile", files.write(identity.key), *asking, *more]
        )  # fmt: skip
        wait_until_bound(self.port)


class OpenSSLClient(Program):
    """`openssl s_client`: prints what it gets, sends the lines typed; verifies."""

    name = "openssl"

    def __init__(
        self, files: Files, address: tuple[str, int], ca: bytes, *more: str, identity: Identity | None = None
    ) -> None:
        showing: list[str] = []
        if identity is not None:
            showing = ["-cert", files.write(identity.certificate), "-key", files.write(identity.key)]
        super().__init__(
            ["openssl", "s_client", "-dtls", "-connect", f"{address[0]}:{address[1]}", "-CAfile", files.write(ca),
             "-verify_return_error", "-verify_hostname", HOST, "-servername", HOST, *showing, *more]
        )  # fmt: skip


class GnuTLSClient(Program):
    """`gnutls-cli --udp`: prints what it gets, sends the lines typed; verifies."""

    name = "gnutls"

    def __init__(
        self, files: Files, address: tuple[str, int], ca: bytes, *more: str, identity: Identity | None = None
    ) -> None:
        showing: list[str] = []
        if identity is not None:
            showing = ["--x509certfile", files.write(identity.certificate), "--x509keyfile", files.write(identity.key)]
        super().__init__(
            ["gnutls-cli", "--udp", "-p", str(address[1]), "--x509cafile", files.write(ca), "--verify-hostname", HOST,
             "--sni-hostname", HOST, *showing, *more, address[0]]
        )  # fmt: skip


SERVERS: dict[str, Any] = {"openssl": OpenSSLServer, "gnutls": GnuTLSServer}
CLIENTS: dict[str, Any] = {"openssl": OpenSSLClient, "gnutls": GnuTLSClient}
