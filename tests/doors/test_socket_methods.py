"""DTLSSocket's methods in C (socket_methods.c): arguments of every form mean what they mean in Python."""

from __future__ import annotations

import errno
import inspect
import socket
import sys
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import dtlsffi
from tests.helpers import HOST, Pair, record


class Index:
    """A number that is no int."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number


@pytest.mark.parametrize("data", [b"abcd", bytearray(b"abcd"), memoryview(b"xabcd")[1:], array("H", [1, 2])])
def test_any_buffer_is_sent_by_any_call(data: Any, dtls_pair: Pair) -> None:
    """With flags or without, and by name."""
    client, server = dtls_pair
    calls = [client.send(data), client.send(data, 0), client.send(data, flags=0), client.send(data=data)]
    assert calls == [4] * 4
    assert [server.recv() for _ in calls] == [bytes(data)] * 4


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), {}),
        ((None,), {}),
        ((10,), {}),
        ((10, 0), {}),
        ((Index(10),), {}),
        ((), {"bufsize": 10}),
        ((10,), {"flags": 0}),
    ],
)
def test_any_call_receives(arguments: tuple[Any, ...], named: dict[str, Any], dtls_pair: Pair) -> None:
    """Whatever the way it goes."""
    client, server = dtls_pair
    client.send(b"abcd")
    assert server.recv(*arguments, **named) == b"abcd"


def test_what_is_refused_has_taken_nothing(dtls_pair: Pair) -> None:
    """The types of the exceptions are those of a socket's."""
    client, server = dtls_pair
    client.send(b"abcd")
    with pytest.raises(ValueError, match="non-zero flags"):
        server.recv(10, 1)
    with pytest.raises(ValueError, match="negative buffersize"):
        server.recv(-1)
    with pytest.raises(TypeError):
        server.recv("10")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        server.recv(10, 0, 0)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        server.recv(size=10)  # type: ignore[call-arg]
    with pytest.raises(dtlsffi.DatagramTooLarge):
        server.recv(3)
    assert server.recv(0) == b""
    with pytest.raises(OverflowError):
        server.recv(2**80)
    assert server.recv(sys.maxsize) == b"abcd"
    with pytest.raises(ValueError, match="non-zero flags"):
        client.send(b"x", 1)
    with pytest.raises(ValueError, match="empty"):
        client.send(b"")
    with pytest.raises(TypeError, match="not str"):
        client.send("x")
    with pytest.raises(TypeError):
        client.send()  # type: ignore[call-arg]
    client.send(b"last")
    assert server.recv() == b"last"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), {}),
        ((None,), {}),
        ((0,), {}),
        ((10,), {}),
        ((sys.maxsize,), {}),
        ((10, 0), {}),
        ((Index(10),), {}),
        ((), {"nbytes": 10}),
        ((), {"flags": 0}),
    ],
)
@pytest.mark.parametrize("size", [10, 4, 16384, 20000])
def test_any_call_receives_into_a_buffer(
    size: int, arguments: tuple[Any, ...], named: dict[str, Any], dtls_pair: Pair
) -> None:
    """Of a size that records have, or not; what is behind the record stays as it is."""
    client, server = dtls_pair
    for buffer in (bytearray(b"x" * size), array("B", b"x" * size)):
        client.send(b"abcd")
        assert server.recv_into(buffer, *arguments, **named) == 4
        assert bytes(buffer) == b"abcd" + b"x" * (size - 4)


def test_a_buffer_that_is_refused_has_taken_nothing(dtls_pair: Pair) -> None:
    """Nor one that is too small; the record is there for another."""
    client, server = dtls_pair
    client.send(b"abcd")
    buffer = bytearray(10)
    for wrong, match in ((-1, "negative buffersize"), ("3", None), (3.0, None)):
        with pytest.raises((ValueError, TypeError), match=match):
            server.recv_into(buffer, wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="non-zero flags"):
        server.recv_into(buffer, 10, 1)
    for count in (0, 4):
        with pytest.raises(TypeError):
            server.recv_into(*[buffer] * count)
    large = bytearray(20000)
    for small, size in ((bytearray(3), None), (buffer, 3), (large, 3)):
        with pytest.raises(dtlsffi.DatagramTooLarge, match="4 bytes"):
            server.recv_into(small, size)
    assert buffer == bytes(10)
    assert large == bytes(20000), "nothing may be written behind the bytes that were given"
    assert server.recv_into(buffer) == 4
    assert buffer == b"abcd" + bytes(6)


