"""A DTLSSocket that is wrapped first and connected then, as in the examples of `ssl`."""

import errno
import socket
from collections.abc import Iterator

import pytest

import dtlsffi
from tests.doors.listening import HOST, address_of, echo, listening


@pytest.fixture
def loose() -> Iterator[socket.socket]:
    """A UDP socket that is neither bound nor connected."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        yield sock


def test_connect_shakes_hands(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, loose: socket.socket
) -> None:
    """The idiom of ssl's documentation."""
    with (
        listening(server_context, echo) as sock,
        client_context.wrap_socket(loose, server_hostname=HOST) as conn,
    ):
        address = address_of(sock)
        conn.connect(address)
        assert conn.version() == "DTLSv1.2"
        assert conn.getpeername() == address
        conn.send(b"hello")
        assert conn.recv() == b"hello"
        with pytest.raises(ValueError, match="already-connected"):
            conn.connect(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_mtu_is_that_of_the_path(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, host: str
) -> None:
    """As with a socket that was connected before: the kernel knows it now, and how long the headers are."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        listening(server_context, echo, host) as sock,
        socket.socket(family, socket.SOCK_DGRAM) as first,
        socket.socket(family, socket.SOCK_DGRAM) as bare,
    ):
        address = address_of(sock)
        first.connect(address)
        bare.settimeout(10)
        with (
            client_context.wrap_socket(first, server_hostname=HOST, do_handshake_on_connect=False) as other,
            client_context.wrap_socket(bare, server_hostname=HOST) as conn,
        ):
            assert conn.mtu == 1200
            conn.connect(address)
            assert conn.mtu == other.mtu > 1200


def test_it_may_be_bound_before(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, loose: socket.socket
) -> None:
    """What is set before counts."""
    with listening(server_context, echo) as sock, client_context.wrap_socket(loose, server_hostname=HOST) as conn:
        conn.bind(("127.0.0.2", 0))
        conn.mtu = 700
        conn.connect(address_of(sock))
        assert conn.getsockname()[0] == "127.0.0.2"
        assert conn.mtu == 700
        conn.send(b"x")
        assert conn.recv() == b"x"


def test_before_it_is_connected_there_is_nobody(client_context: dtlsffi.DTLSContext, loose: socket.socket) -> None:
    """Every call says so, nothing is sent in the clear, and the end is quiet."""
    conn = client_context.wrap_socket(loose, server_hostname=HOST)
    for call in (conn.do_handshake, lambda: conn.send(b"x"), conn.recv, lambda: conn.recv_into(bytearray(9)),
                 lambda: conn.send_many([b"x"]), conn.recv_many, lambda: conn.sendto(b"x", ("127.0.0.1", 9)),
                 conn.getpeername, lambda: conn.recvfrom(5), conn.shutdown):  # fmt: skip
        with pytest.raises(OSError, match="not connected") as caught:
            call()
        assert caught.value.errno == errno.ENOTCONN
    assert conn.version() is conn.cipher() is conn.get_timer() is None
    with pytest.raises(ValueError, match="handshake not done yet"):
        conn.getpeercert()
    assert conn.pending() == 0
    conn.handle_timer()
    plain = conn.unwrap()
    plain.close()
    with pytest.raises(OSError, match="closed"):
        conn.connect(("127.0.0.1", 9))


def test_it_may_try_another_address(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, loose: socket.socket
) -> None:
    """Where there is no way to the first."""
    with listening(server_context, echo) as sock, client_context.wrap_socket(loose, server_hostname=HOST) as conn:
        address = address_of(sock)
        with pytest.raises(OSError, match="Permission denied"):
            conn.connect(("255.255.255.255", 9))
        assert conn.connect_ex(("255.255.255.255", 9)) == errno.EACCES
        assert conn.connect_ex(address) == 0
        assert conn.version() == "DTLSv1.2"
        with pytest.raises(ValueError, match="already-connected"):
            conn.connect_ex(address)


def test_the_handshake_may_be_left_to_do(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, loose: socket.socket
) -> None:
    """As `do_handshake_on_connect` says."""
    with (
        listening(server_context, echo) as sock,
        client_context.wrap_socket(loose, server_hostname=HOST, do_handshake_on_connect=False) as conn,
    ):
        conn.connect(address_of(sock))
        assert conn.version() is None
        conn.send(b"which shakes hands first")
        assert conn.recv() == b"which shakes hands first"


def test_without_blocking_the_handshake_is_left_to_do(
    client_context: dtlsffi.DTLSContext, loose: socket.socket
) -> None:
    """A non-blocking socket may be wrapped, since it cannot shake hands yet."""
    loose.setblocking(False)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent,
        client_context.wrap_socket(loose, server_hostname=HOST) as conn,
    ):
        silent.bind(("127.0.0.1", 0))
        assert conn.connect_ex(silent.getsockname()) == 0
        with pytest.raises(BlockingIOError):
            silent.recv(1, socket.MSG_DONTWAIT)
        with pytest.raises(dtlsffi.DTLSWantReadError):
            conn.do_handshake()
        assert silent.recv(2000, socket.MSG_DONTWAIT)[:1] == b"\x16"


def test_errors_name_the_peer(client_context: dtlsffi.DTLSContext, loose: socket.socket) -> None:
    """Its name and its address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        loose.settimeout(0.05)
        with client_context.wrap_socket(loose, server_hostname=HOST) as conn:
            where = f"{HOST} \\(127.0.0.1:{silent.getsockname()[1]}\\) did not finish within 0.05 s"
            with pytest.raises(dtlsffi.HandshakeTimeout, match=where):
                conn.connect(silent.getsockname())
