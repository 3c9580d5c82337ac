"""UDP sockets on an address: of our own, for many peers or for one of many attempts, or somebody's that is bound."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from .core.arguments import check_is, checked_port
from .ordering import routes

T = TypeVar("T")
LookUp = Callable[..., Awaitable[list[Any]]]
"""An event loop's `getaddrinfo`."""


def family_of(host: str | None, family: int | None, dualstack_ipv6: bool) -> int:
    """The address family to look a host up in; ValueError where `dualstack_ipv6` cannot be had."""
    if family is None:
        family = socket.AF_INET6 if dualstack_ipv6 else socket.AF_UNSPEC if host else socket.AF_INET
    if dualstack_ipv6 and (family != socket.AF_INET6 or not socket.has_dualstack_ipv6()):
        raise ValueError("dualstack_ipv6 needs AF_INET6, and a system that has it")
    return family


def check_place(place: object, sock: object, *of_its_own: object) -> None:
    """Raises ValueError unless there is either an address, or a socket for which nothing is to be chosen any more."""
    if (sock is None) == (place is None):
        raise ValueError("either an address or a bound socket (sock=) is needed, and not both")
    if sock is not None and any(of_its_own):
        raise ValueError("sock is bound already: it excludes host, family, reuse_port and dualstack_ipv6")


def service(port: Any, least: int = 0) -> Any:
    """A port as `getaddrinfo` is to get it, which takes numbers modulo 65536; names of services are left to it."""
    if port is None or (isinstance(port, (str, bytes)) and port.isascii() and port.isdigit()):
        checked_port(int(port or 0), least)
        return port
    return port if isinstance(port, (str, bytes)) else checked_port(port, least)


def host_and_port(address: Any, name: str, least: int = 0) -> tuple[Any, Any]:
    """The parts of an address, as `getaddrinfo` is to get them; TypeError, by name, where it has not these two."""
    if isinstance(address, (tuple, list)) and len(address) == 2:
        return address[0], service(address[1], least)
    raise TypeError(f"{name} is a host and a port, not {address!r}")


NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
"""What this host says of an address that is not its own."""


def scoped(address: Any) -> Any:
    """An address as `bind` and `connect` take it: what stands behind a % they forget where there are two parts."""
    host, port, *more = address
    plain, _, scope = host.partition("%")
    if more or not scope or ":" not in plain:
        return address
    return plain, port, 0, int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)


def bound(found: Iterable[Any], *, reuse_port: bool = False, dualstack_ipv6: bool = False) -> socket.socket:
    """A UDP socket on the first address that this host has of those that `getaddrinfo` has found.

    Raises OSError, which names the address, where it is taken, or none can be had.
    """
    place, *others = found
    try:
        return bound_to(place, reuse_port=reuse_port, dualstack_ipv6=dualstack_ipv6)
    except OSError as error:
        if not others or error.errno not in NOT_HERE:
            raise
    return bound(others, reuse_port=reuse_port, dualstack_ipv6=dualstack_ipv6)


def bound_to(place: Any, *, reuse_port: bool, dualstack_ipv6: bool) -> socket.socket:
    """One on a certain address; OSError where it cannot be had."""
    family, kind, _, _, address = place
    sock = socket.socket(family, kind)
    try:
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dualstack_ipv6)
        sock.bind(scoped(address))
    except OSError as error:
        sock.close()
        words = f"{error.strerror} (while attempting to bind on address {address!r})"
        raise OSError(error.errno, words) from None
    except BaseException:
        sock.close()
        raise
    return sock


def open_client(place: Any, local_place: Any, *, reuse_port: bool = False) -> socket.socket:
    """A UDP socket that is connected to an address which `getaddrinfo` has found, from another where that is given."""
    family, kind, protocol, _, address = place
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if local_place is not None:
            sock.bind(scoped(local_place))
        sock.connect(scoped(address))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"{error.strerror} (while attempting to connect to {address!r})") from None
    except BaseException:
        sock.close()
        raise
    return sock


def made_of(sock: socket.socket, make: Callable[[socket.socket], T]) -> T:
    """What is made of a socket of ours, which is closed where that fails."""
    try:
        return make(sock)
    except BaseException:
        sock.close()
        raise


class Binding(NamedTuple):
    """Where an event loop's port is to be: a host and a port, or a UDP socket that is bound."""

    host: str | None
    port: int | None
    sock: socket.socket | None
    family: int | None = None
    reuse_port: bool = False
    dualstack_ipv6: bool = False

    async def open(self, look_up: LookUp, make: Callable[[socket.socket], T]) -> T:
        """What is made of its socket; what goes wrong is raised before anything is used up."""
        check_place(self.port, self.sock, self.host, self.family, self.reuse_port, self.dualstack_ipv6)
        if self.sock is not None:
            check_bound(self.sock)
            return make(self.sock)
        family = family_of(self.host, self.family, self.dualstack_ipv6)
        found = await look_up(
            self.host or None, service(self.port), family=family, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )
        return made_of(bound(found, reuse_port=self.reuse_port, dualstack_ipv6=self.dualstack_ipv6), make)


async def ways(look_up: LookUp, address: Any, local_addr: Any, family: int) -> list[tuple[Any, Any]]:
    """`routes` to a host, from an address where one is given; ValueError, TypeError or OSError where there are none."""
    found = await look_up(*host_and_port(address, "remote_addr", 1), family=family, type=socket.SOCK_DGRAM)
    local = None
    if local_addr is not None:
        source = host_and_port(local_addr, "local_addr")
        local = await look_up(*source, family=family, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
    return routes(found, local)


def check_open(sock: socket.socket) -> None:
    """Raises TypeError or OSError for what is no open socket."""
    check_is(sock, socket.socket, "sock is a socket.socket")
    if sock.fileno() < 0:
        raise OSError(errno.EBADF, "the socket is closed")


def check_udp(sock: socket.socket) -> None:
    """Raises TypeError, ValueError or OSError for what is no open UDP socket."""
    check_open(sock)
    if sock.type != socket.SOCK_DGRAM or sock.family not in (socket.AF_INET, socket.AF_INET6):
        raise ValueError(f"DTLS needs a UDP socket (SOCK_DGRAM), not {sock.family.name}, {sock.type.name}")


def check_port(sock: socket.socket) -> None:
    """Raises ValueError for a UDP socket that nobody can send to."""
    if sock.getsockname()[1] == 0:
        raise ValueError("the UDP socket is not bound: call its bind() first, or give an address instead")


def check_bound(sock: socket.socket) -> None:
    """The same for a socket that cannot listen."""
    check_udp(sock)
    check_port(sock)
    with suppress(OSError):
        raise ValueError(f"the UDP socket is connected to {sock.getpeername()}: a listener speaks with anybody")
