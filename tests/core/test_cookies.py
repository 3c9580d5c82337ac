"""dtlsffi.core.cookies: secrets, and clients that prove their address to an endpoint."""

from __future__ import annotations

import pytest

import dtlsffi
from dtlsffi import DTLSContext, Endpoint
from dtlsffi.core.cookies import make_jar, seems_hello
from dtlsffi.testing import Authority
from tests.core.net import SERVER, Net, client_address, client_context, connect, fragments, hello
from tests.helpers import start

__all__ = ["client_context"]


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


# ---- clients ----


@pytest.mark.parametrize("at", ["elsewhere", "another port"])
def test_a_cookie_is_good_for_one_address(at: str, net: Net, server: Endpoint, client_context: DTLSContext) -> None:
    """Whoever else has it is asked for his own."""
    client, first = hello(client_context)
    server.receive_datagram(first, client_address(0), 0)
    client.receive_datagram(server.datagrams_to_send()[0][0])
    (second,) = client.datagrams_to_send()
    thief = ("10.9.9.9", 40000) if at == "elsewhere" else ("10.0.0.1", 40001)
    server.receive_datagram(second, thief, 0)
    assert server.accepted() == []
    assert server.statistics()["cookies_sent"] == 2


def test_every_flipped_byte_of_a_cookie_is_noticed(net: Net, server: Endpoint, client_context: DTLSContext) -> None:
    """None of them is let in."""
    client, first = hello(client_context)
    server.receive_datagram(first, client_address(0), 0)
    ((request, _),) = server.datagrams_to_send()
    client.receive_datagram(request)
    (second,) = client.datagrams_to_send()
    cookie = request[28:60]
    start = second.index(cookie)
    for index in range(start, start + len(cookie)):
        forged = bytearray(second)
        forged[index] ^= 1
        server.receive_datagram(bytes(forged), client_address(0), 0)
    assert server.accepted() == []
    server.receive_datagram(second, client_address(0), 0)
    assert len(server.accepted()) == 1


def test_servers_that_share_a_secret_check_each_others_cookies(
    client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Others do not; a secret has its length."""
    secret = bytes(range(32))
    one, two = (Endpoint(server_context, cookie_secret=secret) for _ in range(2))
    client, first = hello(client_context)
    one.receive_datagram(first, client_address(0), 0)
    client.receive_datagram(one.datagrams_to_send()[0][0])
    (second,) = client.datagrams_to_send()
    Endpoint(server_context).receive_datagram(second, client_address(0), 0)
    two.receive_datagram(second, client_address(0), 0)
    assert len(two.accepted()) == 1
    other = Endpoint(server_context, cookie_secret=bytes(16))
    other.receive_datagram(second, client_address(0), 0)
    assert other.accepted() == []
    with pytest.raises(ValueError, match="at least 16"):
        Endpoint(server_context, cookie_secret=b"short")


def test_a_stranger_makes_nothing_grow(server: Endpoint, client_context: DTLSContext) -> None:
    """However many hellos come from however many addresses: one answer each, no larger than the question."""
    _, first = hello(client_context)
    for number in range(2000):
        server.receive_datagram(first, client_address(number), 0)
        ((answer, _),) = server.datagrams_to_send()
        assert len(answer) <= len(first)
    counts = server.statistics()
    assert (counts["connections"], counts["pending"], counts["cookies_sent"]) == (0, 0, 2000)
    assert server.get_timer(0) is None


def test_a_hello_in_fragments_is_asked_for_its_cookie_and_put_together(
    server: Endpoint, client_context: DTLSContext
) -> None:
    """Post-quantum key shares make it that large; one that fits without a cookie may not fit with it."""
    for number, (first_size, second_size) in enumerate(((60, 100), (1000, 100), (60, 1000))):
        address = client_address(number)
        client, first = hello(client_context)
        for fragment in fragments(first, first_size, 20):  # beside the numbers the client gives the rest
            server.receive_datagram(fragment, address, 0)
        ((request, _),) = server.datagrams_to_send()
        client.receive_datagram(request)
        (second,) = client.datagrams_to_send()
        assert server.statistics()["pending"] == 0
        for fragment in fragments(second, second_size, 30):
            server.receive_datagram(fragment, address, 0)
        for _ in range(2):
            for datagram, _ in server.datagrams_to_send():
                client.receive_datagram(datagram)
            for datagram in client.datagrams_to_send():
                server.receive_datagram(datagram, address, 0)
        assert client.is_established
        assert len(server.accepted()) == 1


def test_without_cookies_a_hello_in_fragments_is_put_together_too(
    client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """It begins at once."""
    server = Endpoint(server_context, cookies=False)
    client, first = hello(client_context)
    for fragment in fragments(first, 60):
        server.receive_datagram(fragment, client_address(0), 0)
    assert len(server.accepted()) == 1
    for datagram, _ in server.datagrams_to_send():
        client.receive_datagram(datagram)
    assert client.datagrams_to_send()


def test_without_cookies_a_client_is_let_in_at_once(
    net: Net, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Where ICE or a private network has proved the address."""
    server_context.retransmission = (60, 1, 60)  # nothing is lost
    server = net.add(SERVER, server_context, cookies=False)
    client = connect(net, 0, client_context)
    net.settle()
    assert client.is_established
    assert server.statistics()["cookies_sent"] == 0
    assert len(net.carried) == 4


def test_a_server_that_restarts_with_its_secret_takes_cookies_of_before(
    client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """A handshake that has just begun goes on."""
    secret = bytes(32)
    client, first = hello(client_context)
    before = Endpoint(server_context, cookie_secret=secret)
    before.receive_datagram(first, client_address(0), 0)
    client.receive_datagram(before.datagrams_to_send()[0][0])
    after = Endpoint(server_context, cookie_secret=secret)
    for datagram in client.datagrams_to_send():
        after.receive_datagram(datagram, client_address(0), 0)
    assert len(after.accepted()) == 1
