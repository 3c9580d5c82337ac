"""dtlsffi.awaiting: what connections of all event loops do, seen through asyncio's and uvloop's."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

import dtlsffi
from dtlsffi.core.endpoint_connection import EndpointConnection
from dtlsffi.core.errors import make
from dtlsffi.testing import Authority
from dtlsffi.turning import AwaitedPort
from tests.doors.loops import LOOPBACK, Runner, dial, echo, joined, serving, settled, until, vanish
from tests.helpers import HOST

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
                await client.send_many([bytes(20_000), b"after"])
            assert await client.send_many([b"before", bytes(20_000), b"after"]) == 1
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
                with pytest.raises(ConnectionRefusedError, match=r"127.0.0.1:\d+\)"):
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
            with pytest.raises(ConnectionRefusedError, match=r"127.0.0.1:\d+\)"):
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


# ---- the port ----


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


def test_what_a_callback_raises_in_a_handshake_is_told(
    run: Runner, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """With its traceback: the client is told nothing of it. Why others have not come in is a line each."""
    client_context, server_context = authority.client_context(), authority.server_context(HOST)
    client_context.retransmission = server_context.retransmission = (0.005, 2.0, 0.04)
    server_context.sni_callback = lambda *_: {}["my own mistake"]
    refused = authority.server_context("other.example")

    async def main() -> None:
        for context in (server_context, refused):
            async with serving(context, echo) as server:
                with pytest.raises(dtlsffi.DTLSError):
                    await dial(server.getsockname(), client_context)
                await until(lambda server=server: server.statistics()["handshakes_failed"])

    with caplog.at_level("INFO", "dtlsffi.server"):
        run(main)
    mistake = next(record for record in caplog.records if record.levelname == "ERROR")
    assert "a callback has failed in the handshake with 127.0.0.1:" in mistake.getMessage()
    assert mistake.exc_info is not None
    assert mistake.exc_info[2] is not None
    assert "my own mistake" in str(mistake.exc_info[1])
    assert sum("did not finish its handshake" in record.getMessage() for record in caplog.records) >= 2


def test_a_client_is_told_why_it_waited_in_vain(
    run: Runner, client_context: dtlsffi.DTLSContext, silent: socket.socket, nobody: tuple[str, int]
) -> None:
    """As a DTLSSocket is; and who has refused."""

    async def main() -> None:
        with pytest.raises(dtlsffi.HandshakeTimeout, match="datagrams sent.: nothing came back: is it a DTLS server"):
            await dial(silent.getsockname(), client_context, handshake_timeout=0.05)
        with pytest.raises(ConnectionRefusedError, match=f"127.0.0.1:{nobody[1]}"):
            await dial(nobody, client_context)

    run(main)
