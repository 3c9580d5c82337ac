"""Clients of other implementations, all at once: openssl(1), gnutls-cli(1), Mbed TLS."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

import dtlsffi
from dtlsffi.testing import Authority
from tests.interop.mbed import MbedTLS
from tests.interop.peers import GnuTLSClient, OpenSSLClient
from tests.interop.programs import Files, Printer
from tests.serving.doors import Door

pytestmark = pytest.mark.interop

EACH = 10


def kinds(address: tuple[str, int], files: Files, authority: Authority) -> dict[str, Callable[[], Printer]]:
    """How to start a client, by implementation; Mbed TLS has no wheel everywhere."""
    ca = authority.certificate
    found: dict[str, Callable[[], Printer]] = {
        "openssl": lambda: OpenSSLClient(files, address, ca),
        "gnutls": lambda: GnuTLSClient(files, address, ca),
        "mbedtls": lambda: MbedTLS({}, address),
    }
    try:
        import mbedtls  # noqa: F401
    except ImportError:
        del found["mbedtls"]
    return found


def test_clients_of_three_implementations_at_once(
    door: Door, server_context: dtlsffi.DTLSContext, authority: Authority, tmp_path: Path
) -> None:
    """Ten of each say who they are; each hears just that."""
    with door.serving(server_context) as served, ExitStack() as stack:
        clients = {
            f"{kind} {number}": stack.enter_context(start())
            for kind, start in kinds(served.address, Files(tmp_path), authority).items()
            for number in range(EACH)
        }
        for name, client in clients.items():
            client.say(f"this is {name}.")
        for name, client in clients.items():
            output = client.expect(f"this is {name}.")
            assert set(re.findall(r"this is (.*?)\.", output)) == {name}
        assert served.count("handshakes_completed") == len(clients)
