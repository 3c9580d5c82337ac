"""Resumption, with a ticket (RFC 5077) and by session id (RFC 5246): with openssl(1), GnuTLS, and other processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import dtlsffi
from dtlsffi.testing import Authority, Identity
from tests.helpers import HOST
from tests.interop.peers import CLIENTS, SERVERS, Serve, connect
from tests.interop.programs import Files, Program

pytestmark = pytest.mark.interop

BOTH = ["openssl", "gnutls"]
WAYS = ["ticket", "session id"]
NO_TICKET = {"openssl": ["-no_ticket"], "gnutls": ["--noticket"]}


# ---- we are the client ----


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("peer", BOTH)
def test_our_client_resumes_with_their_server(peer: str, way: str, authority: Authority, files: Files) -> None:
    """The handshake is shorter, the certificate is still known, data flows."""
    context = authority.client_context()
    more = NO_TICKET[peer] if way == "session id" else []
    with SERVERS[peer](files, authority.issue(HOST), *more) as server:
        with connect(server.address, context) as first:
            assert not first.session_reused
            session = first.session
        assert session is not None
        assert session.has_ticket == (way == "ticket")
        if peer == "openssl":
            server.expect("DONE")  # it takes one client at a time
        with connect(server.address, context, session=session) as second:
            assert second.session_reused
            assert second.statistics()["bytes_received"] < first.statistics()["bytes_received"]
            assert second.getpeercert() == first.getpeercert()
            second.send(b"hello\n")
            server.expect("hello")


@pytest.mark.parametrize("peer", BOTH)
def test_our_client_is_not_known_any_more(peer: str, authority: Authority, files: Files) -> None:
    """A server that has been started anew leads to a full handshake."""
    context = authority.client_context()
    identity = authority.issue(HOST)
    with SERVERS[peer](files, identity) as server, connect(server.address, context) as first:
        session = first.session
    with SERVERS[peer](files, identity) as server, connect(server.address, context, session=session) as second:
        assert not second.session_reused
        assert second.getpeercert() is not None


# ---- we are the server ----


def server_context(authority: Authority, way: str = "ticket") -> dtlsffi.DTLSContext:
    context = authority.server_context(HOST)
    if way == "session id":
        context.options |= dtlsffi.OP_NO_TICKET
    return context


@pytest.mark.parametrize("way", WAYS)
def test_openssl_resumes_with_our_server(
    way: str, authority: Authority, files: Files, serve: Serve, tmp_path: Path
) -> None:
    """From a file, in another process."""
    server = serve(server_context(authority, way))
    saved = str(tmp_path / "session")
    for option, reused in (("-sess_out", False), ("-sess_in", True)):
        with (
            CLIENTS["openssl"](files, server.address, authority.certificate, option, saved) as client,
            server.accept() as conn,
        ):
            assert conn.session_reused == reused
            client.expect("Reused, TLSv1.2" if reused else "New, TLSv1.2")
            assert ("TLS session ticket:" in client.expect("Extended master secret")) == (way == "ticket")
            client.say("hello")
            assert conn.recv() == b"hello\n"
    assert server.context.session_stats()["hits"] == 1


@pytest.mark.parametrize("way", WAYS)
def test_gnutls_resumes_with_our_server(way: str, authority: Authority, files: Files, serve: Serve) -> None:
    """It connects twice."""
    server = serve(server_context(authority, way))
    with CLIENTS["gnutls"](files, server.address, authority.certificate, "--resume") as client:
        with server.accept() as first:
            assert not first.session_reused
            assert first.recv() == b""  # its close_notify
        with server.accept() as second:
            assert second.session_reused
            client.expect("This is a resumed session")
            client.say("hello")
            assert second.recv() == b"hello\n"


# ---- other processes of ours ----

OUR_CLIENT = """
import sys, dtlsffi
port, ca, saved = sys.argv[1:]
context = dtlsffi.create_default_context(cafile=ca)
session = dtlsffi.DTLSSession.from_bytes(bytes.fromhex(saved)) if saved else None
with dtlsffi.create_connection(
    ("127.0.0.1", int(port)), context=context, server_hostname="device.example", session=session, timeout=10
) as conn:
    print("reused:", conn.session_reused)
    print("session:", conn.session.to_bytes().hex(), flush=True)
    conn.send(b"hello")
