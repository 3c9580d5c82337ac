"""dtlsffi.sockets: how long a DTLSSocket waits: timeouts, none, no waiting at all, Ctrl-C."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

import dtlsffi
from dtlsffi._native import lib
from dtlsffi.testing import Relay
from tests.doors.accepting import raises_in_thread, waits_in
from tests.doors.listening import listening
from tests.helpers import HOST, Pair, Sockets, not_before_3_0_7


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
        with pytest.raises(dtlsffi.HandshakeTimeout, match="datagrams came, but none of DTLS"):
            client_context.wrap_socket(udp_pair[0], server_hostname=HOST)
    finally:
        stop.set()
        thread.join()
    assert 0.3 <= time.monotonic() - begin < 2


@pytest.mark.timeout(10)
@pytest.mark.parametrize("call", ["recv", "recv_many"])
def test_a_timeout_holds_where_somebody_keeps_the_socket_ready(dtls_pair: Pair, call: str) -> None:
    """A duplicate of its descriptor that is shut down has it ready for ever, with nothing to be read."""
    client, _ = dtls_pair
    client.settimeout(0.2)
    with socket.socket(fileno=os.dup(client.fileno())) as other:
        other.shutdown(socket.SHUT_RD)
    with pytest.raises(TimeoutError, match="timed out after 0.2 s"):
        getattr(client, call)()


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
    done = threading.Event()

    def echo_all(conn: dtlsffi.DTLSSocket) -> None:
        conn.settimeout(0.05)
        while not done.is_set():  # the end may get lost, too
            with suppress(TimeoutError):
                conn.send(conn.recv())

    with (
        listening(server_context, echo_all) as server,
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
        done.set()


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


def test_a_record_that_comes_while_another_is_held_is_not_lost(dtls_pair: Pair) -> None:
    """One thread waits for the next, and another has found the first too large for it."""
    client, server = dtls_pair
    client.settimeout(10)
    found: list[bytes] = []

    def read() -> None:
        while not found or found[-1] != b"end":
            found.append(client.recv())

    reading, _ = waits_in(client, server, read)
    sent, held = [], 0
    while held < 3:
        while len(found) < len(sent) or not client._carrier.is_waited_for:  # else two threads would read at a time
            pass
        sent += [b"first of %d" % len(sent), b"second"]
        server.send(sent[-2])
        try:
            client._carrier.read_into(bytearray(1), 1)
        except dtlsffi.DatagramTooLarge:  # it was quicker than the other
            held += 1
        except dtlsffi.DTLSWantReadError:
            pass
        server.send(sent[-1])
    server.send(b"end")
    reading.join()
    assert found == [*sent, b"end"]


def test_two_that_have_too_little_room_lose_nothing(dtls_pair: Pair) -> None:
    """Both wait for the next; the first record is kept, and so is the second behind it."""
    client, server = dtls_pair
    client.settimeout(10)
    waiting = [waits_in(client, server, lambda: client.recv(10)), raises_in_thread(lambda: client.recv(10))]
    while lib.dtlsffi_conn_waiting(client._connection._conn) < 2:
        pass
    server.send(b"A" * 100)
    while all(thread.is_alive() for thread, _ in waiting):  # else B might be opened before A
        pass
    server.send(b"B")
    for thread, _ in waiting:
        thread.join()
    assert [type(error) for _, failures in waiting for error in failures] == [dtlsffi.DatagramTooLarge] * 2
    assert [client.recv(), client.recv()] == [b"A" * 100, b"B"]
    assert client.statistics()["dropped_junk"] == 0


@not_before_3_0_7
def test_a_record_that_has_overtaken_the_handshake_is_pending(
    udp_pair: Sockets, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """Who waits with select() would wait for ever for what has come already."""
    client_sock, server_sock = udp_pair
    server_sock.setblocking(False)
    server = dtlsffi.Connection(server_context, server_side=True)
    client_sock.setblocking(False)
    with client_context.wrap_socket(client_sock, server_hostname=HOST, do_handshake_on_connect=False) as client:
        while not server.is_established:
            with suppress(dtlsffi.DTLSWantReadError):
                client.do_handshake()
            with suppress(BlockingIOError):
                server.receive_datagram(server_sock.recv(65535))
            if not server.is_established:
                for datagram in server.datagrams_to_send():
                    server_sock.send(datagram)
        last_flight = server.datagrams_to_send()
        server.send_many([b"greeting", b"and more"])
        for datagram in server.datagrams_to_send() + last_flight:
            server_sock.send(datagram)
        while client.version() is None:
            with suppress(dtlsffi.DTLSWantReadError):
                client.do_handshake()
        assert select.select([client], [], [], 0)[0] == []
        assert client.pending() == len(b"greeting")
        assert client.recv() == b"greeting"
        assert client.recv() == b"and more"


def test_a_number_that_is_none_takes_no_record(dtls_pair: Pair) -> None:
    """TypeError before anything is read."""
    client, server = dtls_pair
    client.send(b"kept")
    with pytest.raises(TypeError):
        server.recv_many(1.5)  # type: ignore[arg-type]
    assert server.recv_many() == [b"kept"]


def test_a_flood_of_forged_records_does_not_keep_a_call(dtls_pair: Pair) -> None:
    """It reads some of them, and then somebody may look at the clock: they cost those who send them nothing."""
    client, server = dtls_pair
    before = client.statistics()["datagrams_received"]
    forged = struct.pack("!BHHHIH", 23, 0xFEFD, 1, 0, 77, 40) + bytes(40)
    client.setblocking(False)
    for _ in range(150):
        socket.socket.send(server, forged)
    server.send(b"honest")
    with pytest.raises(dtlsffi.DTLSWantReadError):
        client.recv()
    assert client.statistics()["datagrams_received"] - before < 150
    client.settimeout(10)
    assert client.recv() == b"honest"
