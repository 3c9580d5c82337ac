"""Programs that run beside a test: what they print and are typed, the ports and the files that they want."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from typing_extensions import Self

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
