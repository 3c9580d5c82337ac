"""What a transport has yet to send: records that wait for others to go with, or for room in the socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..core import errors
from ..core.endpoint_connection import EndpointConnection

BATCH = 256  # datagrams that are sent in one go
GATHERED = 32 * 1024  # bytes that are sent without waiting for more
HIGH_WATER = 64 * 1024  # bytes that wait for the socket before the protocol is asked to pause: asyncio's own


class Sending(asyncio.DatagramTransport):
    """The part of a transport that data goes out by."""

    _port: Any
    _protocol: Any
    _buffer: list[tuple[EndpointConnection, bytes]]
    _size: int  # its bytes
    _gathers: bool  # what is sent waits for more, for a moment
    _asking: EndpointConnection | None  # whose datagram the protocol is being given meanwhile
    _crowd: int  # bytes from which on something may have to be done
    _closing: bool  # nothing more is to be sent than what waits
    _low, _high = HIGH_WATER // 4, HIGH_WATER
    _paused = False

    # ---- what the rest does ----

    _call: Callable[..., bool]
    _settle: Callable[[], None]

    def _begin_sending(self) -> None:
        """Nothing waits yet. Python finds what an object has itself sooner than what its class has for it."""
        self._buffer, self._size, self._crowd = [], 0, GATHERED
        self._gathers, self._asking, self._closing = False, None, False

    # ---- what waits ----

    def _send(self, connection: EndpointConnection, data: bytes) -> None:
        """Sends a datagram: at once, or behind those that wait; while the port is being turned, it waits for more."""
        if not (self._gathers or self._buffer) and self._send_now(connection, data):
            return
        self._buffer.append((connection, data))
        self._size += len(data)
        if self._size > self._crowd:
            self._crowded()

    def _crowded(self) -> None:
        """Much waits."""
        if self._gathers:
            self._flush()
        self._pause()

    def _send_now(self, connection: EndpointConnection, data: bytes) -> bool:
        """Whether it is dealt with."""
        try:
            connection.send(data)
        except errors.DTLSWantWriteError:
            self._port.when_room(self._flush)
            return False
        except OSError as error:
            self._call(self._protocol.error_received, error)
        return True

    def _flush(self) -> None:
        """Sends what waits, by the batch, until it is gone or the socket has no room."""
        buffer = self._buffer
        while buffer and not self._port.ended:
            gone, failure = 1, None
            try:
                if len(buffer) > 1:
                    gone = self._port.send_many(buffer[:BATCH])
                else:
                    connection, data = buffer[0]
                    connection.send(data)
            except errors.DTLSWantWriteError:
                self._port.when_room(self._flush)
                return
            except OSError as error:
                failure = error  # it is the first one's
            except BaseException:  # a callback's: all are on their way, and none is to go twice
                self._drop(min(len(buffer), BATCH))
                raise
            self._drop(gone)
            if failure is not None:
                self._call(self._protocol.error_received, failure)
            if self._paused:
                self._resume()
        self._settle()

    def _drop(self, gone: int) -> None:
        """So many do not wait any more."""
        if gone == len(self._buffer):
            self._size = 0
        else:
            self._size -= sum(len(data) for _, data in self._buffer[:gone])
        del self._buffer[:gone]

    # ---- how much may wait ----

    def _pause(self) -> None:
        if not self._paused and self._size > self._high:
            self._paused = True
            self._call(self._protocol.pause_writing)

    def _resume(self) -> None:
        if self._size <= self._low:
            self._paused = False
            self._call(self._protocol.resume_writing)

    def get_write_buffer_size(self) -> int:
        """Bytes of data that wait for room in the socket."""
        return self._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The marks at which the protocol resumes and pauses, in bytes."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Sets the marks, in bytes: asyncio's rules. ValueError unless high >= low >= 0."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._low, self._high, self._crowd = low, high, min(high, GATHERED)
        self._pause()
