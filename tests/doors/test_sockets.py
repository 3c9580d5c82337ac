"""dtlsffi.sockets: DTLSSocket, over real UDP: how it is made, its data, what it is otherwise, its callbacks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import dtlsffi
from dtlsffi.testing import Authority
from tests.helpers import HOST, Pair, Sockets

# ---- wrap_socket ----


def test_what_cannot_be_wrapped_is_said_and_left_alone(client_context: dtlsffi.DTLSContext, udp_pair: Sockets) -> None:
    """A TCP socket, a closed one, no socket at all, one that does not block."""
    with socket.socket() as tcp:
        closed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        closed.close()
        udp_pair[0].setblocking(False)
        for sock, error, words in (
            (tcp, ValueError, r"UDP socket \(SOCK_DGRAM\), not SOCK_STREAM"),
            (closed, OSError, "closed"),
            (42, TypeError, "not int"),
            (udp_pair[0], ValueError, "do_handshake_on_connect should not be specified for non-blocking sockets"),
        ):
            with pytest.raises(error, match=words):
                client_context.wrap_socket(sock, server_hostname=HOST)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="check_hostname requires server_hostname"):
            client_context.wrap_socket(udp_pair[1])
        assert tcp.fileno() >= 0
    udp_pair[0].send(b"still a UDP socket")
    assert udp_pair[1].recv(100) == b"still a UDP socket"
    with pytest.raises(TypeError, match="does not have a public constructor"):
        dtlsffi.DTLSSocket()


def test_a_socket_that_speaks_dtls_is_not_wrapped_again(dtls_pair: Pair, client_context: dtlsffi.DTLSContext) -> None:
    """One DTLS state a socket."""
    with pytest.raises(ValueError, match="speaks DTLS already"):
        client_context.wrap_socket(dtls_pair[0], server_hostname=HOST)


def test_the_wrapped_socket_is_used_up(udp_pair: Sockets, client_context: dtlsffi.DTLSContext) -> None:
    """As in ssl; its timeout is inherited."""
    udp_pair[0].settimeout(4.5)
    with client_context.wrap_socket(udp_pair[0], server_hostname=HOST, do_handshake_on_connect=False) as conn:
        assert udp_pair[0].fileno() == -1
        assert conn.gettimeout() == conn.timeout == 4.5
        assert isinstance(conn, socket.socket)
        assert (conn.family, conn.type) == (socket.AF_INET, socket.SOCK_DGRAM)


def test_a_failed_handshake_closes_the_socket(
    udp_pair: Sockets, both: Callable[..., list[object]], client_context: dtlsffi.DTLSContext, stranger: Authority
) -> None:
    """As in ssl: there is nothing left to use it for."""
    bad = stranger.server_context(HOST)
    bad.retransmission = (0.01, 2.0, 0.1)

    def client() -> None:
        with pytest.raises(dtlsffi.DTLSCertVerificationError):
            client_context.wrap_socket(udp_pair[0], server_hostname=HOST)

    def server() -> None:
        with pytest.raises(dtlsffi.DTLSError, match="unknown_ca"):
            bad.wrap_socket(udp_pair[1], server_side=True)

    both(client, server)
    assert udp_pair[0].fileno() == udp_pair[1].fileno() == -1


def test_the_handshake_can_be_put_off(
    udp_pair: Sockets,
    both: Callable[..., list[object]],
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
) -> None:
    """The first send or recv makes up for it, as in ssl."""
    with (
        client_context.wrap_socket(udp_pair[0], server_hostname=HOST, do_handshake_on_connect=False) as client,
        server_context.wrap_socket(udp_pair[1], server_side=True, do_handshake_on_connect=False) as server,
    ):
        assert client.version() is None
        assert both(lambda: client.send(b"hello"), server.recv) == [5, b"hello"]
        assert client.version() == "DTLSv1.2"
        client.do_handshake()


# ---- data ----


def test_too_large_a_datagram_is_refused_before_it_is_sent(dtls_pair: Pair) -> None:
    """errno.EMSGSIZE; loopback carries more than a record holds, so the record is the bound."""
    client, server = dtls_pair
    assert client.mtu > 60000
    assert client.data_mtu == 16384
    with pytest.raises(dtlsffi.DatagramTooLarge):
        client.send(b"x" * 16385)
    client.mtu = 500
    assert client.data_mtu == 500 - 37
    with pytest.raises(dtlsffi.DatagramTooLarge, match=r"464 bytes .* carries 463"):
        client.send(b"x" * 464)
    client.send(b"fits")
    assert server.recv() == b"fits"


# ---- the peer ----


def test_a_refused_datagram_is_said_and_survived(dtls_pair: Pair) -> None:
    """ECONNREFUSED leaves the connection usable: OPENSSL.md, 45."""
    client, server = dtls_pair
    address = server.getsockname()
    socket.socket.close(server)  # it dies without a close_notify
    client.send(b"to nobody")
    with pytest.raises(ConnectionRefusedError, match=f"127.0.0.1:{address[1]}"):
        client.recv()
    client.send(b"to nobody, again")
    with pytest.raises(ConnectionRefusedError):
        client.send(b"x")
    assert client.version() == "DTLSv1.2"
    client.send(b"and again")


def test_the_handshake_goes_on_when_the_server_comes_late(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """ConnectionRefusedError from do_handshake() is no end."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(address)
    sock.settimeout(10)
    with client_context.wrap_socket(sock, server_hostname=HOST, do_handshake_on_connect=False) as client:
        with pytest.raises(ConnectionRefusedError):
            client.do_handshake()
        late = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        late.bind(address)
        late.connect(client.getsockname())
        late.settimeout(10)
        thread = threading.Thread(target=client.do_handshake)
        thread.start()
        with server_context.wrap_socket(late, server_side=True):
            thread.join()
        assert client.version() == "DTLSv1.2"


