"""dtlsffi.core.resumption: tickets and their keys, the cache, stores of one's own."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import dtlsffi
from dtlsffi import Connection, DTLSContext, DTLSSession
from dtlsffi.testing import Authority, MemoryLink
from tests.helpers import FAST, HOST, load


def connect(client: DTLSContext, server: DTLSContext, session: DTLSSession | None = None) -> MemoryLink:
    link = MemoryLink(
        Connection(client, server_hostname=HOST, session=session),
        Connection(server, server_side=True),
    )
    link.shake_hands()
    return link


def resumes(client: DTLSContext, server: DTLSContext, session: DTLSSession | None) -> bool:
    link = connect(client, server, session)
    assert link.client.session_reused == link.server.session_reused
    return link.client.session_reused


# ---- ticket keys ----


def fleet(authority: Authority, *keys: bytes) -> DTLSContext:
    """One server of many."""
    server = authority.server_context(HOST)
    server.set_ticket_keys(keys)
    return server


def test_servers_that_share_keys_resume_each_others_clients(authority: Authority) -> None:
    """Those with other keys do not; their own tickets they give out."""
    client, key = authority.client_context(), os.urandom(80)
    session = connect(client, fleet(authority, key)).client.session
    assert resumes(client, fleet(authority, key), session)
    assert not resumes(client, fleet(authority, os.urandom(80)), session)
    assert not resumes(client, authority.server_context(HOST), session)


def test_keys_rotate_while_in_use(authority: Authority) -> None:
    """The old one is accepted for as long as it is there, and its clients get a new ticket."""
    client, server, old, new = authority.client_context(), authority.server_context(HOST), *(
        os.urandom(80) for _ in range(2)
    )  # fmt: skip
    server.set_ticket_keys([old])
    session = connect(client, server).client.session
    server.set_ticket_keys([new, old])
    link = connect(client, server, session)
    assert link.client.session_reused
    renewed = link.client.session
    server.set_ticket_keys([new])
    assert not resumes(client, server, session), "the old key is gone: a full handshake, without a word"
    assert resumes(client, server, renewed)


def test_a_forged_ticket_leads_to_a_full_handshake(authority: Authority) -> None:
    """One that has the right name, but not the right MAC."""
    client, key = authority.client_context(), os.urandom(80)
    session = connect(client, fleet(authority, key)).client.session
    same_name = key[:16] + os.urandom(64)
    assert not resumes(client, fleet(authority, same_name), session)


def test_tickets_and_client_certificates_go_together_across_servers(authority: Authority) -> None:
    """The other server knows who it is, without being shown."""
    client, key = authority.client_context(), os.urandom(80)
    load(client, authority.issue("client.example"))
    servers = [fleet(authority, key) for _ in range(2)]
    for server in servers:
        server.load_verify_locations(cadata=authority.certificate)
        server.verify_mode = dtlsffi.CERT_REQUIRED
    session = connect(client, servers[0]).client.session
    link = connect(client, servers[1], session)
    assert link.server.session_reused
    assert link.server.getpeercert()["subjectAltName"] == (("DNS", "client.example"),)  # type: ignore[index]


def test_keys_rotate_while_handshakes_run_in_other_threads(authority: Authority) -> None:
    """Nobody fails over it."""
    server = authority.server_context(HOST)
    keys = [os.urandom(80) for _ in range(3)]
    server.set_ticket_keys(keys)
    client = authority.client_context()

    def shake(_: int) -> None:
        link = connect(client, server)
        connect(client, server, link.client.session)

    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(shake, number) for number in range(100)]
        for turn in range(300):
            server.set_ticket_keys([keys[turn % 3], keys[(turn + 1) % 3]])
        for future in done:
            future.result()


@pytest.mark.parametrize(
    ("keys", "error", "words"),
    [
        ([], ValueError, "at least one ticket key"),
        ([bytes(79)], ValueError, "a ticket key has 80 bytes, not 79"),
        ([bytes(80), bytes(80)], ValueError, "no two with the same name"),
        (["x" * 80], TypeError, "a ticket key is bytes, not str"),
    ],
)
def test_bad_keys_are_refused(authority: Authority, keys: Any, error: type[Exception], words: str) -> None:
    """And those in use stay."""
    client, key = authority.client_context(), os.urandom(80)
    server = fleet(authority, key)
    session = connect(client, server).client.session
    with pytest.raises(error, match=words):
        server.set_ticket_keys(keys)
    assert resumes(client, server, session)
    with pytest.raises(ValueError, match="ticket keys cannot be set on a PROTOCOL_DTLS_CLIENT context"):
        client.set_ticket_keys([key])


# ---- the cache ----


def no_tickets(authority: Authority) -> DTLSContext:
    server = authority.server_context(HOST)
    server.options |= dtlsffi.OP_NO_TICKET
    server.maximum_version = dtlsffi.DTLSVersion.DTLSv1_2
    return server


def test_without_tickets_the_servers_cache_counts(authority: Authority) -> None:
    """Its size, and for how long."""
    client, server = authority.client_context(), no_tickets(authority)
    assert (server.session_cache_size, server.session_timeout) == (20480, 7200)
    server.session_timeout = 60
    session = connect(client, server).client.session
    assert session is not None
    assert not session.has_ticket
    assert resumes(client, server, session)
    forgetful = no_tickets(authority)
    forgetful.session_cache_size = 0
    assert forgetful.session_cache_size == 0
    assert not resumes(client, forgetful, connect(client, forgetful).client.session)
    for name, bad in (("session_cache_size", -1), ("session_timeout", 0), ("session_timeout", 604801)):
        with pytest.raises(ValueError, match=name):
            setattr(DTLSContext(), name, bad)


def test_sessions_are_counted(authority: Authority) -> None:
    """By the names of ssl.SSLContext.session_stats."""
    client, server = authority.client_context(), no_tickets(authority)
    session = connect(client, server).client.session
    connect(client, server, session)
    assert server.session_stats() == {
        "number": 1, "connect": 0, "connect_good": 0, "connect_renegotiate": 0, "accept": 2, "accept_good": 2,
        "accept_renegotiate": 0, "hits": 1, "misses": 0, "timeouts": 0, "cache_full": 0,
    }  # fmt: skip
    assert client.session_stats()["connect_good"] == 2


def test_num_tickets_is_for_servers_of_dtls_1_3() -> None:
    """Ssl's rules and words."""
    server = DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    assert server.num_tickets == 2
    server.num_tickets = 0
    assert server.num_tickets == 0
    with pytest.raises(ValueError, match="non-negative"):
        server.num_tickets = -1
    with pytest.raises(TypeError, match="num_tickets is an int"):
        server.num_tickets = "1"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="not a server context"):
        DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT).num_tickets = 1


