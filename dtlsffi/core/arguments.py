"""What arguments have to be: checked by name, before anything changes."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Any

from .._native import lib

TIMERS = (1.0, 2.0, 60.0)
"""The retransmission timer that RFC 6347 section 4.2.4.1 proposes, and C begins with."""


def c_string(text: str, what: str) -> bytes:
    """`text` for a C function; ValueError where it holds a NUL or what is not ASCII."""
    if "\0" in text:
        raise ValueError(f"{what} must not contain a NUL character")
    try:
        return text.encode("ascii")
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be ASCII: {text!r}") from None


def valid_mtu(mtu: int) -> int:
    """`mtu` if it is one; TypeError or ValueError otherwise."""
    if not isinstance(mtu, int) or isinstance(mtu, bool):
        raise TypeError(f"mtu is a number of bytes (int), not {type(mtu).__name__}")
    if not lib.DTLSFFI_MTU_MIN <= mtu <= lib.DTLSFFI_MTU_MAX:
        raise ValueError(f"mtu is {lib.DTLSFFI_MTU_MIN} to {lib.DTLSFFI_MTU_MAX} bytes of UDP payload, not {mtu}")
    return mtu


def valid_timers(timers: tuple[float, float, float]) -> tuple[float, float, float]:
    """`timers` if they make sense; ValueError otherwise."""
    first, factor, longest = (float(number) for number in timers)
    if not 0.001 <= first <= longest <= 3600:
        raise ValueError(
            f"retransmission begins with at least 0.001 s and ends with its longest duration, at most 3600 s, "
            f"not {first} and {longest}"
        )
    if not 1 <= factor <= 100:
        raise ValueError(f"retransmission's factor is 1 to 100, not {factor}")
    return first, factor, longest


def host(server_hostname: str) -> tuple[str, bool]:
    """A host name as ASCII, and whether it is an IP address; TypeError or ValueError where it is neither."""
    if not isinstance(server_hostname, str):
        raise TypeError(f"server_hostname is a str, not {type(server_hostname).__name__}")
    return known_host(server_hostname)


@lru_cache(maxsize=256)
def known_host(server_hostname: str) -> tuple[str, bool]:
    """`host`, of what has been looked at before: whoever connects often does so to a few servers."""
    try:
        return str(ipaddress.ip_address(server_hostname.partition("%")[0])), True
    except ValueError:
        pass
    if not server_hostname or server_hostname.startswith("."):
        raise ValueError("server_hostname cannot be an empty string or start with a leading dot.")
    if "\0" in server_hostname:
        raise ValueError("server_hostname must not contain a NUL character")
    try:
        name = server_hostname.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ValueError(f"server_hostname {server_hostname!r} is no host name: {error}") from None
    return c_string(name, "server_hostname").decode("ascii"), False


def writable(buffer: Any, call: str) -> memoryview:
    """The bytes of a buffer that `call` is to write to; TypeError where nobody can."""
    view = memoryview(buffer).cast("B")
    if view.readonly:
        raise TypeError(f"{call} needs a buffer that can be written to")
    return view


def checked_limits(
    max_pending: int, max_connections: int, max_queue: int, handshake_timeout: float, idle_timeout: float | None
) -> None:
    """Raises ValueError, by name, where an endpoint's limit makes no sense."""
    for name, count in (
        ("max_pending", max_pending), ("max_connections", max_connections), ("max_queue", max_queue),
    ):  # fmt: skip
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} is a number of at least 1, not {count!r}")
    if not handshake_timeout > 0:
        raise ValueError(f"handshake_timeout is a number of seconds above 0, not {handshake_timeout}")
    if idle_timeout is not None and not idle_timeout > 0:
        raise ValueError(f"idle_timeout is a number of seconds above 0, or None, not {idle_timeout}")
