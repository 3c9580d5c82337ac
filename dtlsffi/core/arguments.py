"""What arguments have to be: checked by name, before anything changes."""

from __future__ import annotations

import inspect
import ipaddress
import math
import operator
from collections.abc import Callable
from functools import lru_cache
from types import NoneType
from typing import Any, SupportsFloat, SupportsIndex

from .._native import lib

TIMERS = (1.0, 2.0, 60.0)
"""The retransmission timer that RFC 6347 section 4.2.4.1 proposes, and C begins with."""
NUMBERS = (SupportsFloat, SupportsIndex)
"""What float() takes, but for text."""
PORT_MAX = 0xFFFF
HOST_MAX = 255
"""Bytes of a host name: RFC 1034 section 3.1."""


def c_string(text: str, what: str) -> bytes:
    """`text` for a C function; ValueError where it holds a NUL or what is not ASCII."""
    if "\0" in text:
        raise ValueError(f"{what} must not contain a NUL character")
    try:
        return text.encode("ascii")
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be ASCII: {text!r}") from None


def check_is(value: object, kind: Any, rule: str) -> None:
    """Raises TypeError, which tells the rule, for what is not of a kind, or not of one of several."""
    if not isinstance(value, kind):
        raise TypeError(f"{rule}, not {type(value).__name__}")


def exactly(data: Any, what: str) -> bytes:
    """The bytes that a buffer holds, whatever its class says of them; TypeError for what is none."""
    if type(data) is bytes:
        return data
    check_is(data, (bytes, bytearray, memoryview), f"{what} is bytes")
    return memoryview(data).tobytes()


def unsigned(value: Any, what: str) -> int:
    """`value` as 64 bits for C; TypeError, ValueError or (as in ssl) OverflowError where it is none."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{what} is an int, not {type(value).__name__}") from None
    if number < 0:
        raise ValueError(f"{what} must not be negative: {number}")
    if number >= 1 << 64:
        raise OverflowError(f"{what} has 64 bits: {number} has more")
    return number


def check_callback(callback: object, what: str = "callback") -> None:
    """Raises TypeError for what is neither None nor callable."""
    check_is(callback, (Callable, NoneType), f"{what} is a callable or None")
    if inspect.iscoroutinefunction(callback):
        raise TypeError(f"{what} cannot be a coroutine function: OpenSSL waits for its answer, and for nothing else")


def checked_time(now: float) -> float:
    """A time by an endpoint owner's clock, in seconds; TypeError or ValueError where it is none."""
    if type(now) is not float:  # a look for what would do takes longer than all the rest for a datagram
        check_is(now, NUMBERS, "now is a number of seconds")
        now = float(now)
    if not math.isfinite(now):
        raise ValueError(f"now is a number of seconds, not {now}")
    return now


def checked_port(port: Any, least: int = 0) -> int:
    """A UDP port; TypeError, ValueError (nobody can be at port 0) or, as in socket, OverflowError where it is none."""
    if isinstance(port, bool):
        raise TypeError("a port is an int, not bool")
    try:
        number = operator.index(port)
    except TypeError:
        raise TypeError(f"a port is an int, not {type(port).__name__}") from None
    if not 0 <= number <= PORT_MAX:
        raise OverflowError(f"a port is a number from 0 to {PORT_MAX}, not {number}")
    if number < least:
        raise ValueError("port 0 cannot be connected to: give the port of the peer")
    return number


def checked_max(most: int) -> int:
    """The `max` of a `recv_many`; TypeError or ValueError where it is none."""
    most = operator.index(most)
    if most < 1:
        raise ValueError(f"max is a number of at least 1, not {most}")
    return most


def valid_mtu(mtu: int) -> int:
    """`mtu` if it is one; TypeError or ValueError otherwise."""
    if not isinstance(mtu, int) or isinstance(mtu, bool):
        raise TypeError(f"mtu is a number of bytes (int), not {type(mtu).__name__}")
    if not lib.DTLSFFI_MTU_MIN <= mtu <= lib.DTLSFFI_MTU_MAX:
        raise ValueError(f"mtu is {lib.DTLSFFI_MTU_MIN} to {lib.DTLSFFI_MTU_MAX} bytes of UDP payload, not {mtu}")
    return mtu


def valid_timers(timers: tuple[float, float, float]) -> tuple[float, float, float]:
    """`timers` if they make sense; ValueError otherwise."""
    try:
        first, factor, longest = (float(number) for number in timers)
    except (TypeError, ValueError):
        raise ValueError(f"retransmission is three numbers (first, factor, longest), not {timers!r}") from None
    if not 0.001 <= first <= longest <= 3600:
        raise ValueError(
            "retransmission is (first, factor, longest) with 0.001 <= first <= longest <= 3600 seconds, "
            f"not first {first} and longest {longest}"
        )
    if not 1 <= factor <= 100:
        raise ValueError(f"retransmission's factor is 1 to 100, not {factor}")
    return first, factor, longest


def host(server_hostname: str) -> tuple[str, bool]:
    """A host name as ASCII, and whether it is an IP address; TypeError or ValueError where it is neither."""
    check_is(server_hostname, str, "server_hostname is a str")
    return known_host(server_hostname)


@lru_cache(maxsize=256)
def known_host(server_hostname: str) -> tuple[str, bool]:
    """`host`, of what has been looked at before: whoever connects often does so to a few servers."""
    address = server_hostname.partition("%")[0]  # without the scope, which no certificate has
    found = ip_address(address if ":" in address else server_hostname)
    if found is not None:
        return found, True
    check_dots(server_hostname)
    if "\0" in server_hostname:
        raise ValueError("server_hostname must not contain a NUL character")
    try:
        name = server_hostname.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ValueError(f"server_hostname {server_hostname!r} is no host name: {error}") from None
    if len(name) > HOST_MAX:
        raise ValueError(f"server_hostname has at most {HOST_MAX} bytes, not {len(name)}")
    check_dots(name)  # some characters are dots and digits in ASCII (RFC 3491)
    found = ip_address(name)
    return c_string(name, "server_hostname").decode("ascii") if found is None else found, found is not None


def ip_address(text: str) -> str | None:
    """An IP address in its usual form; None for what is none."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def check_dots(name: str) -> None:
    """Raises ValueError for no name, and for what OpenSSL would take for any name that ends so."""
    if not name or name.startswith("."):
        raise ValueError("server_hostname cannot be an empty string or start with a leading dot.")


def writable(buffer: Any, call: str) -> memoryview:
    """The bytes of a buffer that `call` is to write to; TypeError where nobody can."""
    view = memoryview(buffer).cast("B")
    if view.readonly:
        raise TypeError(f"{call} needs a buffer that can be written to")
    return view


def check_duration(seconds: float, name: str) -> None:
    """Raises TypeError or ValueError, by name, for what is no time that ends something."""
    check_is(seconds, NUMBERS, f"{name} is a number of seconds")
    if not seconds > 0:
        raise ValueError(f"{name} is a number of seconds above 0, not {seconds}")


def check_handler(handler: object) -> None:
    """Raises TypeError for what cannot be called."""
    check_is(handler, Callable, "handler is a callable")
