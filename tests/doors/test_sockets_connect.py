"""A DTLSSocket that is wrapped first and connected then, as in the examples of `ssl`."""

from __future__ import annotations

import errno
import gc
import os
import socket
import struct
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress

import pytest

import dtlsffi
from dtlsffi.testing import Authority
from tests.doors.listening import address_of, echo, listening
from tests.helpers import HOST


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
            where = f"{HOST} \\(127.0.0.1:{silent.getsockname()[1]}\\) timed out: it did not finish within 0.05 s"
            with pytest.raises(dtlsffi.HandshakeTimeout, match=where):
                conn.connect(silent.getsockname())


# ---- what must not happen ----


def plain(body: bytes, kind: int = 22) -> bytes:
    """A record of epoch 0 that nobody has signed."""
    return struct.pack("!BHHHIH", kind, 0xFEFD, 0, 0, 0, len(body)) + body


STRAY = {
    "ServerHelloDone": plain(b"\x0e" + bytes(11)),
    "HelloVerifyRequest": plain(b"\x03\0\0\x17" + bytes(5) + b"\0\0\x17" + b"\xfe\xff\x14" + b"c" * 20),
    "ChangeCipherSpec": plain(b"\x01", 20),
    "junk": b"junk",
    "nothing": b"",
}


@pytest.mark.parametrize("stray", STRAY.values(), ids=STRAY.keys())
@pytest.mark.parametrize("wrapped_first", [True, False])
def test_what_came_before_is_not_the_servers(
    wrapped_first: bool,
    stray: bytes,
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    loose: socket.socket,
) -> None:
    """Until it is connected, a socket takes datagrams of anybody, and keeps them."""
    client_context.retransmission = (1.0, 2.0, 60.0)  # a server that is slow has a flight sent again, too
    with listening(server_context, echo) as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        address = address_of(sock)
        loose.bind(("127.0.0.1", 0))
        for _ in range(3):
            stranger.sendto(stray, loose.getsockname())
        if not wrapped_first:
            loose.connect(address)
        with client_context.wrap_socket(loose, server_hostname=HOST) as conn:
            if wrapped_first:
                conn.connect(address)
            counts = conn.statistics()
            assert counts["dropped_junk"] == 3
            assert counts["flights_retransmitted"] == 0
            conn.send(b"x")
            assert conn.recv() == b"x"


def test_two_threads_cannot_connect_it(client_context: dtlsffi.DTLSContext, loose: socket.socket) -> None:
    """One is told that the other has done so already, though the system would take both."""
    with client_context.wrap_socket(loose, server_hostname=HOST, do_handshake_on_connect=False) as conn:
        start, told = threading.Barrier(8), []

        def connect(number: int) -> None:
            start.wait()
            try:
                conn.connect((f"127.0.0.{number}", 9))
                told.append(number)
            except ValueError:
                pass

        threads = [threading.Thread(target=connect, args=(number,)) for number in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [f"127.0.0.{number}" for number in told] == [conn.getpeername()[0]]


def test_a_child_does_not_touch_it(client_context: dtlsffi.DTLSContext, loose: socket.socket) -> None:
    """The socket is its parent's, too."""
    with client_context.wrap_socket(loose, server_hostname=HOST, do_handshake_on_connect=False) as conn:
        pid = os.fork()
        if pid == 0:
            try:
                conn.connect(("127.0.0.1", 9))
            except dtlsffi.DTLSError as error:
                os._exit(7 if error.reason == "USED_AFTER_FORK" else 8)
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        with pytest.raises(OSError, match="not connected"):
            conn.getpeername()


def test_shutdown_leaves_it_as_it_is(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, loose: socket.socket
) -> None:
    """There is nothing to shut down yet."""
    with listening(server_context, echo) as sock, client_context.wrap_socket(loose, server_hostname=HOST) as conn:
        for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            with pytest.raises(OSError, match="not connected"):
                conn.shutdown(how)
        conn.connect(address_of(sock))
        conn.send(b"x")
        assert conn.recv() == b"x"


def test_connect_ex_returns_what_the_system_says(client_context: dtlsffi.DTLSContext, loose: socket.socket) -> None:
    """That nothing listens, too, which is heard of in the handshake; and then that may be tried again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        there.bind(("127.0.0.1", 0))
        nobody = there.getsockname()
    with client_context.wrap_socket(loose, server_hostname=HOST) as conn:
        assert conn.connect_ex(("127.0.0.1", 0)) == errno.EADDRNOTAVAIL
        with pytest.raises(OSError, match="there is no port 0"):
            conn.connect(("127.0.0.1", 0))
        assert conn.connect_ex(nobody) == errno.ECONNREFUSED
        with pytest.raises(ConnectionRefusedError):
            conn.do_handshake()
        conn.close()
        assert conn.connect_ex(nobody) == errno.EBADF
        for call in (conn.do_handshake, conn.shutdown):
            with pytest.raises(OSError, match="closed"):
                call()


def test_a_session_may_be_set_before(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext, authority: Authority
) -> None:
    """As with ssl, which refuses it afterwards."""

    def connected(session: dtlsffi.DTLSSession | None) -> dtlsffi.DTLSSession:
        with (
            listening(server_context, echo) as sock,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bare,
        ):
            bare.settimeout(10)
            conn = client_context.wrap_socket(bare, server_hostname=HOST)
            assert isinstance(conn, dtlsffi.DTLSSocket)
            with conn:
                for wrong in (None, 42):
                    with pytest.raises(TypeError, match="session is a DTLSSession"):
                        conn.session = wrong  # type: ignore[assignment]
                if session is not None:
                    conn.session = session
                conn.connect(address_of(sock))
                assert conn.session_reused is (session is not None)
                conn.send(b"x")
                assert conn.recv() == b"x"
                made = conn.session
                assert made is not None
                with pytest.raises(ValueError, match="after handshake"):
                    conn.session = made
            return made

    session = connected(None)
    connected(session)
    other = authority.client_context()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bare,
        other.wrap_socket(bare, server_hostname=HOST) as conn,
        pytest.raises(ValueError, match="different DTLSContext"),
    ):
        conn.session = session


def test_a_handshake_that_has_failed_leaves_nothing(client_context: dtlsffi.DTLSContext, loose: socket.socket) -> None:
    """To the garbage collector, that is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        loose.settimeout(0.01)
        conn = client_context.wrap_socket(loose, server_hostname=HOST)
        gc.disable()
        try:
            with suppress(dtlsffi.HandshakeTimeout):
                conn.connect(silent.getsockname())
            conn.close()
            known = weakref.ref(conn)
            del conn
            assert known() is None
        finally:
            gc.enable()
