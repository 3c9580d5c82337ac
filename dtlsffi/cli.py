"""The command line: `python -m dtlsffi client HOST PORT`, `server PORT`, `demo`, `info`."""

from __future__ import annotations

import argparse
import os
import platform
import select
import socket
import ssl
import sys
import threading
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from . import __version__
from .connecting import create_connection
from .core import constants
from .core.constants import PROTOCOL_DTLS_CLIENT, PROTOCOL_DTLS_SERVER
from .core.context import DTLSContext, create_default_context
from .core.errors import DTLSCertVerificationError, DTLSWantReadError
from .core.pins import valid_fingerprint
from .sockets import DTLSSocket

if TYPE_CHECKING:
    from .testing import Relay

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status: 0, or 1 after an error, which is on stderr."""
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except (OSError, ValueError, ImportError) as error:
        print(f"dtlsffi: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(prog="dtlsffi", description="DTLS from the command line.")
    top.add_argument("--version", action="version", version=f"dtlsffi {__version__}, {constants.OPENSSL_VERSION}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    client = commands.add_parser("client", help="connect, send each line of stdin as a datagram, print what comes")
    client.set_defaults(run=run_client)
    client.add_argument("host", metavar="HOST")
    client.add_argument("port", metavar="PORT", type=port_number)
    client.add_argument("--name", help="the name that the certificate must be for, if it is not HOST")
    client.add_argument(
        "--linger", type=seconds, default=1.0, help="seconds of silence to wait for after stdin has ended (default: 1)"
    )
    client.add_argument("--insecure", action="store_true", help="talk to anybody: do not verify the certificate")

    server = commands.add_parser("server", help="wait for a client, then do the same")
    server.set_defaults(run=run_server)
    server.add_argument("port", metavar="PORT", type=port_number)
    server.add_argument("--bind", metavar="ADDRESS", default="", help="the address to listen on, all if not given")
    server.add_argument("--echo", action="store_true", help="send everything back")
    server.add_argument("--keep", action="store_true", help="wait for the next client when one has gone")

    for command in (client, server):
        command.add_argument("--ca", metavar="FILE", help="trust these authorities (PEM), not the system's")
        command.add_argument("--cert", metavar="FILE", help="our certificate chain (PEM)")
        command.add_argument("--key", metavar="FILE", help="its private key (PEM), if it is not in --cert")
        command.add_argument(
            "--psk",
            metavar="IDENTITY:HEX",
            type=identity_and_key,
            help="a pre-shared key and its name, or @FILE with both",
        )
        command.add_argument("--fingerprint", metavar="'sha-256 AB:...'", help="the peer's certificate, no other")
        command.add_argument("--ciphers", help="the cipher suites to allow: openssl-ciphers(1)")
        command.add_argument("--mtu", type=int, help="the ceiling for a datagram's UDP payload, in bytes")
        command.add_argument("--timeout", type=duration, default=10.0, help="seconds for the handshake (default: 10)")
        command.add_argument("--binary", action="store_true", help="print what comes as it is, escape nothing")
        command.add_argument("--trace", action="store_true", help="tell on stderr every record and handshake message")
        command.add_argument("--verbose", action="store_true", help="tell on stderr what was agreed, and count")

    demo = commands.add_parser("demo", help="a client and a server over a wire that loses a third of the datagrams")
    demo.set_defaults(run=run_demo)
    demo.add_argument("--seed", type=int, default=1, help="what is lost follows from this number (default: 1)")
    demo.add_argument("--loss", type=float, default=1 / 3, help="how much is lost, 0 to 1 (default: a third)")

    info = commands.add_parser("info", help="print versions and features, for a bug report")
    info.set_defaults(run=run_info)
    return top


def port_number(text: str) -> int:
    """A UDP port."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"a port is 0 to 65535, not {number}")
    return number


def seconds(text: str) -> float:
    """A number of seconds, at least 0, and no more than a year."""
    number = float(text)
    if not 0 <= number <= 366 * 86400:
        raise argparse.ArgumentTypeError(f"seconds are 0 to {366 * 86400}, not {text}")
    return number


