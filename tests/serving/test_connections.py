"""What every door promises of a connection: its records, its queue, its end."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from dtlsffi import DTLSContext
from tests.serving.clients import Client, established, pending
from tests.serving.doors import Door
from tests.serving.served import Served, echo, slow_first

ALERT = 21


def test_a_records_bytes_come_through_whatever_they_are(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """From one byte to the largest that fits; each `send` is one record in one datagram."""
    with door.serving(server_context) as served, established(served.address, client_context) as client:
        size = client.connection.data_mtu or 0
        for data in (b"\0", b"x", bytes(range(256)), bytes(size)):
            before = len(client.received)
            assert client.ask(data) == data
            assert len(client.received) == before + 1


def test_records_keep_their_order(door: Door, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """A hundred of them are on their way at the same time."""
    with door.serving(server_context) as served, established(served.address, client_context) as client:
        for number in range(100):
            client.send(b"%d" % number)
        assert [client.recv() for _ in range(100)] == [b"%d" % number for number in range(100)]


def test_nothing_cannot_be_sent(handling_door: Door, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """ValueError, as DTLS has no empty record; the connection goes on."""

    async def send_nothing(conn: Any, served: Served) -> None:
        try:
            await conn.send(b"")
        except ValueError as error:
            await conn.send(str(error).encode())
        await echo(conn, served)

    with (
        handling_door.serving(server_context, handler=send_nothing) as served,
        established(served.address, client_context) as client,
    ):
        assert client.recv().startswith(b"an empty datagram cannot be sent")
        assert client.ask(b"x") == b"x"


def test_a_full_queue_keeps_what_came_first(
    handling_door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """What does not fit is counted; when there is room again, what comes then is taken."""
    with (
        handling_door.serving(server_context, handler=slow_first, max_queue=4) as served,
        established(served.address, client_context) as slow,
    ):
        served.wait_until(lambda: served.began)
        for number in range(10):
            slow.send(b"%d" % number)
        with established(served.address, client_context) as quick:
            assert quick.ask(b"the server has had a look") == b"the server has had a look"
        assert served.count("dropped_queue_full") == 6
        served.open_gate()
        assert [slow.recv() for _ in range(4)] == [b"0", b"1", b"2", b"3"]
        assert slow.ask(b"again") == b"again"


# ---- the end ----


def test_the_clients_close_ends_its_handler(
    door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """After everything that came before it; nothing is left."""
    with door.serving(server_context) as served:
        with established(served.address, client_context) as client:
            source = client.address
            assert client.ask(b"x") == b"x"
            client.send(b"last words")
            client.connection.close()
            client.transmit()
            assert client.recv() == b"last words"
            client.hear_close()
        served.wait_until(lambda: not served.count("connections"))
        if door.has_connections:
            served.wait_until(lambda: served.ended)
            assert served.why_ended(source) == [None]


def test_a_handlers_end_is_its_clients_close(
    handling_door: Door, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """With one close_notify; what the client still sends gets no answer, and it may begin anew from its port."""

    async def once(conn: Any, _served: Served) -> None:
        await conn.send(await conn.recv())

    with handling_door.serving(server_context, handler=once) as served:
        with established(served.address, client_context) as client:
            source = client.address
            assert client.ask(b"once") == b"once"
            client.hear_close()
            before = len(client.received)
            client.send(b"twice")
            with established(served.address, client_context) as another:
                assert another.ask(b"x") == b"x"
            assert client.received[before:] + pending(client.sock) == []
            client.vanish()
        with established(served.address, client_context, source=source) as again:
            assert again.ask(b"again") == b"again"


def test_close_may_be_said_twice(handling_door: Door, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """close_notify is sent once."""

    async def close(conn: Any, _served: Served) -> None:
        await conn.recv()
        conn.close()
        conn.close()

    with (
        handling_door.serving(server_context, handler=close) as served,
        established(served.address, client_context) as client,
    ):
        before = len(client.received)
        client.send(b"x")
        client.hear_close()
        served.wait_until(lambda: served.ended)
        assert len(client.received[before:] + pending(client.sock)) == 1
        assert served.why_ended(client.address) == [None]


def test_the_servers_end_is_everybodys(door: Door, client_context: DTLSContext, server_context: DTLSContext) -> None:
    """Each client hears a close_notify, but for one whose handshake is not finished."""
    with ExitStack() as stack:
        with door.serving(server_context) as served:
            clients = [stack.enter_context(established(served.address, client_context)) for _ in range(5)]
            late = stack.enter_context(Client(served.address, client_context))
            late.prove()
            assert clients[0].ask(b"x") == b"x"
        for client in clients:
            client.hear_close()
        assert ALERT not in {datagram[0] for datagram in pending(late.sock)}
