"""dtlsffi.asyncio.transports: who is sent away, who gets an answer, and what is told of those that are gone."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

import dtlsffi
from dtlsffi.asyncio import DTLSDatagramProtocol, create_dtls_endpoint
from tests.doors.loops import LOOPBACK, Listening, Runner, dial, server_with, until, vanish
from tests.helpers import HOST


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


def test_where_there_is_no_place_for_one_more(
    run: Runner, client_context: dtlsffi.DTLSContext, silent: socket.socket
) -> None:
    """error_received says so, and sendto() raises nothing."""

    async def main() -> None:
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


class Diary(Listening, DTLSDatagramProtocol):
    """What happens, in its order, by the number of the peer; what is said at once goes through `on`."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[str] = []
        self.on: dict[str, Any] = {}

    def note(self, entry: str) -> None:
        self.entries.append(entry)
        self.on.get(entry, lambda: None)()

    def peer_connected(self, addr: Any) -> None:
        self.note("connected")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(b"bye", addr)
        self.note("data")

    def peer_lost(self, addr: Any, exc: BaseException | None) -> None:
        self.note("lost")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.note("over")


@pytest.mark.parametrize("how", ["close", "abort"])
def test_the_end_comes_after_every_peers(
    how: str, run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """connection_lost is the last that a protocol hears."""

    async def main() -> None:
        async with server_with(Diary, server_context) as (server, diary):
            clients = [await dial(server.get_extra_info("sockname"), client_context) for _ in range(3)]
            await until(lambda: len(diary.entries) == 3)
            getattr(server, how)()
            await until(lambda: "over" in diary.entries)
            assert diary.entries == ["connected"] * 3 + ["lost"] * 3 + ["over"]
            for client in clients:
                client.close()

    run(main)


def test_so_it_does_where_the_protocol_closes_over_its_last_datagram(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """And the peer's own close has come in the same turn."""

    async def main() -> None:
        async with server_with(Diary, server_context) as (server, diary):
            diary.on["data"] = server.close
            client = await dial(server.get_extra_info("sockname"), client_context)
            await until(lambda: bool(diary.entries))
            await client.send(b"x")
            client.close()
            await until(lambda: "over" in diary.entries)
            assert diary.entries == ["connected", "data", "lost", "over"]

    run(main)


def test_nobody_is_announced_after_close(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Two have finished in one turn: whoever is not announced is not lost either."""

    async def main() -> None:
        async with server_with(Diary, server_context) as (server, diary):
            diary.on["connected"] = server.close
            dials = [asyncio.ensure_future(dial(server.get_extra_info("sockname"), client_context)) for _ in range(8)]
            await until(lambda: "over" in diary.entries)
            assert diary.entries == ["connected", "lost", "over"]
            for task in dials:
                task.cancel()
            for client in await asyncio.gather(*dials, return_exceptions=True):
                if isinstance(client, dtlsffi.asyncio.DTLSConnection):
                    client.close()

    run(main)


def test_the_only_peers_address_stays_valid_to_the_end(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """What is sent to it in peer_lost is told of by error_received, as without an address."""

    async def main() -> None:
        async with server_with(Listening, server_context) as (server, _):
            address = server.get_extra_info("sockname")
            client, protocol = await create_dtls_endpoint(
                Late, remote_addr=address, context=client_context, server_hostname=HOST
            )
            client.get_connection().close()
            await until(lambda: bool(protocol.lost))
            assert [str(error).rpartition("] ")[2] for error in protocol.errors] == ["the connection is closed"] * 2

    run(main)


class Late(Listening, DTLSDatagramProtocol):
    """It sends where nothing goes any more."""

    def peer_lost(self, addr: Any, exc: BaseException | None) -> None:
        self.transport.sendto(b"late")
        self.transport.sendto(b"late", addr)
