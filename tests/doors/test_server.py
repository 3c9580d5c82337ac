"""dtlsffi.server: DTLSListener and its connections, over real UDP."""

from __future__ import annotations

import errno
import gc
import logging
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import dtlsffi
from dtlsffi.accepted import DTLSServerConnection
from dtlsffi.core.endpoint_connection import EndpointConnection
from dtlsffi.core.errors import make
from dtlsffi.server import DTLSListener, create_server
from dtlsffi.testing import Authority, Relay
from tests.interop.peers import Files, OpenSSLClient

HOST = "device.example"
LOOPBACK = ("127.0.0.1", 0)
Both = Callable[..., list[Any]]


@pytest.fixture
def listener(server_context: dtlsffi.DTLSContext) -> Iterator[DTLSListener]:
    """One on a free port, whose calls take 10 seconds at most."""
    with create_server(LOOPBACK, context=server_context) as made:
        made.settimeout(10)
        yield made


Pair = tuple[dtlsffi.DTLSSocket, DTLSServerConnection]


def connect(address: Any, context: dtlsffi.DTLSContext, **more: Any) -> dtlsffi.DTLSSocket:
    return dtlsffi.create_connection(address[:2], context=context, **{"server_hostname": HOST, "timeout": 10} | more)


def accept(listener: DTLSListener) -> DTLSServerConnection:
    conn, _ = listener.accept()
    conn.settimeout(10)
    return conn


@pytest.fixture
def pair(listener: DTLSListener, client_context: dtlsffi.DTLSContext, both: Both) -> Iterator[Pair]:
    """A client and the listener's connection with it."""
    client, server = both(
        lambda: connect(listener.getsockname(), client_context),
        lambda: accept(listener),
    )
    with client, server:
        server.do_handshake()
        yield client, server


@contextmanager
def serving(listener: DTLSListener, handler: Callable[..., object], **more: Any) -> Iterator[None]:
    """serve_forever in a thread, until the end of the block."""
    thread = threading.Thread(target=listener.serve_forever, args=(handler,), kwargs=more)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown()
        thread.join()


def echo(conn: DTLSServerConnection, _address: Any = None) -> None:
    while data := conn.recv():
        conn.send(data)


