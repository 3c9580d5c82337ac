"""In which order the addresses of a host are tried: RFC 8305."""

from __future__ import annotations

from typing import Any

ATTEMPT_DELAY = 0.25  # seconds before the next address is tried beside the last: RFC 8305 section 5


def routes(found: list[Any], local: list[Any] | None) -> list[tuple[Any, Any]]:
    """Where to go, in turn, and from which address: what `getaddrinfo` has found for each; None is any local address.

    Raises ValueError where no family is on both sides.
    """
    if local is None:
        return [(place, None) for place in alternate(found)]
    sources = {place[0]: place[4] for place in reversed(local)}
    pairs = [(place, sources[place[0]]) for place in alternate(found) if place[0] in sources]
    if not pairs:
        raise ValueError(f"{found[0][4][0]} cannot be reached from {local[0][4][0]}: they are of different families")
    return pairs


def alternate(found: list[Any]) -> list[Any]:
    """Addresses in their order, but with the families taking turns: RFC 8305 section 4."""
    families: dict[int, list[Any]] = {}
    for info in found:
        families.setdefault(info[0], []).append(info)
    queues = list(families.values())
    turns = max((len(queue) for queue in queues), default=0)
    return [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)]
