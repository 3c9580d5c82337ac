"""dtlsffi.sockets: how a DTLSSocket ends: by its peer, closed, unwrapped, shut down, forgotten."""

from __future__ import annotations

import errno
import gc
import os
import socket
import threading
import warnings
from collections.abc import Callable

import pytest

import dtlsffi
from tests.doors.accepting import raises_in_thread
from tests.helpers import HOST, Pair, Sockets


def test_a_closed_socket_says_so(dtls_pair: Pair) -> None:
    """EBADF from everything that moves data; closing again is fine."""
    client, _ = dtls_pair
    client.close()
    client.close()
    assert client.fileno() == -1
    for call in (
        lambda: client.send(b"x"),
        client.recv,
        lambda: client.recv_into(bytearray(5)),
        client.unwrap,
        client.detach,
        client.shutdown,
        client.handle_timer,
    ):
        with pytest.raises(OSError, match="closed") as caught:
            call()
        assert caught.value.errno == errno.EBADF


def test_use_after_close_during_the_handshake_is_said_too(
    udp_pair: Sockets, client_context: dtlsffi.DTLSContext
) -> None:
    """do_handshake() on a closed socket."""
    conn = client_context.wrap_socket(udp_pair[0], server_hostname=HOST, do_handshake_on_connect=False)
    conn.close()
    with pytest.raises(OSError, match="closed"):
        conn.do_handshake()


def test_close_wakes_whoever_waits(dtls_pair: Pair) -> None:
    """A thread in recv() gets EBADF instead of waiting for ever."""
    client, _ = dtls_pair
    client.settimeout(None)
    failures: list[OSError] = []

    def wait() -> None:
        try:
            client.recv()
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not client._carrier.is_waited_for:
        pass
    client.close()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert [failure.errno for failure in failures] == [errno.EBADF]


def test_unwrap_gives_the_plain_socket_back(dtls_pair: Pair) -> None:
    """After close_notify, with its timeout; the two go on in the clear."""
    client, server = dtls_pair
    client.settimeout(6)
    with client.unwrap() as plain:
        assert server.recv() == b""
        assert client.fileno() == -1
        assert type(plain) is socket.socket
        assert plain.gettimeout() == 6
        with server.unwrap() as other:
            assert len(plain.recv(100)) > 13, "the other's close_notify"
            plain.send(b"in the clear")
            assert other.recv(100) == b"in the clear"


def test_detach_gives_the_descriptor_back(dtls_pair: Pair) -> None:
    """In the mode that the socket was in."""
    client, server = dtls_pair
    client.settimeout(None)
    descriptor = client.detach()
    try:
        assert os.get_blocking(descriptor)
        assert client.fileno() == -1
        assert server.recv() == b""
    finally:
        os.close(descriptor)


def test_shutdown_wakes_whoever_waits(dtls_pair: Pair, both: Callable[..., list[object]]) -> None:
    """recv() in another thread gets b""."""
    client, _ = dtls_pair
    client.settimeout(None)

    def stop() -> None:
        while not client._carrier.is_waited_for:
            pass
        client.shutdown()

    assert both(client.recv, stop)[0] == b""


def test_a_forgotten_socket_warns(udp_pair: Sockets, client_context: dtlsffi.DTLSContext) -> None:
    """ResourceWarning, like any socket, and it is closed."""
    conn = client_context.wrap_socket(udp_pair[0], server_hostname=HOST, do_handshake_on_connect=False)
    descriptor = conn.fileno()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del conn
        gc.collect()
    assert any(issubclass(warning.category, ResourceWarning) for warning in caught)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_plain_socket_can_send_though_somebody_was_woken(dtls_pair: Pair) -> None:
    """Whoever waited in recv() has been; only receiving is over."""
    client, server = dtls_pair
    client.settimeout(None)
    waiting, _ = raises_in_thread(client.recv)
    while not (client._carrier.is_waited_for or client._waiting):
        pass
    with client.unwrap() as plain:
        waiting.join()
        assert plain.send(b"plain") == 5
    assert server.recv() == b""
