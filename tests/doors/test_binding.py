"""dtlsffi.binding: UDP sockets for servers."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from dtlsffi.binding import (
    bound,
    check_bound,
    check_place,
    check_udp,
    family_of,
    host_and_port,
    open_client,
    scoped,
    service,
)
from tests.doors.loops import LOOPBACK, sockets


def look_up(host: str, port: int = 0) -> Any:
    return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        yield sock


@pytest.mark.parametrize(
    ("host", "family", "dualstack", "expected"),
    [
        ("", None, False, socket.AF_INET),
        (None, None, False, socket.AF_INET),
        ("device.example", None, False, socket.AF_UNSPEC),
        ("", None, True, socket.AF_INET6),
        ("::", socket.AF_INET6, True, socket.AF_INET6),
        ("::1", socket.AF_INET6, False, socket.AF_INET6),
    ],
)
def test_the_family_follows_from_the_host(host: str | None, family: int | None, dualstack: bool, expected: int) -> None:
    """All addresses means those of IPv4, unless both are asked for."""
    assert family_of(host, family, dualstack) == expected


def test_dualstack_is_for_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """And for systems that have it."""
    with pytest.raises(ValueError, match="dualstack_ipv6 needs AF_INET6"):
        family_of("", socket.AF_INET, True)
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with pytest.raises(ValueError, match="a system that has it"):
        family_of("", None, True)


@pytest.mark.parametrize("dualstack", [False, True])
def test_a_socket_of_ipv6_takes_ipv4_only_when_asked_to(dualstack: bool) -> None:
    """Whatever the system's default is."""
    with bound(look_up("::"), dualstack_ipv6=dualstack) as sock:
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == (not dualstack)
        assert sock.getsockname()[1] > 0


def test_an_address_that_is_taken_is_named() -> None:
    """No socket is left behind, and with reuse_port it can be shared."""
    with bound(look_up(LOOPBACK), reuse_port=True) as first:
        address = first.getsockname()
        before = sockets()
        with pytest.raises(OSError, match=r"while attempting to bind on address \('127") as caught:
            bound(look_up(*address))
        assert caught.value.errno == errno.EADDRINUSE
        assert sockets() == before
        bound(look_up(*address), reuse_port=True).close()


def test_the_first_address_that_can_be_had_is_taken() -> None:
    """A name may have addresses that this host has not. One that is taken is not passed over."""
    elsewhere: Any = [(socket.AF_INET6, socket.SOCK_DGRAM, 0, "", ("2001:db8::1", 0, 0, 0))]
    with suppress(OSError):
        bound(elsewhere).close()
        pytest.skip("this host lets anybody bind any address")
    with bound(elsewhere + look_up(LOOPBACK)) as sock:
        assert sock.getsockname()[0] == LOOPBACK
        with pytest.raises(OSError, match=r"bind on address \('127.0.0.1'") as caught:
            bound(look_up(*sock.getsockname()) + look_up("127.0.0.2"))
        assert caught.value.errno == errno.EADDRINUSE
    with pytest.raises(OSError, match=r"bind on address \('2001:db8::1'"):
        bound(elsewhere * 2)


@pytest.mark.parametrize(
    ("address", "as_taken"),
    [
        (("fe80::1%7", 5684), ("fe80::1", 5684, 0, 7)),
        (("fe80::1%lo", 5684), ("fe80::1", 5684, 0, socket.if_nametoindex("lo"))),
        (("fe80::1", 5684, 0, 7), ("fe80::1", 5684, 0, 7)),
        (("::1", 5684), ("::1", 5684)),
        (("127.0.0.1", 5684), ("127.0.0.1", 5684)),
    ],
)
def test_a_scope_is_not_lost(address: Any, as_taken: Any) -> None:
    """Anyio's addresses have it in their first part, where `bind` and `connect` do not see it."""
    assert scoped(address) == as_taken


def test_what_is_no_udp_socket_is_refused(udp: socket.socket) -> None:
    """TypeError for no socket, ValueError for another kind, EBADF for a closed one."""
    with socket.socket() as tcp, pytest.raises(ValueError, match="AF_INET, SOCK_STREAM"):
        check_udp(tcp)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix,
        pytest.raises(ValueError, match="AF_UNIX, SOCK_DGRAM"),
    ):
        check_udp(unix)
    with pytest.raises(TypeError, match="not int"):
        check_udp(3)  # type: ignore[arg-type]
    check_udp(udp)
    udp.close()
    with pytest.raises(OSError, match="closed") as caught:
        check_udp(udp)
    assert caught.value.errno == errno.EBADF


def test_who_listens_is_bound_and_not_connected(udp: socket.socket) -> None:
    """ValueError, and what to do."""
    with pytest.raises(ValueError, match="is not bound: call its bind"):
        check_bound(udp)
    udp.bind((LOOPBACK, 0))
    check_bound(udp)
    udp.connect((LOOPBACK, 9))
    with pytest.raises(ValueError, match=r"is connected to \('127\.0\.0\.1', 9\)"):
        check_bound(udp)


def test_a_socket_is_bound_already() -> None:
    """There is an address or a socket, and nothing else to be said of a socket."""
    for port, sock in ((None, None), (0, object())):
        with pytest.raises(ValueError, match="and not both"):
            check_place(port, sock)
    check_place(0, None, "localhost", socket.AF_INET, True)
    check_place(None, object(), None, 0, False)
    with pytest.raises(ValueError, match="sock is bound already: it excludes host"):
        check_place(None, object(), None, 0, True)


def test_open_client_leaves_no_socket_behind() -> None:
    """Where the address cannot be had."""
    before = sockets()
    place = (socket.AF_INET, socket.SOCK_DGRAM, 0, "", ("127.0.0.1", 9))
    with pytest.raises(OSError, match="assign requested address"):
        open_client(place, ("192.0.2.1", 0))
    assert sockets() == before


@pytest.mark.parametrize(
    ("port", "error"), [(70000, OverflowError), (-1, OverflowError), (True, TypeError), (5684.0, TypeError)]
)
def test_a_port_is_a_number_of_sixteen_bits(port: Any, error: type[Exception]) -> None:
    """To getaddrinfo(3) 70000 is 4464."""
    with pytest.raises(error, match="a port is"):
        service(port)


def test_names_of_services_are_looked_up() -> None:
    """As in socket."""
    assert service("5684") == "5684"
    assert service(None) is None
    assert service(0) == 0
    with pytest.raises(ValueError, match="port 0 cannot be connected to"):
        service(0, 1)


@pytest.mark.parametrize("address", [5, "host", ("host",), ("host", 1, 2), None])
def test_an_address_has_two_parts(address: Any) -> None:
    """Named."""
    with pytest.raises(TypeError, match="local_addr is a host and a port"):
        host_and_port(address, "local_addr")
