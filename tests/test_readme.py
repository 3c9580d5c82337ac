"""Every example of the README is run as it stands there, but for the port."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.programs import Program, free_port, wait_until_bound

README = (Path(__file__).parent.parent / "README.md").read_text()
MARKED = re.compile(r"<!-- (shell|python): ([\w-]+) -->\n```\w+\n(.*?)```", re.DOTALL)
EXAMPLES = {name: (kind, code) for kind, name, code in MARKED.findall(README)}
SERVERS = ["many-clients", "one-thread", "socketserver", "asyncio-server", "asyncio-protocol", "trio-server"]
CLIENTS = ["echo-client", "asyncio-client", "anyio-client"]
PYTHON = [sys.executable, "-X", "dev", "-W", "error"]


@pytest.fixture
def port() -> int:
    return free_port()


def example(name: str, port: int) -> str:
    return EXAMPLES[name][1].replace("5684", str(port))


def run(name: str, port: int, directory: Path) -> str:
    """Runs a Python example to its end; returns what it printed."""
    result = subprocess.run(
        [*PYTHON, "-c", example(name, port)], cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )
    errors = re.sub(r"Executing .* took .* seconds\n", "", result.stderr)  # asyncio's debug mode, on a busy machine
    assert (result.returncode, errors) == (0, "")
    return result.stdout


@pytest.fixture
def openssl_server(tmp_path: Path, port: int) -> Iterator[Program]:
    """The README's first shell example."""
    with Program(
        ["sh", "-ec", f"cd {tmp_path}\n" + example("server", port).replace("openssl s_server", "exec openssl s_server")]
    ) as program:
        wait_until_bound(port)
        yield program


def test_every_python_example_is_run_here() -> None:
    """No example without a test, no Python that is not marked as one."""
    tested = {"server", "client", "echo-server", "echo-client", "select-client", "memory", "refused", "lossy",
              "psk-server", "psk-client", "fingerprints", "batch-client", "authority", "mutual", *SERVERS,
              *CLIENTS}  # fmt: skip
    assert set(EXAMPLES) == tested
    assert README.count("```python") == sum(kind == "python" for kind, _ in EXAMPLES.values())


def test_the_client_talks_to_openssl(openssl_server: Program, port: int, tmp_path: Path) -> None:
    """The first example, which everybody copies."""
    assert run("client", port, tmp_path) == "DTLSv1.2 ('ECDHE-ECDSA-AES256-GCM-SHA384', 'TLSv1.2', 256)\n"
    openssl_server.expect("hello\n")


def test_the_pre_shared_key_opens_openssl(port: int, tmp_path: Path) -> None:
    """The example for CoAP and Hue."""
    with Program(["sh", "-ec", "exec " + example("psk-server", port)]) as server:
        wait_until_bound(port)
        assert run("psk-client", port, tmp_path) == "('PSK-AES128-GCM-SHA256', 'TLSv1.2', 128) me\n"
        server.expect("hello\n")


def test_an_authority_of_ones_own(tmp_path: Path) -> None:
    """As it is made there, it is good enough for the strictest verification, on both sides."""
    subprocess.run(["sh", "-ec", example("authority", 0)], cwd=tmp_path, capture_output=True, check=True, timeout=60)
    assert run("mutual", 0, tmp_path) == "(('DNS', 'client'),)\n"


def test_a_wrong_name_is_refused(openssl_server: Program, port: int, tmp_path: Path) -> None:
    """With the words that the comment promises."""
    del openssl_server
    words = re.search(r"# (Hostname mismatch.*)\n", EXAMPLES["refused"][1])
    assert words is not None
    assert run("refused", port, tmp_path) == words[1] + "\n"


@pytest.mark.parametrize("client", ["echo-client", "select-client"])
def test_our_own_server_and_clients(client: str, openssl_server: Program, port: int, tmp_path: Path) -> None:
    """Each client with the echo server."""
    del openssl_server  # it made the certificate
    other = free_port()
    command = f"import os; os.chdir({str(tmp_path)!r})\n" + example("echo-server", other)
    with Program([*PYTHON, "-c", command]) as server:
        wait_until_bound(other)
        assert run(client, other, tmp_path) == "b'ping'\n"
        assert server.result() == 0, server.output


@pytest.mark.parametrize("server", SERVERS)
def test_many_clients(server: str, openssl_server: Program, port: int, tmp_path: Path) -> None:
    """Each server with each client, one after the other."""
    del openssl_server  # it made the certificate
    other = free_port()
    command = f"import os; os.chdir({str(tmp_path)!r})\n" + example(server, other)
    with Program([*PYTHON, "-c", command]) as program:
        wait_until_bound(other)
        for client in CLIENTS:
            assert run(client, other, tmp_path) == "b'ping'\n", program.output
        assert run("batch-client", other, tmp_path) == "3 sent\n[b'one', b'two', b'three']\n", program.output


def test_the_examples_without_a_network(tmp_path: Path) -> None:
    """Memory alone."""
    assert run("fingerprints", 0, tmp_path) == "SRTPKeys(profile='SRTP_AEAD_AES_128_GCM')\n"
    assert run("memory", 0, tmp_path) == "[b'over pigeons, if need be']\n"
    assert re.fullmatch(r"\d+ flights were sent again\n", run("lossy", 0, tmp_path))


def test_what_the_readme_names_exists() -> None:
    """Scripts, files, options of the command line."""
    root = Path(__file__).parent.parent
    for name in set(re.findall(r"\bci/\w+", README)) | set(re.findall(r"\]\(([\w/.]+)\)", README)):
        assert (root / name).exists(), name
    for command in ("client", "server"):
        usage = subprocess.run(
            [*PYTHON, "-m", "dtlsffi", command, "--help"], capture_output=True, text=True, check=True
        )
        (line,) = re.findall(rf"python -m dtlsffi {command} (.*)", README)
        for option in re.findall(r"--\w+", line):
            assert option in usage.stdout
