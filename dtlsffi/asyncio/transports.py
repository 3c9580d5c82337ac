"""Transports: DTLS beneath an `asyncio.DatagramProtocol` that need not know of it."""

from __future__ import annotations

import asyncio
import logging
import socket
from asyncio.trsock import TransportSocket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from ..awaiting import AwaitedConnection
from ..core import errors
from ..core.batches import Buffer
from ..core.constants import PROTOCOL_DTLS_CLIENT, PROTOCOL_DTLS_SERVER
from ..core.context import DTLSContext
from ..core.endpoint_connection import EndpointConnection
from ..core.knowledge import Knowledge
from ..made import Made
from .connections import DTLSConnection, Port
from .sending import Sending

__all__ = ["DTLSDatagramProtocol", "DTLSTransport"]

logger = logging.getLogger("dtlsffi.asyncio")


class DTLSDatagramProtocol(asyncio.DatagramProtocol):
    """A datagram protocol that is also told of its peers. An ordinary `asyncio.DatagramProtocol` will do as well."""

    def peer_connected(self, addr: Any) -> None:
        """A peer has finished its handshake: `transport.get_connection(addr)` tells who it is.

        `get_connection(addr).close()` sends it away, and so does whatever is raised here.
        """

    def peer_lost(self, addr: Any, exc: BaseException | None) -> None:
        """The connection with a peer is closed (None) or has failed (`exc`); called before `connection_lost`."""


class TransportPort(Port):
    """A port whose connections go to a transport."""

    transport: DTLSTransport | None = None
    _ending = False
    identity: dict[str, Any]  # what a client's connections are made with

    def __init__(
        self, loop: Any, sock: socket.socket, context: DTLSContext | None, verify_fingerprint: Any = None, **more: Any
    ) -> None:
        if context is None or context.protocol is PROTOCOL_DTLS_CLIENT:  # nobody comes in
            context = verify_fingerprint = None
        super().__init__(loop, sock, context, verify_fingerprint=verify_fingerprint, **more)

    def make_door(self, connection: EndpointConnection) -> AwaitedConnection:
        """One that hands on to the transport."""
        return PeerConnection._create(self, connection)

    def tell(self) -> None:
        """Hands on what has arrived: all at once, unless there is news of a connection, which belongs in between.

        What the protocol sends meanwhile goes as a batch.
        """
        transport = self.transport
        if transport is None:
            super().tell()
            return
        transport._gathers = True
        try:
            if self._ready:
                super().tell()
            else:
                transport._hand_on(self.recv_many())
        finally:
            transport._gathers, transport._asking = False, None
            if transport._buffer:
                transport._flush()

    def claimed(self, door: AwaitedConnection) -> None:
        """Lets the transport know of a client."""
        if self.transport is not None:
            self.transport._connected(door)

    def end(self) -> None:
        """Closes every connection, and the socket."""
        inner, self._ending = self._ending, True
        try:
            super().end()
        finally:
            self._ending = inner
            if self.transport is not None and not inner:
                self.transport._port_ended(self.trouble)


class PeerConnection(DTLSConnection):
    """One peer of a transport. It receives on the transport's account, so nobody awaits it but for the handshake."""

    _backlog: deque[bytes] | None = None  # what is to be sent after the handshake
    _announced = False

    async def _await_data(self) -> None:
        raise RuntimeError("what comes for a transport goes to its protocol's datagram_received()")

    def _closed_error(self) -> Exception:
        """The transport has let go of it, and why."""
        connection = self._connection
        if connection.failure is None and not connection.peer_closed:
            return super()._closed_error()
        return self._ending() or AssertionError()  # type: ignore[return-value]

    def _moved(self) -> None:
        super()._moved()
        if self._port.transport is not None:
            self._port.transport._deliver(self)