"""

OUR_SERVER = """
import socket, sys, dtlsffi
certificate, key, *ticket_keys = sys.argv[1:]
context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
context.load_cert_chain(certificate, key)
context.set_ticket_keys([bytes.fromhex(key) for key in ticket_keys])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(15)
    print(f"port: {sock.getsockname()[1]}.", flush=True)
    _, client = sock.recvfrom(1, socket.MSG_PEEK)
    sock.connect(client)
    with context.wrap_socket(sock, server_side=True) as conn:
        print("reused:", conn.session_reused, flush=True)
        while data := conn.recv():
            conn.send(data)
"""


def python(script: str, *arguments: str) -> Program:
    return Program([sys.executable, "-X", "dev", "-W", "error", "-c", script, *arguments])


@pytest.mark.parametrize("way", WAYS)
def test_a_saved_session_is_resumed_in_another_process(
    way: str, authority: Authority, files: Files, serve: Serve
) -> None:
    """Its bytes are all it takes."""
    server = serve(server_context(authority, way))
    ca, saved = files.write(authority.certificate), ""
    for reused in (False, True):
        with python(OUR_CLIENT, str(server.address[1]), ca, saved) as client, server.accept() as conn:
            assert conn.session_reused == reused
            client.expect(f"reused: {reused}\n")
            assert conn.recv() == b"hello"
            saved = client.match(r"session: ([0-9a-f]+)\n")
            assert client.result() == 0


class OurProcess:
    """A server of ours in a process of its own, for one client."""

    def __init__(self, files: Files, identity: Identity, *ticket_keys: bytes) -> None:
        self._program = python(
            OUR_SERVER,
            files.write(identity.certificate),
            files.write(identity.key),
            *(key.hex() for key in ticket_keys),
        )

    def visit(
        self, context: dtlsffi.DTLSContext, session: dtlsffi.DTLSSession | None
    ) -> tuple[bool, dtlsffi.DTLSSession]:
        """Talks with it; returns whether both sides think that `session` was resumed, and the one for the next time."""
        with self._program as server:
            address = ("127.0.0.1", int(server.match(r"port: ([0-9]+)\.")))
            with connect(address, context, session=session) as conn:
                conn.send(b"hello")
                assert conn.recv() == b"hello"
                server.expect(f"reused: {conn.session_reused}\n")
                reused, new = conn.session_reused, conn.session
            assert server.result() == 0
        assert new is not None
        return reused, new


def test_processes_that_share_ticket_keys_resume_each_others_clients(authority: Authority, files: Files) -> None:
    """One makes the ticket, the other takes it."""
    context = authority.client_context()
    identity, key = authority.issue(HOST), os.urandom(80)
    reused, session = OurProcess(files, identity, key).visit(context, None)
    assert not reused
    assert session.has_ticket
    reused, _ = OurProcess(files, identity, key).visit(context, session)
    assert reused


def test_a_ticket_under_an_old_key_is_replaced(authority: Authority, files: Files) -> None:
    """So a client that comes while both keys are there is known when the old one has gone."""
    context = authority.client_context()
    identity, old, new = authority.issue(HOST), os.urandom(80), os.urandom(80)
    _, session = OurProcess(files, identity, old).visit(context, None)
    reused, session = OurProcess(files, identity, new, old).visit(context, session)
    assert reused
    reused, _ = OurProcess(files, identity, new).visit(context, session)
    assert reused


def test_a_ticket_under_a_key_that_is_gone_leads_to_a_full_handshake(authority: Authority, files: Files) -> None:
    """Silently; the client gets a ticket that is good again."""
    context = authority.client_context()
    identity, old, new = authority.issue(HOST), os.urandom(80), os.urandom(80)
    _, session = OurProcess(files, identity, old).visit(context, None)
    reused, session = OurProcess(files, identity, new).visit(context, session)
    assert not reused
    reused, _ = OurProcess(files, identity, new).visit(context, session)
    assert reused
