"""The other side: openssl(1) and GnuTLS's gnutls-cli(1) and gnutls-serv(1), run as programs; Mbed TLS; ourselves."""

from __future__ import annotations

import re
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import dtlsffi
from dtlsffi.testing import Identity

if TYPE_CHECKING:
    from typing_extensions import Self

HOST = "device.example"
PATIENCE = 15  # seconds


class Printer:
    """Something that prints; one can wait for what it does."""

    def __init__(self, called: str) -> None:
        self._called = called
        self._output = bytearray()
        self._changed = threading.Condition()
        self._ended = False

    def _print(self, chunk: bytes) -> None:
        with self._changed:
            self._output += chunk
            self._changed.notify_all()

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def output(self) -> str:
        """Everything printed so far."""
        with self._changed:
            return self._output.decode("utf-8", "replace")

    def expect(self, text: str, times: int = 1) -> str:
        """Waits until `text` was printed that many times; returns all output."""
        wanted = text.encode()
        with self._changed:
            self._changed.wait_for(lambda: self._output.count(wanted) >= times or self._ended, PATIENCE)
            if self._output.count(wanted) < times:
                pytest.fail(f"{self._called} did not print {text!r} {times} times, but:\n{self._output.decode()}")
        return self.output

    def prints(self, text: str, within: float) -> bool:
        """Whether `text` is printed within so many seconds, or was before."""
        with self._changed:
            return self._changed.wait_for(lambda: text.encode() in self._output, within)

    def match(self, pattern: str) -> str:
        """Waits until what was printed matches `pattern`; returns the first group."""
        found = None

        def look() -> bool:
            nonlocal found
            found = re.search(pattern, self._output.decode("utf-8", "replace"))
            return found is not None or self._ended

        with self._changed:
            self._changed.wait_for(look, PATIENCE)
            if found is None:
                pytest.fail(f"{self._called} did not print {pattern!r}, but:\n{self._output.decode()}")
        return found[1]


class Program(Printer):
    """A running program; what it prints is gathered by a thread."""

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__(" ".join(command))
        if shutil.which(command[0]) is None:
            pytest.fail(f"{command[0]} is not installed: run ./ci/test, which sees to it")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        )
        self._reader = threading.Thread(target=self._gather)
        self._reader.start()

    def _gather(self) -> None:
        assert self._process.stdout is not None
        while chunk := self._process.stdout.read(65536):
            self._print(chunk)
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._process.stdin.close()
        self._process.stdout.close()

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
    wanted = f":{port:04X}"
    while time.monotonic() < end:
        tables = [path for path in (Path("/proc/net/udp"), Path("/proc/net/udp6")) if path.exists()]
        sockets = [line for table in tables for line in table.read_text().splitlines()]
        if any(line.split()[1].endswith(wanted) for line in sockets):  # the local address, not the remote one
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


# ---- with pre-shared keys ----

PSK_SUITES = {
    "PSK-AES128-GCM-SHA256": ("PSK:+AES-128-GCM", "TLS-PSK-WITH-AES-128-GCM-SHA256"),
    "PSK-AES128-CCM8": ("PSK:+AES-128-CCM-8", "TLS-PSK-WITH-AES-128-CCM-8"),
    "DHE-PSK-AES128-GCM-SHA256": ("DHE-PSK:+AES-128-GCM", "TLS-DHE-PSK-WITH-AES-128-GCM-SHA256"),
    "ECDHE-PSK-CHACHA20-POLY1305": ("ECDHE-PSK:+CHACHA20-POLY1305", "TLS-ECDHE-PSK-WITH-CHACHA20-POLY1305-SHA256"),
}
"""Suites by OpenSSL's name, and what GnuTLS and Mbed TLS call them."""


def openssl_suite(suite: str) -> str:
    """How OpenSSL has to be told: a tag of 8 bytes is below its security level 1."""
    return f"{suite}:@SECLEVEL=0"


