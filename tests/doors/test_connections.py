"""dtlsffi.asyncio.connections: connect(), and the port in an event loop."""

from __future__ import annotations

import asyncio
import socket
import time
import traceback
from typing import Any

import pytest

import dtlsffi
from dtlsffi.asyncio import DTLSConnection, connect
from dtlsffi.asyncio.connections import Port, first_of
from dtlsffi.testing import Authority, Relay
from dtlsffi.turning import AwaitedPort
from tests.doors.loops import LOOPBACK, WITHIN, GoTo, Runner, dial, echo, joined, serving, settled, sockets
from tests.helpers import HOST


def test_a_client_connects_and_talks(run: Runner, authority: Authority) -> None:
    """Over IPv4 and IPv6; the host's name is what the certificate must be for, and is asked for."""
    client_context, server_context = authority.client_context(), authority.server_context(LOOPBACK, "::1", "localhost")

    async def main() -> None:
        for host, name in ((LOOPBACK, None), ("::1", None), (LOOPBACK, "localhost")):
            async with (
                await dtlsffi.asyncio.serve(echo, host, 0, context=server_context) as server,
                await connect(host, server.getsockname()[1], context=client_context, server_hostname=name) as conn,
            ):
                assert conn.server_hostname == name or host
                assert conn.getpeername()[:2] == server.getsockname()[:2]
                await conn.send(b"hello")
                assert await conn.recv() == b"hello"

    run(main)


def test_where_it_sends_from_can_be_chosen(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, free_port: int
) -> None:
    """`local_addr`; an address that is not ours is an OSError, one of another family a ValueError."""

    async def main() -> None:
        async with serving(server_context, echo) as server:
            address = server.getsockname()
            async with await dial(address, client_context, local_addr=("127.0.0.2", free_port)) as conn:
                assert conn.getsockname() == ("127.0.0.2", free_port)
            with pytest.raises(OSError, match="assign requested address"):
                await dial(address, client_context, local_addr=("192.0.2.1", 0))
            with pytest.raises(ValueError, match="different families"):
                await dial(address, client_context, local_addr=("::1", 0))

    run(main)


