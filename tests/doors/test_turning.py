"""dtlsffi.turning: a turn takes several batches, and tells of each before it takes the next."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

import dtlsffi
from tests.doors.loops import Echo, Listening, Runner, client_of, server_with, until

Contexts = tuple[dtlsffi.DTLSContext, dtlsffi.DTLSContext]
DATA = [b"%d" % number for number in range(20)]


@pytest.fixture
def contexts(client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext) -> Contexts:
    return client_context, server_context


def turned(server: Any, client: Any) -> None:
    """All data comes in one turn: four datagrams, and then more, since so many have come."""
    for data in DATA:
        client.sendto(data)
    server._port.look()


def test_each_batch_is_told_of_before_the_next(run: Runner, contexts: Contexts) -> None:
    """And answered."""
    told: list[tuple[int, int]] = []

    async def main() -> None:
        async with (
            server_with(Echo, contexts[1]) as (server, at_server),
            client_of(Listening, server, contexts[0]) as (client, at_client),
        ):
            pump = server._port.pump

            def counted(now: float) -> bool:
                told.append((len(at_server.datagrams), server._port.statistics()["datagrams_sent"]))
                return pump(now)

            server._port.pump = counted
            before = server._port.statistics()["datagrams_sent"]
            turned(server, client)
            assert told == [(0, before), (4, before + 4)]
            await until(lambda: len(at_client.datagrams) == len(DATA))
            assert [data for data, _ in at_client.datagrams] == DATA

    run(main)


def test_a_protocol_may_end_it_between_two(run: Runner, contexts: Contexts) -> None:
    """Nothing is taken, handed on or begun afterwards."""

    class Aborting(Listening):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.abort()

    async def main() -> None:
        async with (
            server_with(Aborting, contexts[1]) as (server, at_server),
            client_of(Listening, server, contexts[0]) as (client, at_client),
        ):
            server._port.handle_timers = lambda _now: pytest.fail("it has ended")
            server._port._tidy_at = 0  # they are due
            turned(server, client)
            assert server._port.ended
            assert [data for data, _ in at_server.datagrams] == DATA[:1]
            await until(lambda: bool(at_client.lost))

    run(main)


def test_an_interrupt_between_two_skips_nothing_that_is_due(run: Runner, contexts: Contexts) -> None:
    """Timers, and what the socket has said before."""
    due: list[str] = []

    class Interrupting(Listening):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.datagrams) == 1:
                raise KeyboardInterrupt

    async def main() -> None:
        async with (
            server_with(Interrupting, contexts[1]) as (server, at_server),
            client_of(Listening, server, contexts[0]) as (client, _),
        ):
            pump, failures = server._port.pump, [OSError("from the wire")]

            def pump_or_fail(now: float) -> bool:
                if failures:
                    raise failures.pop()
                return bool(pump(now))

            server._port.pump = pump_or_fail
            server._port._refused = lambda error: due.append(str(error))
            server._port.handle_timers = lambda _now: due.append("timers")
            server._port._tidy_at = 0
            with pytest.raises(KeyboardInterrupt):
                turned(server, client)
            assert due == ["from the wire", "timers"]
            await until(lambda: len(at_server.datagrams) == len(DATA))
            assert [data for data, _ in at_server.datagrams] == DATA

    run(main)


def test_the_time_goes_on_between_two(run: Runner, contexts: Contexts) -> None:
    """A protocol may take long over a batch; whoever is heard of in the next one is heard of then."""
    times: list[float] = []

    async def main() -> None:
        async with (
            server_with(Listening, contexts[1]) as (server, _),
            client_of(Listening, server, contexts[0]) as (client, _),
        ):
            pump, clock = server._port.pump, itertools.count(server._port.loop.time() + 1)

            def noted(now: float) -> bool:
                times.append(now)
                return bool(pump(now))

            server._port.pump, server._port.clock = noted, lambda: next(clock)
            turned(server, client)
            assert times[1] > times[0] + 0.9

    run(main)
