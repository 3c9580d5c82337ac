"""What an endpoint puts up with: how much of everything there may be, and for how long."""

from __future__ import annotations

from typing import TypedDict

from .arguments import check_duration
from .pins import Fingerprints, Keys


class ClientLimits(TypedDict, total=False):
    """The `**limits` of a door with one peer, for type checkers; `Endpoint` says what each means."""

    max_queue: int
    handshake_timeout: float
    idle_timeout: float | None


class Limits(ClientLimits, total=False):
    """The `**limits` of a door with many peers."""

    cookies: bool
    cookie_secret: bytes | None
    max_pending: int
    max_connections: int


class ServerLimits(Limits, total=False):
    """And what every client of a server has to show."""

    verify_fingerprint: Fingerprints | None
    verify_public_key: Keys | None


def check_limits(
    max_pending: int, max_connections: int, max_queue: int, handshake_timeout: float, idle_timeout: float | None
) -> None:
    """Raises TypeError or ValueError, by name, where an endpoint's limit makes no sense."""
    for name, count in (
        ("max_pending", max_pending), ("max_connections", max_connections), ("max_queue", max_queue),
    ):  # fmt: skip
        if not isinstance(count, int) or isinstance(count, bool):
            raise TypeError(f"{name} is an int, not {type(count).__name__}")
        if count < 1:
            raise ValueError(f"{name} is a number of at least 1, not {count!r}")
    check_duration(handshake_timeout, "handshake_timeout")
    if idle_timeout is not None:
        check_duration(idle_timeout, "idle_timeout")
