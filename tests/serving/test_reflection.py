"""What a server sends to an address in whose name somebody else speaks: no more than came, and nothing for junk."""

from __future__ import annotations

from dtlsffi import DTLSContext
from tests.serving.clients import Client, established, pending
from tests.serving.doors import Door

RANDOM = slice(27, 59)  # of a ClientHello, within its datagram
HEADERS, SESSION_ID = 25, 59


def size(datagrams: list[bytes]) -> int:
    return sum(map(len, datagrams))


def change(hello: bytes, at: int, value: bytes) -> bytes:
    """A ClientHello with some bytes changed."""
    return hello[:at] + value + hello[at + len(value) :]


def with_body(hello: bytes, body: bytes) -> bytes:
    """A ClientHello with another body, whose lengths are right."""
    length = len(body).to_bytes(3, "big")
    message = hello[13:14] + length + hello[17:22] + length + body
    return hello[:11] + len(message).to_bytes(2, "big") + message


def fragment(hello: bytes, start: int, length: int) -> bytes:
    """A piece of a ClientHello, in a datagram of its own."""
    piece = hello[HEADERS + start : HEADERS + start + length]
    message = hello[13:19] + start.to_bytes(3, "big") + len(piece).to_bytes(3, "big") + piece
    return hello[:11] + len(message).to_bytes(2, "big") + message


def garbage(hello: bytes) -> dict[str, bytes]:
    """What begins like this ClientHello, and is none."""
    body = hello[HEADERS:]
    cookie_at = SESSION_ID - HEADERS + 1
    suites_at = cookie_at + 1 + body[cookie_at]
    compression_at = suites_at + 2 + int.from_bytes(body[suites_at : suites_at + 2], "big")
    return {
        "a byte is missing": hello[:-1],
        "nothing but its headers": hello[:HEADERS],
        "a header and a half": hello[:20],
        "the record is longer than the datagram": change(hello, 11, b"\x3f\xff"),
        "the record ends within the message": change(hello, 11, b"\0\x20"),
        "the message is longer than the record": change(change(hello, 14, b"\0\x3f\xff"), 22, b"\0\x3f\xff"),
        "the message is empty": with_body(hello, b""),
        "the session id runs over": change(hello, SESSION_ID, b"\xff"),
        "the cookie runs over": change(hello, SESSION_ID + 1, b"\xff"),
        "there are no cipher suites": with_body(hello, body[:suites_at] + b"\0\0" + body[compression_at:]),
        "the cipher suites run over": change(hello, HEADERS + suites_at, b"\xff\xfe"),
        "there is no compression method": with_body(hello, body[:compression_at] + b"\0"),
        "the extensions run over": change(hello, HEADERS + compression_at + 2, b"\xff\xff"),
        "the body is all ones": with_body(hello, b"\xff" * len(body)),
        "its fragment begins beyond its end": change(hello, 19, b"\0\xff\xff"),
        "its fragment is longer than itself": change(hello, 22, b"\0\x3f\xff"),
    }


# ---- an address that nobody has proved ----


