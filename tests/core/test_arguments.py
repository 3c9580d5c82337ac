"""dtlsffi.core.arguments, and what connections make of them."""

from __future__ import annotations

import ssl
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import dtlsffi
from dtlsffi import Connection
from dtlsffi.core.arguments import check_duration, checked_time, host, known_host
from tests.helpers import HOST


def test_arguments_are_checked_before_anything_happens(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """With the argument's name, as ssl has it."""
    for error, words, make in (
        (TypeError, "context is a DTLSContext, not SSLContext",
         lambda: Connection(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), server_hostname=HOST)),  # type: ignore[arg-type]
        (ValueError, "PROTOCOL_DTLS_CLIENT context cannot take the server's side",
         lambda: Connection(client_context, server_side=True)),
        (ValueError, "PROTOCOL_DTLS_SERVER context cannot take the client's side", lambda: Connection(server_context)),
        (ValueError, "server_hostname can only be specified in client mode",
         lambda: Connection(server_context, server_side=True, server_hostname=HOST)),
        (ValueError, "check_hostname requires server_hostname", lambda: Connection(client_context)),
        (TypeError, "server_hostname is a str, not bytes",
         lambda: Connection(client_context, server_hostname=b"x")),  # type: ignore[arg-type]
    ):  # fmt: skip
        with pytest.raises(error, match=words):
            make()


@pytest.mark.parametrize(
    "name", ["", ".example", "a\0b.example", "a" * 64 + ".example", "a..example", "\ud800.example"]
)
def test_names_that_are_none_are_refused(client_context: dtlsffi.DTLSContext, name: str) -> None:
    """Before they can mean something else to a C string."""
    with pytest.raises(ValueError, match="server_hostname|NUL"):
        Connection(client_context, server_hostname=name)


def test_a_name_is_looked_at_once() -> None:
    """Whoever connects to it again is spared IDNA; what is refused is refused every time."""
    known_host.cache_clear()
    for name, known in (
        ("device.example", ("device.example", False)),
        ("b\xfccher.example", ("xn--bcher-kva.example", False)),
        ("192.0.2.1", ("192.0.2.1", True)),
    ):
        assert host(name) == host(name) == known
    assert known_host.cache_info().hits == 3
    for _ in range(2):
        with pytest.raises(ValueError, match="leading dot"):
            host(".example")


def test_only_an_ipv6_address_has_a_scope() -> None:
    """Which no certificate has, so it is not looked for there."""
    assert host("fe80::1%eth0") == ("fe80::1", True)
    assert host("127.0.0.1%eth0") == ("127.0.0.1%eth0", False)


@pytest.mark.parametrize("number", [Fraction(1, 2), Decimal("0.5"), 0.5, 1])
def test_a_number_of_seconds_is_what_float_takes(number: Any) -> None:
    """But no text, as in socket.settimeout()."""
    assert checked_time(number) == float(number)
    check_duration(number, "timeout")
    for bad in ("1", b"1", None):
        with pytest.raises(TypeError, match="a number of seconds"):
            check_duration(bad, "timeout")


@pytest.mark.parametrize("first", ["\u2024", "\ufe52", "\u2025"])
def test_what_becomes_a_leading_dot_is_refused(first: str) -> None:
    """OpenSSL would take a certificate of any subdomain for that name; ssl refuses it, too."""
    with pytest.raises(ValueError, match="leading dot"):
        host(f"{first}example.com")
    with pytest.raises(ValueError, match="leading dot"):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=f"{first}example.com")


def test_an_address_in_other_digits_is_an_address() -> None:
    """As ssl sees it: it is looked for among a certificate's addresses, not among its names."""
    assert host("\uff11\uff12\uff17.0.0.1") == ("127.0.0.1", True)
