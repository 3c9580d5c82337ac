"""dtlsffi.asyncio.servers: serve()."""

from __future__ import annotations

import asyncio
import copy
import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

import dtlsffi
from dtlsffi.asyncio import DTLSConnection, DTLSServer, connect, serve
from dtlsffi.testing import Authority
from tests.doors.loops import LOOPBACK, Runner, dial, echo, serving, sockets, vanish
from tests.helpers import HOST


def test_a_server_says_what_it_is(run: Runner, server_context: dtlsffi.DTLSContext) -> None:
    """By its name, and is made by serve() only."""

    async def main() -> None:
        server = await serve(echo, LOOPBACK, 0, context=server_context)
        assert repr(server) == f"<DTLSServer {server.getsockname()}>"
        assert server.is_serving()
        server.close()
        assert repr(server) == f"<DTLSServer {server.getsockname()}, closed>"
        assert not server.is_serving()
        for kind in (DTLSServer, DTLSConnection):
            with pytest.raises(TypeError, match="does not have a public constructor"):
                kind()

    run(main)


# ---- addresses ----


def test_a_bound_socket_is_used_up(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """And left alone where the arguments make no sense."""

    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            with pytest.raises(ValueError, match="not bound"):
                await serve(echo, context=server_context, sock=sock)
            sock.bind((LOOPBACK, 0))
            address = sock.getsockname()
            with pytest.raises(ValueError, match="max_pending"):
                await serve(echo, context=server_context, sock=sock, max_pending=0)
            assert sock.fileno() >= 0
            async with await serve(echo, context=server_context, sock=sock) as server:
                assert sock.fileno() == -1
                assert server.getsockname() == address
                async with await dial(address, client_context) as conn:
                    await conn.send(b"x")
                    assert await conn.recv() == b"x"

    run(main)


def test_arguments_are_checked(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """By name, and nothing is left open."""

    async def main() -> None:
        for error, words, arguments in (
            (ValueError, "PROTOCOL_DTLS_CLIENT context cannot take the server's side", {"context": client_context}),
            (TypeError, "context is a DTLSContext", {"context": None}),
            (ValueError, "dualstack_ipv6", {"dualstack_ipv6": True, "family": socket.AF_INET}),
            (ValueError, "cookie_secret", {"cookie_secret": b"short"}),
            (TypeError, "sausages", {"sausages": 3}),
            (ValueError, "and not both", {"port": None}),
            (ValueError, "sock is bound", {"port": None, "sock": object()}),
        ):
            with pytest.raises(error, match=words):
                await serve(echo, **{"host": LOOPBACK, "port": 0, "context": server_context} | arguments)
        async with serving(server_context, echo) as server:
            with pytest.raises(OSError, match="while attempting to bind on address") as caught:
                await serve(echo, *server.getsockname(), context=server_context)
            assert caught.value.errno == errno.EADDRINUSE
        secret = bytes(32)
        async with serving(server_context, echo, reuse_port=True, cookie_secret=secret) as server:
            address = server.getsockname()
            async with await serve(echo, *address, context=server_context, reuse_port=True, cookie_secret=secret):
                pass

    run(main)


def test_the_loop_has_to_watch_sockets(server_context: dtlsffi.DTLSContext) -> None:
    """One that does not is told of by its own exception, and the socket goes."""

    class Elsewhere(asyncio.SelectorEventLoop):
        def add_reader(self, *_: Any) -> None:
            raise NotImplementedError

    loop = Elsewhere()
    before = sockets()
    with pytest.raises(NotImplementedError):
        loop.run_until_complete(serve(echo, LOOPBACK, 0, context=server_context))
    assert sockets() == before
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


# ---- handlers ----


def test_a_handlers_end_closes_its_connection(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """However it ends: by itself, by an exception, which the loop is told of, or by cancellation."""

    async def handler(conn: DTLSConnection) -> None:
        data = await conn.recv()
        if data == b"fail":
            raise ZeroDivisionError(data)
        if data == b"os":
            raise OSError(data)
        if data == b"cancel":
            raise asyncio.CancelledError

    async def main() -> None:
        async with serving(server_context, handler) as server:
            for words in (b"end", b"fail", b"os", b"cancel"):
                async with await dial(server.getsockname(), client_context) as conn:
                    await conn.send(words)
                    assert await conn.recv() == b""
        problems = run.take_problems()
        assert [type(problem["exception"]) for problem in problems] == [ZeroDivisionError, OSError]
        assert all(problem["message"].startswith("the handler of 127.0.0.1:") for problem in problems)

    run(main)


async def echo_in_a_group(conn: DTLSConnection) -> None:
    async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined,unused-ignore]
        group.create_task(echo(conn))


@pytest.mark.parametrize("echoes", [echo, echo_in_a_group])
def test_a_peer_that_is_to_blame_is_a_line_in_the_log(
    echoes: Callable[[DTLSConnection], Awaitable[None]],
    run: Runner,
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At level INFO: here the client has begun again, so that its old connection fails."""
    if echoes is echo_in_a_group and not hasattr(asyncio, "TaskGroup"):
        pytest.skip("a TaskGroup needs Python 3.11")
    seen: asyncio.Queue[Any] = asyncio.Queue()

    async def handler(conn: DTLSConnection) -> None:
        await seen.put(conn.getpeername())
        try:
            await echoes(conn)
        finally:
            await seen.put("over")

    async def main() -> None:
        async with serving(server_context, handler) as server:
            first = await dial(server.getsockname(), client_context)
            address = first.getsockname()
            assert await seen.get() == address
            vanish(first)
            async with await dial(server.getsockname(), client_context, local_addr=address) as again:
                assert await seen.get() == address
                await again.send(b"again")
                assert await again.recv() == b"again"
                assert server.statistics()["replaced"] == 1
            await seen.get()
            await seen.get()

    with caplog.at_level(logging.INFO, "dtlsffi.server"):
        run(main)
    assert [record.levelno for record in caplog.records if record.name == "dtlsffi.server"] == [logging.INFO]
    assert "REPLACED" in caplog.text


def test_a_handlers_own_error_is_told_after_the_end_of_its_connection(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Though it is an OSError, as what ends connections is."""

    async def handler(conn: DTLSConnection) -> None:
        async for _ in conn:
            pass
        raise FileNotFoundError("where it was to be kept")

    async def main() -> None:
        async with serving(server_context, handler) as server:
            conn = await dial(server.getsockname(), client_context)
            await conn.send(b"data")
            await conn.aclose()
            while not run.problems:
                await asyncio.sleep(0)
        assert [type(problem["exception"]) for problem in run.take_problems()] == [FileNotFoundError]

    run(main)


def test_an_interrupt_in_a_handler_stops_the_loop(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """KeyboardInterrupt comes out of run_until_complete; the loop can be run to a graceful end then."""
    made: list[Any] = []

    async def handler(conn: DTLSConnection) -> None:
        await conn.recv()
        raise KeyboardInterrupt

    async def main() -> None:
        made.append(await serve(handler, LOOPBACK, 0, context=server_context))
        made.append(await dial(made[0].getsockname(), client_context))
        await made[1].send(b"x")
        await made[1].recv()

    async def end() -> None:
        assert await made[1].recv() == b""
        made[1].close()
        made[0].close()
        await made[0].wait_closed()

    before = sockets()
    loop = run.make_loop()
    task = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    with suppress(RuntimeError):  # uvloop is stopped once more by that
        loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(task)
    loop.run_until_complete(end())
    run.end(loop)
    loop.close()
    assert sockets() <= before


def test_a_client_that_fails_its_handshake_gets_no_handler(run: Runner, authority: Authority) -> None:
    """The next one is served."""
    client_context, server_context = authority.client_context(), authority.server_context(HOST)
    client_context.retransmission = server_context.retransmission = (0.005, 2.0, 0.04)
    server_context.verify_mode = dtlsffi.CERT_REQUIRED
    server_context.load_verify_locations(cadata=authority.certificate)
    good = authority.client_context()
    identity = authority.issue("client.example")
    good.load_cert_chain(identity.certificate, identity.key)
    certs: list[Any] = []

    async def handler(conn: DTLSConnection) -> None:
        certs.append(conn.getpeercert())
        await echo(conn)

    async def main() -> None:
        async with serving(server_context, handler) as server:
            with pytest.raises(dtlsffi.DTLSError):
                await dial(server.getsockname(), client_context)
            async with await dial(server.getsockname(), good) as conn:
                await conn.send(b"x")
                assert await conn.recv() == b"x"
            assert server.statistics()["handshakes_failed"] in (1, 2)  # a hello said again may come late

    run(main)
    assert [cert["subjectAltName"] for cert in certs] == [(("DNS", "client.example"),)]


def test_there_is_one_of_each(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """A copy would close the original when it goes, of every door; as with sockets there is none."""

    async def main() -> None:
        async with serving(server_context, echo) as server, await dial(server.getsockname(), client_context) as conn:
            with pytest.raises(TypeError, match="cannot pickle"):
                copy.copy(conn)

    run(main)
    with dtlsffi.create_server((LOOPBACK, 0), context=server_context) as listener:
        with pytest.raises(TypeError, match="cannot pickle"):
            copy.copy(listener)
        assert listener.timeout is None


def test_a_slow_client_delays_nobody(run: Runner, authority: Authority) -> None:
    """It has begun a handshake, and says no more."""
    client_context, server_context = authority.client_context(), authority.server_context(HOST)
    hello = dtlsffi.Connection(client_context, server_hostname=HOST)

    async def main() -> None:
        async with serving(server_context, echo) as server:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(dtlsffi.DTLSWantReadError):
                sock.connect(server.getsockname())
                sock.setblocking(False)
                with pytest.raises(dtlsffi.DTLSWantReadError):
                    hello.do_handshake()
                sock.send(hello.datagrams_to_send()[0])
                hello.receive_datagram(await asyncio.get_running_loop().sock_recv(sock, 65535))
                sock.send(hello.datagrams_to_send()[0])
                async with await dial(server.getsockname(), client_context) as conn:
                    await conn.send(b"quick")
                    assert await conn.recv() == b"quick"
                    assert server.statistics()["pending"] == 1
                    assert len(server.connections) == 1
                hello.do_handshake()

    run(main)


# ---- the end ----


def test_close_ends_all_gracefully(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Handlers see the end as their peer's, clients get close_notify; wait_closed() waits for the handlers."""
    ended: list[bytes] = []

    async def handler(conn: DTLSConnection) -> None:
        ended.append(await conn.recv())
        await asyncio.sleep(0)
        ended.append(await conn.recv())

    async def main() -> None:
        server = await serve(handler, LOOPBACK, 0, context=server_context)
        waiting = asyncio.ensure_future(server.wait_closed())
        async with await dial(server.getsockname(), client_context) as conn:
            while not server._tasks:
                await asyncio.sleep(0)
            assert not waiting.done()
            server.close()
            server.close()
            await server.wait_closed()
            assert ended == [b"", b""]
            assert await conn.recv() == b""
            await waiting

    run(main)


def test_serve_forever_is_until_somebody_closes(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """For each who waits there; when one of them is cancelled that closes it, and its handlers have ended then."""
    ended: list[bytes] = []

    async def handler(conn: DTLSConnection) -> None:
        ended.append(await conn.recv())

    async def main() -> None:
        server = await serve(handler, LOOPBACK, 0, context=server_context)
        tasks = [asyncio.ensure_future(server.serve_forever()) for _ in range(2)]
        await asyncio.sleep(0)
        server.close()
        await asyncio.gather(*tasks)
        await server.serve_forever()

        server = await serve(handler, LOOPBACK, 0, context=server_context)
        task = asyncio.ensure_future(server.serve_forever())
        async with await connect(*server.getsockname(), context=client_context, server_hostname=HOST) as conn:
            while not server._tasks:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert ended == [b""]
            assert not server.is_serving()
            assert await conn.recv() == b""

    run(main)


def test_who_leaves_by_an_exception_closes_it_too(run: Runner, server_context: dtlsffi.DTLSContext) -> None:
    """The server is an asynchronous context manager."""

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with serving(server_context, echo) as server:
                raise ZeroDivisionError
        assert not server.is_serving()

    run(main)