def duration(text: str) -> float:
    """The same, but not 0."""
    number = seconds(text)
    if number == 0:
        raise argparse.ArgumentTypeError("0 seconds are no time at all")
    return number


def identity_and_key(text: str) -> tuple[str, bytes]:
    """A pre-shared key's name and the key: `IDENTITY:HEX`, or `@FILE` that holds it."""
    try:
        identity, _, digits = (Path(text[1:]).read_text().strip() if text.startswith("@") else text).rpartition(":")
        return identity, bytes.fromhex(digits)
    except (OSError, ValueError):
        raise argparse.ArgumentTypeError("a pre-shared key is IDENTITY:HEX, or @FILE that holds it") from None


# ---- text ----


def printable(text: str) -> str:
    """`text` with every control and format character escaped, so that it cannot move a terminal's cursor."""
    return "".join(
        ch if ch in "\n\t" or unicodedata.category(ch)[0] != "C" else ch.encode("unicode_escape").decode("ascii")
        for ch in text
    )


def show(data: bytes, out: BinaryIO, *, binary: bool) -> None:
    """Prints one record: as it is, or as a line of text without control characters."""
    if not binary:
        line = printable(data.decode("utf-8", "backslashreplace"))
        data = (line if line.endswith("\n") else line + "\n").encode("utf-8", "backslashreplace")
    out.write(data)
    out.flush()


def tell(options: argparse.Namespace, text: str) -> None:
    """Prints `text` on stderr where --verbose."""
    if options.verbose:
        print(printable(text), file=sys.stderr)


def tell_about(options: argparse.Namespace, conn: DTLSSocket) -> None:
    """What was agreed, and with whom."""
    name, _, bits = conn.cipher() or ("no cipher", "", 0)
    tell(options, f"{conn.version()}, {name} ({bits} bits), mtu {conn.mtu}, at most {conn.data_mtu} bytes a datagram")
    certificate = conn.getpeercert()
    if certificate:
        names = certificate.get("subjectAltName", ())
        tell(
            options, f"peer certificate: subject {certificate['subject']}, for {names}, until {certificate['notAfter']}"
        )


# ---- client and server ----


def context_for(options: argparse.Namespace, protocol: constants.DTLSProtocol) -> DTLSContext:
    """The context that the options ask for."""
    if protocol is PROTOCOL_DTLS_SERVER:
        context = create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=options.ca)
        if options.ca:
            context.verify_mode = ssl.CERT_REQUIRED
    else:
        context = create_default_context(cafile=options.ca)
        if options.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    adjust(context, options)
    if options.psk:
        use_psk(context, protocol, *options.psk)
    return context


def adjust(context: DTLSContext, options: argparse.Namespace) -> None:
    """What both sides may set."""
    if options.key and not options.cert:
        raise ValueError("--key FILE is of use with --cert FILE only")
    if options.cert:
        context.load_cert_chain(options.cert, options.key)
    if options.trace:
        context.trace = lambda _, event: print(event, file=sys.stderr)
    if options.ciphers:
        context.set_ciphers(options.ciphers)
    if options.mtu is not None:
        context.mtu = options.mtu


def use_psk(context: DTLSContext, protocol: constants.DTLSProtocol, identity: str, key: bytes) -> None:
    """Knows the other side by a key; certificates count only where one is shown."""
    if protocol is PROTOCOL_DTLS_SERVER:
        context.set_psk_server_callback({identity: key}.get)
    else:
        context.set_psk_client_callback(lambda _hint: (identity, key))


def run_client(options: argparse.Namespace) -> None:
    """`dtlsffi client`: talks until stdin has ended and nothing more comes, or the peer closes."""
    context = context_for(options, PROTOCOL_DTLS_CLIENT)
    address = (options.host, options.port)
    with create_connection(
        address,
        context=context,
        server_hostname=options.name,
        timeout=options.timeout,
        verify_fingerprint=options.fingerprint,
    ) as conn:
        Talk(options, conn, linger=options.linger).run()


