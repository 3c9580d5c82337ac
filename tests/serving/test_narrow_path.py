"""A path whose second link carries less than the first: what the kernel learns of it is what `data_mtu` says.

Three network namespaces of the test's own; it needs root and iproute2.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dtlsffi.testing import Authority
from tests.helpers import HOST
from tests.interop.programs import Files, Program
from tests.serving.narrow import PORT

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="network namespaces need root and iproute2"
)
CLIENT, ROUTER, SERVER = (f"dtlsffi{os.getpid()}{letter}" for letter in "crs")
NARROW = 1000


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)


def link(one: str, one_address: str, other: str, other_address: str, mtu: int) -> None:
    """A cable between two namespaces."""
    names = one_address.replace(".", "_"), other_address.replace(".", "_")
    ip("link", "add", names[0], "netns", one, "type", "veth", "peer", "name", names[1], "netns", other)
    for namespace, name, address in ((one, names[0], one_address), (other, names[1], other_address)):
        ip("-n", namespace, "addr", "add", f"{address}/24", "dev", name)
        ip("-n", namespace, "link", "set", name, "mtu", str(mtu), "up")


def lay() -> None:
    """Client, router and server, in a row."""
    for namespace in (CLIENT, ROUTER, SERVER):
        ip("netns", "add", namespace)
    link(CLIENT, "10.9.1.1", ROUTER, "10.9.1.2", 1500)
    link(SERVER, "10.9.2.1", ROUTER, "10.9.2.2", NARROW)
    forward = ["ip", "netns", "exec", ROUTER, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]
    subprocess.run(forward, check=True, capture_output=True, timeout=30)
    ip("-n", CLIENT, "route", "add", "default", "via", "10.9.1.2")
    ip("-n", SERVER, "route", "add", "default", "via", "10.9.2.2")


@pytest.fixture
def path() -> Iterator[str]:
    """The address of a server behind a router; the namespaces are taken away at the end."""
    try:
        try:
            lay()
        except subprocess.CalledProcessError as error:  # in a container, for instance
            pytest.skip(f"no network namespaces here: {error}: {(error.stderr or b'').decode()}")
        yield "10.9.2.1"
    finally:
        for namespace in (CLIENT, ROUTER, SERVER):
            with suppress(subprocess.CalledProcessError):
                ip("netns", "del", namespace)


def visit(door: str, path: str, files: Files, authority: Authority, *, shows: bool) -> dict[str, Any]:
    """What a client sees that goes there, with a large certificate of its own if it is to show one."""
    identity, own = authority.issue(HOST), authority.issue("client.example", rsa=True)
    trusted = files.write(authority.certificate)
    python = [sys.executable, "-X", "dev", "-W", "error", "-m"]
    serve = ["dtlsffi", "server", str(PORT), "--bind", path, "--echo", "--verbose"]
    serve += ["--cert", files.write(identity.certificate), "--key", files.write(identity.key)]
    client = ["tests.serving.narrow", door, path, trusted, HOST]
    if shows:
        serve += ["--ca", trusted]
        client += [files.write(own.certificate), files.write(own.key)]
    with Program(["ip", "netns", "exec", SERVER, *python, *serve]) as server:
        server.expect("listening")
        command = ["ip", "netns", "exec", CLIENT, *python, *client]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    seen: dict[str, Any] = json.loads(result.stdout)
    return seen


@pytest.mark.parametrize("door", ["blocking", "asyncio"])
def test_data_mtu_follows_the_path(door: str, path: str, tmp_path: Path, authority: Authority) -> None:
    """What got lost is told of, and what `data_mtu` says from then on comes through, both ways."""
    seen = visit(door, path, Files(tmp_path), authority, shows=False)
    assert seen["before"] == [1500 - 28, 1500 - 28 - 37]
    assert seen["after"] == [NARROW - 28, NARROW - 28 - 37]
    assert "the path carries less than was sent, which is lost: data_mtu tells what fits now" in seen["said"]
    assert seen["came"] == NARROW - 28 - 37


@pytest.mark.parametrize("door", ["blocking", "asyncio"])
def test_a_handshake_goes_on_in_smaller_datagrams(door: str, path: str, tmp_path: Path, authority: Authority) -> None:
    """Where its flight has found out about the path: nobody needs to be told."""
    seen = visit(door, path, Files(tmp_path), authority, shows=True)
    assert seen["before"] == [NARROW - 28, NARROW - 28 - 37]
    assert (seen["said"], seen["came"]) == ("", NARROW - 28 - 37)
