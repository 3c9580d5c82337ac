"""nginx before several servers: it passes datagrams on, and knows nothing of what is in them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.interop.programs import free_port, wait_until_bound

if TYPE_CHECKING:
    from typing_extensions import Self

PROGRAM = Path("/usr/sbin/nginx")
MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

CONFIGURATION = """
load_module {module};
daemon off;
master_process off;
pid {directory}/pid;
error_log stderr error;
events {{
    worker_connections 2048;
}}
stream {{
    upstream fleet {{
        {balance}
        {servers}
    }}
    server {{
        listen 127.0.0.1:{port} udp;
        proxy_pass fleet;
        proxy_timeout 60s;
    }}
}}
"""

BALANCES = {"round robin": "", "hash": "hash $remote_addr:$remote_port consistent;"}


class Nginx:
    """An nginx of its own, on loopback, with its files in `directory`: the system's is left alone."""

    def __init__(self, directory: Path, balance: str, addresses: list[tuple[str, int]]) -> None:
        if not PROGRAM.exists() or not MODULE.exists():
            pytest.fail("nginx or its module for streams is not installed: run ./ci/test, which sees to it")
        self.address = ("127.0.0.1", free_port())
        path = directory / "nginx.conf"
        path.write_text(
            CONFIGURATION.format(
                module=MODULE,
                directory=directory,
                balance=BALANCES[balance],
                servers=" ".join(f"server {host}:{port};" for host, port in addresses),
                port=self.address[1],
            )
        )
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen([PROGRAM, "-p", directory, "-c", path, "-e", "stderr"], stderr=log)
        wait_until_bound(self.address[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