def run_server(options: argparse.Namespace) -> None:
    """`dtlsffi server`: talks with one client at a time."""
    if not options.cert and not options.psk:
        raise ValueError("a server needs a certificate or a key: --cert FILE (and --key FILE), or --psk IDENTITY:HEX")
    if options.fingerprint:
        valid_fingerprint(options.fingerprint)
    context = context_for(options, PROTOCOL_DTLS_SERVER)
    sock = listening_socket(options)
    options.port = sock.getsockname()[1]  # if any was good, the next client looks for it there
    while True:
        with sock:
            tell(options, f"listening on {sock.getsockname()}")
            client = wait_for_client(sock)
            tell(options, f"client {client}")
            sock.connect(client)
            sock.settimeout(options.timeout)
            if not options.keep:
                serve(options, context, sock)
                return
            successor = listening_socket(options)  # from here on it gets what others send
            try:
                serve(options, context, sock)
            except OSError as error:
                print(f"dtlsffi: {printable(str(error))}", file=sys.stderr)
        sock = successor


def wait_for_client(sock: socket.socket) -> Any:
    """The address of the first to send a ClientHello, which stays in the socket; anything else is dropped.

    RFC 6347 section 4.3.2: a handshake record (22) that begins with a client_hello (1).
    """
    while True:
        start, client = sock.recvfrom(14, socket.MSG_PEEK)
        if len(start) == 14 and (start[0], start[13]) == (22, 1):
            return client
        sock.recv(1)


def serve(options: argparse.Namespace, context: DTLSContext, sock: socket.socket) -> None:
    """Talks with the client that `sock` is connected to."""
    with context.wrap_socket(sock, server_side=True, verify_fingerprint=options.fingerprint) as conn:
        Talk(options, conn, linger=None).run()


def listening_socket(options: argparse.Namespace) -> socket.socket:
    """A UDP socket on the port asked for, of both families where no address is given."""
    address = options.bind or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")  # noqa: S104 - as asked for
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if not options.bind and family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address, options.port))
    except BaseException:
        sock.close()
        raise
    return sock


class Talk:
    """Lines of stdin go out as datagrams, datagrams come in as lines on stdout, until either side ends."""

    def __init__(self, options: argparse.Namespace, conn: DTLSSocket, *, linger: float | None) -> None:
        self._options = options
        self._conn = conn
        self._linger = linger  # seconds of silence to wait for when stdin has ended; None: until the peer closes
        self._echo: bool = getattr(options, "echo", False)
        self._line = b""

    def run(self) -> None:
        """Talks to the end."""
        tell_about(self._options, self._conn)
        self._conn.settimeout(None)
        poller = select.poll()
        poller.register(self._conn, select.POLLIN)
        stdin = -1 if self._echo or sys.stdin is None else sys.stdin.fileno()  # None where it was closed before us
        patience: float | None = None
        if stdin >= 0:
            poller.register(stdin, select.POLLIN)
        elif not self._echo:
            patience = self._patience()
        if self._conn.pending() and not self._hear():
            return
        while ready := {descriptor for descriptor, _ in poller.poll(patience)}:
            if self._conn.fileno() in ready and not self._hear():
                break
            if stdin in ready and not self._say(os.read(stdin, 65536)):
                poller.unregister(stdin)
                patience = self._patience()
        tell(self._options, f"statistics: {self._conn.statistics()}")

    def _patience(self) -> float | None:
        """Milliseconds to wait for more when stdin has ended."""
        return None if self._linger is None else self._linger * 1000

    def _say(self, chunk: bytes) -> bool:
        """Sends what was read from stdin, by lines (--binary: as it was read); False at its end."""
        if self._options.binary:
            room = self._conn.data_mtu or 1
            datagrams = [chunk[i : i + room] for i in range(0, len(chunk), room)]
        else:
            *datagrams, self._line = (self._line + chunk).splitlines(keepends=True) or [b""]
            if self._line.endswith(b"\n") or not chunk:
                datagrams.append(self._line)
                self._line = b""
        for datagram in filter(None, datagrams):
            self._conn.send(datagram)
        return bool(chunk)

    def _hear(self) -> bool:
        """Prints (or echoes) everything that has come; False after the peer's close_notify."""
        self._conn.setblocking(False)
        try:
            while data := self._conn.recv():
                if self._echo:
                    self._conn.send(data)
                elif sys.stdout is not None:
                    show(data, sys.stdout.buffer, binary=self._options.binary)
        except DTLSWantReadError:
            return True
        finally:
            self._conn.setblocking(True)
        tell(self._options, "the peer closed")
        return False


