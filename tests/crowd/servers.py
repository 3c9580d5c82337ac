"""The servers of `tests.crowd.doors`, each in a process of its own, and what they tell about themselves."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtlsffi.testing import Authority

if TYPE_CHECKING:
    from typing_extensions import Self

HOST = "device.example"
QUICK = (0.25, 1.5, 2.0)  # retransmission, in seconds


class Server:
    """An echo server in a process of its own, on loopback. A context manager; killed at the end if need be."""

    def __init__(
        self,
        door: str,
        authority: Authority,
        *,
        name: str = "",
        port: int = 0,
        reuse_port: bool = False,
        cookie_secret: bytes = b"",
        ticket_keys: tuple[bytes, ...] = (),
        retransmission: tuple[float, float, float] = QUICK,
        **limits: Any,
    ) -> None:
        self.name = name
        identity = authority.issue(HOST)
        with tempfile.TemporaryDirectory() as directory:
            chain, key = Path(directory, "chain"), Path(directory, "key")
            chain.write_bytes(identity.certificate)
            key.write_bytes(identity.key)
            setup = {
                "door": door, "chain": str(chain), "key": str(key), "name": name, "port": port,
                "reuse_port": reuse_port, "cookie_secret": cookie_secret.hex(), "retransmission": retransmission,
                "ticket_keys": [one.hex() for one in ticket_keys], "limits": limits,
            }  # fmt: skip
            self._asking = threading.Lock()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.crowd.doors", json.dumps(setup)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            self.address = ("127.0.0.1", int(self._answer()))

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line: str = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server {self.name} has ended with status {self._process.wait()}")
        return line

    def statistics(self) -> dict[str, float]:
        """`Endpoint.statistics`, with `resident` (memory in kB), `threads`, and `processor` (time, in seconds)."""
        assert self._process.stdin is not None
        with self._asking:
            self._process.stdin.write("?\n")
            self._process.stdin.flush()
            answer: dict[str, float] = json.loads(self._answer())
        return answer

    def kill(self) -> None:
        """SIGKILL: it says goodbye to nobody."""
        self._process.kill()
        self._process.wait()

    def end(self, patience: float = 60) -> int:
        """Has it end in peace; its status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