def gnutls_suite(suite: str) -> str:
    return f"NONE:+VERS-DTLS1.2:+COMP-NULL:+AEAD:+GROUP-ALL:+SIGN-ALL:+{PSK_SUITES[suite][0]}"


class OpenSSLPSKServer(Server):
    """`openssl s_server -psk`."""

    def __init__(self, files: Files, suite: str, identity: str, key: bytes, hint: str | None = None) -> None:
        self.port = free_port()
        hinting = [] if hint is None else ["-psk_hint", hint]
        super().__init__(
            ["openssl", "s_server", "-dtls", "-accept", f"127.0.0.1:{self.port}", "-nocert", "-cipher",
             openssl_suite(suite), "-psk", key.hex(), "-psk_identity", identity, *hinting]
        )  # fmt: skip
        wait_until_bound(self.port)


class GnuTLSPSKServer(Server):
    """`gnutls-serv --pskpasswd`."""

    def __init__(self, files: Files, suite: str, identity: str, key: bytes, hint: str | None = None) -> None:
        self.port = free_port()
        hinting = [] if hint is None else ["--pskhint", hint]
        super().__init__(
            ["gnutls-serv", "--udp", "--echo", "-p", str(self.port), "--priority", gnutls_suite(suite), "--pskpasswd",
             files.write(f"{identity}:{key.hex()}\n".encode()), *hinting]
        )  # fmt: skip
        wait_until_bound(self.port)


class OpenSSLPSKClient(Program):
    """`openssl s_client -psk`."""

    def __init__(self, files: Files, address: tuple[str, int], suite: str, identity: str, key: bytes) -> None:
        super().__init__(
            ["openssl", "s_client", "-dtls", "-connect", f"{address[0]}:{address[1]}", "-cipher", openssl_suite(suite),
             "-psk", key.hex(), "-psk_identity", identity]
        )  # fmt: skip


class GnuTLSPSKClient(Program):
    """`gnutls-cli --pskkey`."""

    def __init__(self, files: Files, address: tuple[str, int], suite: str, identity: str, key: bytes) -> None:
        super().__init__(
            ["gnutls-cli", "--udp", "-p", str(address[1]), "--priority", gnutls_suite(suite), "--pskusername", identity,
             "--pskkey", key.hex(), address[0]]
        )  # fmt: skip


class MbedTLS(Printer):
    """Mbed TLS over a UDP socket, in a thread: prints what it gets, sends the lines typed."""

    def __init__(self, configuration: Mapping[str, Any], server: tuple[str, int] | None) -> None:
        super().__init__("Mbed TLS")
        self._tls = pytest.importorskip("mbedtls.tls", reason="python-mbedtls is not installed: it has no wheel here")
        kind = self._tls.ServerContext if server is None else self._tls.ClientContext
        self._context = kind(self._tls.DTLSConfiguration(validate_certificates=False, **configuration))
        self._is_client = server is not None
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        if server is not None:
            self._sock.connect(server)
        self._typing, self._typed = socket.socketpair()
        self._lines = bytearray()
        self._thread = threading.Thread(target=self._run)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._sock.getsockname()
        return host, port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._typing.close()
        self._thread.join()
        self._typed.close()
        self._sock.close()

    def say(self, line: str) -> None:
        """Types a line."""
        self._typing.sendall(line.encode() + b"\n")

    def _run(self) -> None:
        try:
            self._buffer = self._fresh()
            if self._is_client:
                self._shake_hands()
            while self._wait():
                pass
        except Exception as error:  # noqa: BLE001 - the test looks for it
            self._send()
            self._print(f"{type(error).__name__}: {error}".encode())
        self._end()

    def _fresh(self) -> Any:
        """A connection that knows nothing."""
        if self._is_client:
            return self._context.wrap_buffers(None)
        buffer = self._context.wrap_buffers()
        buffer.setcookieparam(b"the client")
        return buffer

    def _send(self) -> None:
        outgoing = self._buffer.peek_outgoing(65535)
        if outgoing:
            self._buffer.consume_outgoing(len(outgoing))
            self._sock.send(outgoing)

    def _shake_hands(self) -> None:
        """Goes as far as it can."""
        while not self._established():
            try:
                self._buffer.do_handshake()
            except self._tls.WantReadError:
                break
            except self._tls.WantWriteError:
                self._send()
            except self._tls.HelloVerifyRequest:
                self._send()
                self._buffer = self._fresh()
        else:
            self._print(f"cipher: {self._buffer.cipher()}\n".encode())
        self._send()

    def _established(self) -> bool:
        return self._buffer._handshake_state is self._tls.HandshakeStep.HANDSHAKE_OVER

    def _wait(self) -> bool:
        """Waits for a datagram or a line, and takes it; False when it was the end."""
        ready, _, _ = select.select([self._sock, self._typed], [], [])
        if self._sock in ready:
            datagram, address = self._sock.recvfrom(65535)
            self._sock.connect(address)
            self._buffer.receive_from_network(datagram)
            if self._established():
                with suppress(self._tls.WantReadError):  # a flight sent again holds no data
                    self._print(self._buffer.read(65535))
            else:
                self._shake_hands()
        if self._typed in ready:
            line = self._typed.recv(65535)
            if not line:
                return False
            self._lines += line
        if self._lines and self._established():
            self._buffer.write(bytes(self._lines))
            self._lines.clear()
            self._send()
        return True


