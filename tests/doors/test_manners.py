"""dtlsffi.manners: what both kinds of blocking connection do alike."""

from __future__ import annotations

import errno
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import dtlsffi
from dtlsffi.core.batches import do_without
from tests.doors.accepting import accept, connect

GIFTS = [[], ["gro"], ["gso"], ["gso", "gro"]]
SO_NO_CHECK = 11  # socket(7) of Linux
Both = Callable[..., list[Any]]
Connections = tuple[Any, Any]


@pytest.fixture(autouse=True)
def with_all_gifts() -> Iterator[None]:
    """Whatever a test does without."""
    yield
    do_without([])


@pytest.fixture(params=["sockets", "server"])
def pair(
    request: pytest.FixtureRequest,
    client_context: dtlsffi.DTLSContext,
    server_context: dtlsffi.DTLSContext,
    both: Both,
) -> Iterator[Connections]:
    """A client's DTLSSocket with another, or with a listener's connection."""
    for context in (client_context, server_context):
        context.retransmission = (1, 2, 60)
    if request.param == "sockets":
        yield request.getfixturevalue("dtls_pair")
        return
    with dtlsffi.create_server(("127.0.0.1", 0), context=server_context) as listener:
        listener.settimeout(10)
        client, server = both(
            lambda: connect(listener.getsockname(), client_context), lambda: accept(listener)
        )  # fmt: skip
        with client, server:
            server.do_handshake()
            yield client, server


@pytest.fixture(params=GIFTS, ids="-".join)
def gifts(request: pytest.FixtureRequest) -> list[str]:
    """Before any socket is made: what the kernel has to offer is not always there."""
    do_without(request.param)
    return list(request.param)


