"""A server while it runs, as a test sees it from another thread; and what it does with its connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import dtlsffi

PATIENCE = 10.0  # seconds
BETWEEN = 0.002  # seconds between two looks at a server that runs in another thread

T = TypeVar("T")
Handler = Callable[[Any, "Served"], Awaitable[None]]
"""What becomes of one connection. It has `send`, `recv`, `async for` and `getpeername`, whichever door it came by."""


async def echo(conn: Any, _served: Served) -> None:
    """Sends every record back, until the peer closes."""
    async for record in conn:
        await conn.send(record)


async def slow_first(conn: Any, served: Served) -> None:
    """The same, but the first one waits for the gate before."""
    if len(served.began) == 1:
        await served.gate.wait()
    await echo(conn, served)


class Served:
    """One server in its own thread: where it is, what it counts, whose connections have come and gone.

    Whoever runs it calls `opened` in that thread, and `attend` for each connection there.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._conns: dict[Any, Any] = {}
        self._address: Future[Any] = Future()
        self._soon: Callable[[Callable[[], object]], object] = lambda call: None
        self.failure: BaseException | None = None
        """What the server has failed with."""
        self.began: list[Any] = []
        """The addresses of peers whose handshake is finished, in that order."""
        self.ended: list[tuple[Any, BaseException | None]] = []
        """What has ended which peer's connection; None for the peer's close_notify."""

    # ---- for the door, in its thread ----

    def opened(
        self,
        address: Any,
        *,
        statistics: Callable[[], dict[str, int]],
        stop: Callable[[], object],
        gate: Any,
        find: Callable[[Any], Any] | None = None,
        soon: Callable[[Callable[[], object]], object],
    ) -> None:
        """The server is there. `soon` has its thread call something; `gate` has `set`, and `wait` for handlers.

        `find` knows the connection of each peer, where that is not given to `attend`.
        """
        self._statistics, self._stop, self._soon = statistics, stop, soon
        self._find = find or self._conns.__getitem__
        self.gate = gate
        """What a handler awaits with `await served.gate.wait()`, until a test calls `open_gate`."""
        self._address.set_result(address)

    def failed(self, error: BaseException) -> None:
        """It could not be opened, or did not go on: the exception itself, out of a task group's."""
        while exceptions := getattr(error, "exceptions", ()):
            error = exceptions[0]
        self.failure = error
        if not self._address.done():
            self._address.set_exception(error)

    async def attend(self, conn: Any) -> None:
        """One connection, whose handshake is finished, from its beginning to its end."""
        peer, failure = conn.getpeername(), None
        self._conns[peer] = conn
        self.began.append(peer)
        try:
            await self._handler(conn, self)
        except Exception as error:  # noqa: BLE001 - looked at by the test
            failure = error
        finally:
            self.ended.append((peer, failure))

    # ---- for the test ----

    @property
    def address(self) -> Any:
        """Where it is, as getsockname() says; raises what it could not be opened for."""
        return self._address.result(PATIENCE)

    @property
    def port(self) -> int:
        """Its port alone."""
        port: int = self.address[1]
        return port

    def statistics(self) -> dict[str, int]:
        """`Endpoint.statistics`."""
        return self._ask(self._statistics)

    def statistics_of(self, peer: Any) -> dict[str, int]:
        """`Connection.statistics` of the connection with this peer."""
        return self._ask(lambda: self._find(peer).statistics())

    def mtu_of(self, peer: Any) -> int:
        """`Connection.mtu` of the connection with this peer."""
        return self._ask(lambda: int(self._find(peer).mtu))

    def _ask(self, question: Callable[[], T]) -> T:
        answer: Future[T] = Future()
        self._soon(lambda: answer.set_result(question()))
        return answer.result(PATIENCE)

    def open_gate(self) -> None:
        """Lets the handlers go on that wait at the gate, and those that come later."""
        self._soon(self.gate.set)

    def stop(self) -> None:
        """Has it end, if it has not; nobody is waited for."""
        with suppress(RuntimeError):  # its event loop is over
            self._soon(lambda: self.gate.set())
            self._soon(lambda: self._stop())

    def wait_until(self, look: Callable[[], object], *, within: float = PATIENCE) -> None:
        """Waits until `look` finds something; AssertionError if it does not in time."""
        end = time.monotonic() + within
        while not look():
            assert time.monotonic() < end, f"still not so: {self.statistics()}, {self.began}, {self.ended}"
            threading.Event().wait(BETWEEN)

    def count(self, name: str) -> int:
        """One of its counters."""
        return self.statistics()[name]

    def why_ended(self, peer: Any) -> list[str | None]:
        """Why this peer's connections have ended: DTLSError.reason, the name of a class, or None for close_notify."""
        return [why(failure) for address, failure in list(self.ended) if address == peer]


def why(failure: BaseException | None) -> str | None:
    """The reason for an end, which anyio gives as the cause of an exception of its own."""
    if failure is None:
        return None
    for error in (failure, failure.__cause__):
        if isinstance(error, dtlsffi.DTLSError):
            return error.reason
    return type(failure).__name__
