"""dtlsffi.sockets: DTLSSocket, over real UDP."""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import dtlsffi
from dtlsffi.testing import Authority, Relay
from tests.doors.listening import listening

HOST = "device.example"
Sockets = tuple[socket.socket, socket.socket]
Pair = tuple[dtlsffi.DTLSSocket, dtlsffi.DTLSSocket]


# ---- wrap_socket ----


def test_what_cannot_be_wrapped_is_said_and_left_alone(client_context: dtlsffi.DTLSContext, udp_pair: Sockets) -> None:
    """A TCP socket, an unconnected one, a closed one, no socket at all, one that does not block."""
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unconnected:
        closed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        closed.close()
        udp_pair[0].setblocking(False)
        for sock, error, words in (
            (tcp, ValueError, r"UDP socket \(SOCK_DGRAM\), not SOCK_STREAM"),
            (unconnected, ValueError, r"not connected to a peer: call its connect\(\) first"),
            (closed, OSError, "closed"),
            (42, TypeError, "not int"),
            (udp_pair[0], ValueError, "do_handshake_on_connect should not be specified for non-blocking sockets"),
        ):
            with pytest.raises(error, match=words):
                client_context.wrap_socket(sock, server_hostname=HOST)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="check_hostname requires server_hostname"):
            client_context.wrap_socket(udp_pair[1])
        assert tcp.fileno() >= 0
        assert unconnected.fileno() >= 0
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


def test_send_and_recv_have_sockets_signatures(dtls_pair: Pair) -> None:
    """Each of them, with every kind of buffer."""
    client, server = dtls_pair
    assert client.send(b"one") == 3
    client.sendall(bytearray(b"two"))
    assert client.write(memoryview(b"three")) == 5
    assert client.sendto(b"four", client.getpeername()) == 4
    assert client.sendto(b"five", 0, client.getpeername()) == 4
    assert server.recv() == b"one"
    assert server.recv(1000) == b"two"
    assert server.recvfrom() == (b"three", server.getpeername())
    buffer = bytearray(10)
    assert server.recv_into(buffer) == 4
    assert buffer == b"four" + bytes(6)
    assert server.recvfrom_into(buffer, 10) == (4, server.getpeername())
    assert buffer == b"five" + bytes(6)
    for data in (b"six", b"seven"):
        client.send(data)
    assert server.read() == b"six"
    assert server.read(10, buffer) == 5
    assert bytes(buffer[:5]) == b"seven"


def test_what_a_datagram_socket_cannot_do_is_refused(dtls_pair: Pair) -> None:
    """With ssl's exceptions."""
    client, _ = dtls_pair
    for call in (lambda: client.send(b"x", 1), lambda: client.recv(1, 1), lambda: client.recv_into(bytearray(1), 1, 1)):
        with pytest.raises(ValueError, match="non-zero flags not allowed"):
            call()
    with pytest.raises(ValueError, match="speaks with"):
        client.sendto(b"x", ("192.0.2.1", 9))
    with pytest.raises(ValueError, match="already-connected"):
        client.connect(("127.0.0.1", 9))
    with pytest.raises(ValueError, match="already-connected"):
        client.connect_ex(("127.0.0.1", 9))
    with pytest.raises(ValueError, match="negative buffersize"):
        client.recv(-1)
    with pytest.raises(ValueError, match="negative buffersize"):
        client.recv_into(bytearray(5), -1)
    with pytest.raises(ValueError, match="empty datagram"):
        client.send(b"")
    with pytest.raises(TypeError, match="not str"):
        client.send("text")
    for name in ("dup", "recvmsg", "recvmsg_into", "sendmsg", "sendfile", "makefile"):
        with pytest.raises(NotImplementedError, match=name):
            getattr(client, name)()


def test_a_record_is_never_cut(dtls_pair: Pair) -> None:
    """Too small a buffer raises, and the record is kept for a larger one: nothing is lost in silence."""
    client, server = dtls_pair
    for size in (100, 16384):
        client.send(b"x" * size)
        for attempt in (lambda: server.recv(99), lambda: server.recv_into(bytearray(50)), lambda: server.recv(0)):
            with pytest.raises(dtlsffi.DatagramTooLarge, match=f"has {size} bytes") as caught:
                attempt()
            assert caught.value.errno == errno.EMSGSIZE
            assert server.pending() == size
        assert server.recv(size) == b"x" * size
        assert server.pending() == 0
    client.send(b"y" * 10)
    server.settimeout(10)
    buffer = bytearray(20000)
    assert server.recv_into(memoryview(buffer)[5:]) == 10
    assert buffer[5:15] == b"y" * 10