def test_a_session_is_resumed(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """The one of an earlier connection."""

    async def main() -> None:
        async with serving(server_context, echo) as server:
            async with await dial(server.getsockname(), client_context) as first:
                session = first.session
            async with await dial(server.getsockname(), client_context, session=session) as again:
                assert again.session_reused
                await again.send(b"x")
                assert await again.recv() == b"x"

    run(main)


# ---- what goes wrong ----


def test_nobody_there_is_connection_refused(
    run: Runner, client_context: dtlsffi.DTLSContext, nobody: tuple[str, int]
) -> None:
    """ICMP says so."""

    async def main() -> None:
        with pytest.raises(ConnectionRefusedError):
            await dial(nobody, client_context)

    run(main)


def test_silence_is_a_handshake_timeout(
    run: Runner, client_context: dtlsffi.DTLSContext, silent: socket.socket, turns: list[float]
) -> None:
    """In time, with retransmissions inside, and the port is turned for these only."""

    async def main() -> None:
        begin = asyncio.get_running_loop().time()
        with pytest.raises(dtlsffi.HandshakeTimeout, match=r"did not finish within 0\.3 s"):
            await dial(silent.getsockname(), client_context, handshake_timeout=0.3)
        assert 0.299 <= asyncio.get_running_loop().time() - begin < 2

    run(main)
    silent.setblocking(False)
    received = 0
    try:
        while silent.recv(65535):
            received += 1
    except BlockingIOError:
        pass
    assert 5 <= received <= 10, "5, 10, 20, 40, 40, 40, 40, 40, 40 ms"
    assert len(turns) <= 3 * received, "uvloop's clock has milliseconds"


def test_a_bad_certificate_ends_the_search(
    run: Runner, client_context: dtlsffi.DTLSContext, stranger: Authority, go_to: GoTo, silent: socket.socket
) -> None:
    """The other addresses are left alone, whether they are being tried or not, and their sockets are closed."""
    context = stranger.server_context(HOST)

    async def main() -> None:
        async with serving(context, echo) as server:
            go_to(silent.getsockname(), server.getsockname(), ("::1", 9))
            begin = asyncio.get_running_loop().time()
            with pytest.raises(dtlsffi.DTLSCertVerificationError, match="certificate verify failed"):
                await dial((LOOPBACK, 1), client_context)
            assert asyncio.get_running_loop().time() - begin < 5

    run(main)


def test_arguments_are_checked(run: Runner, client_context: dtlsffi.DTLSContext, silent: socket.socket) -> None:
    """As they are, not in a group, and nothing is left open."""

    async def main() -> None:
        for error, words, more in (
            (TypeError, "context is a DTLSContext", {"context": None}),
            (ValueError, "max_queue", {"max_queue": 0}),
            (TypeError, "session is a DTLSSession", {"session": 1}),
            (TypeError, "sausages", {"sausages": 1}),
        ):
            with pytest.raises(error, match=words):
                await connect(*silent.getsockname(), **{"context": client_context} | more)
        with pytest.raises(OSError, match="(?i)name|address|known"):
            await connect("no such host", 1, context=client_context)

    run(main)


# ---- several addresses ----


def test_the_first_address_to_answer_wins(
    run: Runner, authority: Authority, go_to: GoTo, silent: socket.socket, nobody: tuple[str, int]
) -> None:
    """One refuses, one is silent and delays the next by a quarter second, one works; the losers leave no socket."""
    client_context, server_context = authority.client_context(), authority.server_context(HOST)

    async def main() -> None:
        async with serving(server_context, echo) as server:
            go_to(nobody, silent.getsockname(), server.getsockname(), ("::1", 9))
            before = sockets()
            begin = asyncio.get_running_loop().time()
            async with await dial((LOOPBACK, 1), client_context) as conn:
                assert 0.24 < asyncio.get_running_loop().time() - begin < 5
                assert conn.getpeername() == server.getsockname()
                assert len(sockets() - before) == 1
                await conn.send(b"x")
                assert await conn.recv() == b"x"

    run(main)


def test_the_last_failure_is_told(
    run: Runner, client_context: dtlsffi.DTLSContext, go_to: GoTo, silent: socket.socket, nobody: tuple[str, int]
) -> None:
    """Where all have failed, and an OSError where there is none."""

    async def main() -> None:
        go_to(nobody, silent.getsockname())
        with pytest.raises(dtlsffi.HandshakeTimeout):
            await dial((LOOPBACK, 1), client_context, handshake_timeout=0.02)
        go_to(silent.getsockname(), nobody)
        with pytest.raises(ConnectionRefusedError):
            await dial((LOOPBACK, 1), client_context, handshake_timeout=0.02)
        go_to()
        with pytest.raises(OSError, match="empty list"):
            await dial((LOOPBACK, 1), client_context)

    run(main)


def test_attempts_that_end_at_the_same_time_leave_nothing(
    run: Runner,
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two have won, or one has won and another has found a bad certificate: what is not returned is closed."""

    async def main() -> None:
        async with serving(server_context, echo) as server:
            made = [await dial(server.getsockname(), client_context) for _ in range(8)]

            async def attempt(conn: DTLSConnection | None) -> DTLSConnection:
                if conn is None:
                    raise dtlsffi.DTLSCertVerificationError("bad")
                return conn

            waited = asyncio.wait

            async def together(tasks: Any, *, timeout: float | None = None, **_: Any) -> Any:
                return (set(), tasks) if timeout is not None else await waited(tasks)

            monkeypatch.setattr(asyncio, "wait", together)
            outcomes = set()
            for conn in made:
                try:
                    (await first_of(attempt(each) for each in (conn, None))).close()
                    outcomes.add("won")
                except dtlsffi.DTLSCertVerificationError:
                    outcomes.add("refused")
                assert conn._closed
            first, second = await asyncio.gather(*(dial(server.getsockname(), client_context) for _ in range(2)))
            winner = await first_of(attempt(each) for each in (first, second))
            assert first._closed != second._closed
            winner.close()

    run(main)


def test_a_winner_that_nobody_gets_any_more_is_closed(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """The call is cancelled while the losers are put away, who take their time."""

    async def main() -> None:
        async with serving(server_context, echo) as server:
            winner = await dial(server.getsockname(), client_context)
            ending = asyncio.Event()

            async def win() -> DTLSConnection:
                return winner

            async def lose() -> None:
                try:
                    await asyncio.sleep(WITHIN)
                finally:
                    ending.set()
                    await settled()

            attempts = iter([lose(), win()])
            task = asyncio.ensure_future(first_of(attempts))
            await ending.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert winner._closed

    run(main)


def test_a_connect_that_is_cancelled_leaves_nothing(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """At each of its steps: whatever it has begun is closed."""

    async def main() -> None:
        async with serving(server_context, echo) as server:
            await (await dial(server.getsockname(), client_context)).aclose()
            before = sockets()
            steps, finished = 0, False
            while not finished:
                task = asyncio.ensure_future(dial(server.getsockname(), client_context))
                for _ in range(steps):
                    await asyncio.sleep(0)
                    if task.done():
                        break
                finished = task.done() or steps > 400
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    task.result().close()
                assert sockets() <= before
                steps += 1 + steps // 8
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(dial(server.getsockname(), client_context), 0)

    run(main)


# ---- a bad network ----


def test_twenty_handshakes_get_through_a_lossy_wire(run: Runner, authority: Authority) -> None:
    """All at once, a fifth of all datagrams is lost; data is sent until it has arrived."""
    client_context, server_context = authority.client_context(), authority.server_context(HOST)
    client_context.retransmission = server_context.retransmission = (0.02, 2.0, 0.1)

    async def client(address: Any) -> bytes:
        async with await dial(address, client_context) as conn:
            words = b"%d" % conn.getsockname()[1]
            while True:
                await conn.send(words)
                try:
                    return words if await asyncio.wait_for(conn.recv(), 0.05) == words else b""
                except asyncio.TimeoutError:
                    pass

    async def main() -> None:
        async with serving(server_context, echo) as server:
            with Relay(server.getsockname(), seed=5, loss=0.2) as wire:
                done = await asyncio.gather(*(client(wire.address) for _ in range(20)))
            assert len(set(done) - {b""}) == 20

    run(main)


# ---- the port ----


def test_nothing_busy_waits(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, turns: list[float]
) -> None:
    """Two connections that are idle until the server's timer ends them: the ports are turned a few times."""

    async def main() -> None:
        async with joined(client_context, server_context, idle_timeout=0.3) as (client, server):
            turns.clear()
            begin = time.thread_time()
            assert await asyncio.gather(client.recv(), server.recv()) == [b"", b""]
            assert len(turns) < 8
            assert time.thread_time() - begin < 0.15

    run(main)


def test_a_timer_is_set_for_the_nearest_time(
    run: Runner, client_context: dtlsffi.DTLSContext, silent: socket.socket
) -> None:
    """One that is due later stays as it is; one that fires early is set anew; none is left at the end."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        client_context.retransmission = (20, 1, 20)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((LOOPBACK, 0))
            port = Port(loop, sock, None, handshake_timeout=30)
        conn = port.start(silent.getsockname(), context=client_context, server_hostname=HOST)
        first, due = port._timer, port._looks_at
        port.look_at = lambda: due + 10  # type: ignore[method-assign]
        port.look()
        assert port._timer is first
        port.look_at = lambda: due - 0.01  # type: ignore[method-assign]
        port.look()
        assert port._timer is not first
        assert port._looks_at < due
        del port.look_at
        port.end()
        assert port._timer is None
        assert conn._ending() is not None
        port.look()
        assert port._timer is None

    run(main)


def test_a_turn_that_fails_is_not_the_last(
    run: Runner,
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its timer is set anew."""
    turn, failures = AwaitedPort.turn, [MemoryError("for once")]

    def turn_or_fail(port: AwaitedPort, now: float) -> None:
        if failures:
            raise failures.pop()
        turn(port, now)

    async def main() -> None:
        async with joined(client_context, server_context, idle_timeout=0.1) as (client, server):
            monkeypatch.setattr(AwaitedPort, "turn", turn_or_fail)
            with pytest.raises(MemoryError):
                server._port._timer_fires()
            assert await client.recv() == b""

    run(main)


def test_who_only_sends_keeps_the_loop_from_nobody(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Others have their turn, and a timeout ends it, though the socket always has room."""

    async def main() -> None:
        async with joined(client_context, server_context) as (client, _):
            for send in (lambda: client.send(b"x"), lambda: client.send_many([b"x"] * 30)):

                async def forever(send: Any = send) -> None:
                    while True:
                        await send()

                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(forever(), 0.05)

    run(main)


def test_a_failure_does_not_grow(run: Runner, client_context: dtlsffi.DTLSContext) -> None:
    """However often it is raised: what was raised before knows the frames of those to whom it was."""

    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((LOOPBACK, 0))
            port = Port(asyncio.get_running_loop(), sock, None)
        conn = port.start(("255.255.255.255", 9), context=client_context, server_hostname=HOST)
        errors = []
        for _ in range(2):
            with pytest.raises(PermissionError) as caught:
                await conn._finish_handshake()
            errors.append(caught.value)
        assert errors[0] is not errors[1]
        assert len(list(traceback.walk_tb(errors[0].__traceback__))) == len(
            list(traceback.walk_tb(errors[1].__traceback__))
        )
        port.end()

    run(main)


def test_a_client_tells_what_its_socket_does(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """As a DTLSSocket does; a server's connection has none of its own, but tells how it is sent for."""
    own = {"datagrams_segmented", "datagrams_joined", "dropped_overflow"}

    async def main() -> None:
        async with joined(client_context, server_context) as (client, server):
            assert client.statistics().keys() - server.statistics().keys() == own
            assert server.statistics()["gso"] == client.statistics()["gso"]
            await client.send_many([bytes(100)] * 30)
            assert client.statistics()["datagrams_segmented"] == 30 * client.statistics()["gso"]

    run(main)
