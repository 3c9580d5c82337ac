"""dtlsffi.awaiting: what connections of all event loops do, seen through asyncio's and uvloop's."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import dtlsffi
from dtlsffi.awaiting import AwaitedConnection, AwaitedPort, open_client
from dtlsffi.core.endpoint_connection import EndpointConnection
from dtlsffi.core.errors import make
from dtlsffi.testing import Authority
from tests.doors.loops import (
    HOST,
    LOOPBACK,
    Runner,
    dial,
    echo,
    in_child,
    joined,
    serving,
    sockets,
    vanish,
    without_timer,
)

Warned = Callable[[], list[str]]


async def settled() -> None:
    """The loop has gone round, so that every task has begun to wait."""
    for _ in range(5):
        await asyncio.sleep(0)


# ---- data ----


def test_it_has_every_method_of_data(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Both directions, one and many, and what is known of the connection."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            assert await client.send(b"one") == 3
            assert await server.recv() == b"one"
            assert await server.send_many([b"two", bytearray(b"three"), memoryview(b"four")]) == 3
            received: list[bytes] = []
            while len(received) < 3:
                more = await client.recv_many(2)
                assert 1 <= len(more) <= 2
                received += more
            assert received == [b"two", b"three", b"four"]
            await client.send(b"12345")
            await server._await_data()
            assert server.pending() == 5
            assert await server.recv() == b"12345"
            assert server.pending() == 0
            assert server.version() == client.version() == "DTLSv1.2"
            assert server.getpeername() == client.getsockname()
            assert server.getsockname() == client.getpeername()
            assert repr(client) == f"<DTLSConnection with {client.peer}>"
            await client.aclose()
            assert repr(client) == f"<DTLSConnection with {client.peer}, closed>"

    run(main)


def test_arguments_are_checked_and_leave_it_untouched(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """With ssl's errors."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            for data, error in ((b"", ValueError), ("text", TypeError), (bytes(20_000), dtlsffi.DatagramTooLarge)):
                with pytest.raises(error):
                    await client.send(data)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="at least 1"):
                await client.recv_many(0)
            await client.send(b"x")
            assert await server.recv() == b"x"

    run(main)


