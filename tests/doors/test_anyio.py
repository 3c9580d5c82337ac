"""dtlsffi.anyio: the door of trio and asyncio, on both."""

from __future__ import annotations

import errno
import gc
import logging
import math
import socket
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSAttribute

import dtlsffi
from dtlsffi.anyio import DTLSAttribute, DTLSServerPort, DTLSStream, connect, serve
from dtlsffi.core.endpoint_connection import EndpointConnection
from dtlsffi.core.errors import make
from dtlsffi.testing import Authority, Relay
from tests.doors.loops import HOST, LOOPBACK, GoTo, in_child, sockets, vanish, without_timer

AnyRun = Callable[[Callable[[], Awaitable[Any]]], Any]
Warned = Callable[[], list[str]]


@asynccontextmanager
async def serving(
    context: dtlsffi.DTLSContext, handler: Callable[[DTLSStream], Awaitable[object]], **more: Any
) -> AsyncIterator[DTLSServerPort]:
    """A server on a free port, until the end of the block."""
    async with anyio.create_task_group() as group:

        async def run(*, task_status: Any) -> None:
            await serve(handler, LOOPBACK, 0, context=context, task_status=task_status, **more)

        yield await group.start(run)
        group.cancel_scope.cancel()


async def dial(address: Any, context: dtlsffi.DTLSContext, **more: Any) -> DTLSStream:
    return await connect(*address[:2], context=context, **{"server_hostname": HOST} | more)


async def echo(stream: DTLSStream) -> None:
    async for data in stream:
        await stream.send(data)


@asynccontextmanager
async def joined(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, **more: Any
) -> AsyncIterator[tuple[DTLSStream, DTLSStream]]:
    """A client's stream and the server's with it."""
    arrived: list[DTLSStream] = []
    here, over = anyio.Event(), anyio.Event()

    async def handler(stream: DTLSStream) -> None:
        arrived.append(stream)
        here.set()
        await over.wait()

    async with (
        serving(server_context, handler, **more) as server,
        await dial(server.getsockname(), client_context) as client,
    ):
        await here.wait()
        yield client, arrived[0]
        over.set()


async def settled() -> None:
    """Every task has begun to wait."""
    await anyio.wait_all_tasks_blocked()


# ---- data ----