def collect(conn: Any, count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count:
        found += conn.recv_many(7)
    return found


def test_batches_arrive_whole_and_in_order(gifts: list[str], pair: Connections) -> None:
    """Both ways, records of all sizes; recv_many gives what is there, and never more than it was asked for."""
    dice = random.Random(1)
    data = [bytes([number % 256]) * dice.choice([1, 64, 64, 64, 900]) for number in range(100)]
    for sender, receiver in (pair, pair[::-1]):
        assert sender.send_many(iter(data)) == 100
        assert collect(receiver, 100) == data
    assert pair[0].send_many([]) == 0
    counts = pair[0].statistics()
    assert (counts["datagrams_segmented"] > 0) == ("gso" not in gifts)
    assert (counts["records_sent"], counts["records_received"]) == (100, 100)


def test_one_record_at_a_time_goes_on_beside_batches(pair: Connections) -> None:
    """Recv after recv_many gives the next record, with the same rules for its size, whatever the kernel has joined."""
    client, server = pair
    for sender, receiver in (pair, pair[::-1]):
        sender.send_many([b"%03d" % number for number in range(50)])
        assert receiver.recv_many(1) == [b"000"]
        assert receiver.pending() == 3
        assert receiver.recv() == b"001"
        buffer = bytearray(5)
        assert receiver.recv_into(buffer) == 3
        assert bytes(buffer) == b"002\0\0"
        with pytest.raises(dtlsffi.DatagramTooLarge, match="kept for a call"):
            receiver.recv(2)
        assert receiver.recv(3) == b"003"
        assert collect(receiver, 46) == [b"%03d" % number for number in range(4, 50)]
    server.send(b"one more")
    assert client.recv() == b"one more"


def test_what_was_read_before_the_first_batch_comes_first(pair: Connections) -> None:
    """A record that was too large for its buffer is kept for recv_many, too."""
    client, server = pair
    client.send(b"a long one")
    with pytest.raises(dtlsffi.DatagramTooLarge):
        server.recv(3)
    client.send(b"next")
    assert collect(server, 2) == [b"a long one", b"next"]


def test_a_batch_knows_its_limits(pair: Connections) -> None:
    """What cannot be sent is said by whoever sends it first; nothing is raised for those that are gone."""
    client, server = pair
    with pytest.raises(ValueError, match="empty datagram"):
        client.send_many([b"x", b""])
    with pytest.raises(dtlsffi.DatagramTooLarge):
        client.send_many([bytes(20_000), b"x"])
    with pytest.raises(ValueError, match="max is a number of at least 1, not 0"):
        server.recv_many(0)
    assert client.send_many([b"x", bytes(20_000), b"y"]) == 1
    assert server.recv_many() == [b"x"]
    server.settimeout(0.05)
    with pytest.raises(TimeoutError):
        server.recv_many()
    server.settimeout(0)
    with pytest.raises(dtlsffi.DTLSWantReadError):
        server.recv_many()


def test_the_end_comes_after_the_last_record(pair: Connections) -> None:
    """An empty list then, every time."""
    client, server = pair
    client.send_many([b"last", b"words"])
    client.close()
    assert collect(server, 2) == [b"last", b"words"]
    assert server.recv_many() == []
    assert server.recv() == b""
    assert server.recv_many() == []
    with pytest.raises(OSError, match="closed"):
        client.send_many([b"x"])


def test_junk_among_the_joined_is_dropped(dtls_pair: Connections) -> None:
    """In the peer's name: it is counted, and what is around it arrives."""
    client, server = dtls_pair
    client.send_many([b"a"] * 5)
    with socket.socket(fileno=socket.dup(client.fileno())) as raw:
        for _ in range(5):
            raw.send(bytes(38))
    client.send_many([b"b"] * 5)
    assert collect(server, 10) == [b"a"] * 5 + [b"b"] * 5
    assert server.statistics()["dropped_junk"] == 5


def test_a_device_that_cannot_cut_gets_each_by_itself(dtls_pair: Connections) -> None:
    """Its refusal (here since there is no checksum to be made) is taken some times. Nothing is lost or doubled."""
    client, server = dtls_pair
    client.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    data = [b"%d" % number for number in range(20)]
    for _ in range(64):
        assert client.send_many(data) == 20
        assert collect(server, 20) == data
    assert (client.statistics()["datagrams_segmented"], client.statistics()["gso"]) == (0, 0)
    assert server.statistics()["gro"] == 1


def test_the_plain_socket_is_as_it_was(dtls_pair: Connections) -> None:
    """After unwrap each datagram comes by itself."""
    client, server = dtls_pair
    client.send(b"x")
    server.recv_many()
    with server.unwrap() as plain, client.unwrap() as other:
        with suppress(OSError):
            plain.recv(100)  # close_notify
        for number in range(10):
            other.send(b"%d" % number)
        plain.settimeout(5)
        assert [plain.recv(100) for _ in range(10)] == [b"%d" % number for number in range(10)]


def test_threads_may_share_a_connection(pair: Connections) -> None:
    """Two senders and two receivers by the batch: every record arrives once."""
    client, server = pair
    data = [b"%04d" % number for number in range(400)]
    found: list[bytes] = []

    def receive() -> None:
        with suppress(TimeoutError):
            while len(found) < 400:
                found.extend(server.recv_many(10))

    server.settimeout(1)
    receivers = [threading.Thread(target=receive) for _ in range(2)]
    for thread in receivers:
        thread.start()
    senders = [threading.Thread(target=client.send_many, args=(data[start : start + 200],)) for start in (0, 200)]
    for thread in senders:
        thread.start()
    for thread in senders + receivers:
        thread.join()
    assert sorted(found) == data


@pytest.mark.parametrize("many", [False, True])
def test_a_buffer_that_cannot_be_written_to_takes_nothing(many: bool, pair: Connections) -> None:
    """recv_into() refuses it before the record is taken, also behind recv_many()."""
    client, server = pair
    server.send_many([b"one", b"two", b"three"])
    assert (client.recv_many(1) if many else [client.recv()]) == [b"one"]
    with pytest.raises(TypeError, match="recv_into needs a buffer that can be written to"):
        client.recv_into(bytes(100))
    assert client.recv() == b"two"
    assert client.recv() == b"three"


def test_send_and_recv_have_sockets_signatures(pair: Connections) -> None:
    """Each of them, with every kind of buffer."""
    client, server = pair
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


def test_senseless_arguments_are_refused(pair: Connections) -> None:
    """With ssl's exceptions."""
    for conn in pair:
        for call, arguments in ((conn.send, [b"x"]), (conn.recv, [1]), (conn.recv_into, [bytearray(1), 1])):
            with pytest.raises(ValueError, match="non-zero flags not allowed"):
                call(*arguments, 1)
        with pytest.raises(ValueError, match="speaks with"):
            conn.sendto(b"x", ("192.0.2.1", 9))
        with pytest.raises(ValueError, match="negative buffersize"):
            conn.recv(-1)
        with pytest.raises(ValueError, match="negative buffersize"):
            conn.recv_into(bytearray(5), -1)
        with pytest.raises(ValueError, match="empty datagram"):
            conn.send(b"")
        with pytest.raises(TypeError, match="not str"):
            conn.send("text")


def test_a_record_is_never_cut(pair: Connections) -> None:
    """Too small a buffer raises, and the record is kept for a larger one: nothing is lost in silence."""
    client, server = pair
    for size in (100, 16384):
        client.send(b"x" * size)
        for attempt in (lambda: server.recv(99), lambda: server.recv_into(bytearray(50)), lambda: server.recv(1)):
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


def test_nothing_is_asked_for(pair: Connections) -> None:
    """Nothing is given, at once, and nothing is taken: as in ssl."""
    client, server = pair
    for conn in (client, server):
        assert conn.recv(0) == conn.read(0) == b""
        assert conn.recv_into(bytearray()) == 0
        with pytest.raises(ValueError, match="non-zero flags"):
            conn.recv(0, 1)
    client.send(b"here")
    assert server.recv(0) == b""
    assert server.recv(10) == b"here"
    server.close()
    for call in (lambda: server.recv(0), lambda: server.recv_into(bytearray())):
        with pytest.raises(OSError, match="closed"):
            call()


def test_a_whole_buffer_is_read_into(pair: Connections) -> None:
    """Where its length is negative, as with ssl's read(); sizes are whole numbers."""
    client, server = pair
    client.send(b"abc")
    client.send(b"def")
    buffer = bytearray(5)
    assert server.read(-1, buffer) == 3
    assert server.read(4, buffer) == 3
    assert bytes(buffer) == b"def\0\0"
    for wrong in (1.5, "x"):
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            server.recv(wrong)


def test_what_no_datagram_can_do_is_refused(pair: Connections) -> None:
    """By both kinds in the same words."""
    for conn in pair:
        for name in ("dup", "makefile", "recvmsg", "recvmsg_into", "sendfile", "sendmsg", "sendmsg_afalg",
                     "verify_client_post_handshake"):  # fmt: skip
            with pytest.raises(NotImplementedError):
                getattr(conn, name)()


def test_the_peers_close_is_the_end(pair: Connections) -> None:
    """b"" for every recv after what came before it, as in ssl; pending() is 0."""
    client, server = pair
    client.send(b"last words")
    client.close()
    assert server.recv() == b"last words"
    assert server.recv() == b""
    assert server.recv_into(bytearray(10)) == 0
    assert server.recv() == b""
    assert server.pending() == 0


@pytest.mark.parametrize("how", [socket.SHUT_RDWR, socket.SHUT_WR, socket.SHUT_RD])
def test_shutdown_ends_one_direction_or_both(pair: Connections, how: int) -> None:
    """close_notify where we stop sending, b"" where we stop receiving."""
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


@pytest.mark.parametrize(("how", "error"), [("x", TypeError), (None, TypeError), (99, OSError), (-1, OSError)])
def test_shutdown_takes_no_nonsense(pair: Connections, how: Any, error: type[Exception]) -> None:
    """And changes nothing then."""
    client, server = pair
    for conn in pair:
        with pytest.raises(error):
            conn.shutdown(how)
    client.send(b"still there")
    assert server.recv() == b"still there"


def test_keys_are_updated_in_dtls_1_3_only(pair: Connections) -> None:
    """The connection goes on."""
    for conn in pair:
        with pytest.raises(ValueError, match=r"in DTLS 1\.3 only, not in DTLSv1\.2"):
            conn.update_keys()
    pair[0].send(b"still there")
    assert pair[1].recv() == b"still there"
