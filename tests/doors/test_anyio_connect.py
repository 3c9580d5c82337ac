"""dtlsffi.anyio: connect(), the addresses that it tries, what it fails with, a bad network."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import pytest

import dtlsffi
from dtlsffi.anyio import connect
from dtlsffi.testing import Authority, Relay
from tests.doors.loops import LOOPBACK, GoTo, sockets
from tests.doors.streams import AnyRun, dial, echo, serving
from tests.helpers import HOST


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
    """All at once, a fifth of all datagrams is lost."""
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
            with Relay(server.getsockname(), seed=7, loss=0.2) as wire:
                async with anyio.create_task_group() as group:
                    for _ in range(20):
                        group.start_soon(client, wire.address)

    anyrun(main)
    assert len(set(done)) == 20
