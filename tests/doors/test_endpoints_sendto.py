"""dtlsffi.asyncio.endpoints: sendto() to anybody, which begins a handshake with whoever has none yet."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

import dtlsffi
from dtlsffi.testing import Authority, Relay
from tests.doors.loops import LOOPBACK, Echo, Listening, Runner, server_with, until
from tests.helpers import HOST


@pytest.fixture
def both_sides(authority: Authority) -> dtlsffi.DTLSContext:
    """A context for a client and a server at once."""
    identity = authority.issue(HOST, LOOPBACK)
    context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS)
    context.load_cert_chain(identity.certificate, identity.key)
    context.load_verify_locations(cadata=authority.certificate)
    context.retransmission = (0.005, 2.0, 0.04)
    return context


def test_sendto_begins_a_handshake(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """With a client's context: what is sent meanwhile follows, in its order, to each of several servers."""

    async def main() -> None:
        async with (
            server_with(Echo, server_context) as (one, _),
            server_with(Echo, server_context) as (two, _),
            server_with(Listening, client_context, server_hostname=HOST) as (client, protocol),
        ):
            servers = [transport.get_extra_info("sockname") for transport in (one, two)]
            for number in range(3):
                for address in servers:
                    client.sendto(b"%d" % number, address)
            assert client.get_connection(servers[0]) is None, "not yet"
            await until(lambda: len(protocol.datagrams) == 6)
            for address in servers:
                assert [data for data, addr in protocol.datagrams if addr == address] == [b"0", b"1", b"2"]
                conn = client.get_connection(address)
                assert conn is not None
                assert conn.version() == "DTLSv1.2"
            one.close()
            await until(lambda: client.get_connection(servers[0]) is None)
            assert not protocol.errors
            assert not protocol.lost
            client.sendto(b"3", servers[1])
            await until(lambda: len(protocol.datagrams) == 7)

    run(main)


def test_one_peer_has_many_spellings(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """On a socket for both families: one connection, which is begun anew when it has ended."""

    async def main() -> None:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 0))
        async with server_with(Listening, client_context, local_addr=None, sock=sock, server_hostname=HOST) as pair:
            client, protocol = pair
            for round_ in range(2):
                async with server_with(Echo, server_context, local_addr=(LOOPBACK, 0)) as (server, _):
                    port = server.get_extra_info("sockname")[1]
                    for address in ((LOOPBACK, port), (f"::ffff:{LOOPBACK}", port), (f"::ffff:{LOOPBACK}", port, 0, 0)):
                        client.sendto(b"x", address)
                    await until(lambda done=3 * (round_ + 1): len(protocol.datagrams) == done)
                    assert client.statistics()["connections"] == 1
                    assert protocol.datagrams[-1][1] == (f"::ffff:{LOOPBACK}", port, 0, 0)
                    assert client.get_connection((LOOPBACK, port)) is not None
                await until(lambda: not client.statistics()["connections"])
            assert client.statistics()["handshakes_completed"] == 2

    run(main)


def test_a_peer_that_has_closed_is_connected_anew(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """By the next sendto()."""

    async def main() -> None:
        async with (
            server_with(Echo, server_context) as (server, _),
            server_with(Listening, client_context, server_hostname=HOST) as (client, protocol),
        ):
            address, own = (each.get_extra_info("sockname") for each in (server, client))
            for count in (1, 2):
                client.sendto(b"x", address)
                await until(lambda count=count: len(protocol.datagrams) == count)
                peer = server.get_connection(own)
                assert peer is not None
                peer.close()
                await until(lambda: client.get_connection(address) is None)
            assert client.statistics()["handshakes_completed"] == 2

    run(main)


def test_the_backlog_is_bounded(run: Runner, client_context: dtlsffi.DTLSContext, silent: socket.socket) -> None:
    """By max_queue; what is too much, and the handshake's failure, are errors received."""

    async def main() -> None:
        more = {"server_hostname": HOST, "max_queue": 2, "handshake_timeout": 0.05}
        async with server_with(Listening, client_context, **more) as (client, protocol):
            for _ in range(4):
                client.sendto(b"x", silent.getsockname())
            assert [getattr(error, "reason", "") for error in protocol.errors] == ["QUEUE_FULL"] * 2
            await until(lambda: len(protocol.errors) == 3)
            assert isinstance(protocol.errors[2], dtlsffi.HandshakeTimeout)
            client.sendto(b"x", silent.getsockname())
            await until(lambda: len(protocol.errors) == 4)

    run(main)


def test_close_waits_for_what_waits_for_a_handshake(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, silent: socket.socket
) -> None:
    """One datagram and goodbye arrives; with who never answers it ends with the handshake; abort() does not wait."""

    async def main() -> None:
        async with server_with(Listening, server_context) as (server, at_server):
            async with server_with(Listening, client_context, server_hostname=HOST) as (client, _):
                client.sendto(b"and goodbye", server.get_extra_info("sockname"))
            assert client.is_closing()
            await until(lambda: bool(at_server.datagrams))
        for end in ("close", "abort"):
            limits = {"handshake_timeout": 0.05 if end == "close" else 30}
            async with server_with(Listening, client_context, server_hostname=HOST, **limits) as (client, protocol):
                client.sendto(b"x", silent.getsockname())
                getattr(client, end)()
                assert client._port.ended == (end == "abort")
            assert protocol.lost == [None]

    run(main)


def test_one_context_takes_both_sides(run: Runner, both_sides: dtlsffi.DTLSContext) -> None:
    """Two ports, each of which begins one connection and accepts another: peers."""

    async def main() -> None:
        async with (
            server_with(Listening, both_sides, server_hostname=HOST) as (one, at_one),
            server_with(Listening, both_sides, server_hostname=HOST) as (two, at_two),
        ):
            addresses = [transport.get_extra_info("sockname") for transport in (one, two)]
            one.sendto(b"to two", addresses[1])
            await until(lambda: bool(at_two.datagrams))
            two.sendto(b"to one", addresses[0])
            await until(lambda: bool(at_one.datagrams))
            assert at_two.datagrams == [(b"to two", addresses[0])]
            assert at_one.datagrams == [(b"to one", addresses[1])]
            assert one.statistics()["connections"] == two.statistics()["connections"] == 1

    run(main)


def test_twenty_clients_get_through_a_lossy_wire(run: Runner, authority: Authority) -> None:
    """All at once, by sendto() alone; a fifth of all datagrams is lost."""
    client_context, server_context = authority.client_context(), authority.server_context(HOST)
    client_context.retransmission = server_context.retransmission = (0.02, 2.0, 0.1)

    class Hearing(Listening):
        """Wakes who waits: to go round the loop meanwhile would leave the wire's thread no time."""

        def __init__(self) -> None:
            super().__init__()
            self.heard = asyncio.Event()

        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.heard.set()

    async def client(address: Any) -> bytes:
        more = {"server_hostname": HOST}
        async with server_with(Hearing, client_context, **more) as (transport, protocol):
            words = b"%d" % transport.get_extra_info("sockname")[1]
            while not protocol.datagrams:
                transport.sendto(words, address)
                try:
                    await asyncio.wait_for(protocol.heard.wait(), 0.05)
                except asyncio.TimeoutError:
                    pass
            assert {data for data, _ in protocol.datagrams} == {words}
            return words

    async def main() -> None:
        async with server_with(Echo, server_context) as (server, _):
            with Relay(server.get_extra_info("sockname"), seed=6, loss=0.2) as wire:
                assert len(set(await asyncio.gather(*(client(wire.address) for _ in range(20))))) == 20

    run(main)
