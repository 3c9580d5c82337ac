"""The command line: `python -m dtlsffi client HOST PORT`, `server PORT`, `demo`, `info`."""

from __future__ import annotations

import argparse
import logging
import platform
import socket
import ssl
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .accepted import DTLSServerConnection
from .connecting import create_connection
from .core import constants
from .core.constants import PROTOCOL_DTLS_CLIENT, PROTOCOL_DTLS_SERVER
from .core.context import DTLSContext, create_default_context
from .core.errors import DTLSCertVerificationError
from .core.pins import valid_fingerprint
from .server import DTLSListener, create_server
from .sockets import DTLSSocket
from .talk import Talk, printable, tell

if TYPE_CHECKING:
    from .testing import Relay

__all__ = ["main"]

KEY_MAX, IDENTITY_MAX = 512, 128  # bytes of a pre-shared key and its name: OpenSSL's PSK_MAX_PSK_LEN, RFC 4279


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
    client.add_argument("--name", type=something, help="the name that the certificate must be for, if it is not HOST")
    client.add_argument(
        "--linger", type=seconds, default=1.0, help="seconds of silence to wait for after stdin has ended (default: 1)"
    )
    client.add_argument("--insecure", action="store_true", help="talk to anybody: do not verify the certificate")

    server = commands.add_parser("server", help="wait for a client, then do the same")
    server.set_defaults(run=run_server)
    server.add_argument("port", metavar="PORT", type=port_number)
    server.add_argument("--bind", metavar="ADDRESS", default="", help="the address to listen on, all if not given")
    server.add_argument("--echo", action="store_true", help="send everything back")
    server.add_argument(
        "--keep", action="store_true", help="wait for the next client when one has gone; with --echo serve all at once"
    )
    server.add_argument(
        "--idle", type=duration, default=300.0, help="seconds of silence after which a client has gone (default: 300)"
    )

    for command in (client, server):
        command.add_argument(
            "--ca", metavar="FILE", type=something, help="trust these authorities (PEM), not the system's"
        )
        command.add_argument("--cert", metavar="FILE", type=something, help="our certificate chain (PEM)")
        command.add_argument(
            "--key", metavar="FILE", type=something, help="its private key (PEM), if it is not in --cert"
        )
        command.add_argument(
            "--psk",
            metavar="IDENTITY:HEX",
            type=identity_and_key,
            help="a pre-shared key and its name, or @FILE with both",
        )
        command.add_argument(
            "--fingerprint", metavar="'sha-256 AB:...'", type=fingerprint, help="the peer's certificate, no other"
        )
        command.add_argument("--ciphers", type=something, help="the cipher suites to allow: openssl-ciphers(1)")
        command.add_argument("--mtu", type=int, help="the ceiling for a datagram's UDP payload, in bytes")
        command.add_argument("--timeout", type=duration, default=10.0, help="seconds for the handshake (default: 10)")
        command.add_argument("--binary", action="store_true", help="print received data as it is, without escaping")
        command.add_argument("--trace", action="store_true", help="print every record and handshake message on stderr")
        command.add_argument("--verbose", action="store_true", help="print on stderr what was negotiated, and counters")

    demo = commands.add_parser("demo", help="a client and a server over a wire that loses a third of the datagrams")
    demo.set_defaults(run=run_demo)
    demo.add_argument("--seed", type=int, default=1, help="what is lost follows from this number (default: 1)")
    demo.add_argument("--loss", type=share, default=1 / 3, help="how much is lost, 0 to 1 (default: a third)")

    info = commands.add_parser("info", help="print versions and features, for a bug report")
    info.set_defaults(run=run_info)
    return top


def number(text: str, kind: type[int | float], what: str, most: float) -> Any:
    """One from 0 to `most`."""
    try:
        found = kind(text)
    except ValueError:
        found = -1
    if not 0 <= found <= most:
        raise argparse.ArgumentTypeError(f"{what} 0 to {most}, not {text!r}")
    return found


def port_number(text: str) -> int:
    """A UDP port."""
    return int(number(text, int, "a port is", 65535))


def seconds(text: str) -> float:
    """A number of seconds, at least 0, and no more than a year."""
    return float(number(text, float, "seconds are", 366 * 86400))


def ask(words: str) -> str:
    """A password, from the terminal or stdin; ValueError where there is none."""
    try:
        return getpass(words)
    except EOFError:
        raise ValueError("the private key is encrypted, and there is nobody to ask for its password") from None


