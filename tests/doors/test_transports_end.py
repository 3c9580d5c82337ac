"""dtlsffi.asyncio.transports: how they end, and what a protocol sees of that."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

import dtlsffi
from dtlsffi.asyncio import DTLSTransport, create_dtls_endpoint
from dtlsffi.core.errors import make
from dtlsffi.testing import Authority
from tests.doors.loops import (
    HOST,
    LOOPBACK,
    Echo,
    Listening,
    Runner,
    client_of,
    in_child,
    server_with,
    until,
    without_timer,
)


def test_the_peers_close_is_a_clients_end(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """connection_lost(None), once, after the last datagram; nothing can be sent then, and the log says so."""

    async def main() -> None:
        async with server_with(Listening, server_context) as (server, at_server):
            client, protocol = await create_dtls_endpoint(
                Listening, remote_addr=server.get_extra_info("sockname"), context=client_context, server_hostname=HOST
            )
            client.sendto(b"here")
            await until(lambda: bool(at_server.datagrams))
            server.sendto(b"last words", client.get_extra_info("sockname"))
            server.close()
            await until(lambda: bool(protocol.lost))
            assert protocol.datagrams == [(b"last words", client.get_extra_info("peername"))]
            client.sendto(b"too late")
            for _ in range(2):
                client.close()
                client.abort()
                await asyncio.sleep(0)
            assert protocol.lost == [None]
            assert not protocol.errors

    run(main)


def test_close_notify_waits_for_room_in_the_socket(
    run: Runner,
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is sent once: behind so much that the kernel takes no more it would be lost. Nobody else waits."""
    found = [False, True]

    async def main() -> None:
        async with (
            server_with(Listening, server_context) as (server, at_server),
            client_of(Listening, server, client_context) as (client, protocol),
        ):
            client.sendto(b"here")
            await until(lambda: bool(at_server.datagrams))
            monkeypatch.setattr(type(client._port), "has_room", lambda _: found.pop(0))
            client.close()
            assert client.is_closing()
            assert not client._port.ended
            await until(lambda: bool(protocol.lost))
            assert (protocol.lost, found) == ([None], [])
            monkeypatch.undo()
            await until(lambda: not server._peers)

    run(main)


