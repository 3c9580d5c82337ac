"""dtlsffi.core.session."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import dtlsffi
from dtlsffi.testing import Authority, MemoryLink
from tests.helpers import HOST


def connect(
    client: dtlsffi.DTLSContext, server: dtlsffi.DTLSContext, session: dtlsffi.DTLSSession | None = None
) -> MemoryLink:
    link = MemoryLink(
        dtlsffi.Connection(client, server_hostname=HOST, session=session),
        dtlsffi.Connection(server, server_side=True),
    )
    link.shake_hands()
    return link


@pytest.mark.parametrize("tickets", [True, False])
def test_a_session_is_resumed(tickets: bool, authority: Authority) -> None:
    """By ticket, or from the server's cache; both sides know."""
    client, server = authority.client_context(), authority.server_context(HOST)
    if not tickets:
        server.options |= dtlsffi.OP_NO_TICKET
    first = connect(client, server)
    assert not first.client.session_reused
    session = first.client.session
    assert session is not None
    assert session.has_ticket is tickets
    assert (session.ticket_lifetime_hint > 0) is tickets
    assert abs(session.time - time.time()) < 60
    assert session.timeout > 0
    first.client.close()
    del first
    second = connect(client, server, session)
    assert second.client.session_reused
    assert second.server.session_reused
    assert second.client.getpeercert()


def test_a_session_outlives_a_connection_that_was_not_closed(authority: Authority) -> None:
    """OpenSSL forgets the session of an SSL that was freed without shutdown: ours is not."""
    client, server = authority.client_context(), authority.server_context(HOST)
    server.options |= dtlsffi.OP_NO_TICKET
    session = connect(client, server).client.session
    assert connect(client, server, session).client.session_reused


def test_client_certificates_and_resumption_go_together(authority: Authority) -> None:
    """Which needs a session id context: SSL_CTX_set_session_id_context(3)."""
    client, server = authority.client_context(), authority.server_context(HOST)
    identity = authority.issue("client.example")
    client.load_cert_chain(identity.certificate, identity.key)
    server.load_verify_locations(cadata=authority.certificate)
    server.verify_mode = dtlsffi.CERT_REQUIRED
    session = connect(client, server).client.session
    resumed = connect(client, server, session)
    assert resumed.server.session_reused
    assert resumed.server.getpeercert()


def test_sessions_are_the_same_by_id(authority: Authority) -> None:
    """As ssl.SSLSession."""
    link = connect(authority.client_context(), authority.server_context(HOST))
    one, two = link.client.session, link.client.session
    assert one is not two
    assert one == two
    assert hash(one) == hash(two)
    assert one is not None
    assert len(one.id) == 32
    assert one != one.id


def test_a_session_has_its_place(authority: Authority) -> None:
    """With the context, the side and the host it was made with."""
    client, server = authority.client_context(), authority.server_context(HOST)
    session = connect(client, server).client.session
    with pytest.raises(ValueError, match="refers to a different DTLSContext"):
        dtlsffi.Connection(authority.client_context(), server_hostname=HOST, session=session)
    with pytest.raises(ValueError, match="session was made with 'device.example', not with 'other.example'"):
        dtlsffi.Connection(client, server_hostname="other.example", session=session)
    with pytest.raises(ValueError, match="client mode"):
        dtlsffi.Connection(server, server_side=True, session=session)
    with pytest.raises(TypeError, match="session is a DTLSSession"):
        dtlsffi.Connection(client, server_hostname=HOST, session=b"x")  # type: ignore[arg-type]


def test_there_is_no_session_before_the_handshake(link: MemoryLink) -> None:
    """None, as in ssl."""
    assert link.client.session is None
    assert not link.client.session_reused


# ---- as bytes ----


def test_a_session_goes_through_its_bytes(authority: Authority) -> None:
    """And is resumed with any context that would have accepted the certificate in it."""
    client, server = authority.client_context(), authority.server_context(HOST)
    session = connect(client, server).client.session
    assert session is not None
    copy = dtlsffi.DTLSSession.from_bytes(session.to_bytes())
    assert copy == session
    assert (copy.time, copy.timeout, copy.has_ticket) == (session.time, session.timeout, session.has_ticket)
    assert connect(client, server, copy).client.session_reused
    assert connect(authority.client_context(), server, copy).client.session_reused


