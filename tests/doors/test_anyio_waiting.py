"""dtlsffi.anyio: who waits for data or room, who turns the port meanwhile, and who is cancelled."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

import dtlsffi
from dtlsffi.core.endpoint_connection import EndpointConnection
from dtlsffi.core.errors import make
from tests.doors.streams import AnyRun, joined, settled

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


# ---- room to send ----


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
