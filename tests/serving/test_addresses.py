"""Which address a server answers from, and what it calls its peers."""

from __future__ import annotations

import socket

import pytest

from dtlsffi import DTLSContext
from tests.serving.clients import established
from tests.serving.doors import Door

EVERYWHERE = "0.0.0.0"  # noqa: S104 - a host with many addresses is what is looked at


@pytest.mark.parametrize("given", ["an address", "a socket"])
def test_a_host_with_many_addresses_answers_from_the_one_asked(
    door: Door, client_context: DTLSContext, server_context: DTLSContext, given: str
) -> None:
    """From the cookie on (RFC 1122 section 4.1.3.5): a client's socket hears nothing from any other address."""
    sock = None
    if given == "a socket":
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((EVERYWHERE, 0))
    with door.serving(server_context, host=EVERYWHERE, sock=sock) as served:
        hosts = ["127.0.0.2", "127.0.0.3", "127.0.0.2", "127.0.0.1"]
        for host in hosts:
            with established((host, served.port), client_context, source=("127.0.0.4", 0)) as client:
                assert client.ask(host.encode()) == host.encode()
        assert served.count("handshakes_completed") == len(hosts)


def test_a_client_may_change_the_address_it_asks(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """A connection is with its client, whichever of the server's addresses that speaks to; the answers follow it."""
    with door.serving(server_context, host=EVERYWHERE) as served:
        source = ("127.0.0.4", 0)
        with established(("127.0.0.2", served.port), client_context, source=source) as client:
            for host in ("127.0.0.3", "127.0.0.2"):
                client.sock.connect((host, served.port))
                assert client.ask(b"at " + host.encode()) == b"at " + host.encode()
            assert served.count("handshakes_completed") == 1


def test_ipv6(door: Door, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """A peer's address has four parts then."""
    with (
        door.serving(server_context, host="::1") as served,
        established(served.address, client_context) as client,
    ):
        assert client.ask(b"six") == b"six"
        if door.has_connections:
            assert served.began == [client.address]
            assert len(client.address) == 4


@pytest.mark.parametrize("given", ["an address", "a socket"])
def test_one_socket_for_both_families(
    door: Door, client_context: DTLSContext, server_context: DTLSContext, given: str
) -> None:
    """IPv4 comes in as mapped addresses, and is answered from the one asked, too."""
    sock, more = None, {"dualstack_ipv6": True}
    if given == "a socket":
        sock, more = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM), {}
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 0))
    with door.serving(server_context, host="::", sock=sock, **more) as served:
        for host in ("127.0.0.1", "::1", "127.0.0.2"):
            with established((host, served.port), client_context) as client:
                assert client.ask(host.encode()) == host.encode()
                if door.has_connections:
                    mapped = host if ":" in host else f"::ffff:{client.address[0]}"
                    assert served.began[-1][:2] == (mapped, client.address[1])
        assert served.count("handshakes_completed") == 3
