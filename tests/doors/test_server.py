"""dtlsffi.server: DTLSListener, over real UDP: its clients, its addresses, its queue, its thread."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

import dtlsffi
from dtlsffi.accepted import DTLSServerConnection
from dtlsffi.server import DTLSListener, create_server
from dtlsffi.testing import Authority, Relay
from tests.doors.accepting import LOOPBACK, Both, Pair, Stepwise, accept, connect, echo, serving
from tests.helpers import HOST
from tests.interop.peers import OpenSSLClient
from tests.interop.programs import Files

# ---- many clients ----


def test_it_is_a_door_for_clients(pair: Pair, listener: DTLSListener) -> None:
    """Both directions, and what is known of the connection. test_manners.py has every method of data."""
    client, server = pair
    assert client.send(b"one") == 3
    assert server.recv() == b"one"
    assert server.send(b"two") == 3
    assert client.recv() == b"two"
    assert server.version() == client.version() == "DTLSv1.2"
    assert server.cipher() == client.cipher()
    assert server.server_side
    assert server.context is listener.context
    assert server.getpeername() == client.getsockname()
    assert server.getsockname() == listener.getsockname() == client.getpeername()
    assert listener.statistics()["handshakes_completed"] == 1
    assert listener.family == socket.AF_INET
    assert str(client.getsockname()[1]) in repr(server)
    with pytest.raises(dtlsffi.DatagramTooLarge):
        server.send(bytes(20_000))
    with pytest.raises(NotImplementedError, match="no socket of its own"):
        server.unwrap()
    for kind in (DTLSListener, DTLSServerConnection):
        with pytest.raises(TypeError, match="does not have a public constructor"):
            kind()


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
            client.shake_hands()
            assert conn.send(b"welcome") == 7
            assert client.recv() == b"welcome"


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
        Relay(listener.getsockname(), seed=3, loss=0.2) as wire,
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


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_dual_stack(
    server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext, both: Both, host: str
) -> None:
    """IPv4 comes in as a mapped address."""
    with create_server(("", 0), context=server_context, dualstack_ipv6=True) as listener:
        assert listener.family == socket.AF_INET6
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


def test_the_accept_queue_is_bounded(listener: DTLSListener, client_context: dtlsffi.DTLSContext, both: Both) -> None:
    """listen() says how many may wait; who comes too early says hello again, and gets in once there is room."""
    listener.listen(1)

    def make_room() -> None:
        while not listener.statistics()["refused_backlog"]:
            threading.Event().wait(0.001)
        listener.accept()[0].close()
        with accept(listener) as conn:
            conn.do_handshake()

    with connect(listener.getsockname(), client_context):
        client, _ = both(lambda: connect(listener.getsockname(), client_context), make_room)
        client.close()


def test_who_says_nothing_more_is_in_nobodys_way(
    listener: DTLSListener, client_context: dtlsffi.DTLSContext, both: Both
) -> None:
    """Handshakes that are but begun do not count in accept()'s queue: one host could lock all others out."""
    listener.listen(2)
    with ExitStack() as silent:
        for _ in range(5):
            silent.enter_context(Stepwise(listener.getsockname(), client_context))
        while len(listener._engine.queue) < 5:
            threading.Event().wait(0.001)
        with connect(listener.getsockname(), client_context) as client:
            assert client.version() == "DTLSv1.2"
        assert listener.statistics()["refused_backlog"] == 0


# ---- its thread ----


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


def test_its_connections_are_those_that_somebody_holds(
    listener: DTLSListener, client_context: dtlsffi.DTLSContext, both: Both
) -> None:
    """Once their handshakes are finished."""
    client, server = both(lambda: connect(listener.getsockname(), client_context), lambda: accept(listener))
    with client, server:
        server.do_handshake()
        assert listener.connections == [server]
    assert listener.connections == []


# ---- its socket ----


def test_it_takes_a_socket_that_is_bound(
    server_context: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext, both: Both
) -> None:
    """With options of its own; limits go with it."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(LOOPBACK)
    with create_server(sock=sock, context=server_context, idle_timeout=60) as listener:
        assert sock.fileno() == -1, "it is used up"
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 50_000)
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 100_000
        assert (listener.type, listener.proto) == (socket.SOCK_DGRAM, 0)
        assert not listener.get_inheritable()
        listener.set_inheritable(True)
        assert os.get_inheritable(listener.fileno())
        listener.settimeout(10)
        client, server = both(lambda: connect(listener.getsockname(), client_context), lambda: accept(listener))
        with client, server:
            client.send(b"in")
            assert server.recv() == b"in"
    with pytest.raises(OSError, match="closed"):
        listener.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def test_a_place_is_given_once(server_context: dtlsffi.DTLSContext) -> None:
    """An address or a socket, and the socket stays as it was."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(LOOPBACK)
        for arguments in ({}, {"address": LOOPBACK, "sock": sock}, {"sock": sock, "reuse_port": True}):
            with pytest.raises(ValueError, match="sock"):
                create_server(context=server_context, **arguments)  # type: ignore[arg-type]
        assert sock.fileno() >= 0


def test_a_class_of_ones_own_listens(server_context: dtlsffi.DTLSContext) -> None:
    """As `dtlssocket_class` is for clients."""

    class Mine(DTLSListener):
        pass

    server_context.dtlslistener_class = Mine
    with create_server(LOOPBACK, context=server_context) as listener:
        assert type(listener) is Mine


def test_what_the_kernel_had_no_room_for_is_counted(pair: Pair, listener: DTLSListener) -> None:
    """Of both sides' sockets: nothing is lost in silence."""
    client, server = pair
    assert client.statistics()["dropped_overflow"] == listener.statistics()["dropped_overflow"] == 0
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2000)
    time_is_up = time.monotonic() + 10
    while not client.statistics()["dropped_overflow"] and time.monotonic() < time_is_up:
        server.send_many([bytes(1000)] * 100)
    assert client.statistics()["dropped_overflow"] > 0
    with listener._engine.lock:  # so that nobody takes what comes
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2000)
        client.send_many([bytes(1000)] * 100)
        while not listener.statistics()["dropped_overflow"] and time.monotonic() < time_is_up:
            pass
        assert 0 < listener.statistics()["dropped_overflow"] <= 100