def test_it_is_an_object_stream(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """One send is one record, one receive returns one; the methods of the other doors are there as well."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            assert isinstance(client, anyio.abc.ObjectStream)
            assert await client.send(b"one") == 3
            assert await server.receive() == b"one"
            assert await server.send_many([b"two", bytearray(b"three")]) == 2
            received: list[bytes] = []
            while len(received) < 2:
                received += await client.recv_many()
            assert received == [b"two", b"three"]
            await client.send(b"four")
            assert await server.recv() == b"four"
            with pytest.raises(NotImplementedError, match="both directions"):
                await client.send_eof()
            for data, error in ((b"", ValueError), ("text", TypeError), (bytes(20_000), dtlsffi.DatagramTooLarge)):
                with pytest.raises(error):
                    await client.send(data)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="no public constructor"):
                DTLSStream()

    anyrun(main)


def test_iteration_ends_with_the_peer(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """EndOfStream from receive(), b"" from recv(), each time."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            await client.send_many([b"1", b"2"])
            await client.aclose()
            assert [data async for data in server] == [b"1", b"2"]
            for _ in range(2):
                with pytest.raises(anyio.EndOfStream):
                    await server.receive()
                assert await server.recv() == b""
                assert await server.recv_many() == []

    anyrun(main)


def test_fifty_clients_at_once_are_not_mixed_up(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Each gets what it has sent."""
    done: list[int] = []

    async def client(address: Any) -> None:
        async with await dial(address, client_context) as stream:
            for turn in range(5):
                words = b"%d:%d" % (stream.getsockname()[1], turn)
                await stream.send(words)
                assert await stream.receive() == words
        done.append(stream.getsockname()[1])

    async def main() -> None:
        async with serving(server_context, echo) as server, anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(client, server.getsockname())

    anyrun(main)
    assert len(set(done)) == 50


def test_typed_attributes(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Those of sockets, of TLS and of DTLS, on both sides."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            for stream, peer in ((client, server), (server, client)):
                ask = stream.extra
                assert ask(SocketAttribute.family) == socket.AF_INET
                assert ask(SocketAttribute.local_address) == peer.extra(SocketAttribute.remote_address)
                assert ask(SocketAttribute.local_port) == peer.extra(SocketAttribute.remote_port)
                assert ask(SocketAttribute.raw_socket).fileno() >= 0
                assert ask(TLSAttribute.cipher) == stream.cipher()
                assert ask(TLSAttribute.tls_version) == "DTLSv1.2"
                assert ask(TLSAttribute.server_side) == (stream is server)
                assert ask(TLSAttribute.alpn_protocol) is None
                assert ask(TLSAttribute.ssl_object) is ask(DTLSAttribute.connection) is stream
                assert ask(TLSAttribute.standard_compatible) is True
                assert ask(TLSAttribute.channel_binding_tls_unique) == peer.get_channel_binding()
                assert bool(ask(TLSAttribute.shared_ciphers)) == (stream is server)
                assert ask(DTLSAttribute.mtu) == stream.mtu
                assert ask(DTLSAttribute.data_mtu) == stream.data_mtu
                assert ask(DTLSAttribute.session_reused) is False
                assert ask(DTLSAttribute.psk_identity) is None
                assert ask(DTLSAttribute.srtp_profile) is None
                assert ask(DTLSAttribute.statistics)["records_sent"] >= 0
            assert client.extra(DTLSAttribute.session) is not None
            certificate = client.extra(TLSAttribute.peer_certificate)
            assert certificate is not None
            assert ("DNS", HOST) in certificate["subjectAltName"]  # type: ignore[operator]
            assert client.extra(TLSAttribute.peer_certificate_binary) == client.getpeercert(True)

    anyrun(main)


# ---- cancellation ----


def test_a_receive_that_is_cancelled_takes_nothing(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """By a deadline, by a scope that was cancelled before, or when data has come and it has not run yet."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            for stream, peer in ((client, server), (server, client)):
                for method in (stream.receive, stream.recv, stream.recv_many):
                    with anyio.move_on_after(0.001) as scope:
                        await method()
                    assert scope.cancelled_caught
                    await peer.send(b"kept")
                    with anyio.CancelScope() as scope:
                        scope.cancel()
                        await method()
                    assert scope.cancelled_caught
                    assert await stream.receive() == b"kept"
                    taken: list[Any] = []

                    async def take(method: Any = method, taken: list[Any] = taken) -> None:
                        taken.append(await method())

                    async with anyio.create_task_group() as group:
                        group.start_soon(take)
                        await settled()
                        stream._connection.received.append(b"kept")
                        stream._moved()
                        group.cancel_scope.cancel()
                    assert taken or await stream.receive() == b"kept"
                assert not stream._waiters
                assert not stream._port._followers

    anyrun(main)


def test_every_call_is_a_checkpoint(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Also where it would not have to wait."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, _):
            client._connection.received.extend([b"x"] * 10)
            for call in (
                client.receive,
                client.recv,
                client.recv_many,
                client.aclose,
                lambda: client.send(b"x"),
                lambda: client.send_many([b"x"]),
            ):
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await call()
                assert scope.cancelled_caught
            assert len(client._connection.received) == 10

    anyrun(main)


# ---- who turns the port ----


def test_the_turn_is_passed_on(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Of four who wait, each is the one who reads until it is cancelled, or has what it wanted."""
    received: list[bytes] = []

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):

            async def receive(scope: anyio.CancelScope) -> None:
                with scope:
                    received.append(await client.receive())

            async with anyio.create_task_group() as group:
                scopes = [anyio.CancelScope() for _ in range(4)]
                for scope in scopes:
                    group.start_soon(receive, scope)
                    await settled()
                assert client._port.led
                assert len(client._port._followers) == 3
                scopes[0].cancel()  # who leads
                await settled()
                assert client._port.led
                scopes[2].cancel()  # who follows
                await settled()
                await server.send(b"one")
                while not received:
                    await anyio.lowlevel.checkpoint()
                await settled()
                assert client._port.led
                await server.send(b"two")
            assert received == [b"one", b"two"]
            assert not client._port.led

    anyrun(main)


def test_a_turn_that_is_passed_on_to_who_is_cancelled_is_not_lost(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Leader and heir are cancelled at once, or the heir has what it wanted: the third reads."""
    received: list[bytes] = []

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):

            async def receive(scope: anyio.CancelScope) -> None:
                with scope:
                    received.append(await client.receive())

            for data_comes in (False, True):
                received.clear()
                async with anyio.create_task_group() as group:
                    scopes = [anyio.CancelScope() for _ in range(3)]
                    for scope in scopes:
                        group.start_soon(receive, scope)
                        await settled()
                    if data_comes:  # two records in one turn: leader and heir have one each
                        for data in (b"a", b"b"):
                            server._connection.send(data)
                    else:
                        scopes[0].cancel()
                        scopes[1].cancel()
                    await settled()
                    await server.send(b"last")
                assert received[-1] == b"last"
                assert len(received) == (3 if data_comes else 1)

    anyrun(main)


def test_nobody_busy_waits(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, turns: list[float]
) -> None:
    """Two who wait until the server's timer ends their connection: the ports are turned a few times."""

    async def main() -> None:
        async with joined(client_context, server_context, idle_timeout=0.3) as (client, server):
            turns.clear()
            begin = time.thread_time()
            async with anyio.create_task_group() as group:
                for stream in (client, server):
                    group.start_soon(stream.recv)
                    group.start_soon(stream.recv)
            assert len(turns) < 12
            assert time.thread_time() - begin < 0.15

    anyrun(main)


def test_who_only_sends_hears_of_the_end(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Nobody receives on the client: send() looks at what has come."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            vanish(server)
            with pytest.raises(ConnectionRefusedError):
                for _ in range(100):
                    await client.send(b"x")
            await client.send(b"it goes on")
            client._port._end(client._connection, make(dtlsffi.DTLSError, "BROKEN", "for once"))
            with pytest.raises(anyio.BrokenResourceError, match="BROKEN"):
                await client.send(b"x")

    anyrun(main)


# ---- errors ----


def test_errors_are_anyios(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """BrokenResourceError from what ended it, which recv() raises itself; ICMP is told and survived."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, _):
            client._port._refused(ConnectionRefusedError(errno.ECONNREFUSED, "said by ICMP"))
            with pytest.raises(ConnectionRefusedError):
                await client.receive()
            client._port._end(client._connection, make(dtlsffi.DTLSError, "BROKEN", "for once"))
            for call in (client.receive, client.__anext__, lambda: client.send(b"x"), lambda: client.send_many([b"x"])):
                with pytest.raises(anyio.BrokenResourceError, match="BROKEN") as caught:
                    await call()
                assert isinstance(caught.value.__cause__, dtlsffi.DTLSError)
            with pytest.raises(dtlsffi.DTLSError, match="BROKEN"):
                await client.recv()

    anyrun(main)


def test_a_socket_that_is_closed_under_it_is_said(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """BrokenResourceError, from receive() and send()."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, _):
            client.extra(SocketAttribute.raw_socket).close()
            for call in (client.receive, lambda: client.send(b"x")):
                with pytest.raises(anyio.BrokenResourceError, match="closed"):
                    await call()

    anyrun(main)


@pytest.mark.parametrize("side", ["client", "server"])
def test_aclose_ends_whatever_waits(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, side: str
) -> None:
    """Leader and followers get ClosedResourceError, as do later calls; the peer gets close_notify."""
    caught: list[BaseException] = []

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            stream, peer = (client, server) if side == "client" else (server, client)

            async def receive() -> None:
                try:
                    await stream.receive()
                except anyio.ClosedResourceError as error:
                    caught.append(error)

            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(receive)
                await settled()
                await stream.aclose()
            assert len(caught) == 3
            await stream.aclose()
            for call in (stream.receive, stream.recv, lambda: stream.send(b"x")):
                with pytest.raises(anyio.ClosedResourceError):
                    await call()
            with pytest.raises(anyio.EndOfStream):
                await peer.receive()

    anyrun(main)


def test_a_full_send_buffer_is_waited_for(
    anyrun: AnyRun,
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Loopback never fills up, so it is said to. Several may wait, and who is cancelled has sent nothing."""
    send, tries = EndpointConnection.send, []

    def full(connection: EndpointConnection, data: bytes) -> int:
        tries.append(data)
        if data == b"never" or tries.count(data) <= 2:
            raise make(dtlsffi.DTLSWantWriteError, "WANT_WRITE", "full")
        return send(connection, data)

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            monkeypatch.setattr(EndpointConnection, "send", full)
            with anyio.move_on_after(0.01) as scope:
                await client.send(b"never")
            assert scope.cancelled_caught
            async with anyio.create_task_group() as group:
                for data in (b"a", b"b", b"c"):
                    group.start_soon(client.send, data)
            assert sorted([await server.receive() for _ in range(3)]) == [b"a", b"b", b"c"]

    anyrun(main)


# ---- connect ----


def test_the_first_address_to_answer_wins(
    anyrun: AnyRun, authority: Authority, go_to: GoTo, silent: socket.socket, nobody: tuple[str, int]
) -> None:
    """One refuses, one is silent, one works; the losers leave no socket."""
    client_context, server_context = authority.client_context(), authority.server_context(HOST)

    async def main() -> None:
        async with serving(server_context, echo) as server:
            go_to(nobody, silent.getsockname(), server.getsockname(), ("::1", 9))
            before, begin = sockets(), anyio.current_time()
            async with await dial((LOOPBACK, 1), client_context) as stream:
                assert 0.24 < anyio.current_time() - begin < 5
                assert stream.getpeername() == server.getsockname()
                assert len(sockets() - before) == 1
                await stream.send(b"x")
                assert await stream.receive() == b"x"

    anyrun(main)


def test_what_connect_fails_with(
    anyrun: AnyRun,
    client_context: dtlsffi.DTLSContext,
    stranger: Authority,
    go_to: GoTo,
    silent: socket.socket,
    nobody: tuple[str, int],
) -> None:
    """The last failure, or the first bad certificate; wrong arguments are raised as they are, not in a group."""
    context = stranger.server_context(HOST)

    async def main() -> None:
        before = sockets()
        with pytest.raises(ConnectionRefusedError):
            await dial(nobody, client_context)
        with pytest.raises(dtlsffi.HandshakeTimeout, match=r"within 0\.05 s"):
            await dial(silent.getsockname(), client_context, handshake_timeout=0.05)
        for error, more in (
            (TypeError, {"context": None}),
            (ValueError, {"max_queue": 0}),
            (TypeError, {"sausages": 1}),
            (ValueError, {"local_addr": ("::1", 0)}),
            (OSError, {"local_addr": ("192.0.2.1", 0)}),
        ):
            with pytest.raises(error):
                await connect(*silent.getsockname(), **{"context": client_context} | more)
        assert sockets() <= before
        async with serving(context, echo) as server:
            go_to(nobody, silent.getsockname(), server.getsockname(), silent.getsockname())
            with pytest.raises(dtlsffi.DTLSCertVerificationError):
                await dial((LOOPBACK, 1), client_context)
        go_to()
        with pytest.raises(OSError, match="empty list"):
            await dial((LOOPBACK, 1), client_context)

    anyrun(main)


def test_a_connect_that_is_cancelled_leaves_nothing(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """After however many steps of its own."""

    async def main() -> None:
        async with serving(server_context, echo) as server:
            before, finished, steps = sockets(), False, 0

            async def attempt() -> None:
                nonlocal finished
                stream = await dial(server.getsockname(), client_context)
                finished = True
                stream.close()

            while not finished:
                async with anyio.create_task_group() as group:
                    group.start_soon(attempt)
                    for _ in range(steps):
                        await anyio.lowlevel.checkpoint()
                        if finished:
                            break
                    group.cancel_scope.cancel()
                assert sockets() <= before
                steps += 1 + steps // 4

    anyrun(main)


def test_a_session_is_resumed_from_a_chosen_address(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, free_port: int
) -> None:
    """`session` and `local_addr`."""

    async def main() -> None:
        async with serving(server_context, echo) as server:
            async with await dial(server.getsockname(), client_context) as first:
                session = first.session
            more = {"session": session, "local_addr": ("127.0.0.2", free_port)}
            async with await dial(server.getsockname(), client_context, **more) as again:
                assert again.session_reused
                assert again.getsockname() == ("127.0.0.2", free_port)
                await again.send(b"x")
                assert await again.receive() == b"x"

    anyrun(main)


def test_twenty_handshakes_get_through_a_lossy_wire(anyrun: AnyRun, authority: Authority) -> None:
    """All at once, a third of all datagrams is lost."""
    client_context, server_context = authority.client_context(), authority.server_context(HOST)
    client_context.retransmission = server_context.retransmission = (0.02, 2.0, 0.1)
    done: list[bytes] = []

    async def client(address: Any) -> None:
        async with await dial(address, client_context) as stream:
            words = b"%d" % stream.getsockname()[1]
            while words not in done:
                await stream.send(words)
                with anyio.move_on_after(0.05):
                    done.append(await stream.receive())

    async def main() -> None:
        async with serving(server_context, echo) as server:
            with Relay(server.getsockname(), seed=7, loss=0.3) as wire:
                async with anyio.create_task_group() as group:
                    for _ in range(20):
                        group.start_soon(client, wire.address)

    anyrun(main)
    assert len(set(done)) == 20


# ---- serve ----


def test_a_handlers_exception_is_logged_and_ends_its_stream_only(
    anyrun: AnyRun,
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With a traceback; where the peer is to blame, it is a line at level INFO."""

    async def handler(stream: DTLSStream) -> None:
        async for data in stream:
            if data == b"broken":
                stream._port._end(stream._connection, make(dtlsffi.DTLSError, "BROKEN", "for once"))
            await stream.send(b"%d" % (10 // int(data)))

    async def main() -> None:
        async with (
            serving(server_context, handler) as server,
            await dial(server.getsockname(), client_context) as one,
            await dial(server.getsockname(), client_context) as two,
        ):
            await one.send(b"0")
            with pytest.raises(anyio.EndOfStream):
                await one.receive()
            await two.send(b"5")
            assert await two.receive() == b"2"
            stream = next(connection.door for connection in server.connections)
            server._end(stream._connection, make(dtlsffi.DTLSError, "BROKEN", "for once"))
            stream._moved()
            await settled()

    with caplog.at_level(logging.INFO, "dtlsffi.server"):
        anyrun(main)
    records = [record for record in caplog.records if record.name == "dtlsffi.server"]
    assert [record.levelno for record in records] == [logging.ERROR, logging.INFO]
    assert records[0].exc_info is not None
    assert records[0].exc_info[0] is ZeroDivisionError
    assert "the handler of 127.0.0.1:" in records[0].getMessage()
    assert "BROKEN" in records[1].getMessage()


def test_a_serve_that_is_cancelled_closes_all(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Handlers are cancelled, clients get close_notify; the port is free again."""
    ended: list[str] = []

    async def handler(stream: DTLSStream) -> None:
        try:
            await stream.send(b"welcome")
            await anyio.sleep(math.inf)
        except anyio.get_cancelled_exc_class():
            ended.append("cancelled")
            raise

    async def main() -> None:
        async with serving(server_context, handler) as server:
            address = server.getsockname()
            assert server.statistics()["connections"] == 0
            client = await dial(address, client_context)
            assert await client.receive() == b"welcome"
        async with client:
            with pytest.raises(anyio.EndOfStream):
                await client.receive()
        assert ended == ["cancelled"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(address)

    anyrun(main)


def test_serve_with_a_socket_or_an_address(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """A bound socket is used up; dual-stack takes both families; what makes no sense is raised as it is."""

    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for error, words, arguments in (
                (ValueError, "cannot take the server's side", {"local_port": 0, "context": client_context}),
                (TypeError, "context is a DTLSContext", {"local_port": 0, "context": None}),
                (ValueError, "and not both", {}),
                (ValueError, "and not both", {"local_port": 0, "sock": sock}),
                (ValueError, "not bound", {"sock": sock}),
                (ValueError, "max_pending", {"local_port": 0, "max_pending": 0}),
                (OSError, "while attempting to bind", {"local_host": "192.0.2.1", "local_port": 0}),
            ):
                with pytest.raises(error, match=words):
                    await serve(echo, **{"context": server_context} | arguments)
            sock.bind((LOOPBACK, 0))
            for arguments in ({"sock": sock}, {"local_port": 0, "dualstack_ipv6": True}):
                async with anyio.create_task_group() as group:

                    async def run(*, task_status: Any, arguments: Any = arguments) -> None:
                        await serve(echo, context=server_context, task_status=task_status, **arguments)

                    port = (await group.start(run)).getsockname()[1]
                    for host in (LOOPBACK,) if "sock" in arguments else (LOOPBACK, "::1"):
                        async with await dial((host, port), client_context) as client:
                            await client.send(b"x")
                            assert await client.receive() == b"x"
                    group.cancel_scope.cancel()
            assert sock.fileno() == -1

    anyrun(main)


def test_a_lost_socket_is_what_serve_raises(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """EBADF, even where a handler has closed it while serve() waits for it."""
    failures: list[OSError] = []

    async def handler(stream: DTLSStream) -> None:
        stream.extra(SocketAttribute.raw_socket).close()
        stream._port.turn(anyio.current_time())

    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((LOOPBACK, 0))
            address = sock.getsockname()

            async def run() -> None:
                try:
                    await serve(handler, sock=sock, context=server_context)
                except OSError as error:
                    failures.append(error)

            async with anyio.create_task_group() as group:
                group.start_soon(run)
                with suppress(ConnectionRefusedError):  # it may be slower than the handler
                    await (await dial(address, client_context)).aclose()

    anyrun(main)
    assert [(error.errno, error.strerror) for error in failures] == [(errno.EBADF, "somebody has closed the socket")]


# ---- what is forgotten ----


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_forgotten_client_warns(
    anyrun: AnyRun,
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    warned: Warned,
    elsewhere: bool,
) -> None:
    """Once; its peer gets close_notify, and its socket is closed. The last reference may go in another thread."""

    async def made(address: Any) -> list[DTLSStream]:
        return [await dial(address, client_context)]  # a frame of its own, since anyio's exceptions keep main()'s

    async def main() -> None:
        over = anyio.Event()

        async def handler(stream: DTLSStream) -> None:
            assert await stream.recv() == b""
            over.set()

        async with serving(server_context, handler) as server:
            held = await made(server.getsockname())
            port = held[0]._port
            if elsewhere:
                thread = threading.Thread(target=held.clear)
                thread.start()
                thread.join()
            else:
                held.clear()
            assert warned() == ["unclosed <DTLSStream"]
            assert port.sock.fileno() == -1
            await over.wait()

    anyrun(main)
    gc.collect()
    assert warned() == []


def test_a_client_that_is_left_open_at_the_end(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, warned: Warned
) -> None:
    """And freed when there is no loop any more, in a cycle."""
    kept: list[Any] = []

    async def main() -> None:
        async with serving(server_context, echo) as server:
            kept.append(await dial(server.getsockname(), client_context))

    with pytest.raises(AssertionError, match="sockets are left open"):
        anyrun(main)
    port = kept[0]._port
    kept[0].itself = kept[0]
    kept.clear()
    gc.collect()
    assert warned() == ["unclosed <DTLSStream"]
    assert port.sock.fileno() == -1


def test_a_closed_client_vanishes_by_itself(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """No garbage collector is needed for the stream, nor for its port."""

    async def main() -> None:
        async with serving(server_context, echo) as server:
            client = await dial(server.getsockname(), client_context)
            seen: list[weakref.ref[Any]] = [weakref.ref(client), weakref.ref(client._port)]
            gc.collect()
            gc.disable()
            try:
                await client.send(b"x")
                assert await client.receive() == b"x"
                await client.aclose()
                del client
                await settled()
                assert [ref() for ref in seen] == [None, None]
            finally:
                gc.enable()

    anyrun(main)


def test_after_fork_it_is_the_parents(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """A child that closes its copies disturbs nobody who waits."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            received: list[bytes] = []

            async def receive() -> None:
                received.append(await client.receive())

            def child() -> None:
                client.close()
                client._port.end()
                server.close()

            without_timer(client._port)
            async with anyio.create_task_group() as group:
                group.start_soon(receive)
                await settled()
                assert in_child(child)
                await server.send(b"the parent goes on")
            assert received == [b"the parent goes on"]

    anyrun(main)


def test_an_interrupt_in_a_handler_comes_out(
    anyrun: AnyRun, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """KeyboardInterrupt, in whatever groups; no socket is left."""

    async def handler(stream: DTLSStream) -> None:
        await stream.receive()
        raise KeyboardInterrupt

    async def main() -> None:
        async with (
            serving(server_context, handler) as server,
            await dial(server.getsockname(), client_context) as client,
        ):
            await client.send(b"x")
            await client.receive()

    before = sockets()
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever it is in
        anyrun(main)
    assert KeyboardInterrupt in kinds(caught.value)
    del caught
    gc.collect()
    assert sockets() <= before


def kinds(error: BaseException) -> set[type[BaseException]]:
    """The classes of an exception, or of those in a group."""
    return {type(error)}.union(*map(kinds, getattr(error, "exceptions", ())))
