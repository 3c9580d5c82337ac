"""dtlsffi.asyncio.endpoints: create_dtls_endpoint(), with protocols that are written for plain UDP."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

import dtlsffi
from dtlsffi.asyncio import create_dtls_endpoint
from dtlsffi.testing import Authority, Relay
from tests.doors.loops import (
    HOST,
    LOOPBACK,
    Echo,
    GoTo,
    Listening,
    Runner,
    client_of,
    dial,
    server_with,
    sockets,
    until,
)  # fmt: skip


def bound_socket(host: str = LOOPBACK) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    return sock


@pytest.fixture
def both_sides(authority: Authority) -> dtlsffi.DTLSContext:
    """A context for a client and a server at once."""
    identity = authority.issue(HOST, LOOPBACK)
    context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS)
    context.load_cert_chain(identity.certificate, identity.key)
    context.load_verify_locations(cadata=authority.certificate)
    context.retransmission = (0.005, 2.0, 0.04)
    return context


def test_a_protocol_for_udp_runs_unchanged(run: Runner, authority: Authority) -> None:
    """In both roles, over IPv4 and IPv6: each datagram comes with the address that it can be answered to."""
    client_context, server_context = authority.client_context(), authority.server_context(HOST)

    class EchoClient(asyncio.DatagramProtocol):
        """Asyncio's own example."""

        def __init__(self, message: str, on_con_lost: asyncio.Future[bool]) -> None:
            self.message = message
            self.on_con_lost = on_con_lost
            self.received: list[Any] = []

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            transport.sendto(self.message.encode())

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.received.append((data.decode(), addr))
            self.transport.close()

        def error_received(self, exc: Exception) -> None:
            raise AssertionError(exc)

        def connection_lost(self, exc: Exception | None) -> None:
            self.on_con_lost.set_result(True)

    async def main() -> None:
        for host in (LOOPBACK, "::1"):
            on_con_lost = asyncio.get_running_loop().create_future()
            async with server_with(Echo, server_context, local_addr=(host, 0)) as (server, at_server):
                address = server.get_extra_info("sockname")
                transport, protocol = await create_dtls_endpoint(
                    lambda future=on_con_lost: EchoClient("Hello World!", future),
                    remote_addr=address[:2],
                    context=client_context,
                    server_hostname=HOST,
                )
                await on_con_lost
                assert protocol.received == [("Hello World!", address)]
                assert at_server.datagrams == [(b"Hello World!", transport.get_extra_info("sockname"))]
                assert transport.get_extra_info("peername") == address

    run(main)


def test_the_host_is_the_name_unless_given(
    run: Runner, client_context: dtlsffi.DTLSContext, authority: Authority
) -> None:
    """What a client asks for, and what the certificate must be for."""

    async def main() -> None:
        async with server_with(Echo, authority.server_context(LOOPBACK)) as (server, _):
            async with client_of(Listening, server, client_context, server_hostname=None) as (client, _):
                assert client.get_extra_info("server_hostname") == LOOPBACK
            with pytest.raises(dtlsffi.DTLSCertVerificationError, match="Hostname mismatch"):
                await create_dtls_endpoint(
                    Listening,
                    remote_addr=server.get_extra_info("sockname"),
                    context=client_context,
                    server_hostname="other.example",
                )

    run(main)


def test_where_a_client_sends_from(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, free_port: int
) -> None:
    """`local_addr` together with `remote_addr`."""

    async def main() -> None:
        async with (
            server_with(Echo, server_context) as (server, at_server),
            client_of(Listening, server, client_context, local_addr=("127.0.0.2", free_port)) as (client, protocol),
        ):
            client.sendto(b"x")
            await until(lambda: bool(protocol.datagrams))
            assert at_server.datagrams == [(b"x", ("127.0.0.2", free_port))]

    run(main)


def test_every_address_of_the_host_is_tried(
    run: Runner,
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    go_to: GoTo,
    nobody: tuple[str, int],
) -> None:
    """As by connect(); and what has come before the protocol was made is delivered."""

    class Greeting(Listening, dtlsffi.asyncio.DTLSDatagramProtocol):
        def peer_connected(self, addr: Any) -> None:
            self.transport.sendto(b"welcome", addr)

    async def main() -> None:
        async with server_with(Greeting, server_context) as (server, _):
            go_to(nobody, server.get_extra_info("sockname"))
            async with client_of(Listening, server, client_context) as (_, protocol):
                await until(lambda: bool(protocol.datagrams))
                assert protocol.datagrams[0][0] == b"welcome"

    run(main)


# ---- sendto to anybody ----


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


# ---- sock= ----


