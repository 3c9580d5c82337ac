"""What the command line says and shows: a talk between stdin and a peer, in text that moves no terminal's cursor."""

from __future__ import annotations

import argparse
import os
import select
import socket
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from .accepted import DTLSServerConnection
    from .sockets import DTLSSocket


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


def tell_about(options: argparse.Namespace, conn: DTLSSocket | DTLSServerConnection) -> None:
    """What was agreed, and with whom."""
    name, _, bits = conn.cipher() or ("no cipher", "", 0)
    tell(options, f"{conn.version()}, {name} ({bits} bits), mtu {conn.mtu}, at most {conn.data_mtu} bytes a datagram")
    certificate = conn.getpeercert()
    if certificate:
        names = certificate.get("subjectAltName", ())
        tell(
            options, f"peer certificate: subject {certificate['subject']}, for {names}, until {certificate['notAfter']}"
        )


class Talk:
    """Lines of stdin go out as datagrams, datagrams come in as lines on stdout, until either side ends."""

    def __init__(
        self, options: argparse.Namespace, conn: DTLSSocket | DTLSServerConnection, *, linger: float | None
    ) -> None:
        self._options = options
        self._conn = conn
        self._linger = linger  # seconds of silence to wait for when stdin has ended; None: until the peer closes
        self._echo: bool = getattr(options, "echo", False)
        self._line = b""
        self._heard = 0.0  # when something has come, by the monotonic clock
        self._over = False  # it was us who ended it
        self._failure: Exception | None = None

    def run(self) -> None:
        """Talks to the end."""
        tell_about(self._options, self._conn)
        self._conn.settimeout(None)
        with nullcontext() if self._echo else self._speaking():
            self._listen()
        if self._failure is not None:
            raise self._failure
        if not self._over:
            tell(self._options, "the peer closed")
        tell(self._options, f"statistics: {self._conn.statistics()}")

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Meanwhile a thread sends what is typed; what is typed later is for the next client."""
        bell, self._ear = socket.socketpair()
        speaker = threading.Thread(target=self._speak, name="dtlsffi stdin", daemon=True)
        with self._ear:
            speaker.start()
            try:
                yield
            finally:
                bell.close()
                speaker.join()

    def _listen(self) -> None:
        while data := self._conn.recv():
            self._heard = time.monotonic()
            if self._echo:
                self._conn.send(data)
            elif sys.stdout is not None:
                show(data, sys.stdout.buffer, binary=self._options.binary)

    def _is_over(self, seconds: float | None, *more: int) -> bool:
        """Waits for a descriptor, or so long; whether the talk is over."""
        ear = self._ear.fileno()
        return ear in select.select([ear, *more], [], [], seconds)[0]

    def _typed(self) -> Iterator[bytes]:
        """What stdin has, b"" at its end; no more when the talk is over."""
        if sys.stdin is None:  # closed before us
            return
        stdin = sys.stdin.fileno()
        while not self._is_over(None, stdin):
            yield (chunk := os.read(stdin, 65536))
            if not chunk:
                return

    def _speak(self) -> None:
        """Sends what stdin has; at its end, or where it cannot be sent, that is the end of the talk."""
        try:
            for chunk in self._typed():
                self._say(chunk)
            if self._linger is None:
                return
            self._heard = time.monotonic()
            while (left := self._heard + self._linger - time.monotonic()) > 0:
                if self._is_over(left):
                    return
        except (OSError, ValueError) as error:
            self._failure = error
        self._over = True
        with suppress(OSError):  # the talk is over already
            self._conn.shutdown(socket.SHUT_RDWR)

    def _say(self, chunk: bytes) -> None:
        """Sends what was read from stdin, by lines (--binary: as it was read); b"" is its end."""
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
