"""Connections whose calls are awaited: what those of all event loops have in common."""

from __future__ import annotations

import asyncio
import errno
import os
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .core import errors
from .core.arguments import checked_max
from .core.batches import Buffer
from .core.endpoint_connection import EndpointConnection
from .made import Served

if TYPE_CHECKING:
    from typing_extensions import Self


class AwaitedConnection(Served):
    """A connection whose calls are awaited. What is received waits here; a call that is cancelled has taken nothing."""

    _refusal: OSError | None = None  # what ICMP said, for the next call
    _closed = True

    _connection: EndpointConnection
    _port: Any
    _waiters: list[Any]  # what each loop tells those that wait by

    @classmethod
    def _create(cls, port: Any, connection: EndpointConnection) -> Self:
        self = cls.__new__(cls)
        self._port, self._connection = port, connection
        self._waiters = []
        self._closed = False
        connection._serve_as(self)
        return self

    # ---- what each loop does in its own way ----

    async def _pause(self) -> None:
        """Waits until something may have happened."""
        raise NotImplementedError

    def _moved(self) -> None:
        """Something has happened: whoever waits has a look."""
        raise NotImplementedError

    # ---- waiting ----

    def _check_open(self) -> None:
        if self._closed:
            raise self._closed_error()
        if self._port.trouble is not None:
            raise OSError(errno.EBADF, f"the socket is closed ({self.peer})") from self._port.trouble
        if self._refusal is not None:
            try:
                raise self._refusal
            finally:
                self._refusal = None

    def _check_on(self) -> None:
        """The same, and raises what has ended the connection."""
        self._check_open()
        ending = self._ending()
        try:
            if ending is not None:
                raise ending
        finally:
            del ending  # it knows this frame, which would keep it and the connection until the garbage collector comes

    def _ending(self) -> BaseException | None:
        trouble: OSError | None = self._port.trouble
        return self._connection._ending() if trouble is None else errors.again(trouble)

    def _its_end(self, error: BaseException) -> str:
        ending = self._ending()
        return str(ending) if ending is not None and errors.is_end(error, ending) else ""

    async def _finish_handshake(self) -> None:
        while not self.is_established:
            self._check_on()
            await self._pause()
        if self._connection.failure is not None:
            raise self._connection._ending() or AssertionError

    async def _await_data(self) -> None:
        """Waits until a record is there; raises what ended the connection where none will come."""
        while not self._connection._records:
            self._check_on()
            await self._pause()
        self._check_open()

    def statistics(self) -> dict[str, int]:
        """Those of every connection; of a client's, what `Endpoint.statistics` tells of its socket, too.

        Of a server's it is `gso` and `gro` only: the socket is not the connection's alone.
        """
        port = self._port
        own: dict[str, int] = port._socket_statistics() if port.connected else port._ways()
        return super().statistics() | own

    # ---- data ----

    async def send(self, data: Buffer) -> int:
        """Sends `data`, a bytes-like object, as one record in one datagram; returns its length.

        Waits only while the socket's send buffer is full. That the peer has closed is told by `recv`. Raises
        `DatagramTooLarge` above `data_mtu`, ValueError for nothing, `DTLSZeroReturnError` after the end,
        ConnectionRefusedError where the last datagram found nobody listening (the connection goes on), and what ended
        the connection otherwise.
        """
        if self._port.is_others_turn(1):
            await self._port.give_way()
        while True:
            self._check_open()
            try:
                return self._connection.send(data)
            except errors.DTLSWantWriteError:
                await self._port.room()

    async def send_many(self, buffers: Iterable[Buffer]) -> int:
        """Sends each of some buffers as `send` does, in as few calls as the kernel allows; returns how many have gone.

        That is fewer than given where one fails, as one that is too large does. If none was sent, it raises what `send`
        does. A call that is cancelled may have sent some.
        """
        items = list(buffers)
        if self._port.is_others_turn(len(items)):
            await self._port.give_way()
        done = 0
        try:
            while done < len(items):
                if not done:
                    self._check_open()
                done += await self._send_some(items[done:] if done else items)
        except OSError:
            if not done:
                raise
        return done

    async def _send_some(self, items: list[Buffer]) -> int:
        """How many are gone: none where the socket's send buffer had no room, and has some now."""
        try:
            return self._connection.send_many(items)
        except errors.DTLSWantWriteError:
            await self._port.room()
            return 0

    async def recv(self) -> bytes:
        """Receives one record, whole; `b""` after the peer's close_notify, or its silence for `idle_timeout`.

        A call that is cancelled has taken nothing. Raises ConnectionRefusedError where our last datagram found nobody
        listening (the connection goes on), what ended the connection, and OSError (EBADF) after `close`.
        """
        try:
            await self._await_data()
        except errors.DTLSZeroReturnError:
            return b""
        return self._connection._records.pop(0)

    async def recv_many(self, max: int = 64) -> list[bytes]:  # noqa: A002 - what it is
        """Receives what is there, at least one record and `max` at the most; `[]` where `recv` gives `b""`."""
        most = checked_max(max)
        try:
            await self._await_data()
        except errors.DTLSZeroReturnError:
            return []
        received = self._connection._records
        taken = received[:most]
        del received[:most]
        return taken

    def __aiter__(self) -> Self:
        """Receive until the end."""
        return self

    async def __anext__(self) -> bytes:
        """The next record."""
        data = await self.recv()
        if not data:
            raise StopAsyncIteration
        return data

    def getsockname(self) -> Any:
        """The address of the UDP socket beneath, which a server's connections share."""
        return self._port.name

    # ---- the end ----

    def close(self) -> None:
        """Sends close_notify, once, without waiting for the peer. Calls that wait, and later ones, fail.

        A client's own UDP socket is closed, too.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if self._port.process == os.getpid():
                self._say_goodbye()
        finally:
            if self._port.connected:
                self._port.end()

    def _say_goodbye(self) -> None:
        try:
            self._connection.close()
        finally:
            self._moved()

    async def aclose(self) -> None:
        """`close`."""
        self.close()

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.aclose()

    def __del__(self) -> None:
        """Warn, as sockets do, and have it closed; this may happen in any thread."""
        if self._closed or self._connection.gone or self._port.ended or self._port.process != os.getpid():
            return
        words = f"unclosed {self!r}"
        self._closed = True
        self._port.left.append(self._connection)
        self._port.wake()
        warnings.warn(words, ResourceWarning, source=self, stacklevel=2)


def is_cancelled() -> bool:
    """Whether the task itself has been cancelled, and not what it waits for: asyncio has one word for both."""
    try:
        task: Any = asyncio.current_task()
    except RuntimeError:  # trio's
        return True
    return bool(getattr(task, "cancelling", lambda: 1)() > 0)  # before 3.11 nobody knows
