"""What every blocking connection does in the same way: the calls of `ssl.SSLSocket` that come down to send and recv."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable, Iterable
from operator import index
from typing import Any, NoReturn, overload

from .core.arguments import writable
from .core.batches import Buffer, WritableBuffer
from .core.connection import RECORD_MAX, Connection
from .waiting import Deadline, Patience


class Manners(Patience):
    """Methods that are made of `send`, `recv` and `recv_into`."""

    # ---- what each kind does in its own way ----

    _connection: Connection
    getpeername: Callable[[], Any]
    _check_open: Callable[[], None]
    _say_goodbye: Callable[[], None]
    _end_receiving: Callable[[], None]

    send: Callable[..., int]
    recv: Callable[..., bytes]
    recv_into: Callable[..., int]
    _ready_within: Callable[[Deadline, int], None]  # what every call that moves data begins with
    _send_some: Callable[[list[Buffer], Deadline], int]  # at least one: it waits until there is room for it

    # ---- what follows ----

    def _check_call(self, flags: int) -> None:
        """What is to be said of a call that neither waits nor moves anything."""
        self._check_flags(flags)
        self._check_open()

    def _check_flags(self, flags: int) -> None:
        """No call takes any."""
        if flags:
            raise ValueError(f"non-zero flags not allowed in calls on {type(self).__name__}")

    def send_many(self, buffers: Iterable[Buffer]) -> int:
        """Sends each of some buffers as `send` does, in as few calls as the kernel allows; returns how many have gone.

        That is fewer than given where the timeout expires first, where the socket's send buffer is full (non-blocking),
        or where one is too large. If none was sent, it raises what `send` does.
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

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """Sends close_notify (unless `how` is SHUT_RD), and ends receiving (unless it is SHUT_WR).

        Whoever waits in `recv` gets `b""`.
        """
        if index(how) not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise OSError(errno.EINVAL, f"how is SHUT_RD, SHUT_WR or SHUT_RDWR, not {how}")
        self._check_open()
        if how != socket.SHUT_RD:
            self._say_goodbye()
        if how != socket.SHUT_WR:
            self._end_receiving()

    def write(self, data: Buffer) -> int:
        """`send`."""
        return self.send(data)

    @overload
    def read(self, len: int | None = None, buffer: None = None) -> bytes: ...

    @overload
    def read(self, len: int | None, buffer: WritableBuffer) -> int: ...

    @overload
    def read(self, len: int | None = None, *, buffer: WritableBuffer) -> int: ...

    def read(self, len: int | None = None, buffer: Any = None) -> bytes | int:  # noqa: A002
        """`recv(len)`, or `recv_into(buffer, len)` where a buffer is given, of all of it where `len` is negative."""
        if buffer is None:
            return self.recv(len)
        return self.recv_into(buffer, None if len is not None and len < 0 else len)

    def recvfrom(self, bufsize: int | None = None, flags: int = 0) -> tuple[bytes, Any]:
        """`recv`, and the peer's address."""
        return self.recv(bufsize, flags), self.getpeername()

    def recvfrom_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> tuple[int, Any]:
        """`recv_into`, and the peer's address."""
        return self.recv_into(buffer, nbytes, flags), self.getpeername()

    # ---- what does not fit ----

    def dup(self) -> NoReturn:
        """Raises NotImplementedError: two sockets cannot share one DTLS state."""
        raise NotImplementedError(f"Can't dup() {type(self).__name__} instances")

    def recvmsg(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Raises NotImplementedError, as in ssl."""
        raise NotImplementedError(f"recvmsg not allowed on instances of {type(self).__name__}")

    def recvmsg_into(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Raises NotImplementedError, as in ssl."""
        raise NotImplementedError(f"recvmsg_into not allowed on instances of {type(self).__name__}")

    def sendmsg(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Raises NotImplementedError, as in ssl."""
        raise NotImplementedError(f"sendmsg not allowed on instances of {type(self).__name__}")

    def verify_client_post_handshake(self) -> NoReturn:
        """Raises NotImplementedError: there is no such thing before DTLS 1.3."""
        raise NotImplementedError("Post-handshake authentication is not implemented for DTLS")

    def sendmsg_afalg(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Raises NotImplementedError, as in ssl."""
        raise NotImplementedError(f"sendmsg_afalg not allowed on instances of {type(self).__name__}")

    def sendfile(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Raises NotImplementedError: a file is no datagram."""
        raise NotImplementedError(f"sendfile not allowed on instances of {type(self).__name__}")

    def makefile(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Raises NotImplementedError: datagrams are no stream."""
        raise NotImplementedError(f"makefile not allowed on instances of {type(self).__name__}")


def room_in(buffer: Any, nbytes: int | None) -> memoryview:
    """What a `recv_into` may fill of a buffer; TypeError or ValueError where nobody can, or `nbytes` is none."""
    view, most = writable(buffer, "recv_into"), 0 if nbytes is None else index(nbytes)
    if most < 0:
        raise ValueError("negative buffersize in recv_into")
    return view[:most] if most else view


def size_of(bufsize: int | None) -> int:
    """How many bytes a `recv` may return; TypeError, ValueError or OverflowError for what is no number of them."""
    size = RECORD_MAX if bufsize is None else index(bufsize)
    if size < 0:
        raise ValueError("negative buffersize in recv")
    if size > sys.maxsize:
        raise OverflowError(f"bufsize is {sys.maxsize} bytes at most, not {size}")
    return size
