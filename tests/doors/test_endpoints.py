"""dtlsffi.asyncio.endpoints: create_dtls_endpoint(), with protocols that are written for plain UDP."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

import dtlsffi
from dtlsffi.asyncio import create_dtls_endpoint
from dtlsffi.testing import Authority
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
)
from tests.helpers import FAST


def bound_socket(host: str = LOOPBACK) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    return sock


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


def test_clients_may_share_a_port(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, free_port: int
) -> None:
    """With `reuse_port`, each to a server of its own."""

    async def main() -> None:
        here = {"local_addr": (LOOPBACK, free_port), "reuse_port": True}
        async with (
            server_with(Echo, server_context) as (first, _),
            server_with(Echo, server_context) as (second, _),
            client_of(Listening, first, client_context, **here) as (one, at_one),
            client_of(Listening, second, client_context, **here) as (other, at_other),
        ):
            one.sendto(b"1")
            other.sendto(b"2")
            await until(lambda: bool(at_one.datagrams) and bool(at_other.datagrams))
            assert at_one.datagrams == [(b"1", first.get_extra_info("sockname"))]
            assert at_other.datagrams == [(b"2", second.get_extra_info("sockname"))]

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
                (ValueError, "sock excludes local_addr", {"sock": sock, "local_addr": here}),
                (ValueError, "sock excludes local_addr", {"sock": sock, "remote_addr": here}),
                (ValueError, "sock excludes local_addr", {"sock": sock, "reuse_port": True}),
                (ValueError, "sock excludes local_addr", {"sock": sock, "family": socket.AF_INET}),
                (ValueError, "dualstack_ipv6 is for a port", {"remote_addr": here, "dualstack_ipv6": True}),
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


@pytest.mark.parametrize("by", ["local_addr", "sock"])
@pytest.mark.parametrize("both_sides", [False, True])
def test_every_client_has_to_show_what_is_pinned(
    run: Runner, authority: Authority, stranger: Authority, by: str, both_sides: bool
) -> None:
    """A server that is given a pin asks for a certificate: one without is refused, and so is another's."""
    context = authority.server_context(HOST)
    if both_sides:
        identity = authority.issue(HOST)
        context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS)
        context.load_cert_chain(identity.certificate, identity.key)
    contexts = {name: authority.client_context() for name in ("pinned", "another", "nobody")}
    for client in contexts.values():
        client.retransmission = FAST
    for name in ("pinned", "another"):
        own = stranger.issue(f"{name}.example")
        contexts[name].load_cert_chain(own.certificate, own.key)
    pin = contexts["pinned"].fingerprint()

    async def main() -> None:
        where: dict[str, Any] = {"sock": bound_socket(), "local_addr": None} if by == "sock" else {}
        async with server_with(Echo, context, verify_fingerprint=pin, **where) as (server, _):
            address = server.get_extra_info("sockname")
            for name, client in contexts.items():
                try:
                    conn = await asyncio.wait_for(dial(address, client), 5)
                except (dtlsffi.DTLSError, TimeoutError, asyncio.TimeoutError):
                    assert name != "pinned"
                    continue
                await conn.send(b"hello")
                if name == "pinned":
                    assert await asyncio.wait_for(conn.recv(), 5) == b"hello"
                else:
                    with pytest.raises(dtlsffi.DTLSError):
                        await asyncio.wait_for(conn.recv(), 5)
                conn.close()
            assert server.statistics()["handshakes_completed"] == 1

    run(main)


def test_a_servers_arguments_are_not_a_clients(run: Runner, server_context: dtlsffi.DTLSContext) -> None:
    """What would be passed over is refused, and what is no pin is none from the beginning."""

    async def main() -> None:
        for arguments, words in (
            ({"server_hostname": "x"}, "server_hostname can only be specified in client mode"),
            ({"verify_fingerprint": "nonsense"}, "a fingerprint reads"),
        ):
            with pytest.raises(ValueError, match=words):
                await create_dtls_endpoint(
                    asyncio.DatagramProtocol, (LOOPBACK, 0), context=server_context, **arguments  # type: ignore[arg-type]
                )  # fmt: skip

    run(main)
