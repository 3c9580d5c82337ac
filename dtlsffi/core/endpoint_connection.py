"""One of the connections behind a port: a `Connection` whose datagrams its endpoint carries."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .._native import CData, ffi, lib
from . import address as addresses
from .batches import Buffer
from .connection import Connection
from .context import DTLSContext
from .errors import DTLSZeroReturnError, again, make

if TYPE_CHECKING:
    from .endpoint import Endpoint

__all__ = ["EndpointConnection"]

logger = logging.getLogger("dtlsffi.server")
NEVER = float("inf")
NONE: Any = ()
"""In the place of a list that nobody has needed yet: nothing of one peer's can get into it and be another's."""


class EndpointConnection(Connection):
    """A connection of an `Endpoint`: a `Connection` whose datagrams the endpoint carries.

    What has arrived is in `received`, oldest first. It is made by the endpoint only. `peer_closed` (bool) says that the
    peer's close_notify has come, or that it has been silent for too long: nothing more will come. `failure` is the
    exception that has ended it otherwise, or None; `gone` (bool) says that the endpoint has let go of it.
    """

    __slots__ = (
        "_address", "_begun", "_completed", "_cookie_made", "_deadline", "_due", "_endpoint", "_is_restart",
        "_key", "_random", "_records", "_slot", "failure", "gone", "peer_closed",
    )  # fmt: skip

    def __init__(self, endpoint: Any, packed: CData, key: bytes, context: DTLSContext, **arguments: Any) -> None:
        self._address: Any = None
        super().__init__(context, **arguments)
        self._records: list[bytes] = NONE  # that the endpoint has handed out
        self.failure: BaseException | None = None
        """What ended it, other than a close_notify."""
        self.peer_closed = False
        """Whether the peer's close_notify has come: nothing more will."""
        self.gone = False
        """Whether the endpoint has let go of it."""
        self._endpoint: Endpoint = endpoint
        self._key = key
        self._random = b""
        self._cookie_made = b""
        self._begun = 0.0
        self._is_restart = False  # another handshake was given up for this one
        self._deadline = NEVER
        self._due = NEVER
        self._slot = -1  # its number in the endpoint's table, while C finds it there
        lib.dtlsffi_conn_share(self._conn, endpoint._udp, not endpoint._has_socket, packed)
        self._completed = False

    @property
    def address(self) -> Any:
        """The peer's address, as a socket gives it."""
        if self._address is None:
            self._address = addresses.unpack(lib.dtlsffi_conn_address(self._conn), self._endpoint.v6_socket)
        return self._address

    def _who(self) -> str:
        return addresses.named(self.address, self._server_hostname)

    @property
    def received(self) -> list[bytes]:
        """Records that nobody has taken yet, oldest first. For the thread that moves the endpoint."""
        self._endpoint._hand_out()
        if self._records is NONE:
            self._records = []
        return self._records

    def data_received(self) -> list[bytes]:
        """Returns `received`, each record once, and what has come by the connection's own `receive_datagram`."""
        taken, self._records = self.received, NONE
        return taken + Connection.data_received(self)

    def _hand_over(self, record: bytes) -> bool:
        """Whether there was room for one more."""
        if self._records is NONE:
            self._records = []
        if len(self._records) >= self._endpoint.max_queue:
            return False
        self._records.append(record)
        return True

    def _complete(self) -> None:
        """Lets go of what is for a handshake only: most peers say little, and there may be very many of them."""
        self._completed = True
        self._due = self._deadline = NEVER
        self._begun = 0.0
        self._random = self._cookie_made = b""

    def _collect(self) -> None:
        """The same, but what the context's store raises over a session of somebody else's is no end of this one."""
        if self._origin._session_removed is not None:
            try:
                self._origin._tell_removed()
            except Exception:
                logger.exception("a callback has failed over a session that has ended")
        super()._collect()

    def _ending(self) -> BaseException | None:
        """What has ended it, if anything has, as an exception for the next call to raise."""
        if self.failure is not None:
            return again(self.failure)
        if self.peer_closed:
            closed = lib.dtlsffi_conn_closed(self._conn)
            words = "the peer has closed the connection" if closed else "the peer has been silent for idle_timeout"
            return make(DTLSZeroReturnError, "ZERO_RETURN", words)
        if self.gone:
            return make(DTLSZeroReturnError, "PROTOCOL_IS_SHUTDOWN", "the connection is closed")
        return None

    def follow_path(self) -> None:
        """Goes by what the kernel knows of the path now, where the port is connected and no `mtu` is set."""
        lib.dtlsffi_conn_follow_path(self._conn)

    def _is_of(self, random: bytes, cookie_made: bytes) -> bool:
        """Whether it has begun with this hello: one with a later cookie is another, of a client that goes by that."""
        if self._completed:
            return self._client_random() == random
        return self._random == random and (self.is_established or cookie_made <= self._cookie_made)

    def _client_random(self) -> bytes:
        """The 32 bytes that tell one ClientHello from another."""
        buffer = ffi.new("unsigned char[32]")
        with self._locked() as ssl_object:
            return ffi.buffer(buffer, lib.SSL_get_client_random(ssl_object, buffer, len(buffer)))[:]

    def _set_local(self, local: CData | None) -> None:
        """Has datagrams leave from the address that the peer has sent to."""
        if local is not None and local.family:
            lib.dtlsffi_conn_local(self._conn)[0] = local[0]

    def send(self, data: Buffer, /) -> int:
        """`Connection.send`, and on its way at once.

        Raises `DTLSWantWriteError` where the socket's send buffer is full (nothing was sent), `DatagramTooLarge` where
        the kernel finds the datagram too large, another OSError, DTLSZeroReturnError where the endpoint has let go of
        the connection, or what ended it.
        """
        if self.gone or self.failure is not None:
            raise self._ending() or AssertionError
        length = Connection.send(self, data)
        if not self._endpoint._has_socket:
            self._endpoint._transmit(self)
        return length

    def send_many(self, buffers: Iterable[Buffer]) -> int:
        """Sends each of some buffers as one record in one datagram, in as few calls as the kernel allows.

        Returns how many are gone: fewer than there are when the socket's send buffer is full, or the next is too large.
        Where nothing is, it raises what `send` does.
        """
        if self.gone or self.failure is not None:
            raise self._ending() or AssertionError
        if not self._endpoint._has_socket:
            count = super().send_many(buffers)
            self._endpoint._transmit(self)
            return count
        return self._send_batch(buffers, self._endpoint._udp_at)

    def update_keys(self, *, request_peer: bool = False) -> None:
        """`Connection.update_keys`, and what is to be said of it is on its way at once."""
        try:
            super().update_keys(request_peer=request_peer)
        finally:
            self._endpoint._transmit(self)

    def close(self) -> None:
        """Sends close_notify, once, and has the endpoint let go of it; nobody is waited for.

        For the thread that moves the endpoint; what other threads may call is `send` and `send_many`.
        """
        try:
            super().close()
        finally:
            self._endpoint._transmit(self)
            self._endpoint._forget(self)