def test_a_buffer_that_cannot_be_written_is_refused(dtls_pair: Pair) -> None:
    """Before anything is read."""
    client, server = dtls_pair
    client.send(b"kept")
    with pytest.raises((TypeError, BufferError)):
        server.recv_into(b"immutable")
    assert server.recv() == b"kept"


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


# ---- timeouts ----


def test_a_timeout_is_for_the_whole_call(dtls_pair: Pair) -> None:
    """TimeoutError, and the connection goes on."""
    client, server = dtls_pair
    client.settimeout(0.05)
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"timed out after 0.05 s"):
        client.recv()
    assert 0.05 <= time.monotonic() - begin < 1
    server.send(b"late")
    assert client.recv() == b"late"


@pytest.mark.parametrize("timeout", [1e-9, 86400 * 365.0])
def test_a_timeout_is_neither_too_short_nor_too_long_to_wait(dtls_pair: Pair, timeout: float) -> None:
    """0 would be for ever to setsockopt(2), and there is a largest number of seconds, too."""
    client, server = dtls_pair
    client.settimeout(timeout)
    if timeout < 1:
        with pytest.raises(TimeoutError):
            client.recv()
        return
    thread = threading.Thread(target=server.send, args=(b"at last",))
    thread.start()
    assert client.recv() == b"at last"
    thread.join()


def test_junk_does_not_prolong_a_timeout(udp_pair: Sockets, client_context: dtlsffi.DTLSContext) -> None:
    """However much of it comes."""
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            try:
                udp_pair[1].send(b"junk" * 10)
            except OSError:
                pass

    thread = threading.Thread(target=flood)
    thread.start()
    begin = time.monotonic()
    try:
        udp_pair[0].settimeout(0.3)
        with pytest.raises(dtlsffi.HandshakeTimeout, match="datagrams came, but not all"):
            client_context.wrap_socket(udp_pair[0], server_hostname=HOST)
    finally:
        stop.set()
        thread.join()
    assert 0.3 <= time.monotonic() - begin < 2


@pytest.mark.parametrize("value", [-1, -0.001, float("nan")])
def test_a_negative_timeout_is_refused(dtls_pair: Pair, value: float) -> None:
    """And the old one stays."""
    with pytest.raises(ValueError, match="out of range"):
        dtls_pair[0].settimeout(value)
    assert dtls_pair[0].gettimeout() == 10


def test_blocking_modes_are_those_of_socket(dtls_pair: Pair) -> None:
    """settimeout, setblocking and their getters agree."""
    client, _ = dtls_pair
    for change, timeout, blocking in (
        (lambda: client.settimeout(3), 3.0, True),
        (lambda: client.settimeout(0), 0.0, False),
        (lambda: client.settimeout(None), None, True),
        (lambda: client.setblocking(False), 0.0, False),
        (lambda: client.setblocking(True), None, True),
    ):
        change()
        assert (client.gettimeout(), client.timeout, client.getblocking()) == (timeout, timeout, blocking)
    with pytest.raises(TypeError):
        client.settimeout("soon")  # type: ignore[arg-type]


