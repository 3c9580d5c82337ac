"""dtlsffi.asyncio.sending: what waits, for how long, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import dtlsffi
from dtlsffi.asyncio.sending import GATHERED
from dtlsffi.core.endpoint_connection import EndpointConnection
from dtlsffi.core.errors import make
from tests.doors.loops import Listening, Runner, client_of, server_with, until


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Says that the socket's send buffer is full, which loopback's never is, or that it is not."""
    send = EndpointConnection.send
    state = [False]

    def send_unless_full(connection: EndpointConnection, data: bytes) -> int:
        if state[0]:
            raise make(dtlsffi.DTLSWantWriteError, "WANT_WRITE", "full")
        return send(connection, data)

    monkeypatch.setattr(EndpointConnection, "send", send_unless_full)
    return lambda is_full: state.__setitem__(0, is_full)


def test_the_protocol_is_paused_and_resumed(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, full: Callable[[bool], None]
) -> None:
    """Above the high mark, and at the low one; what waits goes out in its order, and before the close_notify."""

    async def main() -> None:
        async with (
            server_with(Listening, server_context) as (server, at_server),
            client_of(Listening, server, client_context) as (client, protocol),
        ):
            assert client.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            client.set_write_buffer_limits(high=10)
            assert client.get_write_buffer_limits() == (2, 10)
            client.set_write_buffer_limits(low=3)
            assert client.get_write_buffer_limits() == (3, 12)
            with pytest.raises(ValueError, match="must be >= low"):
                client.set_write_buffer_limits(high=1, low=2)
            full(True)
            for number in range(6):
                client.sendto(b"%d__" % number)
                assert protocol.pauses == (["pause"] if number > 3 else [])
            assert client.get_write_buffer_size() == 18
            client.set_write_buffer_limits(high=100)
            client.set_write_buffer_limits(high=17, low=3)
            assert protocol.pauses == ["pause"]
            await asyncio.sleep(0)
            full(False)
            await until(lambda: protocol.pauses == ["pause", "resume"])
            assert client.get_write_buffer_size() <= 3
            await until(lambda: len(at_server.datagrams) == 6)
            full(True)
            client.sendto(b"last")
            client.close()
            assert not protocol.lost
            assert client.is_closing()
            full(False)
            await until(lambda: bool(protocol.lost))
            await until(lambda: len(at_server.datagrams) == 7)
            assert [data for data, _ in at_server.datagrams] == [b"%d__" % number for number in range(6)] + [b"last"]
            client.set_write_buffer_limits(high=0)

    run(main)


def test_lower_limits_pause_at_once(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, full: Callable[[bool], None]
) -> None:
    """As asyncio's own do."""

    async def main() -> None:
        async with (
            server_with(Listening, server_context) as (server, _),
            client_of(Listening, server, client_context) as (client, protocol),
        ):
            full(True)
            client.sendto(b"12345")
            assert protocol.pauses == []
            client.set_write_buffer_limits(high=4)
            assert protocol.pauses == ["pause"]
            full(False)

    run(main)


def test_abort_drops_what_waits(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, full: Callable[[bool], None]
) -> None:
    """Also in the middle of sending it, from a callback."""

    class Aborting(Listening):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            self.transport.abort()

    async def main() -> None:
        async with server_with(Listening, server_context) as (server, at_server):
            for kind in (Listening, Aborting):
                async with client_of(kind, server, client_context) as (client, protocol):
                    full(True)
                    client.sendto(b"one")
                    client.sendto(bytes(20_000))
                    client.sendto(b"three")
                    if kind is Listening:
                        client.abort()
                        assert client.get_write_buffer_size() == 0
                    full(False)
                    await until(lambda protocol=protocol: bool(protocol.lost))
                    assert protocol.lost == [None]
                    assert client.get_write_buffer_size() == 0
            await until(lambda: bool(at_server.datagrams) and not server._peers)
            assert [data for data, _ in at_server.datagrams] == [b"one"]

    run(main)


def test_a_peer_that_is_awaited_and_its_transport_wait_for_room_side_by_side(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, full: Callable[[bool], None]
) -> None:
    """Neither takes the descriptor from the other."""

    async def main() -> None:
        async with (
            server_with(Listening, server_context) as (server, at_server),
            client_of(Listening, server, client_context) as (client, _),
        ):
            conn = client.get_connection()
            assert conn is not None
            full(True)
            client.sendto(b"by the transport")
            waiting = asyncio.ensure_future(conn.send(b"by the connection"))
            await asyncio.sleep(0)
            client.sendto(b"again")
            full(False)
            assert await waiting == 17
            await until(lambda: len(at_server.datagrams) == 3)

    run(main)


class Eager(Listening):
    """One that answers a datagram with very many."""

    most = 0

    def datagram_received(self, data: bytes, addr: Any) -> None:
        for _ in range(100):
            self.transport.sendto(bytes(1000), addr)
            self.most = max(self.most, self.transport.get_write_buffer_size())


def test_what_is_answered_in_one_turn_does_not_pile_up(
    run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """It is gathered, to be sent by the batch, up to 32 kB."""

    async def main() -> None:
        async with (
            server_with(Eager, server_context) as (server, at_server),
            client_of(Listening, server, client_context) as (client, protocol),
        ):
            client.sendto(b"go on")
            await until(lambda: len(protocol.datagrams) == 100)
            assert GATHERED - 1000 < at_server.most <= GATHERED

    run(main)