class DTLSTransport(Made, Sending):
    """What a protocol sends by, as over plain UDP; from `create_dtls_endpoint`.

    `get_extra_info` knows asyncio's names (`"sockname"`, `"peername"`, `"socket"`) and, of a client's one peer, those
    of `ssl` (`"sslcontext"`, `"ssl_object"`, `"peercert"`, `"cipher"`, `"compression"`) and whatever a connection can
    be asked without arguments: `"version"`, `"selected_alpn_protocol"`, `"psk_identity"`, `"data_mtu"`. For one of many
    peers `get_connection(addr)` returns the same.
    """

    _made_by = "dtlsffi.asyncio.create_dtls_endpoint()"
    _port: TransportPort
    _protocol: Any
    _remote: PeerConnection | None
    _peers: dict[Any, PeerConnection]
    _lost = False  # connection_lost has been called
    _reason: BaseException | None = None  # what it will be told

    @classmethod
    def _create(cls, port: Any, protocol: Any, remote: PeerConnection | None) -> DTLSTransport:
        self = cls.__new__(cls)
        asyncio.DatagramTransport.__init__(self)
        self._port, self._protocol, self._remote = port, protocol, remote
        self._peers = {}
        self._begin_sending()
        port.transport = self
        if remote is not None:
            remote._announced = True
            self._peers[remote.getpeername()] = remote
        return self

    # ---- what comes in ----

    def _call(self, method: Callable[..., object], *arguments: Any) -> bool:
        """Calls the protocol; what it raises is not the transport's end, and not that of other datagrams."""
        try:
            method(*arguments)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as the loop does for its own callbacks
            self._complain(method, error)
            return False
        return True

    def _call_soon(self, method: Callable[..., object], *arguments: Any) -> None:
        with suppress(RuntimeError):  # there is no loop any more
            self._port.loop.call_soon_threadsafe(method, *arguments)

    def _complain(self, method: Callable[..., object], error: BaseException) -> None:
        self._port.loop.call_exception_handler(
            {"message": f"{method!r} failed", "exception": error, "transport": self, "protocol": self._protocol}
        )

    def _hand_on(self, arrived: list[tuple[EndpointConnection, bytes]]) -> None:
        """Hands on data of peers of which nothing else is to be told; goes on where the protocol fails."""
        left, more = iter(arrived), True
        while more:
            try:
                for connection, data in left:
                    if not (self._closing or connection.gone):
                        self._asking = connection
                        self._protocol.datagram_received(data, connection._address or connection.address)
                more = False
            except (SystemExit, KeyboardInterrupt):  # noqa: PERF203 - it is entered anew where it has failed only
                self._port._arrived[:0] = left  # for the next turn, if there is one
                self._port.wake()
                raise
            except BaseException as error:  # noqa: BLE001 - as in _call
                self._complain(self._protocol.datagram_received, error)

    def _catch_up(self) -> None:
        """What came while there was no transport yet."""
        if self._remote is not None:
            self._deliver(self._remote)
        self._port.look()

    def _connected(self, peer: Any) -> None:
        """A client has finished its handshake."""
        address = peer.getpeername()
        older = self._peers.get(address)
        if older is not None:
            self._deliver(older)  # its end comes first
        self._peers[address] = peer
        self._announce(peer)

    def _announce(self, peer: PeerConnection) -> None:
        if self._closing:
            peer.close()
            return
        peer._announced = True
        told = self._protocol
        if isinstance(told, DTLSDatagramProtocol) and not self._call(told.peer_connected, peer.getpeername()):
            peer.close()  # perhaps it was to be asked whether it may come in

    def _deliver(self, peer: PeerConnection) -> None:
        """Hands on what has arrived from a peer, and its end."""
        connection = peer._connection
        if peer._backlog and connection.is_established:
            backlog, peer._backlog = peer._backlog, None
            for data in backlog:
                self._send(connection, data)
            self._settle()
        news = not (peer._announced or self._closing) and connection.is_established and connection.failure is None
        if news and self._peers.get(peer.getpeername()) is peer:
            self._announce(peer)  # one that we have connected to
        received, address = connection._records, connection.address
        while received and not (self._closing or peer._closed):
            self._call(self._protocol.datagram_received, received.pop(0), address)
        if peer._refusal is not None and not self._closing:
            refusal, peer._refusal = peer._refusal, None
            self._call(self._protocol.error_received, refusal)
        if connection.peer_closed or connection.gone:
            self._lose(peer)

    def _lose(self, peer: PeerConnection) -> None:
        """A peer's connection is closed, or has failed."""
        address, failure = peer.getpeername(), peer._connection.failure
        if self._peers.get(address) is not peer:
            return
        del self._peers[address]
        if failure is not None and is_replaced(failure):
            self._bequeath(peer)
        if peer is self._remote:
            self._reason = failure
        later = self._closing
        if later:  # within close(), so a little later, as connection_lost, which flushing may bring
            self._call_soon(self._say_peer_lost, peer, failure)
        if self._gathers:
            self._flush()  # what the protocol has answered in this turn is older than the end
        if not later:
            self._say_peer_lost(peer, failure)
        peer.close()
        concerns = peer._backlog or (peer._announced and not self._closing)  # or connection_lost tells
        if failure is not None and concerns and not is_replaced(failure):
            self._call(self._protocol.error_received, failure)
        peer._backlog = None
        self._settle()

    def _say_peer_lost(self, peer: PeerConnection, reason: BaseException | None) -> None:
        if peer._announced and isinstance(self._protocol, DTLSDatagramProtocol):
            self._call(self._protocol.peer_lost, peer.getpeername(), reason)

    def _bequeath(self, peer: PeerConnection) -> None:
        """What waits for the handshake goes by the one that has been begun in its place."""
        newer = self._known(peer.getpeername())
        if newer is not None and newer is not peer and peer._backlog:
            newer._backlog = deque([*peer._backlog, *(newer._backlog or ())][: self._port.max_queue])
            peer._backlog = None

    # ---- what goes out ----

    def sendto(self, data: Buffer, addr: Any = None) -> None:
        """Sends `data`, a bytes-like object, as one record in one datagram to the peer at `addr`, or to the only one.

        An address does not identify a peer: another one may have it by now, behind the same NAT. To answer one peer and
        no other, pass as `addr` the connection that `get_connection` returned: once it is closed, nothing is sent.

        What goes wrong later is told by the protocol's `error_received`: `DatagramTooLarge` above `data_mtu`,
        `DTLSError` where there is no connection with `addr`, or too much waits for its handshake. Raises TypeError or
        ValueError for wrong arguments, ValueError for empty data.
        """
        asking = self._asking
        if (
            asking is not None and addr is asking._address and type(data) is bytes and data
            and not (self._closing or asking.gone)
        ):  # fmt: skip
            # An answer, which nearly all is that a server sends: nobody has to be found for it, and `_send` would do
            # this, with a fifth of the time for its frame.
            self._buffer.append((asking, data))
            self._size += len(data)
            if self._size > self._crowd:
                self._crowded()
            return
        if type(data) is not bytes:
            data = copied(data)
        if not data:
            raise ValueError("an empty datagram cannot be sent: DTLS has no empty record to carry it")
        if self._closing:
            logger.warning("%r is closed: a datagram of %d bytes is dropped", self, len(data))
            return
        peer = (self._remote if addr is None else self._peers.get(addr)) or self._find(addr)
        if peer is None:
            words = f"there is no connection with {addr}: the datagram is dropped"
            self._call(self._protocol.error_received, errors.make(errors.DTLSError, "NOT_CONNECTED", words))
        elif peer._announced or (peer.is_established and not peer._backlog):
            self._send(peer._connection, data)
        else:
            self._keep(peer, data)

    def _find(self, addr: Any) -> PeerConnection | None:
        """The peer at an address, or that a connection is with; a new one, whose handshake begins, where we may be."""
        if isinstance(addr, PeerConnection):
            return addr if self._peers.get(addr.getpeername()) is addr else None
        if self._remote is not None:
            if addr not in (None, self._remote.getpeername()) and self._known(addr) is not self._remote:
                raise ValueError(f"Invalid address: must be None or {self._remote.getpeername()}")
            return self._remote
        if addr is None:
            raise ValueError("addr is needed: there may be many peers")
        return self._known(addr) or self._begin(addr)

    def _known(self, addr: Any) -> PeerConnection | None:
        """The peer at an address, however that is written; None where there is none."""
        peer = self._peers.get(addr)
        if peer is None:
            connection = self._port.find(addr)
            peer = None if connection is None else connection._subject()
        return peer

    def _begin(self, addr: Any) -> PeerConnection | None:
        identity = self._port.identity
        if identity["context"].protocol is PROTOCOL_DTLS_SERVER or self._port.is_full:
            return None
        hostname = addr[0] if identity["server_hostname"] is None else identity["server_hostname"]
        peer: PeerConnection = self._port.start(addr, **identity | {"server_hostname": hostname})
        self._peers[peer.getpeername()] = peer
        return peer

    def _keep(self, peer: PeerConnection, data: bytes) -> None:
        """Keeps a datagram until the handshake is finished."""
        if peer._backlog is None:
            peer._backlog = deque()
        if len(peer._backlog) < self._port.max_queue:
            peer._backlog.append(data)
        else:
            words = f"{len(peer._backlog)} datagrams wait for the handshake with {peer.peer} already: this is dropped"
            self._call(self._protocol.error_received, errors.make(errors.DTLSError, "QUEUE_FULL", words))

    # ---- what is known ----

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the class says; `default` for what is not known."""
        if name == "sockname":
            return self._port.name
        if name == "socket":
            return TransportSocket(self._port.sock)
        if name == "sslcontext":
            return self._port.identity["context"]
        peer = self._remote
        if peer is None or name == "ssl_object":
            return peer or default
        if name == "peername":
            return peer.getpeername()
        return ask(peer, "getpeercert" if name == "peercert" else name, default)

    def get_connection(self, addr: Any = None) -> DTLSConnection | None:
        """What is known of the peer at `addr`, or of the only one; None where its handshake is not finished.

        Its `close` ends the connection with that peer alone.
        """
        peer = self._remote if addr is None else self._known(addr)
        return peer if peer is not None and peer._announced else None

    @property
    def connections(self) -> list[DTLSConnection]:
        """Those with all peers that have finished their handshakes."""
        return [peer for peer in self._peers.values() if peer._announced]

    def statistics(self) -> dict[str, int]:
        """`Endpoint.statistics`."""
        return self._port.statistics()

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol."""
        return cast(asyncio.BaseProtocol, self._protocol)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Replaces the protocol."""
        self._protocol = protocol

    # ---- the end ----

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closing

    def close(self) -> None:
        """Sends what waits, for a handshake or for room, then close_notify to every peer; `connection_lost` follows."""
        self._closing = True
        self._settle()

    def _settle(self) -> None:
        """Closes at last, if it is to be closed, nothing waits any more, and there is room for close_notify."""
        if not self._closing or self._buffer or any(peer._backlog for peer in self._peers.values()):
            return
        if self._port.ended or self._port.has_room():
            self._port.end()
        else:
            self._port.when_room(self._settle)

    def abort(self) -> None:
        """`close`, but what waits is dropped."""
        self._drop(len(self._buffer))
        self._closing = True
        self._port.end()

    def _port_ended(self, trouble: OSError | None) -> None:
        """The socket is closed: the protocol hears of it once."""
        self._closing = True
        if not self._lost:
            self._lost = True
            self._call_soon(self._say_lost, self._reason or trouble)

    def _say_lost(self, reason: BaseException | None) -> None:
        self._call(self._protocol.connection_lost, reason)

    def __repr__(self) -> str:
        """Name the addresses."""
        peer = "" if self._remote is None else f" with {self._remote.peer}"
        return f"<{type(self).__name__} {self._port.name}{peer}{', closing' if self._closing else ''}>"


def ask(peer: PeerConnection, name: str, default: Any) -> Any:
    """What is known of a peer; `default` for what does not exist, does not apply, or cannot be asked so simply."""
    if name.startswith("_") or not hasattr(Knowledge, name):
        return default
    try:
        found = getattr(peer, name)
        return found() if callable(found) else found
    except (TypeError, ValueError):
        return default


def copied(data: Buffer) -> bytes:
    """The bytes of any buffer, as they are now; TypeError for anything else."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
    return bytes(data)


def is_replaced(failure: BaseException) -> bool:
    """Whether a peer has but begun anew."""
    return isinstance(failure, errors.DTLSError) and failure.reason == "REPLACED"