def raises_in_thread(call: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """A thread that is in `call`, and what that will raise."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, failures


class Stepwise:
    """A client that goes on only when it is told to: it has been accepted, and stops there."""

    def __init__(self, address: Any, context: dtlsffi.DTLSContext) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.connect(address)
        self.sock.settimeout(10)
        self.connection = dtlsffi.Connection(context, server_hostname=HOST)
        with suppress(dtlsffi.DTLSWantReadError):
            self.connection.do_handshake()
        self._send()
        self.receive()  # HelloVerifyRequest

    def _send(self) -> None:
        for datagram in self.connection.datagrams_to_send():
            self.sock.send(datagram)

    def receive(self) -> None:
        """Takes one datagram, and answers it."""
        self.connection.receive_datagram(self.sock.recv(65535))
        self._send()

    def __enter__(self) -> Stepwise:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


# ---- many clients ----


def test_it_is_a_door_for_clients(pair: Pair, listener: DTLSListener) -> None:
    """Both directions, every method of data, and what is known of the connection."""
    client, server = pair
    assert client.send(b"one") == 3
    assert server.recv() == b"one"
    client.send(b"two")
    assert server.recvfrom(100) == (b"two", client.getsockname())
    client.send(b"three")
    buffer = bytearray(10)
    assert server.recv_into(buffer) == 5
    assert buffer == b"three" + bytes(5)
    client.send(b"four")
    assert server.read(10, buffer) == 4
    client.send(b"five")
    assert server.read() == b"five"
    assert server.send(b"six") == 3
    server.sendall(bytearray(b"seven"))
    assert server.write(memoryview(b"eight")) == 5
    assert [client.recv() for _ in range(3)] == [b"six", b"seven", b"eight"]
    assert server.version() == client.version() == "DTLSv1.2"
    assert server.cipher() == client.cipher()
    assert server.server_side
    assert server.context is listener.context
    assert server.getpeername() == client.getsockname()
    assert server.getsockname() == listener.getsockname() == client.getpeername()
    assert listener.statistics()["handshakes_completed"] == 1
    assert listener.family == socket.AF_INET
    assert str(client.getsockname()[1]) in repr(server)
    for call in (lambda: server.send(b"x", 1), lambda: server.recv(1, 1), lambda: server.recv_into(buffer, 1, 1)):
        with pytest.raises(ValueError, match="non-zero flags not allowed"):
            call()
    with pytest.raises(ValueError, match="negative buffersize"):
        server.recv(-1)
    with pytest.raises(ValueError, match="an empty datagram"):
        server.send(b"")
    with pytest.raises(dtlsffi.DatagramTooLarge):
        server.send(bytes(20_000))
    with pytest.raises(TypeError, match="can be written to"):
        server.recv_into(b"constant")
    with pytest.raises(NotImplementedError, match="no socket of its own"):
        server.unwrap()
    for kind in (DTLSListener, DTLSServerConnection):
        with pytest.raises(TypeError, match="no public constructor"):
            kind()


def test_fifty_clients_at_once_are_not_mixed_up(listener: DTLSListener, client_context: dtlsffi.DTLSContext) -> None:
    """Each gets what it has sent, and the server sees each one's port in it."""
    wrong: list[object] = []

    def handler(conn: DTLSServerConnection, address: Any) -> None:
        while data := conn.recv():
            if not data.startswith(b"%d:" % address[1]):
                wrong.append((address, data))
            conn.send(data)

    def client(_number: int) -> int:
        count = 0
        with connect(listener.getsockname(), client_context, timeout=30) as conn:
            conn.settimeout(1)
            while count < 10:
                words = b"%d:%d" % (conn.getsockname()[1], count)
                conn.send(words)
                with suppress(TimeoutError):  # fifty handshakes in a hurry may fill a socket's buffer
                    count += conn.recv() == words
        return count

    with ThreadPoolExecutor(50) as pool, serving(listener, handler):
        assert list(pool.map(client, range(50))) == [10] * 50
    assert not wrong
    assert listener.statistics()["handshakes_completed"] == 50


def test_accept_returns_before_the_handshake(listener: DTLSListener, client_context: dtlsffi.DTLSContext) -> None:
    """The first call that moves data waits for it."""
    with Stepwise(listener.getsockname(), client_context) as client:
        conn, address = listener.accept()
        with conn:
            assert address == client.sock.getsockname() == conn.getpeername()
            assert conn.version() is None
            assert not conn.is_established
            conn.settimeout(0)
            for call in (conn.do_handshake, conn.recv, lambda: conn.send(b"x")):
                with pytest.raises(dtlsffi.DTLSWantReadError):
                    call()
            conn.settimeout(0.01)
            with pytest.raises(dtlsffi.HandshakeTimeout, match=r"within 0\.01 s"):
                conn.recv()
            conn.settimeout(10)
            while not client.connection.is_established:
                client.receive()
            assert conn.send(b"welcome") == 7
            received: list[bytes] = []
            while not received:
                client.receive()
                received = client.connection.data_received()
            assert received == [b"welcome"]


def test_a_slow_client_delays_nobody(listener: DTLSListener, client_context: dtlsffi.DTLSContext, both: Both) -> None:
    """It has begun a handshake, and says no more."""
    with Stepwise(listener.getsockname(), client_context), accept(listener) as slow:
        begin = time.monotonic()
        client, server = both(lambda: connect(listener.getsockname(), client_context), lambda: accept(listener))
        with client, server:
            client.send(b"quick")
            assert server.recv() == b"quick"
        assert time.monotonic() - begin < 5
        assert not slow.is_established


def test_twenty_handshakes_get_through_a_lossy_wire(authority: Authority) -> None:
    """The listener sends its flights again by itself."""
    client_context, server_context = authority.client_context(), authority.server_context(HOST)
    client_context.retransmission = server_context.retransmission = (0.02, 2.0, 0.1)

    def client(_number: int) -> bool:
        with connect(wire.address, client_context, timeout=60) as conn:
            conn.settimeout(0.05)
            while True:
                conn.send(b"x")
                with suppress(TimeoutError):
                    return conn.recv() == b"x"

    with (
        create_server(LOOPBACK, context=server_context) as listener,
        Relay(listener.getsockname(), seed=3, loss=0.3) as wire,
        ThreadPoolExecutor(20) as pool,
        serving(listener, echo),
    ):
        assert all(pool.map(client, range(20)))
        assert listener.statistics()["handshakes_completed"] >= 20


def test_openssl_is_a_client(listener: DTLSListener, authority: Authority, tmp_path: Path) -> None:
    """`openssl s_client` says a line, gets it back, and closes."""
    with (
        OpenSSLClient(Files(tmp_path), listener.getsockname(), authority.certificate) as client,
        accept(listener) as conn,
    ):
        client.say("from openssl")
        assert conn.recv() == b"from openssl\n"
        conn.send(b"from dtlsffi\n")
        client.expect("from dtlsffi")
        client.say("Q")
        assert conn.recv() == b""


# ---- addresses ----


def test_ipv6(server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext, both: Both) -> None:
    """Only that, unless it is asked to take both."""
    with create_server(("::1", 0), context=server_context) as listener:
        assert listener.family == socket.AF_INET6
        client, server = both(lambda: connect(listener.getsockname(), client_context), lambda: accept(listener))
        with client, server:
            assert server.getpeername() == client.getsockname()
            server.send(b"six")
            assert client.recv() == b"six"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_dual_stack(
    server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext, both: Both, host: str
) -> None:
    """IPv4 comes in as a mapped address."""
    with create_server(("", 0), context=server_context, dualstack_ipv6=True) as listener:
        address = (host, listener.getsockname()[1])
        client, server = both(lambda: connect(address, client_context), lambda: accept(listener))
        with client, server:
            mapped = f"::ffff:{host}" if host == "127.0.0.1" else host
            assert server.getpeername()[:2] == (mapped, client.getsockname()[1])
            server.send(b"either")
            assert client.recv() == b"either"


def test_a_port_can_be_shared_only_on_purpose(server_context: dtlsffi.DTLSContext) -> None:
    """As with socket.create_server: the address is in the error."""
    with create_server(("", 0), context=server_context) as first:
        address = first.getsockname()
        assert address[0] == "0.0.0.0"  # noqa: S104 - that is what is asked for
        with pytest.raises(OSError, match="while attempting to bind on address") as caught:
            create_server(("", address[1]), context=server_context)
        assert caught.value.errno == errno.EADDRINUSE
    secret = bytes(range(32))
    with create_server(LOOPBACK, context=server_context, reuse_port=True, cookie_secret=secret) as first:
        create_server(first.getsockname(), context=server_context, reuse_port=True, cookie_secret=secret).close()


def test_arguments_are_checked(server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext) -> None:
    """By name, and nothing is left open."""
    for error, words, arguments in (
        (ValueError, "PROTOCOL_DTLS_CLIENT context cannot take the server's side", {"context": client_context}),
        (TypeError, "context is a DTLSContext", {"context": None}),
        (ValueError, "dualstack_ipv6", {"dualstack_ipv6": True, "family": socket.AF_INET}),
        (ValueError, "cookie_secret", {"cookie_secret": b"short"}),
        (ValueError, "max_pending", {"max_pending": 0}),
        (TypeError, "sausages", {"sausages": 3}),
    ):
        with pytest.raises(error, match=words):
            create_server(LOOPBACK, **{"context": server_context} | arguments)  # type: ignore[arg-type]


def test_a_bound_socket_becomes_a_listener(
    server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext, both: Both
) -> None:
    """It is used up, and its timeout is inherited; others are left alone."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with socket.socket() as tcp, udp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.close()
        for sock, error, words in (
            (tcp, ValueError, "SOCK_STREAM"),
            (udp, ValueError, "not bound"),
            (closed, OSError, "closed"),
            (42, TypeError, "not int"),
        ):
            with pytest.raises(error, match=words):
                DTLSListener._create(sock, server_context)  # type: ignore[arg-type]
        udp.connect(("127.0.0.1", 9))
        with pytest.raises(ValueError, match="is connected"):
            DTLSListener._create(udp, server_context)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(LOOPBACK)
        sock.settimeout(7)
        with DTLSListener._create(sock, server_context) as listener:
            assert sock.fileno() == -1
            assert listener.gettimeout() == 7
            client, server = both(lambda: connect(listener.getsockname(), client_context), lambda: accept(listener))
            with client, server:
                server.send(b"x")
                assert client.recv() == b"x"


def test_two_listeners_connect(authority: Authority) -> None:
    """A client's connection from a listener's own port."""
    contexts = []
    for _ in range(2):
        identity = authority.issue("127.0.0.1")
        context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS)
        context.load_cert_chain(identity.certificate, identity.key)
        context.load_verify_locations(cadata=authority.certificate)
        context.verify_mode = dtlsffi.CERT_REQUIRED
        context.check_hostname = True
        contexts.append(context)
    with (
        create_server(LOOPBACK, context=contexts[0]) as one,
        create_server(LOOPBACK, context=contexts[1]) as two,
        one.connect(two.getsockname()) as client,
        accept(two) as server,
    ):
        client.settimeout(10)
        client.send(b"from a listener")
        assert server.recv() == b"from a listener"
        assert server.getpeername() == one.getsockname()
        assert not client.server_side
        with pytest.raises(ValueError, match="already"):
            one.connect(two.getsockname())


# ---- waiting ----


def test_accepts_patience(listener: DTLSListener) -> None:
    """A timeout, none, and no waiting at all."""
    assert create_server.__module__ == "dtlsffi.server"
    listener.settimeout(0.01)
    with pytest.raises(TimeoutError, match=r"timed out after 0\.01 s"):
        listener.accept()
    listener.setblocking(False)
    assert listener.gettimeout() == 0
    assert not listener.getblocking()
    with pytest.raises(BlockingIOError) as caught:
        listener.accept()
    assert caught.value.errno == errno.EAGAIN
    for value, error in ((-1, ValueError), (float("nan"), ValueError), ("1", TypeError)):
        with pytest.raises(error):
            listener.settimeout(value)  # type: ignore[arg-type]
    listener.setblocking(True)
    assert listener.gettimeout() is None


def test_recvs_patience(pair: Pair) -> None:
    """The same for a connection; it goes on."""
    client, server = pair
    server.settimeout(0.01)
    with pytest.raises(TimeoutError, match=r"timed out after 0\.01 s"):
        server.recv()
    server.setblocking(False)
    with pytest.raises(dtlsffi.DTLSWantReadError):
        server.recv()
    server.setblocking(True)
    client.send(b"x")
    assert server.recv() == b"x"


def test_an_accepted_connection_has_the_default_timeout(
    listener: DTLSListener, client_context: dtlsffi.DTLSContext
) -> None:
    """As with socket.accept: not the listener's."""
    with Stepwise(listener.getsockname(), client_context), listener.accept()[0] as conn:
        assert conn.gettimeout() is None


def test_a_record_that_is_too_large_is_kept(pair: Pair) -> None:
    """For a call with more room; pending() tells."""
    client, server = pair
    client.send(b"12345")
    with pytest.raises(dtlsffi.DatagramTooLarge, match="5 bytes, more than the 4 asked for"):
        server.recv(4)
    with pytest.raises(dtlsffi.DatagramTooLarge):
        server.recv_into(bytearray(10), 3)
    assert server.pending() == 5
    assert server.recv(5) == b"12345"
    assert server.pending() == 0


def test_a_full_send_buffer_is_waited_for(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback never fills up, so it is said to."""
    client, server = pair
    send, tries = EndpointConnection.send, []

    def full(connection: EndpointConnection, data: bytes) -> int:
        tries.append(data)
        if len(tries) % 3:
            raise make(dtlsffi.DTLSWantWriteError, "WANT_WRITE", "full")
        return send(connection, data)

    monkeypatch.setattr(EndpointConnection, "send", full)
    server.settimeout(0)
    with pytest.raises(dtlsffi.DTLSWantWriteError):
        server.send(b"no")
    server.settimeout(10)
    assert server.send(b"at last") == 7
    assert client.recv() == b"at last"
    assert len(tries) == 3


# ---- the peer ----


def test_the_peers_close_is_the_end(pair: Pair) -> None:
    """b"" after what came before it."""
    client, server = pair
    client.send(b"last words")
    client.close()
    assert server.recv() == b"last words"
    assert server.recv() == b""
    assert server.recv_into(bytearray(10)) == 0


def test_a_client_without_its_certificate_fails_alone(authority: Authority, both: Both) -> None:
    """recv() and send() raise, each time; the next client is served."""
    client_context, server_context = authority.client_context(), authority.server_context(HOST)
    server_context.verify_mode = dtlsffi.CERT_REQUIRED
    server_context.load_verify_locations(cadata=authority.certificate)
    server_context.retransmission = client_context.retransmission = (0.01, 2.0, 0.1)
    good = authority.client_context()
    identity = authority.issue("client.example")
    good.load_cert_chain(identity.certificate, identity.key)
    with create_server(LOOPBACK, context=server_context) as listener:
        listener.settimeout(10)

        def refused() -> None:
            with pytest.raises(dtlsffi.DTLSError):
                connect(listener.getsockname(), client_context)

        def refuse() -> None:
            with accept(listener) as conn:
                for call in (conn.recv, lambda: conn.send(b"x"), conn.do_handshake):
                    with pytest.raises(dtlsffi.DTLSError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
                        call()

        both(refused, refuse)
        client, server = both(lambda: connect(listener.getsockname(), good), lambda: accept(listener))
        with client, server:
            client.send(b"with one")
            assert server.recv() == b"with one"
            cert = server.getpeercert()
            assert cert is not None
            assert cert["subjectAltName"] == (("DNS", "client.example"),)


def test_a_client_that_begins_again_replaces_its_old_connection(
    listener: DTLSListener, client_context: dtlsffi.DTLSContext, both: Both
) -> None:
    """From the same port, without a goodbye: accepted when its handshake is finished, and then the old one fails."""
    first, old = both(lambda: connect(listener.getsockname(), client_context), lambda: accept(listener))
    source = first.getsockname()
    first.send(b"unread")
    socket.socket.close(first)
    with old:
        again, new = both(
            lambda: connect(listener.getsockname(), client_context, source_address=source),
            lambda: accept(listener),
        )
        with again, new:
            assert new.getpeername() == old.getpeername() == source
            assert old.recv() == b"unread"
            for call in (old.recv, lambda: old.send(b"x")):
                with pytest.raises(dtlsffi.DTLSError, match="REPLACED"):
                    call()
            again.send(b"new")
            assert new.recv() == b"new"


def test_silence_ends_a_connection(server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext) -> None:
    """`idle_timeout` and `handshake_timeout` are the listener's timers; both sides are told."""
    with create_server(LOOPBACK, context=server_context, idle_timeout=0.05, handshake_timeout=0.3) as listener:
        with connect(listener.getsockname(), client_context) as client, accept(listener) as conn:
            assert conn.recv() == b""
            with pytest.raises(dtlsffi.DTLSZeroReturnError):
                conn.send(b"x")
            assert client.recv() == b""
        with (
            Stepwise(listener.getsockname(), client_context),
            accept(listener) as conn,
            pytest.raises(dtlsffi.HandshakeTimeout, match=r"within 0\.3 s"),
        ):
            conn.recv()


def test_callbacks_get_the_connection(authority: Authority, both: Both) -> None:
    """From the first message on; one that waits is told that it cannot, and one may close."""
    client_context, server_context = authority.client_context(), authority.server_context(HOST)
    client_context.retransmission = server_context.retransmission = (0.01, 2.0, 0.1)
    met: list[object] = []
    failures: list[BaseException] = []

    def choose(conn: DTLSServerConnection, *_: object) -> None:
        met.append(conn)
        try:
            conn.recv()
        except dtlsffi.DTLSError as error:
            failures.append(error)
        if len(met) == 2:
            conn.close()

    server_context.sni_callback = choose
    with create_server(LOOPBACK, context=server_context) as listener:
        client, server = both(lambda: connect(listener.getsockname(), client_context), lambda: accept(listener))
        with client, server:
            assert met == [server]
            assert [getattr(failure, "reason", "") for failure in failures] == ["REENTERED"]
            with pytest.raises(dtlsffi.DTLSError):
                connect(listener.getsockname(), client_context, timeout=10)
            client.send(b"the listener goes on")
            assert server.recv() == b"the listener goes on"


def test_what_a_callback_raises_is_its_connections_end(authority: Authority, both: Both) -> None:
    """And comes out of that one's recv()."""
    client_context, server_context = authority.client_context(), authority.server_context(HOST)

    def choose(*_: object) -> None:
        raise KeyError("nobody of that name")

    server_context.sni_callback = choose
    with (
        create_server(LOOPBACK, context=server_context) as listener,
        Stepwise(listener.getsockname(), client_context),
        accept(listener) as conn,
        pytest.raises(KeyError, match="nobody of that name"),
    ):
        conn.recv()


# ---- the end ----


def test_close_ends_whatever_waits(
    server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext, both: Both
) -> None:
    """accept() and recv() in other threads get EBADF; the clients get close_notify."""
    listener = create_server(LOOPBACK, context=server_context)
    client, server = both(lambda: connect(listener.getsockname(), client_context), lambda: accept(listener))
    with client:
        server.settimeout(None)
        waiting = [raises_in_thread(listener.accept), raises_in_thread(server.recv)]
        listener.close()
        for thread, failures in waiting:
            thread.join()
            assert [getattr(failure, "errno", None) for failure in failures] == [errno.EBADF]
        assert client.recv() == b""
        listener.close()
        assert listener.fileno() == -1
        for call in (
            listener.accept,
            lambda: listener.connect(("127.0.0.1", 9)),
            lambda: listener.serve_forever(echo),
            server.recv,
            server.do_handshake,
            server.shutdown,
            lambda: server.send(b"x"),
        ):
            with pytest.raises(OSError, match="closed") as caught:
                call()
            assert caught.value.errno == errno.EBADF
        server.close()


def test_a_connections_close_ends_its_recv(pair: Pair, listener: DTLSListener, both: Both) -> None:
    """EBADF for who waits, close_notify for the peer, and the listener goes on."""
    client, server = pair
    server.settimeout(None)
    thread, failures = raises_in_thread(server.recv)
    server.close()
    thread.join()
    assert [getattr(failure, "errno", None) for failure in failures] == [errno.EBADF]
    assert client.recv() == b""
    again, server = both(lambda: connect(listener.getsockname(), client.context), lambda: accept(listener))
    with again, server:
        assert listener.statistics()["connections"] == 1


@pytest.mark.parametrize("how", [socket.SHUT_RDWR, socket.SHUT_WR, socket.SHUT_RD])
def test_shutdown_ends_one_direction_or_both(pair: Pair, how: int) -> None:
    """As with DTLSSocket."""
    client, server = pair
    server.shutdown(how)
    if how != socket.SHUT_RD:
        assert client.recv() == b""
        with pytest.raises(dtlsffi.DTLSZeroReturnError):
            server.send(b"x")
    else:
        server.send(b"x")
        assert client.recv() == b"x"
    if how == socket.SHUT_WR:
        client.send(b"y")
        assert server.recv() == b"y"
    else:
        assert server.recv() == b""


def test_the_accept_queue_is_bounded(listener: DTLSListener, client_context: dtlsffi.DTLSContext, both: Both) -> None:
    """listen() says how many may wait; who comes too early says hello again, and gets in once there is room."""
    listener.listen(1)

    def make_room() -> None:
        while not listener.statistics()["refused_backlog"]:
            threading.Event().wait(0.001)
        listener.accept()[0].close()
        with accept(listener) as conn:
            conn.do_handshake()

    with Stepwise(listener.getsockname(), client_context):
        while not listener._engine.queue:
            threading.Event().wait(0.001)
        client, _ = both(lambda: connect(listener.getsockname(), client_context), make_room)
        client.close()


def test_a_forgotten_listener_warns(server_context: dtlsffi.DTLSContext) -> None:
    """ResourceWarning, and its thread and its socket end."""
    listener = create_server(LOOPBACK, context=server_context)
    thread, descriptor = listener._engine.thread, listener.fileno()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del listener
        gc.collect()
        thread.join()
    assert [str(warning.message)[:22] for warning in caught] == ["unclosed <DTLSListener"]
    assert caught[0].category is ResourceWarning
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_forgotten_connection_warns(listener: DTLSListener, client_context: dtlsffi.DTLSContext, both: Both) -> None:
    """ResourceWarning, and its peer gets close_notify."""
    with connect(listener.getsockname(), client_context) as client:
        conn, _ = listener.accept()
        conn.do_handshake()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del conn
            gc.collect()
        assert [str(warning.message)[:30] for warning in caught] == ["unclosed <DTLSServerConnection"]
        assert caught[0].category is ResourceWarning
        assert client.recv() == b""


def test_a_connection_keeps_its_listener(
    server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext
) -> None:
    """Who has only the connection can go on with it."""
    listener = create_server(LOOPBACK, context=server_context)
    with connect(listener.getsockname(), client_context) as client:
        conn = accept(listener)
        thread = listener._engine.thread
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del listener
            gc.collect()
            assert not caught
            with conn:
                conn.send(b"still here")
                assert client.recv() == b"still here"
            del conn
            gc.collect()
            assert [warning.category for warning in caught] == [ResourceWarning]
        thread.join()


def test_after_fork_it_is_the_parents(pair: Pair, listener: DTLSListener) -> None:
    """The child's copies raise, and closing them disturbs nobody."""
    client, server = pair
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        with suppress(BaseException):
            for call in (server.recv, lambda: server.send(b"x"), listener.accept, listener.shutdown):
                with pytest.raises(dtlsffi.DTLSError, match="USED_AFTER_FORK"):
                    call()
            server.close()
            listener.close()
            status = 0
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    client.send(b"the parent goes on")
    assert server.recv() == b"the parent goes on"


def test_a_lost_socket_is_said(server_context: dtlsffi.DTLSContext, caplog: pytest.LogCaptureFixture) -> None:
    """Who closes the descriptor behind its back finds out from accept()."""
    listener = create_server(LOOPBACK, context=server_context)
    with listener, caplog.at_level(logging.CRITICAL, "dtlsffi.server"):
        thread, failures = raises_in_thread(listener.accept)
        listener._engine.sock.close()
        listener._engine.wake()
        thread.join()
        assert [getattr(failure, "errno", None) for failure in failures] == [errno.EBADF]
        assert isinstance(failures[0].__cause__, (OSError, ValueError))


def test_something_unforeseen_is_logged_and_survived(
    pair: Pair, listener: DTLSListener, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round that fails is not the last."""
    client, server = pair
    pump, failures = listener._engine.pump, [MemoryError("for once")]

    def pump_or_fail(now: float) -> bool:
        if failures:
            raise failures.pop()
        return pump(now)

    monkeypatch.setattr(listener._engine, "pump", pump_or_fail)
    client.send(b"x")
    assert server.recv() == b"x"
    assert "MemoryError: for once" in caplog.text


# ---- serve_forever ----


def test_serve_forever_ends_with_shutdown(listener: DTLSListener, client_context: dtlsffi.DTLSContext) -> None:
    """The connection is closed when its handler ends; handlers that run go on."""
    with (
        serving(listener, lambda conn, _: conn.send(conn.recv())),
        connect(listener.getsockname(), client_context) as client,
    ):
        client.send(b"once")
        assert client.recv() == b"once"
        assert client.recv() == b""
    listener.shutdown()
    listener.serve_forever(echo)  # shutdown() came first
    with serving(listener, echo):
        client = connect(listener.getsockname(), client_context)
        client.send(b"x")
        assert client.recv() == b"x"
        with pytest.raises(RuntimeError, match="running already"):
            listener.serve_forever(echo)
    with client:
        client.send(b"after shutdown")
        assert client.recv() == b"after shutdown"
    with pytest.raises(ValueError, match="threads"):
        listener.serve_forever(echo, threads=0)


def test_threads_bounds_the_handlers(listener: DTLSListener, client_context: dtlsffi.DTLSContext) -> None:
    """The third client waits for one of the first two to go."""
    running: list[int] = []
    most: list[int] = []

    def handler(conn: DTLSServerConnection, address: Any) -> None:
        running.append(address[1])
        most.append(len(running))
        echo(conn)
        running.remove(address[1])

    with serving(listener, handler, threads=2):
        clients = [connect(listener.getsockname(), client_context) for _ in range(3)]
        for client in clients:
            client.send(b"x")
        for client in clients:
            assert client.recv() == b"x"
            client.close()
    listener.close()
    assert max(most) == 2
    assert len(most) == 3


def test_a_handlers_exception_is_logged_and_ends_its_connection_only(
    listener: DTLSListener, client_context: dtlsffi.DTLSContext, caplog: pytest.LogCaptureFixture
) -> None:
    """With a traceback, in the logger dtlsffi.server."""

    def handler(conn: DTLSServerConnection, _address: Any) -> None:
        while data := conn.recv():
            conn.send(b"%d" % (10 // int(data)))

    with (
        serving(listener, handler),
        connect(listener.getsockname(), client_context) as one,
        connect(listener.getsockname(), client_context) as two,
    ):
        one.send(b"0")
        assert one.recv() == b""
        two.send(b"5")
        assert two.recv() == b"2"
    listener.close()
    (record,) = [record for record in caplog.records if record.name == "dtlsffi.server" and record.levelno >= 30]
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    assert "the handler of 127.0.0.1:" in record.getMessage()


def test_a_handshake_that_fails_is_no_news(
    server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no fault of the handler's: a line at level INFO, no traceback."""
    with (
        caplog.at_level(logging.INFO, "dtlsffi.server"),
        create_server(LOOPBACK, context=server_context, handshake_timeout=0.05) as listener,
        serving(listener, echo),
        Stepwise(listener.getsockname(), client_context),
    ):
        while not caplog.records:
            threading.Event().wait(0.001)
    assert [(record.levelno, record.exc_info) for record in caplog.records] == [(logging.INFO, None)]
    assert "did not finish its handshake" in caplog.text


@pytest.mark.parametrize("by_handler", [False, True])
def test_close_ends_serve_forever_and_its_handlers(
    server_context: dtlsffi.DTLSContext,
    client_context: dtlsffi.DTLSContext,
    caplog: pytest.LogCaptureFixture,
    by_handler: bool,
) -> None:
    """From another thread, or from a handler; nothing is logged for that."""
    listener = create_server(LOOPBACK, context=server_context)
    handlers: list[threading.Thread] = []

    def handler(conn: DTLSServerConnection, _address: Any) -> None:
        handlers.append(threading.current_thread())
        conn.send(b"here")
        if conn.recv() == b"close":
            listener.close()
        conn.recv()

    server = threading.Thread(target=listener.serve_forever, args=(handler,))
    server.start()
    with connect(listener.getsockname(), client_context) as client:
        assert client.recv() == b"here"
        if by_handler:
            client.send(b"close")
            handlers[0].join()
        else:
            listener.close()
            assert not handlers[0].is_alive()
        assert client.recv() == b""
        server.join()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
