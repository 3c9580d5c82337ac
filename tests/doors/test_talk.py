"""dtlsffi.talk: text for a terminal. The talk itself is tested by test_cli.py, as a user has it."""

from __future__ import annotations

import pytest

from dtlsffi.talk import printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ü €\n\tx", "plain ü €\n\tx"),
        ("\0\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("\r", "\\r"),
        ("\u2028\ufeff", "\u2028\\ufeff"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_printable(text: str, expected: str) -> None:
    """Everything of Unicode's category C is escaped, but newline and tab."""
    assert printable(text) == expected
