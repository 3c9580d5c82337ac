"""Datagrams that somebody else has written, or sent once more, with a client's address as their sender."""

from __future__ import annotations

import random
import select
import socket
import time

import dtlsffi
from dtlsffi import DTLSContext
from tests.helpers import ALERT, HOST, record, start
from tests.serving.clients import Client, established, pending
from tests.serving.doors import Door

FATAL, WARNING = 2, 1
CLOSE_NOTIFY = 0
CHANGE_CIPHER_SPEC, ALERTS, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
JUNK = {
    "a fatal alert": ALERT,
    "a close_notify": record(ALERTS, bytes((WARNING, CLOSE_NOTIFY))),
    "a close_notify of epoch 1": record(ALERTS, bytes((WARNING, CLOSE_NOTIFY)), epoch=1, number=1000),
    "data in the clear": record(APPLICATION_DATA, b"data in the clear"),
    "data that nobody has sealed": record(APPLICATION_DATA, bytes(60), epoch=1, number=1000),
    "data of a later epoch": record(APPLICATION_DATA, bytes(60), epoch=2, number=1),
    "a record too short for its tag": record(APPLICATION_DATA, bytes(3), epoch=1, number=1000),
    "a record of another version": record(APPLICATION_DATA, bytes(60), epoch=1, number=1000, version=0xFEFF),
    "a change of cipher": record(CHANGE_CIPHER_SPEC, b"\1"),
    "a piece of a handshake": record(HANDSHAKE, bytes((16, 0, 0, 4, 0, 9, 0, 0, 0, 0, 0, 4)) + bytes(4)),
    "a HelloRequest": record(HANDSHAKE, bytes(12)),
    "a Finished of epoch 1": record(HANDSHAKE, bytes((20, 0, 0, 12)) + bytes(40), epoch=1, number=1000),
    "an unknown type": record(99, bytes(40)),
    "nothing but a header": record(APPLICATION_DATA, b"", epoch=1, number=1000),
    "no DTLS at all": b"GET / HTTP/1.1\r\n\r\n",
    "one byte": b"\x16",
    "five bytes and two zeros": b"\x16\xfe\xfd\0\0",
}


def dropped(counts: dict[str, int]) -> int:
    """What a connection has dropped, for whatever reason."""
    return sum(counts[name] for name in ("dropped_junk", "dropped_replayed", "dropped_unauthenticated"))


# ---- beside a connection ----


