"""dtlsffi.asyncio.transports: what a protocol sees."""

from __future__ import annotations

from typing import Any

import pytest

import dtlsffi
from dtlsffi.asyncio import DTLSDatagramProtocol, DTLSTransport, create_dtls_endpoint
from dtlsffi.core.errors import make
from tests.doors.loops import LOOPBACK, Echo, Listening, Runner, client_of, dial, server_with, until, vanish
from tests.helpers import HOST

# ---- data ----


def test_callbacks_that_raise_lose_nothing(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """The loop's exception handler is told, and the next datagram is delivered, in the same turn or a later one."""

    class Failing(Listening):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            raise ZeroDivisionError(data)

    async def main() -> None:
        async with (
            server_with(Failing, server_context) as (server, protocol),
            await dial(server.get_extra_info("sockname"), client_context) as conn,
        ):
            await conn.send_many([b"%d" % number for number in range(5)])
            await until(lambda: len(protocol.datagrams) == 5)
            assert protocol.datagrams == [(b"%d" % number, conn.getsockname()) for number in range(5)]
        problems = run.take_problems()
        assert [problem["exception"].args for problem in problems] == [(b"%d" % number,) for number in range(5)]
        assert all(problem["protocol"] is protocol and problem["transport"] is server for problem in problems)

    run(main)


@pytest.mark.parametrize("part", ["with the peer", "with all"])
def test_what_is_closed_within_a_batch_hears_nothing_more(
    part: str, run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """The rest of the batch is dropped."""

    class Parting(Listening):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if data == b"1":
                what = self.transport.get_connection(addr) if part == "with the peer" else self.transport
                what.close()

    async def main() -> None:
        async with (
            server_with(Parting, server_context) as (server, protocol),
            await dial(server.get_extra_info("sockname"), client_context) as conn,
        ):
            await conn.send_many([b"%d" % number for number in range(5)])
            await until(lambda: bool(protocol.datagrams))
            await until(lambda: not server._peers)
            assert [data for data, _ in protocol.datagrams] == [b"0", b"1"]

    run(main)


def test_what_cannot_be_sent_is_said(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Wrong arguments by an exception, what goes wrong later by error_received."""

    async def main() -> None:
        async with (
            server_with(Echo, server_context) as (server, at_server),
            client_of(Listening, server, client_context) as (client, protocol),
        ):
            address = server.get_extra_info("sockname")
            for transport, arguments, error, words in (
                (client, ("text",), TypeError, "bytes-like object, not 'str'"),
                (client, (b"",), ValueError, "an empty datagram"),
                (client, (b"x", (LOOPBACK, 9)), ValueError, "Invalid address: must be None or"),
                (server, (b"x",), ValueError, "addr is needed"),
                (server, (b"x", "nowhere"), TypeError, "a peer's address is"),
                (server, (b"x", ("nowhere", 9)), ValueError, "nowhere"),
            ):
                with pytest.raises(error, match=words):
                    transport.sendto(*arguments)
            client.sendto(bytes(20_000))
            server.sendto(b"x", (LOOPBACK, 9))
            assert [type(error) for error in protocol.errors] == [dtlsffi.DatagramTooLarge]
            (error,) = at_server.errors
            assert isinstance(error, dtlsffi.DTLSError)
            assert error.reason == "NOT_CONNECTED"
            for addr in (None, address):
                client.sendto(bytearray(b"x"), addr)
                await until(lambda: bool(protocol.datagrams))
                assert protocol.datagrams.pop() == (b"x", address)

    run(main)


def test_icmp_is_an_error_received(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """The transport goes on."""

    async def main() -> None:
        async with server_with(Echo, server_context) as (server, _):
            client, protocol = await create_dtls_endpoint(
                Listening, remote_addr=server.get_extra_info("sockname"), context=client_context, server_hostname=HOST
            )
            vanish(server._peers[client.get_extra_info("sockname")])
            client.sendto(b"x")
            await until(lambda: bool(protocol.errors))
            assert [type(error) for error in protocol.errors] == [ConnectionRefusedError]
            assert not client.is_closing()
            client.close()
            await until(lambda: bool(protocol.lost))
            assert protocol.lost == [None]

    run(main)


# ---- what is known ----


def test_get_extra_info_has_the_names_of_asyncio_ssl_and_dtls(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """For a client's one peer; a server has a connection for each. Nothing is called that does something."""

    async def main() -> None:
        async with (
            server_with(Echo, server_context) as (server, protocol),
            client_of(Echo, server, client_context) as (client, _),
        ):
            await until(lambda: bool(server._peers))
            ask, address = client.get_extra_info, server.get_extra_info("sockname")
            conn = client.get_connection()
            assert conn is not None
            assert ask("peername") == address == conn.getpeername()
            assert ask("sockname") == conn.getsockname()
            assert ask("socket").getsockname() == ask("sockname")
            assert ask("sslcontext") is client_context
            assert ask("ssl_object") is conn
            assert ask("peercert") == conn.getpeercert()
            assert ask("cipher") == conn.cipher()
            assert ask("version") == "DTLSv1.2"
            assert ask("data_mtu") == conn.data_mtu
            assert ask("server_hostname") == HOST
            assert ask("compression", "none") is None
            assert ask("selected_alpn_protocol", "none") is None
            for name in ("close", "send", "recv", "update_keys", "export_keying_material", "srtp_keys", "_port", "huh"):
                assert ask(name, "default") == "default", name
                assert ask(name) is None
            assert not conn._closed
            assert server.get_extra_info("peername", "default") == "default"
            assert server.get_extra_info("ssl_object") is None
            assert server.get_extra_info("sslcontext") is server_context
            peer = server.get_connection(ask("sockname"))
            assert peer is not None
            assert peer.cipher() == conn.cipher()
            assert server.get_connection((LOOPBACK, 9)) is None
            assert server.get_connection() is None
            assert server.statistics()["connections"] == 1
            assert repr(client) == f"<DTLSTransport {ask('sockname')} with {conn.peer}>"
            assert repr(server) == f"<DTLSTransport {address}>"
            assert server.get_protocol() is protocol
        assert repr(server) == f"<DTLSTransport {address}, closing>"

    run(main)
    with pytest.raises(TypeError, match="does not have a public constructor"):
        DTLSTransport()


def test_another_protocol_takes_over(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """set_protocol(): what comes from then on is for that one, its end as well."""

    async def main() -> None:
        async with server_with(Listening, server_context) as (server, first):
            second = Listening()
            async with client_of(Listening, server, client_context) as (client, _):
                client.sendto(b"one")
                await until(lambda: bool(first.datagrams))
                server.set_protocol(second)
                client.sendto(b"two")
                await until(lambda: bool(second.datagrams))
            server.close()
            await until(lambda: bool(second.lost))
            assert not first.lost
            first.lost.append(None)  # what server_with waits for

    run(main)


# ---- peers ----


class Meeting(Listening, DTLSDatagramProtocol):
    """Keeps what it is told of its peers."""

    def __init__(self) -> None:
        super().__init__()
        self.peers: list[Any] = []

    def peer_connected(self, addr: Any) -> None:
        self.peers.append((addr, "connected"))

    def peer_lost(self, addr: Any, exc: BaseException | None) -> None:
        self.peers.append((addr, getattr(exc, "reason", exc)))


def test_a_dtls_protocol_is_told_of_its_peers(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Their coming and going; one that begins again from its address has gone before it comes."""

    async def main() -> None:
        async with server_with(Meeting, server_context) as (server, protocol):
            first = await dial(server.get_extra_info("sockname"), client_context)
            address = first.getsockname()
            await first.send(b"unread")
            vanish(first)
            async with await dial(first.getpeername(), client_context, local_addr=address) as again:
                await again.send(b"again")
                await until(lambda: len(protocol.datagrams) == 2)
            await until(lambda: len(protocol.peers) == 4)
            assert protocol.peers == [
                (address, "connected"), (address, "REPLACED"), (address, "connected"), (address, None),
            ]  # fmt: skip
            assert not protocol.errors
            assert not server._peers

    run(main)


def test_every_peer_that_has_come_goes(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Also where the transport is closed, before connection_lost; and a client's only one."""

    class Lasting(Meeting):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self.peers.append("connection_lost")

    async def main() -> None:
        async with server_with(Lasting, server_context) as (server, protocol):
            address = server.get_extra_info("sockname")
            clients = [
                await create_dtls_endpoint(Lasting, remote_addr=address, context=client_context, server_hostname=HOST)
                for _ in range(2)
            ]
            names = [client.get_extra_info("sockname") for client, _ in clients]
            await until(lambda: len(protocol.peers) == 2)
            clients[0][0].close()
            await until(lambda: len(protocol.peers) == 3)
            server.close()
            await until(lambda: bool(protocol.lost) and bool(clients[1][1].lost))
            assert protocol.peers == [
                (names[0], "connected"), (names[1], "connected"), (names[0], None), (names[1], None), "connection_lost",
            ]  # fmt: skip
            for _, client_protocol in clients:
                assert client_protocol.peers == [(address, "connected"), (address, None), "connection_lost"]

    run(main)


def test_one_peer_can_be_sent_away(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """By closing its connection: the others stay, and it may come again."""

    async def main() -> None:
        async with server_with(Meeting, server_context) as (server, protocol):
            address = server.get_extra_info("sockname")
            async with await dial(address, client_context) as one, await dial(address, client_context) as two:
                await until(lambda: len(protocol.peers) == 2)
                peer = server.get_connection(one.getsockname())
                assert peer is not None
                peer.close()
                assert await one.recv() == b""
                assert protocol.peers[2:] == [(one.getsockname(), None)]
                assert server.get_connection(one.getsockname()) is None
                await two.send(b"still here")
                await until(lambda: bool(protocol.datagrams))

    run(main)


def test_a_failure_is_an_error_received(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """What ended one peer's connection, and the other peers' go on."""

    async def main() -> None:
        async with (
            server_with(Meeting, server_context) as (server, protocol),
            await dial(server.get_extra_info("sockname"), client_context) as conn,
        ):
            await until(lambda: bool(protocol.peers))
            peer = server._peers[conn.getsockname()]
            server._port._end(peer._connection, make(dtlsffi.DTLSError, "BROKEN", "for once"))
            server._port.look()
            assert protocol.peers[1:] == [(conn.getsockname(), "BROKEN")]
            assert [getattr(error, "reason", "") for error in protocol.errors] == ["BROKEN"]
            assert not server.is_closing()

    run(main)


def test_what_waited_for_the_handshake_goes_first(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Before what the protocol sends when it is told that the peer is there."""

    class Greeting(DTLSDatagramProtocol):
        transport: Any

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def peer_connected(self, addr: Any) -> None:
            self.transport.sendto(b"3", addr)

    async def main() -> None:
        async with server_with(Listening, server_context) as (server, heard):
            client, _ = await create_dtls_endpoint(
                Greeting, local_addr=(LOOPBACK, 0), context=client_context, server_hostname=HOST
            )
            for data in (b"1", b"2"):
                client.sendto(data, server.get_extra_info("sockname"))
            await until(lambda: len(heard.datagrams) == 3)
            assert [data for data, _ in heard.datagrams] == [b"1", b"2", b"3"]
            client.close()

    run(main)


def test_what_a_callback_raises_over_has_gone(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """It is not sent once more; the loop is told."""
    armed: list[bool] = []

    def trace(_conn: Any, event: dtlsffi.TraceEvent) -> None:
        if armed and event.sent and event.layer == "record":
            armed.clear()
            raise ZeroDivisionError

    server_context.trace = trace

    async def main() -> None:
        async with (
            server_with(Echo, server_context) as (server, _),
            await dial(server.get_extra_info("sockname"), client_context) as conn,
        ):
            armed.append(True)
            for data in (b"A", b"B"):
                await conn.send(data)
                assert await conn.recv() == data
        assert [type(problem["exception"]) for problem in run.take_problems()] == [ZeroDivisionError]

    run(main)
