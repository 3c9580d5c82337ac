"""dtlsffi.core.draining: what callbacks may do while C moves handshakes on, in the middle of a batch."""

from __future__ import annotations

import gc
import select
import weakref
from collections.abc import Callable
from contextlib import nullcontext

import pytest

import dtlsffi
from dtlsffi import DTLSContext, EndpointConnection
from dtlsffi._native import lib
from dtlsffi.core.draining import BUDGET
from tests.core.test_draining import Port, ports, received, settle

__all__ = ["ports"]

KEY = b"sixteen bytes..."


def context(protocol: dtlsffi.DTLSProtocol) -> DTLSContext:
    made = DTLSContext(protocol)
    made.check_hostname = False
    made.maximum_version = dtlsffi.DTLSVersion.DTLSv1_2
    made.set_ciphers("PSK")
    made.retransmission = (60, 1, 60)  # nothing is lost
    return made


class Server(Port):
    """A server by pre-shared keys; `answer` is called when it is asked for one."""

    def __init__(self) -> None:
        self.answer: Callable[[EndpointConnection], bytes | None] = lambda _connection: KEY
        server_context = context(dtlsffi.PROTOCOL_DTLS_SERVER)
        server_context.set_psk_server_callback(lambda _identity, connection: self.answer(connection))
        super().__init__(server_context)


@pytest.fixture
def server(ports: list[Port]) -> Server:
    made = Server()
    ports.append(made)
    return made


@pytest.fixture
def client_context() -> DTLSContext:
    made = context(dtlsffi.PROTOCOL_DTLS_CLIENT)
    made.set_psk_client_callback(lambda _hint: ("me", KEY))
    return made


@pytest.fixture
def joined(ports: list[Port], server: Server, client_context: DTLSContext) -> list[EndpointConnection]:
    """Three clients that are in."""
    return [join(ports, client_context) for _ in range(3)]


def begin(
    ports: list[Port], client: DTLSContext, count: int = 1, before_the_last: Callable[[], object] = lambda: None
) -> list[EndpointConnection]:
    """Clients whose last flights are on their way to a server that has yet to look at them."""
    new = [Port() for _ in range(count)]
    ports += new
    connections = [port.endpoint.connect(ports[0].address, 1, context=client) for port in new]
    for between in (lambda: None, before_the_last):
        ports[0].endpoint.pump(1)
        between()
        for port in new:
            port.endpoint.pump(1)
    return connections


def join(ports: list[Port], client: DTLSContext) -> EndpointConnection:
    (connection,) = begin(ports, client)
    settle(ports[0], ports[-1])
    assert connection.is_established
    return connection


def test_c_knows_a_client_that_is_shaking_hands(ports: list[Port], server: Server, client_context: DTLSContext) -> None:
    """From its proven hello on, and asks for its key within a batch."""
    pumping = []
    server.answer = lambda _connection: pumping.append(server.endpoint._pumping) or KEY  # type: ignore[func-returns-value]
    (client,) = begin(ports, client_context)
    (connection,) = server.endpoint.connections
    assert server.endpoint._slots[connection._slot] is connection
    settle(*ports)
    assert client.is_established
    assert connection.is_established
    assert pumping == [True]


def test_a_callback_may_close_its_own_connection(
    ports: list[Port], server: Server, client_context: DTLSContext, joined: list[EndpointConnection]
) -> None:
    """C is at it still, and others have its place only when the batch is through."""
    server.answer = lambda connection: connection.close() or KEY  # type: ignore[func-returns-value]
    clients = begin(ports, client_context, 3)
    for client in joined:
        client.send(b"data")
    server.endpoint._udp.most = lib.DTLSFFI_BATCH
    server.endpoint.pump(1)
    gc.collect()
    server.answer = lambda _connection: KEY
    assert len(server.endpoint.connections) == 3
    assert [received(connection) for connection in server.endpoint.connections] == [[b"data"]] * 3
    assert sorted(server.endpoint._free_slots) == [3, 4, 5]
    assert join(ports, client_context).send(b"x") == 1
    settle(server)
    assert [received(connection) for connection in server.endpoint.connections] == [[], [], [], [b"x"]]
    assert not any(client.is_established for client in clients)