# ---- info ----


def run_info(_options: argparse.Namespace) -> None:
    """`dtlsffi info`."""
    print("\n".join(f"{name}: {value}" for name, value in information()))


def information() -> list[tuple[str, object]]:
    """What a bug report should say."""
    from importlib.metadata import version  # noqa: PLC0415 - slow to import, and for this command only

    features = [name for name in sorted(constants.__all__) if name.startswith("HAS_")]
    return [
        ("dtlsffi", __version__),
        ("OpenSSL", constants.OPENSSL_VERSION),
        ("OpenSSL built against", constants.OPENSSL_BUILD_VERSION),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("cffi", version("cffi")),
        ("platform", platform.platform()),
        *((name, getattr(constants, name)) for name in features),
    ]


# ---- demo ----


def run_demo(options: argparse.Namespace) -> None:
    """`dtlsffi demo`: the main job, over real UDP, with everything that can go wrong on the way."""
    from .testing import Authority, Relay  # noqa: PLC0415 - needs an extra

    authority, impostor = Authority(), Authority()
    for title, issuer in (("device.example", authority), ("An impostor", impostor)):
        context = issuer.server_context("device.example")
        context.retransmission = (0.1, 2.0, 1.0)
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=echo, args=(server, context), daemon=True)
        thread.start()
        print(f"{title} listens on UDP port {server.getsockname()[1]}.")
        with Relay(server.getsockname(), seed=options.seed, loss=options.loss) as wire:
            visit(options, wire, authority.client_context())
        thread.join(timeout=1)  # an impostor may wait for long: what refused it may have got lost


def visit(options: argparse.Namespace, wire: Relay, context: DTLSContext) -> None:
    """Connects through `wire`, and tells what happens."""
    context.retransmission = (0.1, 2.0, 1.0)
    print(f"  The client reaches it through a wire that loses {options.loss:.0%} of all datagrams.")
    try:
        with create_connection(wire.address, context=context, server_hostname="device.example", timeout=30) as conn:
            name, _, bits = conn.cipher() or ("", "", 0)
            again = conn.statistics()["flights_retransmitted"]
            certificate = conn.getpeercert() or {}
            print(f"  Handshake finished: {conn.version()}, {name} ({bits} bits), {again} flights sent again.")
            print(f"  The certificate was verified: it is for {certificate['subjectAltName'][0][1]}.")
            print(f"  20 datagrams were sent, {chat(conn)} echoes came back whole; the others got lost, as with UDP.")
    except DTLSCertVerificationError as error:
        print(f"  Refused: {printable(str(error))}.")
    carried, lost = wire.up.carried + wire.down.carried, wire.up.lost + wire.down.lost
    print(f"  The wire was given {carried} datagrams and lost {lost}.")


def echo(sock: socket.socket, context: DTLSContext) -> None:
    """Sends back what comes from the first client, until it closes, gives up, or is silent for a while."""
    sock.connect(wait_for_client(sock))
    sock.settimeout(30)
    try:
        with context.wrap_socket(sock, server_side=True) as conn:
            conn.settimeout(1)
            while data := conn.recv():
                conn.send(data)
    except OSError:  # the client refused us, or has gone and its close_notify got lost
        return


def chat(conn: DTLSSocket) -> int:
    """Sends 20 datagrams; how many came back."""
    conn.settimeout(0.05)
    answered = 0
    for number in range(20):
        conn.send(f"datagram {number}".encode())
        try:
            conn.recv()
            answered += 1
        except TimeoutError:
            continue
    return answered
