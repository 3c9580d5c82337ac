"""Addresses of peers, in the one form in which an endpoint knows them, whatever the socket calls them."""

from __future__ import annotations

import ipaddress
from typing import Any

from .._native import CData, ffi
from .arguments import checked_port

SIZE: int = ffi.sizeof("dtlsffi_address")


def pack(address: Any) -> CData:
    """A socket's address, `(host, port)` or IPv6's with flow and scope, as C has it.

    Raises TypeError, ValueError or OverflowError (its port) for what is no address of UDP; names are not looked up.
    """
    try:
        host, port, *more = tuple(address) if isinstance(address, (tuple, list)) else (None, None)
        ip = ipaddress.ip_address(host.partition("%")[0])
    except (TypeError, AttributeError):
        raise TypeError(f"a peer's address is (host, port), not {address!r}") from None
    packed = ffi.new("dtlsffi_address *")
    packed.port = checked_port(port).to_bytes(2, "big")
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    packed.family = ip.version
    ffi.memmove(packed.ip, ip.packed, len(ip.packed))
    if ip.version == 6 and ip.is_link_local:
        packed.scope = scope_of(host, more)
    return packed


def scope_of(host: str, more: list[int]) -> int:
    """The interface of a link-local address, by its number."""
    name = host.partition("%")[2]
    if len(more) > 1 and more[1]:
        return more[1]
    if name and not name.isdecimal():
        raise ValueError(f"the interface of {host} is to be given by its number: (host, port, 0, number)")
    return int(name or 0)


def key(packed: CData) -> bytes:
    """What tells peers apart."""
    return ffi.buffer(packed, SIZE)[:]


def unpack(packed: CData, v6_socket: bool) -> Any:
    """The address as a socket would give it: with IPv4 mapped into IPv6 where the socket speaks that."""
    high, low = packed.port
    port = high << 8 | low
    if packed.family == 4:
        host = "{}.{}.{}.{}".format(*packed.ip[0:4])
        return (f"::ffff:{host}", port, 0, 0) if v6_socket else (host, port)
    return str(ipaddress.IPv6Address(bytes(packed.ip))), port, 0, packed.scope


def text(address: Any) -> str:
    """An address for a message."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def named(address: Any, name: str | None) -> str:
    """The same with the host name that it goes by, if that is another."""
    where = text(address)
    return where if name is None or name == address[0] else f"{name} ({where})"
