"""The other side: Mbed TLS, in a thread that behaves as a program does."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.programs import Printer

if TYPE_CHECKING:
    from typing_extensions import Self


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
