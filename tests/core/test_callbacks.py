"""dtlsffi.core.callbacks."""

from __future__ import annotations

import pytest

from dtlsffi.core.callbacks import Parking, Password


def test_the_first_exception_is_kept_and_raised_once() -> None:
    """The later ones only follow from it."""
    parking = Parking()
    parking.collect()
    parking.park(LookupError("first"))
    parking.park(ValueError("second"))
    with pytest.raises(LookupError, match="first"):
        parking.collect()
    parking.collect()


def test_a_password_that_fits_exactly_is_taken() -> None:
    """One byte more is not."""
    assert Password("x" * 1024).answer(1024) == b"x" * 1024
    with pytest.raises(ValueError, match="longer than 1024 bytes"):
        Password("x" * 1025).answer(1024)


def test_a_password_is_text_of_any_script() -> None:
    """In UTF-8, as in ssl."""
    assert Password("пароль").answer(1024) == "пароль".encode()
