"""The other side, run as a program: openssl(1), gnutls-cli(1) and gnutls-serv(1), with certificates; and ourselves."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import dtlsffi
from dtlsffi.testing import Identity
from tests.helpers import HOST
from tests.interop.programs import PATIENCE, Files, Program, free_port, wait_until_bound


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