def test_what_is_no_hello_is_not_believed(door: Door, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """Sixteen kinds of garbage, with and without a good cookie: no answer is larger, and the honest are served."""
    with (
        door.serving(server_context, handshake_timeout=0.2) as served,
        established(served.address, client_context) as honest,
        Client(served.address, client_context) as client,
    ):
        client.begin()
        client.take(client.sock.recv(65535))
        (with_cookie,) = client.connection.datagrams_to_send()
        for hello in (client.sent[0], with_cookie):
            for kind, datagram in garbage(hello).items():
                client.sock.send(datagram)
                assert honest.answers_to() == [], kind
                assert size(pending(client.sock)) <= len(datagram), kind
        served.wait_until(lambda: not served.count("pending"))
        client.sock.send(with_cookie)
        client.shake_hands()
        assert client.ask(b"and now in earnest") == b"and now in earnest"
        assert served.count("dropped_junk") > 16


def test_a_stranger_gets_no_more_than_came(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """A hundred hellos, or first fragments, get a hundred answers at the most, each smaller; and make nothing grow."""
    with (
        door.serving(server_context, max_pending=10) as served,
        established(served.address, client_context) as honest,
        Client(served.address, client_context) as client,
    ):
        client.begin()
        (hello,) = client.sent
        honest.answers_to()
        (answer,) = pending(client.sock)
        assert len(answer) == 60
        for datagrams in ([hello] * 100, [fragment(hello, 0, 60)] * 100, [fragment(hello, 20, 60)] * 100):
            for datagram in datagrams:
                client.sock.send(datagram)
                honest.answers_to()
            answers = pending(client.sock)
            assert all(len(answer) == 60 < len(datagrams[0]) for answer in answers)
            assert len(answers) <= (0 if datagrams[0][19:22] != bytes(3) else 100)
        assert served.count("pending") == 0


def test_the_shortest_hello_is_longer_than_its_answer(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """67 bytes: one cipher suite, no session, no extension. What is shorter is none, and gets nothing."""
    with (
        door.serving(server_context) as served,
        established(served.address, client_context) as honest,
        Client(served.address, client_context) as client,
    ):
        client.begin()
        honest.answers_to()
        assert len(pending(client.sock)) == 1
        shortest = with_body(client.sent[0], client.sent[0][HEADERS:SESSION_ID] + b"\0\0\0\2\xc0\x2b\1\0")
        assert len(shortest) == 67
        for length in range(13, 67):
            client.sock.send(with_body(shortest, shortest[HEADERS:length]))
            client.sock.send(shortest[:length])
            honest.answers_to()
        assert pending(client.sock) == []
        client.sock.send(shortest)
        honest.answers_to()
        assert [len(answer) for answer in pending(client.sock)] == [60]


# ---- an address that has been proved ----


def test_a_hello_that_is_repeated_gets_one_flight(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """A hundred times the same one, with its cookie: what is sent again is the timer's affair."""
    with (
        door.serving(server_context) as served,
        established(served.address, client_context) as honest,
        Client(served.address, client_context) as client,
    ):
        client.prove()
        honest.answers_to()
        flight = pending(client.sock)
        assert size(flight) > 500
        for _ in range(100):
            client.sock.send(client.sent[1])
            honest.answers_to()
        assert size(pending(client.sock)) <= 2 * size(flight)
        assert served.count("pending") == 1


def test_a_last_flight_is_not_sent_again_for_replays(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """A client's own flights, a hundred times each: only its first ClientHello is answered, by something smaller."""
    with door.serving(server_context) as served, established(served.address, client_context) as client:
        hello, *others = list(client.sent)
        assert client.answers_to(*others * 100) == []
        answers = client.answers_to(*[hello] * 100)
        assert all(len(answer) == 60 for answer in answers)
        assert size(answers) < 100 * len(hello)
        assert served.count("handshakes_failed") == 0


def test_a_clients_last_flight_is_answered_again_if_the_answer_is_lost(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """RFC 6347 section 4.2.4: once for each time that the client itself asks; copies of that get nothing."""
    client_context.retransmission = (0.05, 1.0, 0.05)
    with (
        door.serving(server_context) as served,
        established(served.address, client_context) as honest,
        Client(served.address, client_context) as client,
    ):
        client.begin()
        client.until(lambda: len(client.sent) == 3)
        served.wait_until(lambda: served.count("handshakes_completed") == 2)
        honest.answers_to()
        lost = pending(client.sock)
        assert lost, "the server's last flight"
        before = len(client.sent)
        client.shake_hands()
        asked = client.sent[before:]
        assert asked
        assert client.answers_to(*asked * 100) == []
        assert client.ask(b"x") == b"x"


def old_hellos(served_address: object, context: DTLSContext, source: object) -> list[bytes]:
    """Two ClientHellos with good cookies, as somebody may have seen them a moment ago."""
    found = []
    for _ in range(2):
        with established(served_address, context, source=source) as client:
            assert client.ask(b"x") == b"x"
            found.append(client.sent[1])
    return found


def test_hellos_of_before_get_few_flights(door: Door, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """Two of them in turn, a hundred times, in the name of a client that is being served: some flights a second."""
    with door.serving(server_context) as served, Client(served.address, client_context) as client:
        source = client.address
        client.vanish()
        seen = old_hellos(served.address, client_context, source)
        with established(served.address, client_context, source=source) as victim:
            assert victim.ask(b"x") == b"x"
            answers = victim.answers_to(*seen * 50)
            assert size(answers) <= 50 * size(seen)


def test_a_cookie_is_good_for_one_hello(door: Door, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """RFC 6347 section 4.2.1: the server should make it of the hello's random, too, and so tell them apart."""
    with (
        door.serving(server_context) as served,
        established(served.address, client_context) as honest,
        Client(served.address, client_context) as client,
    ):
        client.begin()
        client.take(client.sock.recv(65535))
        (with_cookie,) = client.connection.datagrams_to_send()
        client.sock.send(change(with_cookie, RANDOM.start, bytes(32)))
        honest.answers_to()
        assert [len(answer) for answer in pending(client.sock)] == [60]
        client.sock.send(with_cookie)
        client.shake_hands()
        assert client.ask(b"x") == b"x"