def test_a_bound_socket_is_used_up(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """By a server."""

    async def main() -> None:
        with bound_socket() as sock:
            address = sock.getsockname()
            async with server_with(Echo, server_context, local_addr=None, sock=sock):
                assert sock.fileno() == -1
                async with await dial(address, client_context) as conn:
                    await conn.send(b"x")
                    assert await conn.recv() == b"x"

    run(main)


def test_a_connected_socket_has_its_peer(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """For remote_addr; with a server's context it serves that one."""

    async def main() -> None:
        with bound_socket() as ours, bound_socket() as theirs:
            ours.connect(theirs.getsockname())
            theirs.connect(ours.getsockname())
            serving = server_with(Echo, server_context, local_addr=None, sock=theirs)
            dialling = server_with(Listening, client_context, local_addr=None, sock=ours, server_hostname=HOST)
            async with serving as (_, at_server), dialling as (client, protocol):
                client.sendto(b"x")
                await until(lambda: bool(protocol.datagrams))
                assert protocol.datagrams == [(b"x", client.get_extra_info("peername"))]
                assert at_server.datagrams == [(b"x", client.get_extra_info("sockname"))]

    run(main)


def test_a_connected_socket_that_fails_is_closed(
    run: Runner, client_context: dtlsffi.DTLSContext, silent: socket.socket
) -> None:
    """When its handshake does; and when that is cancelled."""

    async def main() -> None:
        for limit, error in ((0.02, dtlsffi.HandshakeTimeout), (30, asyncio.TimeoutError)):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect(silent.getsockname())
                making = create_dtls_endpoint(
                    Listening, sock=sock, context=client_context, server_hostname=HOST, handshake_timeout=limit
                )
                before = sockets()
                with pytest.raises(error):
                    await asyncio.wait_for(making, 0.1 if limit > 1 else 10)
                assert len(before - sockets()) == 1

    run(main)


# ---- what goes wrong ----


def test_arguments_are_checked(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """By name; a socket that is not taken stays as it is, and nothing is left open."""

    async def main() -> None:
        with (
            bound_socket() as sock,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unbound,
            socket.socket() as tcp,
        ):
            here = (LOOPBACK, 0)
            for error, words, arguments in (
                (TypeError, "context is a DTLSContext", {"context": None}),
                (ValueError, "local_addr, remote_addr or sock", {}),
                (ValueError, "in place of local_addr", {"sock": sock, "local_addr": here}),
                (ValueError, "in place of local_addr", {"sock": sock, "remote_addr": here}),
                (ValueError, "SOCK_STREAM", {"sock": tcp}),
                (ValueError, "is not bound", {"sock": unbound}),
                (ValueError, "max_queue", {"local_addr": here, "max_queue": 0}),
                (ValueError, "max_queue", {"sock": sock, "max_queue": 0}),
                (TypeError, "sausages", {"local_addr": here, "sausages": 1}),
                (ValueError, "cannot take the client's side", {"remote_addr": (LOOPBACK, 9)}),
            ):
                with pytest.raises(error, match=words):
                    await create_dtls_endpoint(Listening, **{"context": server_context} | arguments)
            assert min(sock.fileno(), unbound.fileno(), tcp.fileno()) >= 0
            sock.connect((LOOPBACK, 9))
            with pytest.raises(ValueError, match="server_hostname cannot be|IDNA|host"):
                await create_dtls_endpoint(Listening, sock=sock, context=client_context, server_hostname="a b\0")
        async with server_with(Listening, server_context) as (server, _):
            with pytest.raises(OSError, match="while attempting to bind on address") as caught:
                await create_dtls_endpoint(
                    Listening, local_addr=server.get_extra_info("sockname"), context=server_context
                )
            assert caught.value.errno == errno.EADDRINUSE

    run(main)


def test_a_factory_that_raises_leaves_nothing(run: Runner, server_context: dtlsffi.DTLSContext) -> None:
    """Nor does a connection_made that does."""

    class Failing(Listening):
        def connection_made(self, transport: Any) -> None:
            raise ZeroDivisionError

    def factory() -> Listening:
        raise ZeroDivisionError

    async def main() -> None:
        before = sockets()
        for kind in (factory, Failing):
            with pytest.raises(ZeroDivisionError):
                await create_dtls_endpoint(kind, local_addr=(LOOPBACK, 0), context=server_context)
            assert sockets() == before

    run(main)


def test_twenty_clients_get_through_a_lossy_wire(run: Runner, authority: Authority) -> None:
    """All at once, by sendto() alone; a third of all datagrams is lost."""
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
            with Relay(server.get_extra_info("sockname"), seed=6, loss=0.3) as wire:
                assert len(set(await asyncio.gather(*(client(wire.address) for _ in range(20))))) == 20

    run(main)


def test_nothing_busy_waits(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, turns: list[float]
) -> None:
    """Between the last datagram and the server's idle timeout."""

    async def main() -> None:
        over = asyncio.Event()

        class Waiting(Listening):
            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                over.set()

        async with (
            server_with(Listening, server_context, idle_timeout=0.3) as (server, _),
            client_of(Waiting, server, client_context) as (_, _),
        ):
            turns.clear()
            await over.wait()
            assert len(turns) < 8

    run(main)
