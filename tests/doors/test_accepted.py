"""dtlsffi.accepted: what a listener's connection does, over real UDP."""

from __future__ import annotations

import errno
import gc
import socket
import threading
import warnings

import pytest

import dtlsffi
from dtlsffi.accepted import DTLSServerConnection
from dtlsffi.core.endpoint_connection import EndpointConnection
from dtlsffi.core.errors import make
from dtlsffi.engine import Engine
from dtlsffi.server import DTLSListener, create_server
from dtlsffi.testing import Authority
from tests.doors.accepting import LOOPBACK, Both, Pair, Stepwise, accept, connect, raises_in_thread
from tests.helpers import HOST


def test_it_is_accepted_and_never_made() -> None:
    """As sockets of ssl."""
    with pytest.raises(TypeError):
        dtlsffi.DTLSServerConnection()


# ---- waiting ----


def test_recvs_patience(pair: Pair) -> None:
    """How long it waits, or that it does not; the connection goes on."""
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


def test_the_end_is_not_seen_before_what_came_before_it(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even while the listener's thread knows of the close, and has not handed out what it has received."""
    client, server = pair
    server.settimeout(0)
    seen: list[object] = []
    accepted = Engine.accepted

    def look() -> None:
        try:
            seen.append(server.recv())
        except dtlsffi.DTLSWantReadError:
            seen.append(None)

    def looked_at(engine: Engine) -> list[dtlsffi.EndpointConnection]:
        if server._connection.peer_closed and not seen:
            looking = threading.Thread(target=look)
            looking.start()
            looking.join()
        return accepted(engine)

    monkeypatch.setattr(Engine, "accepted", looked_at)
    client.send(b"last words")
    client.close()
    while not seen:
        pass
    server.settimeout(10)
    received = [what for what in seen if what is not None]  # or the two have come one after the other
    while b"" not in received:
        received.append(server.recv())
    assert received == [b"last words", b""]


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
