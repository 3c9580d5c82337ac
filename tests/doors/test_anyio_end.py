"""dtlsffi.anyio: how streams end: closed, forgotten, in a child, by Ctrl-C; nothing is left of them."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import anyio
import pytest

import dtlsffi
from dtlsffi.anyio import DTLSStream
from tests.doors.loops import Warned, in_child, sockets, without_timer
from tests.doors.streams import AnyRun, dial, echo, joined, serving, settled


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
