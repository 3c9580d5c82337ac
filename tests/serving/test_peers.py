"""Peers that are slow, silent, gone, or back again; and a server that is back again."""

from __future__ import annotations

from contextlib import ExitStack

import dtlsffi
from dtlsffi import DTLSContext
from tests.serving.clients import Client, established, pending
from tests.serving.doors import Door
from tests.serving.served import slow_first

HELLO_VERIFY_REQUEST = 3

# ---- slow and silent ones ----


def test_silent_clients_delay_nobody(door: Door, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """Thirty have begun a handshake, ten have finished it, and none of them says any more."""
    with door.serving(server_context) as served, ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(Client(served.address, client_context)).prove()
        for _ in range(10):
            stack.enter_context(established(served.address, client_context))
        served.wait_until(lambda: served.count("pending") == 30)
        with dtlsffi.create_connection(
            served.address, context=client_context, server_hostname="device.example", timeout=5
        ) as conn:
            conn.send(b"quick")
            assert conn.recv() == b"quick"
        served.wait_until(lambda: served.count("pending") == 30)


def test_a_handler_that_waits_delays_nobody(
    handling_door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """The first client's handler does not look at its connection; the second client is served."""
    with (
        handling_door.serving(server_context, handler=slow_first) as served,
        established(served.address, client_context) as slow,
    ):
        served.wait_until(lambda: served.began)
        slow.send(b"at last")
        with established(served.address, client_context) as quick:
            assert quick.ask(b"quick") == b"quick"
        served.open_gate()
        assert slow.recv() == b"at last"


def test_handshakes_that_do_not_end_make_room(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """After `handshake_timeout`; meanwhile there are `max_pending` at the most."""
    client_context.retransmission = (0.1, 1.0, 0.1)
    with door.serving(server_context, max_pending=3, handshake_timeout=0.3) as served, ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(Client(served.address, client_context))
            client.prove()
        served.wait_until(lambda: served.count("refused_pending"))
        assert served.count("pending") == 3
        served.wait_until(lambda: not served.count("pending"))
        assert served.count("handshakes_failed") == 3
        client.shake_hands()
        assert client.ask(b"at last") == b"at last"


# ---- those that come back ----


def test_a_client_that_restarts_on_its_port_is_served(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """It has lost everything, and says so by a ClientHello: three times."""
    with door.serving(server_context) as served:
        client = Client(served.address, client_context)
        source = client.address
        for turn in range(4):
            client.shake_hands()
            assert client.ask(b"%d" % turn) == b"%d" % turn
            client.vanish()
            if turn < 3:
                client = Client(served.address, client_context, source=source)
        counts = served.statistics()
        assert (counts["replaced"], counts["connections"], counts["pending"]) == (3, 1, 0)
        if door.has_connections:
            served.wait_until(lambda: len(served.ended) == 3)
            assert served.why_ended(source) == ["REPLACED"] * 3
            assert served.began == [source] * 4


def test_a_client_that_gives_up_begins_again(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """In the middle of a handshake, from the same port: the new one counts."""
    with door.serving(server_context) as served:
        with Client(served.address, client_context) as client:
            client.prove()
            with established(served.address, client_context) as other:
                other.ask(b"what the server has to say to the first one is on its way")
            source = client.address
            client.vanish()
        with established(served.address, client_context, source=source) as again:
            assert again.ask(b"again") == b"again"
            counts = served.statistics()
            assert (counts["handshakes_completed"], counts["handshakes_failed"], counts["replaced"]) == (2, 1, 0)
            served.wait_until(lambda: served.count("connections") == 1)


def test_another_client_may_have_the_address_next(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """When the first has closed: nothing of that one is left, and nothing is replaced."""
    with door.serving(server_context) as served:
        with established(served.address, client_context) as first:
            source = first.address
            assert first.ask(b"first") == b"first"
        with established(served.address, client_context, source=source) as second:
            assert second.ask(b"second") == b"second"
            counts = served.statistics()
            assert (counts["handshakes_completed"], counts["replaced"], counts["connections"]) == (2, 0, 1)
            if door.has_connections:
                served.wait_until(lambda: served.ended)
                assert served.why_ended(source) == [None]


def test_a_client_that_moves_is_not_followed(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """There are no connection IDs (RFC 9146): its records count from its old address only."""
    with door.serving(server_context) as served, established(served.address, client_context) as client:
        elsewhere = Client(served.address, client_context)
        with elsewhere, established(served.address, client_context) as another:
            elsewhere.sock.send(client.seal(b"from elsewhere"))
            assert another.answers_to(client.seal(b"from another's address")) == []
            assert pending(elsewhere.sock) == []
            assert served.count("dropped_unknown") == 1
            assert served.statistics_of(another.address)["dropped_unauthenticated"] == 1
            assert client.ask(b"from home") == b"from home"


# ---- a server that comes back ----


def test_a_handshake_outlives_a_server_that_shares_its_secret(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """The new server takes the old one's cookie, and asks for none."""
    secret = bytes(range(32))
    with ExitStack() as stack:
        with door.serving(server_context, cookie_secret=secret) as before:
            client = stack.enter_context(Client(before.address, client_context))
            client.begin()
            before.wait_until(lambda: before.count("cookies_sent"))
        with door.serving(server_context, port=before.port, cookie_secret=secret) as after:
            client.shake_hands()
            assert client.ask(b"after") == b"after"
            assert after.count("cookies_sent") == 0


def test_without_the_secret_a_client_has_to_begin_again(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """The cookie of before is none: it is asked for another one, which OpenSSL as a client is deaf to."""
    with ExitStack() as stack:
        with door.serving(server_context) as before:
            client = stack.enter_context(Client(before.address, client_context))
            client.begin()
            before.wait_until(lambda: before.count("cookies_sent"))
        with door.serving(server_context, port=before.port) as after:
            client.step()
            client.step()
            assert client.received[1][13] == HELLO_VERIFY_REQUEST
            assert (after.count("cookies_sent"), after.count("pending")) == (1, 0)
            source = client.address
            client.vanish()
            with established(after.address, client_context, source=source) as again:
                assert again.ask(b"again") == b"again"


def test_a_server_that_comes_back_knows_nobody(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """It says goodbye at its end; later it answers no record of before, and the client begins anew from its port."""
    with ExitStack() as stack:
        with door.serving(server_context) as before:
            client = stack.enter_context(established(before.address, client_context))
        client.hear_close()
        with door.serving(server_context, port=before.port) as after:
            client.sock.send(client.sent[-1])
            with established(after.address, client_context) as another:
                assert another.ask(b"x") == b"x"
            assert pending(client.sock) == []
            assert after.count("dropped_unknown") == 1
            source = client.address
            client.vanish()
            with established(after.address, client_context, source=source) as again:
                assert again.ask(b"again") == b"again"


# ---- those that are gone ----


def test_a_client_that_is_gone_disturbs_nobody(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """What the server sends finds nobody (ICMP port unreachable), and it goes on with the others."""
    with door.serving(server_context) as served, established(served.address, client_context) as other:
        for turn in range(5):
            with established(served.address, client_context) as client:
                for _ in range(20):
                    client.send(b"nobody will hear the answer")
                client.vanish()
            assert other.ask(b"%d" % turn) == b"%d" % turn
        counts = served.statistics()
        assert (counts["connections"], counts["handshakes_failed"], counts["dropped_unsent"]) == (6, 0, 0)