def test_who_is_closed_in_its_callback_is_not_freed_in_it(
    ports: list[Port], server: Server, client_context: DTLSContext
) -> None:
    """OpenSSL goes on with it when the callback has returned, whoever else has let go of it."""
    closed: list[weakref.ref[EndpointConnection]] = []

    def answer(connection: EndpointConnection) -> bytes:
        closed.append(weakref.ref(connection))
        connection.close()
        server.endpoint.accepted(), server.endpoint.ready()
        server.endpoint._schedule.heap.clear()  # as a sweep would
        return KEY

    server.answer = answer
    begin(ports, client_context, 3)
    server.endpoint._udp.most = lib.DTLSFFI_BATCH
    server.endpoint.pump(1)
    server.endpoint.ready()
    assert len(closed) == 3
    assert [reference() for reference in closed] == [None] * 3


def test_a_callback_may_close_others(
    ports: list[Port], server: Server, client_context: DTLSContext, joined: list[EndpointConnection]
) -> None:
    """Those whose records have just been taken out of the same batch: nobody else gets them, whoever comes instead."""
    others = server.endpoint.connections
    new: list[EndpointConnection] = []

    def answer(_connection: EndpointConnection) -> bytes:
        for other in others:
            other.close()
        others.clear()
        new.extend(server.endpoint.connect(("127.0.0.1", port), 1, context=client_context) for port in range(9, 12))
        return KEY

    server.answer = answer
    (client,) = begin(ports, client_context, 1, lambda: [other.send(b"data") for other in joined])
    server.endpoint._udp.most = lib.DTLSFFI_BATCH
    server.endpoint.pump(1)
    assert [received(connection) for connection in new] == [[]] * 3
    (connection,) = (there for there in server.endpoint.connections if there.server_side)
    assert connection.address == ports[-1].address
    assert connection.is_established
    assert received(connection) == []
    settle(*ports)
    assert client.is_established
    assert all(other.peer_closed for other in joined)


def test_a_callback_may_begin_connections(
    ports: list[Port], server: Server, client_context: DTLSContext, joined: list[EndpointConnection]
) -> None:
    """So many that the table grows under C's hands."""
    ports.append(Port(server.endpoint._context))
    elsewhere = ports[-1].address

    def answer(_connection: EndpointConnection) -> bytes:
        for number in range(100):
            server.endpoint.connect(("127.0.0.1", 1 + number), 1, context=client_context)
        server.endpoint.connect(elsewhere, 1, context=client_context)
        server.answer = lambda _connection: KEY
        return KEY

    server.answer = answer
    (client,) = begin(ports, client_context)
    joined[0].send(b"data")
    settle(*ports)
    assert client.is_established
    assert received(server.endpoint.find(ports[1].address)) == [b"data"]  # type: ignore[arg-type]
    ours = server.endpoint.find(elsewhere)
    assert ours is not None
    assert ours.is_established


@pytest.mark.parametrize("earlier", [False, True], ids=["", "one has waited"])
def test_a_callback_may_take_what_has_arrived(
    earlier: bool, ports: list[Port], server: Server, client_context: DTLSContext, joined: list[EndpointConnection]
) -> None:
    """What is taken out of the same batch afterwards is not lost."""
    taken: list[tuple[EndpointConnection, bytes]] = []
    connections = server.endpoint.connections

    def answer(_connection: EndpointConnection) -> bytes:
        taken.extend(server.endpoint.recv_many())
        server.endpoint.ready()
        return KEY

    server.answer = answer
    if earlier:
        joined[0].send(b"before")
        settle(server)
    begin(ports, client_context, 1, lambda: [client.send(b"data") for client in joined])
    server.endpoint._udp.most = lib.DTLSFFI_BATCH
    server.endpoint.pump(1)
    taken += server.endpoint.recv_many()
    assert taken == [(connections[0], b"before")] * earlier + [(connection, b"data") for connection in connections]


@pytest.mark.parametrize("error", [KeyboardInterrupt, LookupError])
def test_who_is_closed_in_its_callback_may_raise_besides(
    error: type[BaseException], ports: list[Port], server: Server, client_context: DTLSContext
) -> None:
    """Ctrl-C is raised to whoever called, and anything else is told as what ended it."""

    def answer(connection: EndpointConnection) -> bytes:
        connection.close()
        raise error

    server.answer = answer
    begin(ports, client_context)
    (connection,) = server.endpoint.connections
    with pytest.raises(KeyboardInterrupt) if error is KeyboardInterrupt else nullcontext():
        settle(server)
    assert isinstance(connection.failure, error)
    assert connection in server.endpoint.ready()