class MbedTLSPSKServer(MbedTLS):
    """With one client's key."""

    def __init__(self, files: Files, suite: str, identity: str, key: bytes, hint: str | None = None) -> None:
        assert hint is None, "Mbed TLS cannot give one"
        super().__init__({"ciphers": (PSK_SUITES[suite][1],), "pre_shared_key_store": {identity: key}}, None)


class MbedTLSPSKClient(MbedTLS):
    """With a key."""

    def __init__(self, files: Files, address: tuple[str, int], suite: str, identity: str, key: bytes) -> None:
        super().__init__({"ciphers": (PSK_SUITES[suite][1],), "pre_shared_key": (identity, key)}, address)


PSK_SERVERS: dict[str, Any] = {"openssl": OpenSSLPSKServer, "gnutls": GnuTLSPSKServer, "mbedtls": MbedTLSPSKServer}
PSK_CLIENTS: dict[str, Any] = {"openssl": OpenSSLPSKClient, "gnutls": GnuTLSPSKClient, "mbedtls": MbedTLSPSKClient}


# ---- ourselves ----


class OurServer:
    """A UDP port that takes one client after the other."""

    def __init__(self, context: dtlsffi.DTLSContext) -> None:
        self.context = context
        self._sock = self._listen(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._sock.getsockname()

    @staticmethod
    def _listen(address: tuple[str, int]) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.settimeout(PATIENCE)
        return sock

    def accept(self, timeout: float = PATIENCE) -> dtlsffi.DTLSSocket:
        """Shakes hands with whoever comes next."""
        start, client = self._sock.recvfrom(5, socket.MSG_PEEK)
        while start[:1] + start[3:5] != b"\x16\0\0":  # no handshake in epoch 0, but the last client's close_notify
            self._sock.recv(1)
            start, client = self._sock.recvfrom(5, socket.MSG_PEEK)
        sock = self._sock
        sock.connect(client)
        self._sock = self._listen(self.address)  # the kernel gives it what others send
        sock.settimeout(timeout)
        return self.context.wrap_socket(sock, server_side=True)

    def close(self) -> None:
        self._sock.close()


Serve = Callable[[dtlsffi.DTLSContext], OurServer]


def connect(
    address: tuple[str, int], context: dtlsffi.DTLSContext, name: str | None = HOST, **more: Any
) -> dtlsffi.DTLSSocket:
    """Our client."""
    return dtlsffi.create_connection(address, context=context, server_hostname=name, **{"timeout": 10, **more})
