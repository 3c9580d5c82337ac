"""dtlsffi.core.same: what is ssl's own."""

from __future__ import annotations

import ssl

import dtlsffi
from dtlsffi.core import same


def test_it_is_the_same_thing() -> None:
    """Not a copy: `except` clauses and comparisons written for ssl hold."""
    for name in same.__all__:
        assert getattr(dtlsffi, name) is getattr(ssl, name)


def test_helpers_work_on_what_we_give(joined: object) -> None:
    """A certificate goes to PEM and back."""
    der = joined.client.getpeercert(True)  # type: ignore[attr-defined]
    assert dtlsffi.PEM_cert_to_DER_cert(dtlsffi.DER_cert_to_PEM_cert(der)) == der
    assert dtlsffi.cert_time_to_seconds("Jan  5 09:34:43 2018 GMT") == 1515144883