def test_iteration_ends_with_the_peer(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """After the last record; recv() gives b"" and recv_many() nothing, each time."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            await client.send_many([b"1", b"2"])
            await client.aclose()
            assert [data async for data in server] == [b"1", b"2"]
            for _ in range(2):
                assert await server.recv() == b""
                assert await server.recv_many() == []

    run(main)


def test_send_many_sends_what_comes_before_what_cannot_be_sent(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """In batches of whatever the kernel takes, and from any iterable."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            sent = [b"%d" % number for number in range(300)]
            assert await client.send_many(iter(sent)) == 300
            received: list[bytes] = []
            while len(received) < 300:
                received += await server.recv_many()
            assert received == sent
            assert await client.send_many([]) == 0
            with pytest.raises(dtlsffi.DatagramTooLarge):
                await client.send_many([b"before", bytes(20_000), b"after"])
            assert await server.recv() == b"before"
            client.close()
            with pytest.raises(OSError, match="closed"):
                await client.send_many([b"x"])

    run(main)


# ---- cancellation ----


def test_a_recv_that_is_cancelled_takes_nothing(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """At whatever moment: before it waits, while it waits, when data has come and it has not run yet."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            for rounds in range(8):
                task = asyncio.ensure_future(server.recv())
                for _ in range(rounds):
                    await asyncio.sleep(0)
                    if rounds == 3:
                        await client.send(b"x")
                taken = task.done()
                task.cancel()
                await asyncio.wait([task])
                if taken:
                    assert task.result() == b"x"
            sent = 3  # by the round that sends while it waits
            await client.send(b"last")
            received = []
            while not received or received[-1] != b"last":
                received.append(await server.recv())
            assert len(received) in range(1, sent + 2)

    run(main)


def test_data_that_came_with_the_cancellation_is_kept(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """The waiter has been told already, and is cancelled before it runs: the next call gets the record."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            for method in (server.recv, server.recv_many, server.__anext__):
                task = asyncio.ensure_future(method())
                await settled()
                server._connection.received.append(b"kept")
                server._moved()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await server.recv() == b"kept"
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(server.recv(), 0.001)
            assert not server._waiters
            await client.send(b"after the timeout")
            assert await server.recv() == b"after the timeout"

    run(main)


def test_each_of_many_receivers_gets_one(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Ten wait, three are cancelled, seven records come; then all wait for the end."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            tasks = [asyncio.ensure_future(server.recv()) for _ in range(10)]
            await settled()
            for task in tasks[2:5]:
                task.cancel()
            sent = [b"%d" % number for number in range(7)]
            await client.send_many(sent)
            received = await asyncio.gather(*tasks[:2], *tasks[5:])
            assert sorted(received) == sent
            tasks = [asyncio.ensure_future(server.recv()) for _ in range(3)]
            await settled()
            await client.aclose()
            assert await asyncio.gather(*tasks) == [b""] * 3

    run(main)


# ---- back-pressure ----


def test_a_full_send_buffer_is_waited_for(
    run: Runner,
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Loopback never fills up, so it is said to. Whoever waits may be cancelled, and has sent nothing."""
    send, send_many, tries = EndpointConnection.send, EndpointConnection.send_many, []
    room = False

    def many(connection: EndpointConnection, buffers: list[bytes]) -> int:
        if not room and b"e" in buffers:
            if buffers[0] == b"e":
                raise make(dtlsffi.DTLSWantWriteError, "WANT_WRITE", "full")
            return send_many(connection, buffers[:1])
        return send_many(connection, buffers)

    def full(connection: EndpointConnection, data: bytes) -> int:
        tries.append(data)
        if not room:
            raise make(dtlsffi.DTLSWantWriteError, "WANT_WRITE", "full")
        return send(connection, data)

    async def main() -> None:
        nonlocal room
        async with joined(client_context, server_context) as (client, server):
            monkeypatch.setattr(EndpointConnection, "send", full)
            monkeypatch.setattr(EndpointConnection, "send_many", many)
            tasks = [asyncio.ensure_future(server.send(data)) for data in (b"a", b"b", b"c")]
            await settled()
            assert not any(task.done() for task in tasks)
            tasks[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[0]
            room = True
            assert await asyncio.gather(*tasks[1:]) == [1, 1]
            assert sorted([await client.recv(), await client.recv()]) == [b"b", b"c"]
            room = False
            task = asyncio.ensure_future(server.send_many([b"d", b"e", b"f"]))
            await settled()
            room = True
            assert await task == 3
            assert [await client.recv() for _ in range(3)] == [b"d", b"e", b"f"]
            room = False
            task = asyncio.ensure_future(client.send(b"d"))
            await settled()
            client.close()
            with pytest.raises(OSError, match="closed") as caught:
                await task
            assert caught.value.errno == errno.EBADF

    run(main)
    assert set(tries) == {b"a", b"b", b"c", b"d"}


# ---- errors ----


def test_icmp_is_told_once_and_survived(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """ConnectionRefusedError from the next call, whether that sends or waits; the connection goes on."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, _):
            for call in (client.recv, lambda: client.send(b"x")):
                waiting = asyncio.ensure_future(client.recv())
                await settled()
                client._port._refused(ConnectionRefusedError(errno.ECONNREFUSED, "said by ICMP"))
                client._port.look()
                with pytest.raises(ConnectionRefusedError):
                    await waiting
                client._port._refused(ConnectionRefusedError(errno.ECONNREFUSED, "said by ICMP"))
                with pytest.raises(ConnectionRefusedError):
                    await call()
            assert client._ending() is None

    run(main)


def test_what_has_come_before_a_refusal_is_taken_with_it(
    run: Runner,
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel tells of ICMP first: the end of a handshake may be behind it."""
    pump, refusals = AwaitedPort.pump, [ConnectionRefusedError(errno.ECONNREFUSED, "said by ICMP")]

    def refused_first(port: AwaitedPort, now: float) -> bool:
        if port.connected and refusals:
            raise refusals.pop()
        return pump(port, now)

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            monkeypatch.setattr(AwaitedPort, "pump", refused_first)
            server._connection.send(b"before it")
            client._port.look()
            assert client.pending() == 9
            with pytest.raises(ConnectionRefusedError):
                await client.recv()
            assert await client.recv() == b"before it"

    run(main)


def test_a_server_that_has_gone_is_connection_refused(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """By real ICMP: the datagram finds nobody, and recv() is told."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            vanish(server)
            await client.send(b"x")
            with pytest.raises(ConnectionRefusedError):
                await client.recv()

    run(main)


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_socket_that_is_closed_under_it_is_said(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, side: str
) -> None:
    """EBADF from whatever waits and from later calls, and nothing is read from whoever gets the number next."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            conn = client if side == "client" else server
            waiting = asyncio.ensure_future(conn.recv())
            await settled()
            conn._port.sock.close()
            conn._port.look()
            for call in (lambda: waiting, conn.recv, lambda: conn.send(b"x")):
                with pytest.raises(OSError, match=r"closed|Bad file") as caught:
                    await call()
                assert caught.value.errno == errno.EBADF
            assert conn._port.ended

    run(main)


def test_a_failure_is_told_to_all_and_each_time(run: Runner, authority: Authority) -> None:
    """What was received before it comes first; the client's socket is closed with it."""
    client_context, server_context = authority.client_context(), authority.server_context(HOST)

    async def main() -> None:
        async with joined(client_context, server_context) as (client, _):
            waiting = [asyncio.ensure_future(client.recv()) for _ in range(2)]
            await settled()
            client._connection.received.append(b"before")
            client._port._end(client._connection, make(dtlsffi.DTLSError, "BROKEN", "for once"))
            client._port.look()
            outcome = await asyncio.gather(*waiting, return_exceptions=True)
            assert outcome[0] == b"before"
            assert "BROKEN" in str(outcome[1])
            for call in (client.recv, client.recv_many, lambda: client.send(b"x")):
                with pytest.raises(dtlsffi.DTLSError, match="BROKEN"):
                    await call()
            assert client._port.sock.fileno() == -1

    run(main)


# ---- the end ----


@pytest.mark.parametrize("side", ["client", "server"])
def test_close_ends_whatever_waits(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, side: str
) -> None:
    """EBADF there and later, close_notify at the peer; a second close does nothing."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            conn, peer = (client, server) if side == "client" else (server, client)
            waiting = asyncio.ensure_future(conn.recv())
            await settled()
            conn.close()
            conn.close()
            for call in (lambda: waiting, conn.recv, conn.recv_many, lambda: conn.send(b"x")):
                with pytest.raises(OSError, match="this DTLSConnection is closed") as caught:
                    await call()
                assert caught.value.errno == errno.EBADF
            assert await peer.recv() == b""
            assert client._port.ended == (side == "client")

    run(main)


def test_a_closed_client_vanishes_by_itself(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """No garbage collector is needed for the connection, the port, or the server's side of it."""

    async def main() -> None:
        async with serving(server_context, echo) as server:
            client = await dial(server.getsockname(), client_context)
            (at_server,) = server.connections
            seen: list[weakref.ref[Any]] = [weakref.ref(client), weakref.ref(client._port), weakref.ref(at_server)]
            gc.collect()
            gc.disable()
            try:
                await client.send(b"x")
                assert await client.recv() == b"x"
                await client.aclose()
                del client, at_server
                while server.connections or server._tasks:
                    await asyncio.sleep(0)
                await settled()
                assert [ref() for ref in seen] == [None] * 3
            finally:
                gc.enable()

    run(main)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_forgotten_client_warns(
    run: Runner,
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    warned: Warned,
    elsewhere: bool,
) -> None:
    """Once; its peer gets close_notify, and its socket is closed. The last reference may go in another thread."""

    async def main() -> None:
        ended = asyncio.Event()

        async def handler(conn: AwaitedConnection) -> None:
            assert await conn.recv() == b""
            ended.set()

        async with serving(server_context, handler) as server:
            held = [await dial(server.getsockname(), client_context)]
            port = held[0]._port
            if elsewhere:
                thread = threading.Thread(target=held.clear)
                thread.start()
                thread.join()
            else:
                held.clear()
            assert warned() == ["unclosed <DTLSConnection"]
            await ended.wait()
            assert port.sock.fileno() == -1

    run(main)
    gc.collect()
    assert warned() == []


def test_a_forgotten_servers_connection_warns(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, warned: Warned
) -> None:
    """Its peer gets close_notify, and the port goes on."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            port = server._port
            connection = server._connection
            port.left.append(connection)
            port.wake()
            assert await client.recv() == b""
            assert not port.ended
            assert not port.left

    run(main)
    assert warned() == []


@pytest.mark.parametrize("waits", [False, True])
def test_a_loop_that_is_closed_with_it(
    run: Runner,
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    warned: Warned,
    waits: bool,
) -> None:
    """A warning, and the socket goes, whether somebody still waits or not."""
    loop = run.make_loop()
    loop.set_exception_handler(lambda *_: None)  # it is told of the tasks that are destroyed
    kept: list[Any] = []

    async def main() -> None:
        server = await dtlsffi.asyncio.serve(echo, LOOPBACK, 0, context=server_context)
        client = await dial(server.getsockname(), client_context)
        kept.extend((client, asyncio.ensure_future(client.recv()) if waits else None))
        await settled()

    loop.run_until_complete(main())
    loop.close()
    client_port = kept[0]._port
    kept.clear()
    gc.collect()
    assert client_port.sock.fileno() == -1
    assert len(warned()) == 2, "the handler's, too; each loss is told once, by whom the collector finds first"


def test_what_is_closed_after_its_loop(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """close() needs no loop: the sockets are closed, though somebody has been left waiting."""
    loop = run.make_loop()
    loop.set_exception_handler(lambda *_: None)
    made: list[Any] = []

    async def main() -> None:
        made.append(await dtlsffi.asyncio.serve(echo, LOOPBACK, 0, context=server_context))
        made.append(await dial(made[0].getsockname(), client_context))
        made.append(asyncio.ensure_future(made[1].recv()))
        await settled()

    loop.run_until_complete(main())
    loop.close()
    for each in made[:2]:
        each.close()
        assert each._port.sock.fileno() == -1


def test_after_fork_it_is_the_parents(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """The child's copies raise, and closing them disturbs nobody: not even the epoll that both processes share."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):

            def child() -> None:
                for conn in (client, server):
                    with pytest.raises(dtlsffi.DTLSError, match="USED_AFTER_FORK"):
                        conn._connection.send(b"x")
                    conn.close()
                    conn._port.end()

            assert in_child(child)
            for conn in (client, server):
                without_timer(conn._port)
            await client.send(b"the parent goes on")
            assert await server.recv() == b"the parent goes on"
            await server.send(b"in both directions")
            assert await client.recv() == b"in both directions"

    run(main)


def test_open_client_leaves_no_socket_behind() -> None:
    """Where the address cannot be had."""
    before = sockets()
    place = (socket.AF_INET, socket.SOCK_DGRAM, 0, "", ("127.0.0.1", 9))
    with pytest.raises(OSError, match="assign requested address"):
        open_client(place, ("192.0.2.1", 0))
    assert sockets() == before


def test_the_core_of_a_port_is_each_loops_own() -> None:
    """The abstract parts say so."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK, 0))
        port = AwaitedPort(sock, None)
        assert sock.fileno() == -1, "it is used up"
        for call in (port.wake, lambda: port.make_door(None), lambda: port.claimed(None)):  # type: ignore[arg-type]
            with pytest.raises(NotImplementedError):
                call()
        port.end()