def test_a_handshake_takes_its_retransmissions_inside_the_timeout(
    client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """A third of everything is lost, and settimeout(20) means twenty seconds in all."""
    with (
        listening(server_context, lambda conn: conn.send(conn.recv())) as server,
        Relay(server.getsockname(), seed=1, loss=1 / 3) as wire,
        dtlsffi.create_connection(wire.address, context=client_context, server_hostname=HOST, timeout=20) as conn,
    ):
        assert conn.statistics()["flights_retransmitted"] > 0
        conn.settimeout(0.05)
        echo = b""
        while not echo:
            conn.send(b"x")
            with suppress(TimeoutError):
                echo = conn.recv()


def test_without_blocking_the_caller_waits(
    udp_pair: Sockets, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """The select loop of the README: DTLSWantReadError, get_timer(), handle_timer()."""
    for sock in udp_pair:
        sock.setblocking(False)
    with (
        client_context.wrap_socket(udp_pair[0], server_hostname=HOST, do_handshake_on_connect=False) as client,
        server_context.wrap_socket(udp_pair[1], server_side=True, do_handshake_on_connect=False) as server,
    ):
        assert client.get_timer() is None
        unfinished = [server, client]
        lost = False
        while True:
            for conn in list(unfinished):
                try:
                    conn.do_handshake()
                    unfinished.remove(conn)
                except dtlsffi.DTLSWantReadError:
                    pass
            if not lost and select.select([server], [], [], 0)[0]:
                socket.socket.recv(server, 65535)  # the first flight gets lost, so the timer has to run out
                lost = True
            if not unfinished:
                break
            timers = [timer for conn in unfinished if (timer := conn.get_timer()) is not None]
            select.select(unfinished, [], [], min(timers, default=5))
            for conn in unfinished:
                if conn.get_timer() == 0:
                    conn.handle_timer()
        assert client.statistics()["flights_retransmitted"] >= 1
        with pytest.raises(dtlsffi.DTLSWantReadError):
            client.recv()
        server.send(b"x")
        select.select([client], [], [], 5)
        assert client.recv() == b"x"


def test_a_full_send_buffer_is_want_write(
    both: Callable[..., list[dtlsffi.DTLSSocket]],
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
) -> None:
    """Nothing was sent then, and the same data can be sent again later; a blocking send waits.

    Loopback never fills up, it drops; a pair of local datagram sockets does fill up.
    """
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for sock in pair:
        sock.settimeout(10)
    client, server = both(
        lambda: client_context.wrap_socket(pair[0], server_hostname=HOST),
        lambda: server_context.wrap_socket(pair[1], server_side=True),
    )
    with client, server:
        client.setblocking(False)
        sent = 0
        with pytest.raises(dtlsffi.DTLSWantWriteError, match="send buffer is full"):
            while True:
                client.send(sent.to_bytes(4, "big"))
                sent += 1
        assert sent > 0
        assert client.statistics()["records_sent"] == sent
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.send(b"no room")
        client.settimeout(10)
        _, received = both(lambda: client.send(b"after all"), lambda: [server.recv() for _ in range(sent + 1)])
        assert received == [*(number.to_bytes(4, "big") for number in range(sent)), b"after all"]


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own way with SIGINT, which a background job may have been started without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_a_blocking_call_at_once(dtls_pair: Pair) -> None:
    """KeyboardInterrupt, and the connection goes on."""
    client, _ = dtls_pair
    client.settimeout(None)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        client.recv()
    assert time.monotonic() - begin < 5
    timer.join()


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_a_handshake_at_once_and_closes(udp_pair: Sockets, client_context: dtlsffi.DTLSContext) -> None:
    """No socket is left behind."""
    udp_pair[0].settimeout(None)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        client_context.wrap_socket(udp_pair[0], server_hostname=HOST)
    timer.join()
    assert udp_pair[0].fileno() == -1


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


def test_the_peers_close_is_the_end(dtls_pair: Pair) -> None:
    """b"" for every recv after what came before it, as in ssl; pending() is 0."""
    client, server = dtls_pair
    client.send(b"last words")
    client.close()
    assert server.recv() == b"last words"
    assert server.recv() == b""
    assert server.recv_into(bytearray(10)) == 0
    assert server.recv() == b""
    assert server.pending() == 0


# ---- the end ----


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
    while not client._connection.is_waited_for:
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


@pytest.mark.parametrize("how", [socket.SHUT_RDWR, socket.SHUT_WR, socket.SHUT_RD])
def test_shutdown_ends_one_direction_or_both(dtls_pair: Pair, how: int) -> None:
    """close_notify where we stop sending, b"" where we stop receiving."""
    client, server = dtls_pair
    client.shutdown(how)
    if how != socket.SHUT_RD:
        assert server.recv() == b""
        with pytest.raises(dtlsffi.DTLSZeroReturnError):
            client.send(b"x")
    else:
        client.send(b"x")
        assert server.recv() == b"x"
    if how == socket.SHUT_WR:
        server.send(b"y")
        assert client.recv() == b"y"
    else:
        assert client.recv() == b""


def test_shutdown_wakes_whoever_waits(dtls_pair: Pair, both: Callable[..., list[object]]) -> None:
    """recv() in another thread gets b""."""
    client, _ = dtls_pair
    client.settimeout(None)

    def stop() -> None:
        while not client._connection.is_waited_for:
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
    with pytest.raises(dtlsffi.DTLSError, match="a callback cannot move its own connection on"):
        client_context.wrap_socket(udp_pair[0], server_hostname=HOST)