def test_a_session_is_saved_in_one_process_and_resumed_in_another(authority: Authority, tmp_path: Path) -> None:
    """Its bytes are all it takes; the server is known by its ticket keys."""
    server = authority.server_context(HOST)
    server.set_ticket_keys([bytes(range(80))])
    session = connect(authority.client_context(), server).client.session
    assert session is not None
    (tmp_path / "session").write_bytes(session.to_bytes())
    identity = authority.issue(HOST)
    for name, contents in (("ca", authority.certificate), ("chain", identity.certificate), ("key", identity.key)):
        (tmp_path / name).write_bytes(contents)
    script = """if True:
        import dtlsffi
        from dtlsffi.testing import MemoryLink

        client = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
        client.load_verify_locations("ca")
        server = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
        server.load_cert_chain("chain", "key")
        server.set_ticket_keys([bytes(range(80))])
        session = dtlsffi.DTLSSession.from_bytes(open("session", "rb").read())
        link = MemoryLink(
            dtlsffi.Connection(client, server_hostname="device.example", session=session),
            dtlsffi.Connection(server, server_side=True),
        )
        link.shake_hands()
        print(link.client.session_reused, link.server.session_reused)
    """
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


def test_bytes_that_are_no_session_are_refused() -> None:
    """Also those of TLS."""
    for junk in (b"", b"junk", bytes(100)):
        with pytest.raises(ValueError, match="data is no session of DTLS"):
            dtlsffi.DTLSSession.from_bytes(junk)


def test_a_session_from_bytes_has_to_fit_the_host_and_the_verification(authority: Authority) -> None:
    """What would not have passed in a handshake does not pass by resumption."""
    client, server = authority.client_context(), authority.server_context(HOST, "127.0.0.1")
    session = connect(client, server).client.session
    assert session is not None
    copy = dtlsffi.DTLSSession.from_bytes(session.to_bytes())
    for name in ("other.example", "127.0.0.1"):
        with pytest.raises(ValueError, match=f"made with 'device.example', not with {name!r}"):
            dtlsffi.Connection(authority.client_context(), server_hostname=name, session=copy)

    careless = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
    careless.check_hostname = False
    careless.verify_mode = dtlsffi.CERT_NONE
    unverified = connect(careless, authority.server_context(HOST)).client.session
    assert unverified is not None
    copy = dtlsffi.DTLSSession.from_bytes(unverified.to_bytes())
    with pytest.raises(ValueError, match="made under other rules of verification"):
        dtlsffi.Connection(authority.client_context(), server_hostname=HOST, session=copy)
    dtlsffi.Connection(careless, server_hostname=HOST, session=copy)


def stricter(authority: Authority) -> dtlsffi.DTLSContext:
    context = authority.client_context()
    context.verify_flags |= dtlsffi.VERIFY_X509_STRICT
    return context


def of_two(authority: Authority) -> dtlsffi.DTLSContext:
    context = authority.client_context()
    context.load_verify_locations(cadata=Authority().certificate)
    return context


def unnamed(authority: Authority) -> dtlsffi.DTLSContext:
    context = authority.client_context()
    context.check_hostname = False
    return context


def any_certificate(authority: Authority) -> dtlsffi.DTLSContext:
    context = unnamed(authority)
    context.accept_any_certificate = True
    return context


def with_callback(authority: Authority) -> dtlsffi.DTLSContext:
    context = authority.client_context()
    context.verify_callback = lambda *_: True
    return context


@pytest.mark.parametrize("make", [stricter, of_two, unnamed, any_certificate, with_callback])
def test_rules_of_verification_are_not_crossed(make: Any, authority: Authority) -> None:
    """Neither from laxer to stricter ones, nor back."""
    server = authority.server_context(HOST)
    for one, other in ((make, Authority.client_context), (Authority.client_context, make)):
        context = one(authority)
        session = connect(context, server).client.session
        assert session is not None
        copy = dtlsffi.DTLSSession.from_bytes(session.to_bytes())
        with pytest.raises(ValueError, match="made under other rules of verification"):
            dtlsffi.Connection(other(authority), server_hostname=HOST, session=copy)
        assert connect(context, server, copy).client.session_reused


def test_a_session_under_a_pin_is_for_that_pin(authority: Authority) -> None:
    """Not for the same context without it."""
    server = Authority().server_context(HOST)
    client = authority.client_context()
    link = MemoryLink(
        dtlsffi.Connection(client, server_hostname=HOST, verify_fingerprint=server.fingerprint()),
        dtlsffi.Connection(server, server_side=True),
    )
    link.shake_hands()
    with pytest.raises(ValueError, match="made under other rules of verification"):
        dtlsffi.Connection(client, server_hostname=HOST, session=link.client.session)


def test_what_stands_behind_a_session_is_none(joined: MemoryLink) -> None:
    """Nor is half of one."""
    assert joined.client.session is not None
    data = joined.client.session.to_bytes()
    with pytest.raises(ValueError, match="data is more than a session"):
        dtlsffi.DTLSSession.from_bytes(data + b"x")
    with pytest.raises(ValueError, match="data is no session"):
        dtlsffi.DTLSSession.from_bytes(data[:-1])