def test_junk_is_dropped(door: Door, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """Once or ten times, whatever kind it is: it gets no answer, and the connection goes on."""
    with door.serving(server_context) as served, established(served.address, client_context) as client:
        for kind, junk in JUNK.items():
            assert client.answers_to(junk) == [], kind
            assert client.answers_to(*[junk] * 10) == [], kind
        counts = served.statistics()
        assert (counts["connections"], counts["pending"], counts["handshakes_failed"]) == (1, 0, 0)
        assert dropped(served.statistics_of(client.address)) > 100


def test_a_record_with_a_byte_changed_is_dropped(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Whichever byte that is; the record itself still counts, and once."""
    with door.serving(server_context) as served, established(served.address, client_context) as client:
        sealed = client.seal(b"as it was")
        changed = [sealed[:at] + bytes((sealed[at] ^ 1,)) + sealed[at + 1 :] for at in range(len(sealed))]
        assert client.answers_to(*changed) == []
        client.sock.send(sealed)
        assert client.recv() == b"as it was"
        counts = served.statistics_of(client.address)
        assert counts["dropped_unauthenticated"] >= len(sealed) - 13
        assert dropped(counts) >= len(sealed) - 2


def test_a_record_counts_once(door: Door, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """Replays are counted, and answered by nobody: RFC 6347 section 4.1.2.6."""
    with door.serving(server_context) as served, established(served.address, client_context) as client:
        for number in range(5):
            assert client.ask(b"%d" % number) == b"%d" % number
        assert client.answers_to(*client.sent[-5:] * 3) == []
        assert served.statistics_of(client.address)["dropped_replayed"] == 15


def test_records_may_come_late_but_not_too_late(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Within the window of 64 records (32 of 32-bit systems, before OpenSSL 3.2), in any order."""
    with door.serving(server_context) as served, established(served.address, client_context) as client:
        kept = [client.seal(b"%d" % number) for number in range(100)]
        client.sock.send(kept[99])
        assert client.recv() == b"99"
        client.sock.send(kept[70])
        assert client.recv() == b"70"
        assert client.answers_to(*kept[:30]) == []
        counts = served.statistics_of(client.address)
        assert counts["dropped_replayed"] == 30


def test_random_bytes_harm_nobody(door: Door, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """Under a connection's address and under a stranger's, some of them with the beginning of a record."""
    dice = random.Random(7)
    junk = [
        dice.choice((b"", b"\x16\xfe\xfd\0\0", b"\x17\xfe\xfd\0\1", b"\x16\xfe\xff\0\0"))
        + dice.randbytes(dice.randint(1, 80))
        for _ in range(400)
    ]
    with (
        door.serving(server_context) as served,
        established(served.address, client_context) as client,
        Client(served.address, client_context) as stranger,
    ):
        assert client.answers_to(*junk) == []
        for datagram in junk[:100]:
            stranger.sock.send(datagram)
        assert client.answers_to() == []
        assert pending(stranger.sock) == []
        counts = served.statistics()
        assert (counts["connections"], counts["pending"]) == (1, 0)
        dropped = [counts[name] for name in ("dropped_unknown", "dropped_junk", "dropped_flood")]
        assert sum(dropped) >= 100


# ---- beside a handshake ----


def test_junk_does_not_end_a_handshake(door: Door, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """That of a client whose address is proved, and whose second flight is on its way.

    But for messages of the handshake itself: RFC 6347 authenticates none of them before Finished.
    """
    harmless = [kind for kind in JUNK if kind != "a piece of a handshake"]
    with door.serving(server_context) as served:
        for kind in harmless:
            with Client(served.address, client_context) as client:
                client.prove()
                for _ in range(10):
                    client.sock.send(JUNK[kind])
                client.shake_hands()
                assert client.ask(b"x") == b"x", kind
        counts = served.statistics()
        assert (counts["handshakes_completed"], counts["handshakes_failed"]) == (len(harmless), 0)


# ---- a restart that is none: RFC 6347 section 4.2.8 ----


def test_a_hello_in_somebodys_name_evicts_nobody(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Without a cookie, with somebody else's, or with one that is made up; and each of them gets a short answer."""
    with (
        door.serving(server_context) as served,
        established(served.address, client_context) as client,
        established(served.address, client_context) as another,
    ):
        without, with_cookie = another.sent[:2]
        at = with_cookie.index(another.received[0][28:60])
        made_up = with_cookie[:at] + bytes(32) + with_cookie[at + 32 :]
        for hello in (without, with_cookie, made_up):
            answers = client.answers_to(*[hello] * 20)
            assert [len(answer) for answer in answers] == [60] * 20
        counts = served.statistics()
        assert (counts["replaced"], counts["connections"], counts["pending"]) == (0, 2, 0)


def test_a_hello_of_before_evicts_nobody(door: Door, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """Somebody has seen a client's first connection, and sends all of it again while its second one lasts."""
    with door.serving(server_context) as served:
        with established(served.address, client_context) as first:
            source = first.address
            assert first.ask(b"first") == b"first"
        with established(served.address, client_context, source=source) as client:
            assert client.ask(b"second") == b"second"
            for _ in range(3):
                client.answers_to(*first.sent, *client.sent)
            assert client.ask(b"still here") == b"still here"
            assert served.count("replaced") == 0
            assert served.count("connections") <= 2


def test_a_first_fragment_in_somebodys_name_evicts_nobody(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Of a ClientHello that needs several datagrams: it is asked for its cookie, and the connection goes on."""
    with door.serving(server_context) as served, established(served.address, client_context) as client:
        hello = client.sent[0]
        body = hello[25:85]
        message = hello[13:22] + len(body).to_bytes(3, "big") + body
        fragment = hello[:11] + len(message).to_bytes(2, "big") + message
        answers = client.answers_to(*[fragment] * 10, ALERT, *[fragment] * 10)
        assert {answer[13] for answer in answers} == {3}  # HelloVerifyRequest
        assert len(answers) <= 20
        assert served.count("replaced") == 0


def test_a_first_fragment_in_somebodys_name_does_not_slow_him_down(
    client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """Nobody has proved to be at that address: C goes on finding the connection that is there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        endpoint = dtlsffi.Endpoint(server_context, fileno=sock.fileno())

        def move(*_: object) -> None:
            while endpoint.pump(time.monotonic()):
                pass

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            own.connect(sock.getsockname())
            client = dtlsffi.Connection(client_context, server_hostname=HOST)
            datagrams = start(client)
            hello = datagrams[0]
            while not client.is_established:
                for datagram in datagrams:
                    own.send(datagram)
                select.select([sock], [], [], 5)
                move()
                while select.select([own], [], [], 0.01)[0]:
                    client.receive_datagram(own.recv(65535))
                datagrams = client.datagrams_to_send()
            (connection,) = endpoint.accepted()
            assert connection._slot >= 0
            body = hello[25:85]
            message = hello[13:22] + len(body).to_bytes(3, "big") + body
            own.send(hello[:11] + len(message).to_bytes(2, "big") + message)
            select.select([sock], [], [], 5)
            move()
            assert connection._slot >= 0
            client.send(b"x")
            own.send(client.datagrams_to_send()[0])
            select.select([sock], [], [], 5)
            move()
            assert endpoint.recv_many() == [(connection, b"x")]
        endpoint.close()