@pytest.mark.parametrize("size", [10, 20000])
def test_a_buffer_keeps_its_size_while_somebody_waits(size: int, dtls_pair: Pair) -> None:
    """And can be made longer afterwards."""
    client, server = dtls_pair
    buffer = bytearray(size)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.recv_into, buffer)
        while not server._carrier.is_waited_for:
            pass
        with pytest.raises(BufferError):
            buffer.append(0)
        client.send(b"abcd")
        assert waiting.result(10) == 4
    buffer.append(0)
    assert buffer == b"abcd" + bytes(size - 3)
    client.close()
    assert server.recv_into(buffer) == 0


def test_a_buffer_that_has_become_shorter_has_not_the_room_it_had(dtls_pair: Pair) -> None:
    """Another thread may have done that while `recv_into` looked why nothing came."""
    client, server = dtls_pair
    client.send(b"x" * 100)
    with pytest.raises(dtlsffi.DatagramTooLarge, match="more than the 5 asked for"):
        server._carrier.read_into(bytearray(5), 20000)
    assert server.recv() == b"x" * 100


def test_any_size_is_one(dtls_pair: Pair) -> None:
    """Where nothing is there yet, too."""
    server = dtls_pair[1]
    server.settimeout(0.01)
    for size in (sys.maxsize, sys.maxsize + 1, 2 * sys.maxsize + 1):
        with pytest.raises(TimeoutError):
            server.recv(size)


def test_what_is_closed_stays_closed(dtls_pair: Pair) -> None:
    """Whatever is called afterwards."""
    client = dtls_pair[0]
    client.close()
    for _ in range(2):
        for call in (lambda: client.send(b"x"), client.recv, client.recv_many, lambda: received_into(client)):
            with pytest.raises(OSError, match="closed") as caught:
                call()
            assert caught.value.errno == errno.EBADF


def received_into(client: dtlsffi.DTLSSocket) -> bytes:
    """`recv` by way of `recv_into`."""
    buffer = bytearray(100)
    return bytes(buffer[: client.recv_into(buffer)])


@pytest.mark.parametrize("receive", [dtlsffi.DTLSSocket.recv, received_into])
@pytest.mark.parametrize("after_a_lull", [False, True])
@pytest.mark.parametrize("timeout", [0, 1])
def test_what_a_callback_raises_costs_no_record(
    receive: Callable[[dtlsffi.DTLSSocket], bytes],
    after_a_lull: bool,
    timeout: int,
    udp_pair: tuple[socket.socket, socket.socket],
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    both: Callable[..., list[Any]],
) -> None:
    """A trace that raises over what is forged, before a good record, or over that one."""
    armed = False

    def trace(*_: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise LookupError

    client_context.trace = trace
    client, server = both(
        lambda: client_context.wrap_socket(udp_pair[0], server_hostname=HOST),
        lambda: server_context.wrap_socket(udp_pair[1], server_side=True),
    )
    with client, server:
        client.settimeout(0.01)
        if after_a_lull:
            with pytest.raises(TimeoutError):
                receive(client)
        with socket.socket(fileno=socket.dup(server.fileno())) as raw:
            raw.send(record(23, bytes(60), epoch=1, number=99))
        server.send(b"precious")
        client.settimeout(timeout)
        armed = True
        with pytest.raises(LookupError):
            receive(client)
        assert receive(client) == b"precious"


def test_they_look_like_methods() -> None:
    """For help() and for IDEs."""
    assert str(inspect.signature(dtlsffi.DTLSSocket.send)) == "(self, /, data, flags=0)"
    assert str(inspect.signature(dtlsffi.DTLSSocket.recv)) == "(self, /, bufsize=None, flags=0)"
    assert str(inspect.signature(dtlsffi.DTLSSocket.recv_into)) == "(self, /, buffer, nbytes=None, flags=0)"
    assert (dtlsffi.DTLSSocket.send.__doc__ or "").startswith("Sends `data`")


def test_an_heir_may_have_its_own(dtls_pair: Pair) -> None:
    """And call ours."""
    client, server = dtls_pair

    class Loud(dtlsffi.DTLSSocket):
        def send(self, data: Any, flags: int = 0) -> int:
            return super().send(bytes(data).upper(), flags)

    client.__class__ = Loud
    assert client.sendall(b"abcd") is None  # type: ignore[func-returns-value]
    assert server.recv() == b"ABCD"
