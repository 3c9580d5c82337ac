"""Streams of dtlsffi.anyio: a server, its clients, both sides joined. Those of asyncio are in loops.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

import dtlsffi
from dtlsffi.anyio import DTLSServerPort, DTLSStream, connect, serve
from tests.doors.loops import LOOPBACK
from tests.helpers import HOST

AnyRun = Callable[[Callable[[], Awaitable[Any]]], Any]


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