# ---- rules of verification ----


def strict(authority: Authority, **more: Any) -> DTLSContext:
    """A server that wants certificates."""
    server = authority.server_context(HOST)
    server.load_verify_locations(cadata=authority.certificate)
    server.verify_mode = dtlsffi.CERT_REQUIRED
    for name, value in more.items():
        setattr(server, name, value)
    return server


def test_a_session_does_not_get_around_a_servers_verification(authority: Authority, stranger: Authority) -> None:
    """Servers that share keys but not rules do a full handshake, with all that it asks for."""
    key = os.urandom(80)
    client = authority.client_context()
    load(client, stranger.issue("intruder.example"))
    for lax in (authority.server_context(HOST), strict(authority, accept_any_certificate=True)):
        server = strict(authority)
        for context in (lax, server):
            context.set_ticket_keys([key])
        session = connect(client, lax).client.session
        with pytest.raises(dtlsffi.DTLSCertVerificationError):
            connect(client, server, session)


def test_a_session_does_not_get_around_the_context_that_a_name_chooses(authority: Authority) -> None:
    """Also where that changed since: the name is heard before a session is looked for."""
    client, first, second = authority.client_context(), authority.server_context(HOST), strict(authority)
    switched: list[bool] = []
    first.sni_callback = lambda connection, *_: setattr(connection, "context", second) if switched else None
    session = connect(client, first).client.session
    assert resumes(client, first, session)
    switched.append(True)
    with pytest.raises(dtlsffi.DTLSError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        connect(client, first, session)
    load(known := authority.client_context(), authority.issue("client.example"))
    session = connect(known, first).client.session
    link = connect(known, first, session)
    assert link.server.session_reused
    assert link.server.context is second
    assert link.server.getpeercert()


def test_services_can_be_set_apart(authority: Authority) -> None:
    """By a name of their own."""
    client, key = authority.client_context(), os.urandom(80)
    one, two = fleet(authority, key), fleet(authority, key)
    one.session_id_context = b"one"
    session = connect(client, one).client.session
    assert not resumes(client, two, session)
    assert resumes(client, one, session)
    for bad in ("one", bytes(33)):
        with pytest.raises(ValueError, match="session_id_context is bytes, at most 32"):
            DTLSContext().session_id_context = bad  # type: ignore[assignment]


# ---- stores of one's own ----


@pytest.mark.parametrize("as_bytes", [True, False])
def test_a_store_of_ones_own_is_shared_by_servers(authority: Authority, as_bytes: bool) -> None:
    """What one has put in, the other takes out."""
    client = authority.client_context()
    store: dict[bytes, Any] = {}
    told: list[Any] = []

    def keep(connection: Any, session: DTLSSession) -> None:
        told.append(connection)
        store[session.id] = session.to_bytes() if as_bytes else session

    def find(connection: Any, identifier: bytes) -> Any:
        told.append(connection)
        return store.get(identifier)

    def server() -> DTLSContext:
        context = no_tickets(authority)
        context.session_cache_size = 0
        context.set_session_callbacks(new=keep, get=find)
        return context

    first = connect(client, server())
    assert told == [first.server]
    assert list(store) == [first.client.session.id]  # type: ignore[union-attr]
    second = connect(client, server(), first.client.session)
    assert second.client.session_reused
    assert told[1:] == [second.server]
    store.clear()
    assert not resumes(client, server(), first.client.session)


def test_a_client_is_told_of_sessions(authority: Authority) -> None:
    """To keep them for later."""
    client, server = authority.client_context(), authority.server_context(HOST)
    kept: list[DTLSSession] = []
    client.set_session_callbacks(new=lambda _connection, session: kept.append(session))
    link = connect(client, server)
    link.settle()
    assert kept[-1] == link.client.session
    assert resumes(client, server, kept[-1])
    with pytest.raises(ValueError, match="a use for the callback `new` only"):
        authority.client_context().set_session_callbacks(get=lambda *_: None)
    with pytest.raises(TypeError, match="get is a callable or None, not int"):
        DTLSContext().set_session_callbacks(get=1)  # type: ignore[arg-type]


def test_a_store_is_told_what_must_not_be_resumed(authority: Authority) -> None:
    """A session whose connection failed, or that makes room for another."""
    client, server = authority.client_context(), no_tickets(authority)
    removed: list[bytes] = []
    server.session_cache_size = 1
    server.set_session_callbacks(remove=removed.append)
    first, second = (connect(client, server).client.session for _ in range(2))
    assert first is not None
    assert second is not None
    assert removed == [first.id]


def test_a_client_keeps_its_sessions_in_its_store_alone(authority: Authority) -> None:
    """OpenSSL's cache would only grow."""
    client, server = authority.client_context(), authority.server_context(HOST)
    client.set_session_callbacks(new=lambda *_: None)
    connect(client, server)
    assert client.session_stats()["number"] == 0


def test_a_store_belongs_to_the_context_that_a_connection_began_with(authority: Authority) -> None:
    """Whatever a name has chosen: there is one cache behind a port."""
    client, first, second = authority.client_context(), no_tickets(authority), no_tickets(authority)
    told: list[str] = []
    for name, context in (("first", first), ("second", second)):
        context.set_session_callbacks(
            new=lambda *_, name=name: told.append(f"new {name}"),
            get=lambda *_, name=name: told.append(f"get {name}"),  # type: ignore[func-returns-value]
        )
    first.session_cache_size = 0
    first.sni_callback = lambda connection, *_: setattr(connection, "context", second)
    connect(client, first, connect(client, first).client.session)
    assert told == ["new first", "get first", "new first"]


def test_a_slow_store_holds_nobody_up(authority: Authority) -> None:
    """OpenSSL holds a lock when it removes a session: Python hears of it after that."""
    client, server = authority.client_context(), no_tickets(authority)
    server.session_cache_size = 1
    entered, leave = threading.Event(), threading.Event()

    def slow(_: bytes) -> None:
        entered.set()
        assert leave.wait(30)

    server.set_session_callbacks(remove=slow)
    connect(client, server)
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(connect, client, server)
        assert entered.wait(30)
        other = MemoryLink(Connection(client, server_hostname=HOST), Connection(server, server_side=True))
        with pytest.raises(dtlsffi.DTLSWantReadError):
            other.client.do_handshake()
        for datagram in other.client.datagrams_to_send():
            other.server.receive_datagram(datagram)
        leave.set()
        busy.result()
        other.settle()
        assert other.server.is_established


def test_a_store_that_fails_is_heard_of(authority: Authority) -> None:
    """In the call that needed it."""
    client, server = authority.client_context(), no_tickets(authority)

    def broken(*_: Any) -> Any:
        raise ConnectionResetError("the store is gone")

    server.retransmission = client.retransmission = FAST
    server.session_cache_size = 1
    server.set_session_callbacks(remove=broken)
    connect(client, server)
    with pytest.raises(ConnectionResetError, match="the store is gone"):
        connect(client, server)
    server = no_tickets(authority)
    server.set_session_callbacks(new=broken)
    with pytest.raises(ConnectionResetError, match="the store is gone"):
        connect(client, server)
    for answer, error in ((broken, ConnectionResetError), (lambda *_: 7, TypeError), (lambda *_: b"x", ValueError)):
        session = connect(client, no_tickets(authority)).client.session
        server = no_tickets(authority)
        server.set_session_callbacks(get=answer)
        with pytest.raises(error):
            connect(client, server, session)