def test_a_failure_is_a_clients_end(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """connection_lost with what has ended it; so, too, when it has failed before the protocol was made."""

    async def main() -> None:
        async with server_with(Listening, server_context) as (server, _):
            for early in (False, True):

                def fail(transport: DTLSTransport) -> None:
                    connection = transport._port.connections[0]
                    transport._port._end(connection, make(dtlsffi.DTLSError, "BROKEN", "for once"))

                class Failing(Listening):
                    def connection_made(self, transport: Any, early: bool = early) -> None:
                        super().connection_made(transport)
                        if early:
                            fail(transport)
                            transport._port.transport = None
                            transport._port.look()
                            transport._port.transport = transport

                client, protocol = await create_dtls_endpoint(
                    Failing, remote_addr=server.get_extra_info("sockname"), context=client_context,
                    server_hostname=HOST,
                )  # fmt: skip
                if not early:
                    fail(client)
                    client._port.look()
                await until(lambda protocol=protocol: bool(protocol.lost))
                assert [getattr(error, "reason", None) for error in protocol.lost] == ["BROKEN"]
                assert client.is_closing()

    run(main)


def test_a_lost_socket_is_the_end(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """connection_lost with its EBADF, on either side."""

    async def main() -> None:
        async with (
            server_with(Listening, server_context) as (server, at_server),
            client_of(Listening, server, client_context) as (client, protocol),
        ):
            for transport, seen in ((client, protocol), (server, at_server)):
                transport._port.sock.close()
                transport._port.look()
                await until(lambda seen=seen: bool(seen.lost))
                assert [getattr(error, "errno", None) for error in seen.lost] == [errno.EBADF]

    run(main)


def test_a_connection_lost_that_raises_is_told(run: Runner, server_context: dtlsffi.DTLSContext) -> None:
    """To the loop's exception handler."""

    class Failing(Listening):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            raise ZeroDivisionError

    async def main() -> None:
        async with server_with(Failing, server_context):
            pass
        assert [type(problem["exception"]) for problem in run.take_problems()] == [ZeroDivisionError]

    run(main)


def test_an_interrupt_in_a_callback_stops_the_loop(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """It is not taken for a protocol's failure."""

    class Interrupting(Listening):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            raise KeyboardInterrupt

    async def main() -> None:
        async with (
            server_with(Interrupting, server_context) as (server, protocol),
            client_of(Listening, server, client_context) as (client, _),
        ):
            client.sendto(b"x")
            await until(lambda: bool(protocol.datagrams))

    loop = run.make_loop()
    task = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    try:
        loop.run_until_complete(asyncio.sleep(0))
    except RuntimeError:  # uvloop is stopped once more by that
        pass
    loop.run_until_complete(task)
    run.end(loop)
    loop.close()


def test_a_loop_that_is_closed_with_it(
    run: Runner,
    server_context: dtlsffi.DTLSContext,
    warned: Callable[[], list[str]],
) -> None:
    """ResourceWarning, and the socket goes."""
    loop = run.make_loop()
    made = [loop.run_until_complete(create_dtls_endpoint(Listening, local_addr=(LOOPBACK, 0), context=server_context))]
    sock = made[0][0]._port.sock
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    made.clear()
    gc.collect()
    assert "unclosed DTLS port" in warned()
    assert sock.fileno() == -1


def test_close_after_its_loop(run: Runner, server_context: dtlsffi.DTLSContext) -> None:
    """The socket goes; nobody is left to be told."""
    loop = run.make_loop()
    transport, protocol = loop.run_until_complete(
        create_dtls_endpoint(Listening, local_addr=(LOOPBACK, 0), context=server_context)
    )
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    transport.close()
    assert transport._port.sock.fileno() == -1
    assert not protocol.lost


def test_after_fork_it_is_the_parents(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """A child that closes its copies disturbs nobody."""

    async def main() -> None:
        async with (
            server_with(Echo, server_context) as (server, _),
            client_of(Listening, server, client_context) as (client, protocol),
        ):

            def child() -> None:
                client.abort()
                server.close()

            assert in_child(child)
            for transport in (client, server):
                without_timer(transport._port)
            client.sendto(b"the parent goes on")
            await until(lambda: bool(protocol.datagrams))

    run(main)
    assert threading.active_count() == 1


def test_what_is_sent_after_the_end_is_logged(
    run: Runner, server_context: dtlsffi.DTLSContext, caplog: pytest.LogCaptureFixture
) -> None:
    """At level WARNING, in the logger dtlsffi.asyncio."""

    async def main() -> None:
        async with server_with(Listening, server_context) as (server, _):
            pass
        server.sendto(b"late", (LOOPBACK, 9))

    with caplog.at_level(logging.WARNING, "dtlsffi.asyncio"):
        run(main)
    assert [record.levelno for record in caplog.records if record.name == "dtlsffi.asyncio"] == [logging.WARNING]
    assert "a datagram of 4 bytes is dropped" in caplog.text


def test_the_protocol_of_the_end_is_told_of_it(run: Runner, server_context: dtlsffi.DTLSContext) -> None:
    """One that is set after close() is the one that is there."""

    async def main() -> None:
        transport, first = await create_dtls_endpoint(Listening, (LOOPBACK, 0), context=server_context)
        transport.close()
        second = Listening()
        transport.set_protocol(second)
        await until(lambda: bool(second.lost))
        assert (first.lost, second.lost) == ([], [None])

    run(main)


def test_what_waits_for_one_handshake_goes_by_the_one_in_its_place(run: Runner, authority: Authority) -> None:
    """Both sides begin at the same time: one of them gives way, and nothing is lost by that."""
    contexts = []
    for name in ("one.example", "other.example"):
        identity = authority.issue(name, LOOPBACK)
        context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS)
        context.load_cert_chain(identity.certificate, identity.key)
        context.load_verify_locations(cadata=authority.certificate)
        contexts.append(context)

    async def main() -> None:
        async with server_with(Listening, contexts[0]) as (one, at_one), server_with(Listening, contexts[1]) as (
            other, at_other,
        ):  # fmt: skip
            one.sendto(b"from one", other.get_extra_info("sockname"))
            other.sendto(b"from other", one.get_extra_info("sockname"))
            await until(lambda: bool(at_one.datagrams and at_other.datagrams))
            assert at_one.datagrams[0][0] == b"from other"
            assert at_other.datagrams[0][0] == b"from one"

    run(main)


def test_an_interrupt_in_a_protocol_loses_nothing_of_the_batch(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """What was to be handed on after it is handed on when the loop goes on."""

    class Interrupted(Listening):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if data == b"1":
                raise KeyboardInterrupt

    async def main() -> None:
        async with (
            server_with(Interrupted, server_context) as (server, at_server),
            client_of(Listening, server, client_context) as (client, _),
        ):
            client.sendto(b"first")
            await until(lambda: bool(at_server.datagrams))
            server._port.loop.remove_reader(server._port._descriptor)
            for number in range(4):
                client.sendto(b"%d" % number)
            with pytest.raises(KeyboardInterrupt):
                server._port.look()
            await until(lambda: len(at_server.datagrams) == 5)
            assert [data for data, _ in at_server.datagrams] == [b"first", b"0", b"1", b"2", b"3"]

    run(main)
