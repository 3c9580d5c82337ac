"""dtlsffi.core.limits."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import dtlsffi
from dtlsffi.core.limits import ServerLimits, check_limits

GOOD: dict[str, Any] = {
    "max_pending": 1, "max_connections": 2, "max_queue": 3, "handshake_timeout": 0.5, "idle_timeout": None,
}  # fmt: skip


def test_type_checkers_know_what_an_endpoint_takes() -> None:
    """What a door does not set itself."""
    taken = inspect.signature(dtlsffi.Endpoint).parameters.keys()
    assert set(taken) == {"context", "fileno", "v6_socket", *ServerLimits.__annotations__}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        *((name, value, TypeError) for name in ("max_pending", "max_connections", "max_queue")
          for value in (1.0, True, "1", None)),
        *((name, value, ValueError) for name in ("max_pending", "max_connections", "max_queue") for value in (0, -1)),
        *((name, value, ValueError) for name in ("handshake_timeout", "idle_timeout")
          for value in (0, -1.0, float("nan"))),
        *((name, value, TypeError) for name in ("handshake_timeout", "idle_timeout") for value in ("1", b"1")),
        ("handshake_timeout", None, TypeError),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_name(name: str, value: object, error: type[Exception]) -> None:
    """Each limit."""
    check_limits(**GOOD)
    with pytest.raises(error, match=f"^{name} is a"):
        check_limits(**{**GOOD, name: value})