def something(text: str) -> str:
    """What a shell's variable that is not set does not give."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def fingerprint(text: str) -> str:
    """A certificate's fingerprint."""
    try:
        valid_fingerprint(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def share(text: str) -> float:
    """A part of a whole."""
    return float(number(text, float, "a share is", 1))


def duration(text: str) -> float:
    """The same as `seconds`, but not 0."""
    if (found := seconds(text)) == 0:
        raise argparse.ArgumentTypeError("more than 0 seconds are needed")
    return found


def identity_and_key(text: str) -> tuple[str, bytes]:
    """A pre-shared key's name and the key: `IDENTITY:HEX`, or `@FILE` that holds it."""
    try:
        identity, colon, digits = (Path(text[1:]).read_text().strip() if text.startswith("@") else text).rpartition(":")
        key = bytes.fromhex(digits)
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except ValueError:
        key = b""
    if not key or not colon or len(key) > KEY_MAX or len(identity.encode()) > IDENTITY_MAX:
        words = f"a pre-shared key is IDENTITY:HEX, or @FILE that holds it, of 1 to {KEY_MAX} bytes"
        raise argparse.ArgumentTypeError(f"{words}, and its name has at most {IDENTITY_MAX}") from None
    return identity, key


# ---- client and server ----


def context_for(options: argparse.Namespace, protocol: constants.DTLSProtocol) -> DTLSContext:
    """The context that the options ask for."""
    if protocol is PROTOCOL_DTLS_SERVER:
        context = create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=options.ca)
        if options.ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
    else:
        context = create_default_context(cafile=options.ca)
        if options.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    adjust(context, options)
    if options.psk is not None:
        use_psk(context, protocol, *options.psk)
    return context


def adjust(context: DTLSContext, options: argparse.Namespace) -> None:
    """What both sides may set."""
    if options.key is not None and options.cert is None:
        raise ValueError("--key FILE is of use with --cert FILE only")
    if options.cert is not None:
        words = f"password of {options.key or options.cert}: "
        context.load_cert_chain(options.cert, options.key, partial(ask, words))
    if options.trace:
        context.trace = lambda _, event: print(event, file=sys.stderr)
    if options.ciphers is not None:
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
    """`dtlsffi server`: talks with one client at a time, of those that have shown that they are where they say."""
    if options.cert is None and options.psk is None:
        raise ValueError("a server needs a certificate or a key: --cert FILE (and --key FILE), or --psk IDENTITY:HEX")
    with create_server(
        (options.bind, options.port),
        context=context_for(options, PROTOCOL_DTLS_SERVER),
        dualstack_ipv6=not options.bind and socket.has_dualstack_ipv6(),
        handshake_timeout=options.timeout,
        idle_timeout=options.idle,
        verify_fingerprint=options.fingerprint,
    ) as listener:
        tell(options, f"listening on {listener.getsockname()}")
        failures: list[Exception] = []

        def serve_one(conn: DTLSServerConnection, client: Any) -> None:
            try:
                serve(options, conn, client)
            except Exception as error:  # noqa: BLE001 - raised below
                failures.append(error)
            finally:
                listener.shutdown()

        handler = partial(serve, options) if options.keep else serve_one
        with said("dtlsffi.server"):
            listener.serve_forever(handler, threads=None if options.keep and options.echo else 1)
        if failures:
            raise failures[0]


def serve(options: argparse.Namespace, conn: DTLSServerConnection, client: Any) -> None:
    """Talks with one client."""
    tell(options, f"client {client}")
    Talk(options, conn, linger=None).run()


class Teller(logging.Handler):
    """What is logged, as a line on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print it, with what was raised."""
        raised = f": {record.exc_info[1]}" if record.exc_info else ""
        print(f"dtlsffi: {printable(record.getMessage() + raised)}", file=sys.stderr)


@contextmanager
def said(name: str) -> Iterator[None]:
    """What a logger is told meanwhile goes to stderr."""
    logger, teller = logging.getLogger(name), Teller()
    logger.setLevel(logging.INFO)
    logger.addHandler(teller)
    try:
        yield
    finally:
        logger.removeHandler(teller)


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
        with create_server(("127.0.0.1", 0), context=context) as listener:
            threading.Thread(target=echo, args=(listener,), daemon=True).start()
            print(f"{title} listens on UDP port {listener.getsockname()[1]}.")
            with Relay(listener.getsockname(), seed=options.seed, loss=options.loss) as wire:
                visit(options, wire, authority.client_context())


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


def echo(listener: DTLSListener) -> None:
    """Sends back what comes from the first client, until it closes, or gives up."""
    with suppress(OSError):  # the client has refused us, or the demonstration is over
        conn, _ = listener.accept()
        with conn:
            while data := conn.recv():
                conn.send(data)


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
