"""What every blocking connection does in the same way: the calls of `ssl.SSLSocket` that come down to send and recv."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .core.batches import Buffer
from .waiting import Deadline, Patience


class Manners(Patience):
    """Methods that are made of `send`, `recv` and `recv_into`."""

    # ---- what each kind does in its own way ----

    getpeername: Callable[[], Any]

    def send(self, data: Any, flags: int = 0) -> int:
        """Sends one record."""
        raise NotImplementedError

    def recv(self, bufsize: int | None = None, flags: int = 0) -> bytes:
        """Receives one record."""
        raise NotImplementedError

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Receives one record into a buffer."""
        raise NotImplementedError

    def _ready_within(self, deadline: Deadline, flags: int) -> None:
        """What every call that moves data begins with."""
        raise NotImplementedError

    def _send_some(self, buffers: list[Buffer], deadline: Deadline) -> int:
        """Sends some of the buffers, at least one; waits until there is room for it."""
        raise NotImplementedError

    # ---- what follows ----

    def send_many(self, buffers: Iterable[Buffer]) -> int:
        """Sends each of some buffers as `send` does, in as few calls as the kernel allows; returns how many are gone.

        That is fewer than there are where the timeout is over first, or without blocking where the socket's send buffer
        is full, or where one is too large. Where none is gone, it raises what `send` does.
        """
        deadline = Deadline(self._timeout)
        self._ready_within(deadline, 0)
        waiting = list(buffers)
        gone = 0
        try:
            while gone < len(waiting):
                gone += self._send_some(waiting[gone:] if gone else waiting, deadline)
        except OSError:
            if not gone:
                raise
        return gone

    def sendall(self, data: Any, flags: int = 0) -> None:
        """`send`: a datagram goes whole or not at all."""
        self.send(data, flags)

    def sendto(self, data: Any, *flags_and_address: Any) -> int:
        """`send`, for code that names the address each time: ValueError for any but the peer's."""
        if not flags_and_address:
            raise TypeError("sendto() takes the data and an address")
        *flags, address = flags_and_address
        peer = self.getpeername()
        if address not in (peer, peer[:2]):
            raise ValueError(f"this {type(self).__name__} speaks with {peer} only, not with {address}")
        return self.send(data, *flags)

    def write(self, data: Buffer) -> int:
        """`send`."""
        return self.send(data)

    def read(self, len: int | None = None, buffer: Any = None) -> bytes | int:  # noqa: A002 - ssl's name
        """`recv(len)`, or `recv_into(buffer, len)` where a buffer is given."""
        return self.recv(len) if buffer is None else self.recv_into(buffer, len)

    def recvfrom(self, bufsize: int | None = None, flags: int = 0) -> tuple[bytes, Any]:
        """`recv`, and the peer's address."""
        return self.recv(bufsize, flags), self.getpeername()

    def recvfrom_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> tuple[int, Any]:
        """`recv_into`, and the peer's address."""
        return self.recv_into(buffer, nbytes, flags), self.getpeername()
