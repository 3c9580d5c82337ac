"""dtlsffi.asyncio.transports: who is sent away, who gets an answer, and what is told of those that are gone."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

import dtlsffi
from dtlsffi.asyncio import DTLSDatagramProtocol, create_dtls_endpoint
from tests.doors.loops import HOST, LOOPBACK, Listening, Runner, dial, server_with, until, vanish


class Refusing(Listening, DTLSDatagramProtocol):
    """A protocol that lets nobody in."""

    def peer_connected(self, addr: Any) -> None:
        raise PermissionError("not you")


def test_who_is_refused_in_peer_connected_is_sent_away(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """By whatever it raises, which the loop's handler is told of; nothing of him is handed on."""

    async def main() -> None:
        async with server_with(Refusing, server_context) as (server, protocol):
            async with await dial(server.get_extra_info("sockname"), client_context) as client:
                await client.send(b"let me in")
                assert await client.recv() == b""
            assert server.connections == []
            assert protocol.datagrams == []
            (problem,) = run.take_problems()
            assert isinstance(problem["exception"], PermissionError)

    run(main)


def test_an_answer_is_for_the_one_who_has_asked(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Where another has come to the same address meanwhile, it goes nowhere."""

    async def main() -> None:
        async with server_with(Listening, server_context) as (server, protocol):
            first = await dial(server.get_extra_info("sockname"), client_context)
            address = first.getsockname()
            await first.send(b"a question")
            await until(lambda: bool(protocol.datagrams))
            asker = server.get_connection(address)
            assert server.connections == [asker]
            server.sendto(b"an answer", asker)
            assert await first.recv() == b"an answer"
            vanish(first)
            async with await dial(first.getpeername(), client_context, local_addr=address) as second:
                await until(lambda: server.get_connection(address) not in (None, asker))
                server.sendto(b"a secret", asker)
                server.sendto(b"for you", address)
                assert await second.recv() == b"for you"
                (error,) = protocol.errors
                assert error.reason == "NOT_CONNECTED"
                assert asker is not None
                with pytest.raises(dtlsffi.DTLSError, match="new connection from this address"):
                    await asker.send(b"a secret")
                with pytest.raises(RuntimeError, match="goes to its protocol"):
                    await asker.recv()

    run(main)


def test_what_waits_for_a_handshake_that_fails_is_told_of_after_close(
    run: Runner, client_context: dtlsffi.DTLSContext
) -> None:
    """close() sends what waits; where it cannot, error_received says so."""

    async def main() -> None:
        transport, protocol = await create_dtls_endpoint(
            Listening, local_addr=(LOOPBACK, 0), context=client_context, server_hostname=HOST
        )
        transport.sendto(b"x", ("255.255.255.255", 9))
        transport.close()
        await until(lambda: bool(protocol.lost))
        assert [type(error) for error in protocol.errors] == [PermissionError]

    run(main)


def test_where_there_is_no_place_for_one_more(run: Runner, client_context: dtlsffi.DTLSContext) -> None:
    """error_received says so, and sendto() raises nothing."""

    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind((LOOPBACK, 0))
            transport, protocol = await create_dtls_endpoint(
                Listening, local_addr=(LOOPBACK, 0), context=client_context, server_hostname=HOST, max_connections=1
            )
            transport.sendto(b"x", silent.getsockname())
            transport.sendto(b"y", (LOOPBACK, 9))
            assert [error.reason for error in protocol.errors] == ["NOT_CONNECTED"]
            transport.abort()

    run(main)


def test_another_thread_may_close_it(run: Runner, server_context: dtlsffi.DTLSContext) -> None:
    """The protocol hears of the end, also where the loop looks for such things."""

    async def main() -> None:
        asyncio.get_running_loop().set_debug(True)
        transport, protocol = await create_dtls_endpoint(Listening, local_addr=(LOOPBACK, 0), context=server_context)
        thread = threading.Thread(target=transport.close)
        thread.start()
        await until(lambda: bool(protocol.lost))
        thread.join()

    run(main)
