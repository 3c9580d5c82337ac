"""dtlsffi.awaiting: how connections end: closed, forgotten, after their loop, in a child."""

from __future__ import annotations

import asyncio
import errno
import gc
import threading
import weakref
from typing import Any

import pytest

import dtlsffi
from dtlsffi.awaiting import AwaitedConnection
from tests.doors.loops import LOOPBACK, Runner, Warned, dial, echo, in_child, joined, serving, settled, without_timer


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
