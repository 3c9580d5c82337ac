"""dtlsffi.core.resumption: what a session does not carry over from one context to another, and whose object it is."""

from __future__ import annotations

import os
import ssl
import subprocess
from typing import Any

import pytest

import dtlsffi
from dtlsffi import Connection, DTLSContext, DTLSSession
from dtlsffi.testing import Authority, Identity, MemoryLink
from tests.core.test_resumption import connect, fleet, resumes
from tests.helpers import FAST, HOST, load


@pytest.mark.parametrize("stricter", ["revoked", "weak"])
def test_nobody_comes_in_by_a_session_whom_new_rules_keep_out(authority: Authority, stricter: str) -> None:
    """A newer revocation list in the place of an older one; another security level. So in full handshakes, so here."""
    identity, key, client = authority.issue("client.example"), os.urandom(80), authority.client_context()
    load(client, identity)

    def one_of_the_fleet(level: int, *revoked: Identity) -> DTLSContext:
        server = fleet(authority, key)
        server.verify_mode = ssl.CERT_REQUIRED
        server.security_level = level
        server.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        server.load_verify_locations(cadata=authority.certificate + authority.revoke(*revoked))
        server.retransmission = FAST
        return server

    other = authority.issue("other.example")
    session = connect(client, one_of_the_fleet(1 if stricter == "weak" else 2, other)).client.session
    if stricter == "revoked":
        with pytest.raises(dtlsffi.DTLSCertVerificationError, match="certificate revoked"):
            connect(client, one_of_the_fleet(2, identity), session)
    else:
        assert not resumes(client, one_of_the_fleet(2, other), session)


@pytest.mark.parametrize("way", ["shared keys", "sni_callback"])
@pytest.mark.parametrize("private", ["psk", "psk beside a certificate", "other suites"])
def test_a_session_is_no_key(authority: Authority, private: str, way: str) -> None:
    """Who has been let in without one does not come in by resuming where a key is what counts."""
    key, public = os.urandom(80), authority.server_context(HOST)
    secret = DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    if private == "psk":
        public.set_psk_server_callback(lambda _: None)
    if private == "other suites":
        load(secret, authority.issue(HOST))
        secret.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    else:
        secret.set_psk_server_callback({"me": b"secret"}.get)
    if private == "psk beside a certificate":
        load(secret, authority.issue(HOST))
        secret.set_ciphers("PSK")
    chosen = [public]

    def choose(connection: Any, _name: str | None, _context: Any) -> None:
        connection.context = chosen[0]

    front = authority.server_context(HOST)
    front.sni_callback = choose
    client = authority.client_context()
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    for context in (public, secret):
        context.set_ticket_keys([key])
    for context in (public, secret, front):
        context.retransmission = FAST
    session = connect(client, front if way == "sni_callback" else public).client.session
    chosen[0] = secret
    link = MemoryLink(
        Connection(client, server_hostname=HOST, session=session),
        Connection(front if way == "sni_callback" else secret, server_side=True),
    )
    with pytest.raises(dtlsffi.DTLSError):
        link.shake_hands()
    assert not link.server.is_established


def test_a_store_may_be_shared_by_contexts(authority: Authority) -> None:
    """The next context resumes what the last has kept, without reaching into that one's cache."""
    kept: dict[bytes, DTLSSession] = {}
    identity = authority.issue(HOST)

    def server() -> DTLSContext:
        context = DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
        load(context, identity)
        context.options |= dtlsffi.OP_NO_TICKET
        context.set_session_callbacks(
            new=lambda _, session: kept.update({session.id: session}), get=lambda _, identifier: kept.get(identifier)
        )
        return context

    client = authority.client_context()
    before, after = server(), server()
    sessions = [connect(client, before).client.session for _ in range(5)]
    for session in sessions:
        assert resumes(client, after, session)
        assert resumes(client, before, session)
    for _ in range(5):
        connect(client, before)
    del before, after


def test_a_cache_that_is_full_spoils_nothing_in_the_store(authority: Authority) -> None:
    """What OpenSSL throws out of its cache may be resumed all the same."""
    kept: dict[bytes, DTLSSession] = {}
    client, server = authority.client_context(), authority.server_context(HOST)
    server.options |= dtlsffi.OP_NO_TICKET
    server.session_cache_size = 2
    server.set_session_callbacks(
        new=lambda _, session: kept.update({session.id: session}), get=lambda _, identifier: kept.get(identifier)
    )
    sessions = [connect(client, server).client.session for _ in range(10)]
    assert all(resumes(client, server, session) for session in sessions)


def test_a_store_gives_what_it_was_asked_for(authority: Authority) -> None:
    """Another's session would leave both sides waiting for each other."""
    kept: list[DTLSSession] = []
    client, server = authority.client_context(), authority.server_context(HOST)
    server.options |= dtlsffi.OP_NO_TICKET
    server.session_cache_size = 0
    server.set_session_callbacks(new=lambda _, session: kept.append(session), get=lambda *_: kept[0])
    connect(client, server)
    second = connect(client, server).client.session
    with pytest.raises(ValueError, match="the id it was asked for"):
        connect(client, server, second)


def test_who_was_not_vouched_for_is_not_resumed_by_who_asks_for_that(authority: Authority) -> None:
    """A client that looks at OCSP responses has not looked at this one's."""
    server = authority.server_context(HOST)
    session = connect(authority.client_context(), server).client.session
    assert session is not None
    stricter = authority.client_context()
    stricter.set_ocsp_client_callback(lambda *_: False)
    with pytest.raises(ValueError, match="session"):
        Connection(stricter, server_hostname=HOST, session=DTLSSession.from_bytes(session.to_bytes()))


def test_a_client_is_not_held_to_what_is_a_servers(authority: Authority) -> None:
    """In a context for both sides: its own certificate, and its suites, which are offered anew."""
    server, identity = authority.server_context(HOST), authority.issue("client.example")
    server.set_ticket_keys([os.urandom(80)])

    def either(ciphers: str) -> DTLSContext:
        context = DTLSContext(dtlsffi.PROTOCOL_DTLS)
        context.load_verify_locations(cadata=authority.certificate)
        context.set_ciphers(ciphers)
        return context

    session = connect(either("ECDHE+AESGCM"), server).client.session
    assert session is not None
    other = either("ECDHE")
    load(other, identity)
    assert resumes(other, server, DTLSSession.from_bytes(session.to_bytes()))


def test_an_authority_that_is_not_trusted_for_clients_lets_none_in_by_a_session(authority: Authority) -> None:
    """What a TRUSTED CERTIFICATE says is a rule like any other: openssl-x509(1)."""
    command = ["openssl", "x509", "-addreject", "clientAuth", "-trustout"]
    rejected = subprocess.run(command, input=authority.certificate, capture_output=True, check=True).stdout
    key, client = os.urandom(80), authority.client_context()
    load(client, authority.issue("client.example"))

    def one_of_the_fleet(trusted: bytes) -> DTLSContext:
        server = fleet(authority, key)
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_verify_locations(cadata=trusted)
        server.retransmission = FAST
        return server

    session = connect(client, one_of_the_fleet(authority.certificate)).client.session
    assert resumes(client, one_of_the_fleet(authority.certificate), session)
    with pytest.raises(dtlsffi.DTLSCertVerificationError, match="certificate rejected"):
        connect(client, one_of_the_fleet(rejected), session)
