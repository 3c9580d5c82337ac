"""Sends syslog messages over DTLS, with certificates on both sides: RFC 6012, RFC 5424.

    tail -f app.log | python syslog_sender.py logs.example --ca ca.pem --cert me.pem --key me.key
    python syslog_sender.py logs.example --ca ca.pem --cert me.pem --key me.key --level ERROR --message "disk full"

To try it out there is a receiver, for one sender:

    python syslog_sender.py --listen localhost --ca ca.pem --cert logs.pem --key logs.key

Python's own logging goes the same way, through `SyslogHandler`.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import os
import socket
import ssl
import sys
import time
from collections.abc import Iterator

import dtlsffi

USER = 1  # the facility "user-level messages": RFC 5424 section 6.2.1
SEVERITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}  # not for anybody's terminal


def frame(message: bytes) -> bytes:
    """A message as it goes into a datagram, MSG-LEN SP SYSLOG-MSG: RFC 6012 section 5.4."""
    return b"%d %s" % (len(message), message)


def messages(data: bytes) -> Iterator[bytes]:
    """The messages of a datagram, of which there may be several; ValueError where it is none of ours."""
    while data:
        length, _, rest = data.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(rest):
            raise ValueError(f"not framed as RFC 6012 wants it: {data[:20]!r}")
        yield rest[: int(length)]
        data = rest[int(length) :]


class SyslogHandler(logging.Handler):
    """Sends what is logged over a connection, which it closes in the end.

    `logging.getLogger().addHandler(SyslogHandler(dtlsffi.create_connection(...)))` is all there is to do.
    """

    def __init__(self, conn: dtlsffi.DTLSSocket, app_name: str = "python", facility: int = USER) -> None:
        super().__init__()
        self._conn = conn
        self._facility = facility
        self._origin = f"{socket.gethostname()} {app_name} {os.getpid()}"
        self.addFilter(lambda record: not record.name.startswith("dtlsffi."))  # nothing of its own failures

    def send(self, text: str, level: int = logging.INFO, when: float | None = None) -> None:
        """Sends one message; what is too long for a datagram is cut. Raises what `DTLSSocket.send` raises."""
        severity = next(severity for least, severity in SEVERITIES if level >= least)
        moment = datetime.datetime.fromtimestamp(time.time() if when is None else when, datetime.timezone.utc)
        mark = "" if text.isascii() else "\ufeff"  # RFC 5424 section 6.4
        line = f"<{8 * self._facility + severity}>1 {moment.isoformat()} {self._origin} - - {mark}{text}"
        message = line.encode("utf-8", "backslashreplace")
        room = (self._conn.data_mtu or 0) - len(frame(message)) + len(message)
        if len(message) > room:
            message = message[:room].decode("utf-8", "ignore").encode()  # never within a character
        self._conn.send(frame(message))

    def emit(self, record: logging.LogRecord) -> None:
        """Sends a record, as `logging` wants it: no failure stops the program."""
        try:
            self.send(self.format(record), record.levelno, record.created)
        except Exception:  # noqa: BLE001 - as in each of logging's own handlers
            self.handleError(record)

    def close(self) -> None:
        """Closes the connection."""
        self._conn.close()
        super().close()


def send(options: argparse.Namespace) -> None:
    """Sends --message, or each line of stdin."""
    context = dtlsffi.create_default_context(cafile=options.ca)  # verifies the certificate, and that it is for the host
    context.load_cert_chain(options.cert, options.key)
    address = (options.host, options.port)
    with dtlsffi.create_connection(address, context=context, timeout=options.timeout) as conn:
        handler = SyslogHandler(conn, "syslog_sender")
        for line in [options.message] if options.message is not None else sys.stdin:
            handler.send(line.rstrip("\n"), logging.getLevelName(options.level))


def listen(options: argparse.Namespace) -> None:
    """Prints what the first sender sends, until it closes."""
    context = dtlsffi.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=options.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(options.cert, options.key)
    family, kind, protocol, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as sock:
        sock.bind(address)
        print(f"listening on port {sock.getsockname()[1]}", flush=True)
        _, sender = sock.recvfrom(1, socket.MSG_PEEK)
        sock.connect(sender)
        sock.settimeout(options.timeout)
        with context.wrap_socket(sock, server_side=True) as conn:
            names = (conn.getpeercert() or {}).get("subjectAltName", ())
            print(f"the sender is {conn.peer_fingerprint()} {names}", flush=True)
            conn.settimeout(None)
            while data := conn.recv():
                for message in messages(data):
                    print(message.decode("utf-8", "backslashreplace").translate(CONTROLS), flush=True)


def main() -> None:
    """Either side."""
    parser = argparse.ArgumentParser(description="Sends syslog messages over DTLS.")
    parser.add_argument("host", help="the receiver; with --listen, where to listen")
    parser.add_argument("--listen", action="store_true", help="receive from one sender")
    parser.add_argument("--port", type=int, default=6514)
    parser.add_argument("--ca", required=True, help="authorities that are trusted, PEM")
    parser.add_argument("--cert", required=True, help="our certificate, PEM")
    parser.add_argument("--key", help="its private key, PEM; without it, it is looked for in --cert")
    parser.add_argument("--message", help="what to send, in place of the lines of stdin")
    parser.add_argument("--level", choices=["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], default="INFO")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for the handshake")
    options = parser.parse_args()
    try:
        run = listen if options.listen else send
        run(options)
    except (OSError, ValueError) as error:
        sys.exit(f"syslog_sender: {error}")


if __name__ == "__main__":
    main()