def test_an_endpoint_that_is_closed_in_a_callback_answers_nobody(
    ports: list[Port], server: Server, client_context: DTLSContext
) -> None:
    """The number of its socket may be somebody else's by then."""

    def answer(_connection: EndpointConnection) -> bytes:
        server.endpoint.close()
        return KEY

    server.answer = answer
    begin(ports, client_context)
    before = server.endpoint.statistics()["cookies_sent"]
    ports.append(Port())
    ports[-1].endpoint.connect(server.address, 1, context=client_context)
    server.endpoint._udp.most = lib.DTLSFFI_BATCH
    server.endpoint.pump(1)
    assert server.endpoint.statistics()["cookies_sent"] == before
    assert server.endpoint.connections == []


def test_a_finished_handshake_that_nobody_has_looked_at_does_not_run_out(
    ports: list[Port], server: Server, client_context: DTLSContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where Ctrl-C comes in between."""
    begin(ports, client_context)
    (connection,) = server.endpoint.connections
    with monkeypatch.context() as patch:
        patch.setattr(server.endpoint, "_look", lambda *_: None)
        server.endpoint.pump(1)
    assert connection.is_established
    assert not connection._completed
    server.endpoint.handle_timers(1000)
    assert connection._completed
    assert not connection.gone


def test_a_callback_that_raises_ends_its_connection_only(
    ports: list[Port], server: Server, client_context: DTLSContext, joined: list[EndpointConnection]
) -> None:
    """With what it has raised."""

    def answer(_connection: EndpointConnection) -> bytes:
        raise LookupError("no such key")

    server.answer = answer
    begin(ports, client_context)
    failed = server.endpoint.connections[-1]
    joined[2].send(b"data")
    settle(server)
    assert isinstance(failed.failure, LookupError)
    assert failed.gone
    assert received(server.endpoint.connections[2]) == [b"data"]
    assert server.endpoint.statistics()["handshakes_failed"] == 1


def test_ctrl_c_in_a_callback_waits_for_the_rest_of_the_batch(
    ports: list[Port], server: Server, client_context: DTLSContext
) -> None:
    """Others have finished their handshakes, and their records are not lost."""
    client = join(ports, client_context)
    clients = begin(ports, client_context, 4)
    begun = server.endpoint.connections[1:]

    def answer(connection: EndpointConnection) -> bytes:
        if connection is begun[1]:
            raise KeyboardInterrupt
        return KEY

    server.answer = answer
    client.send(b"data")
    server.endpoint._udp.most = lib.DTLSFFI_BATCH
    with pytest.raises(KeyboardInterrupt):
        server.endpoint.pump(1)
    assert begun[1].gone
    assert [connection._completed for connection in begun] == [True, False, True, True]
    assert received(server.endpoint.connections[0]) == [b"data"]
    settle(*ports)
    assert [client.is_established for client in clients] == [True, False, True, True]


def test_a_name_may_choose_a_context_that_is_traced(ports: list[Port], authority: dtlsffi.testing.Authority) -> None:
    """Each of its records is shown then: C does not find the connection by itself any more."""
    events: list[dtlsffi.TraceEvent] = []
    traced = authority.server_context("b.example")
    traced.trace = lambda _connection, event: events.append(event)
    outer = authority.server_context("a.example")

    def choose(connection: EndpointConnection, _name: str | None, _context: DTLSContext) -> None:
        connection.context = traced

    outer.sni_callback = choose
    ports.append(Port(outer))
    ports.append(Port())
    client = ports[1].endpoint.connect(
        ports[0].address, 1, context=authority.client_context(), server_hostname="b.example"
    )
    settle(*ports)
    assert client.is_established
    (connection,) = ports[0].endpoint.connections
    assert connection._slot == -1
    events.clear()
    client.send(b"data")
    settle(*ports)
    assert received(connection) == [b"data"]
    assert [event.content for event in events if event.layer == "record"] == ["application_data"]


def test_what_waits_for_a_step_does_not_outlive_the_endpoint(
    ports: list[Port], server: Server, client_context: DTLSContext
) -> None:
    """Nobody shakes hands with one that is closed."""
    new = [Port() for _ in range(2 * BUDGET)]
    ports += new
    for port in new:
        port.endpoint.connect(ports[0].address, 1, context=client_context)
    while select.select([ports[0].sock], [], [], 0.05)[0]:
        server.endpoint.pump(1)  # cookies
    for port in new:
        port.endpoint.pump(1)
    server.endpoint._udp.most = lib.DTLSFFI_BATCH
    assert server.endpoint.pump(1)
    assert server.endpoint.look_at() == 0, "some wait"
    server.endpoint.close()
    assert server.endpoint.look_at() > 1
    server.endpoint.handle_timers(2)
    assert not server.endpoint.connections