# ---- what it is ----


def test_the_contexts_mtu_counts(
    udp_pair: Sockets, authority: Authority, both: Callable[..., list[dtlsffi.DTLSSocket]]
) -> None:
    """For the handshake, too."""
    client_context, server_context = authority.client_context(), authority.server_context(HOST)
    client_context.mtu = server_context.mtu = 300
    client, server = both(
        lambda: client_context.wrap_socket(udp_pair[0], server_hostname=HOST),
        lambda: server_context.wrap_socket(udp_pair[1], server_side=True),
    )
    with client, server:
        assert client.mtu == 300
        counters = server.statistics()
        assert counters["bytes_sent"] / counters["datagrams_sent"] <= 300


def test_the_kernel_knows_the_path(dtls_pair: Pair) -> None:
    """Loopback's MTU less the headers."""
    if sys.platform != "linux":
        pytest.skip("this kernel does not tell the path MTU")
    with Path("/sys/class/net/lo/mtu").open() as file:
        assert dtls_pair[0].mtu == min(int(file.read()), 65535) - 28


def test_it_is_a_socket_like_any_other(dtls_pair: Pair) -> None:
    """What the base class has, works on it."""
    client, server = dtls_pair
    assert (client.family, client.type, client.proto) == (socket.AF_INET, socket.SOCK_DGRAM, 0)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 100_000
    assert not client.get_inheritable()
    client.set_inheritable(True)
    assert client.get_inheritable()
    assert client.getsockname() == server.getpeername()
    assert client.compression() is None
    with pytest.raises(OSError, match="Invalid argument"):
        client.bind(("127.0.0.1", 0))
    for call in (client.sendmsg_afalg, client.verify_client_post_handshake):
        with pytest.raises(NotImplementedError):
            call()


def test_the_class_of_a_contexts_sockets_and_objects_can_be_ones_own(
    udp_pair: Sockets, client_context: dtlsffi.DTLSContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with ssl.SSLContext.sslsocket_class."""

    class Socket(dtlsffi.DTLSSocket):
        pass

    class Object(dtlsffi.DTLSObject):
        pass

    monkeypatch.setattr(dtlsffi.DTLSContext, "dtlssocket_class", Socket)
    monkeypatch.setattr(dtlsffi.DTLSContext, "dtlsobject_class", Object)
    with client_context.wrap_socket(udp_pair[0], server_hostname=HOST, do_handshake_on_connect=False) as conn:
        assert type(conn) is Socket
    bio = dtlsffi.MemoryBIO()
    assert type(client_context.wrap_bio(bio, bio, server_hostname=HOST)) is Object


# ---- callbacks ----


def test_callbacks_get_the_socket(
    udp_pair: Sockets, authority: Authority, both: Callable[..., list[dtlsffi.DTLSSocket]]
) -> None:
    """Not what is inside it; and one may close it there."""
    client_context, server_context = authority.client_context(), authority.server_context(HOST)
    met: list[object] = []
    client_context.verify_callback = lambda connection, check: met.append(connection) is None and check.ok
    server_context.sni_callback = lambda connection, *_: met.append(connection)
    client, server = both(
        lambda: client_context.wrap_socket(udp_pair[0], server_hostname=HOST),
        lambda: server_context.wrap_socket(udp_pair[1], server_side=True),
    )
    with client, server:
        assert met == [server, client, client]


def test_a_callback_may_close_the_socket(udp_pair: Sockets, client_context: dtlsffi.DTLSContext) -> None:
    """The handshake ends with ssl's exception for a closed connection, and the descriptor is closed."""
    client_context.trace = lambda connection, _: connection.close()
    descriptor = udp_pair[0].fileno()
    with pytest.raises((dtlsffi.DTLSZeroReturnError, OSError)):
        client_context.wrap_socket(udp_pair[0], server_hostname=HOST)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_callback_cannot_move_its_socket_on(udp_pair: Sockets, client_context: dtlsffi.DTLSContext) -> None:
    """It is told so, and does not wait for itself."""
    client_context.trace = lambda connection, _: connection.send(b"x")
    udp_pair[0].settimeout(None)
    with pytest.raises(dtlsffi.DTLSError, match="a callback cannot send or receive on its own connection"):
        client_context.wrap_socket(udp_pair[0], server_hostname=HOST)


REPLACED = """
import select, socket

class Other:
    def __init__(self, *arguments, **more):
        pass

original, socket.socket = socket.socket, Other
import dtlsffi
context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
context.check_hostname = False
socket.socket = original
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.connect(("127.0.0.1", 9))
    try:
        context.wrap_socket(sock)
    except RuntimeError as error:
        print(error)
"""


def test_who_replaces_sockets_is_told() -> None:
    """As gevent does: what inherits from another class is no socket."""
    found = subprocess.run([sys.executable, "-c", REPLACED], check=True, capture_output=True, text=True, timeout=60)
    assert "socket.socket was replaced (by gevent, eventlet?) before dtlsffi was imported" in found.stdout


def test_who_replaces_sockets_later_harms_nobody(dtls_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is goes on, and more can be made."""
    monkeypatch.setattr(socket, "socket", type("Other", (socket.socket,), {}))
    client, server = dtls_pair
    client.send(b"x")
    assert server.recv() == b"x"
    with client.unwrap() as plain:
        assert plain.fileno() >= 0
