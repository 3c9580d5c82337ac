"""`loop.create_datagram_endpoint` with DTLS."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..binding import Binding, check_port, check_udp
from ..core.association import check_context, check_resumes, check_side, identity_of
from ..core.constants import PROTOCOL_DTLS_SERVER
from ..core.context import DTLSContext
from ..core.limits import Limits
from ..core.pins import Fingerprints, Keys
from ..core.session import DTLSSession
from .connections import reach
from .transports import DTLSTransport, PeerConnection, TransportPort

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["create_dtls_endpoint"]

P = TypeVar("P", bound=asyncio.BaseProtocol)


async def create_dtls_endpoint(
    protocol_factory: Callable[[], P],
    local_addr: tuple[str, int] | None = None,
    remote_addr: tuple[str, int] | None = None,
    *,
    context: DTLSContext,
    server_hostname: str | None = None,
    session: DTLSSession | None = None,
    verify_fingerprint: Fingerprints | None = None,
    verify_public_key: Keys | None = None,
    family: int = 0,
    reuse_port: bool = False,
    dualstack_ipv6: bool = False,
    sock: socket.socket | None = None,
    **limits: Unpack[Limits],
) -> tuple[DTLSTransport, P]:
    """`loop.create_datagram_endpoint` with DTLS: the transport and the protocol, which may be one for plain UDP.

    With `remote_addr` it is a client of that server, and returns when the handshake is finished; `server_hostname` is
    the host unless given, the other arguments are those of `connect`. Without it, a server's context takes in any
    number of clients, and `sendto` needs their address; with a client's context, the first `sendto` to an address
    begins a handshake there, and what is sent meanwhile follows it. A context for both sides does both. Every peer has
    to show what `verify_fingerprint` or `verify_public_key` name. `sock` is a UDP socket in place of the addresses, and
    used up; one that is connected has its peer for `remote_addr`.

    `limits` are `Endpoint`'s, by name. Raises what `connect` raises, OSError where an address cannot be had, ValueError
    or TypeError for arguments that make no sense.
    """
    check_context(context)
    check_places(local_addr, remote_addr, sock, family or reuse_port, dualstack_ipv6)
    identity = identity_of(None, context, server_hostname, session, verify_fingerprint, verify_public_key)
    peer: PeerConnection | None = None
    port: Any
    if sock is not None:
        port, peer = await take_over(sock, identity, limits)
    elif remote_addr is not None:
        identity["server_hostname"] = remote_addr[0] if server_hostname is None else server_hostname
        peer = await reach(TransportPort, remote_addr, local_addr, family, identity, limits, reuse_port=reuse_port)
        port = peer._port
    else:
        check_serving(identity)
        host, number = local_addr or (None, None)
        bind = Binding(host, number, None, family or None, reuse_port, dualstack_ipv6)
        loop = asyncio.get_running_loop()
        pins = identity["verify_fingerprint"]
        port_of = partial(TransportPort, loop, context=context, verify_fingerprint=pins, **limits)
        port = await bind.open(loop.getaddrinfo, port_of)
    port.identity = identity
    try:
        protocol = protocol_factory()
        transport = DTLSTransport._create(port, protocol, peer)
        protocol.connection_made(transport)
        if peer is not None:
            transport._announce(peer)
    except BaseException:
        port.end()
        raise
    port.loop.call_soon(transport._catch_up)
    return transport, protocol


def check_places(local_addr: Any, remote_addr: Any, sock: Any, of_its_own: object, dualstack_ipv6: bool) -> None:
    """Raises ValueError where it is not clear where a port is to be."""
    if sock is not None:
        check_udp(sock)
        if local_addr is not None or remote_addr is not None or of_its_own or dualstack_ipv6:
            raise ValueError("sock excludes local_addr, remote_addr, family, reuse_port and dualstack_ipv6")
    elif remote_addr is not None:
        if dualstack_ipv6:
            raise ValueError("dualstack_ipv6 is for a port of many peers, not with remote_addr")
    elif local_addr is None:
        raise ValueError("local_addr, remote_addr or sock is needed")


async def take_over(
    sock: socket.socket, identity: dict[str, Any], limits: Limits
) -> tuple[TransportPort, PeerConnection | None]:
    """A port on somebody's socket; and its peer, where the socket is connected and we may be the client."""
    loop = asyncio.get_running_loop()
    context: DTLSContext = identity["context"]
    address = None
    if context.protocol is PROTOCOL_DTLS_SERVER:
        check_port(sock)
    else:
        with suppress(OSError):
            address = sock.getpeername()
    if address is None:
        check_serving(identity)
        return TransportPort(loop, sock, context, verify_fingerprint=identity["verify_fingerprint"], **limits), None
    if identity["server_hostname"] is None:
        identity["server_hostname"] = address[0]
    check_side(context, False, identity["server_hostname"], None)
    port = TransportPort(loop, sock, None, connected=True, **limits)
    peer: PeerConnection = await port.reach(address, **identity)
    return port, peer


def check_serving(identity: dict[str, Any]) -> None:
    """Raises ValueError where a port that is for clients only is given what a client has."""
    if identity["context"].protocol is PROTOCOL_DTLS_SERVER:
        check_side(identity["context"], True, identity["server_hostname"], None)
        check_resumes(identity["session"], identity["context"], True)
