"""dtlsffi.core.cookies. What cookies do is in test_endpoint.py."""

from __future__ import annotations

import pytest

import dtlsffi
from dtlsffi.core.cookies import make_jar, seems_hello
from dtlsffi.testing import Authority
from tests.helpers import start


def test_a_secret_has_its_length() -> None:
    """None is a secret of its own."""
    make_jar(None)
    make_jar(bytes(16))
    for short in (b"", bytes(15), "x" * 32):
        with pytest.raises(ValueError, match="cookie_secret is bytes, at least 16"):
            make_jar(short)  # type: ignore[arg-type]


def test_a_client_hello_is_told_by_its_beginning(authority: Authority) -> None:
    """Whatever its length."""
    (hello,) = start(dtlsffi.Connection(authority.client_context(), server_hostname="x.example"))
    assert seems_hello(hello)
    assert seems_hello(hello[:14])
    for other in (b"", hello[:13], b"\x15" + hello[1:], hello[:4] + b"\x01" + hello[5:], hello[:13] + b"\x02"):
        assert not other or not seems_hello(other)
