"""dtlsffi.core.observation: the trace. The key log is in test_context.py, and decrypted in interop/test_tshark.py."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import dtlsffi
from dtlsffi import Connection, DTLSContext, TraceEvent
from dtlsffi.testing import MemoryLink
from tests.helpers import HOST, handshake


def test_every_record_and_message_is_told(client_context: DTLSContext, server_context: DTLSContext) -> None:
    """By name, direction and length, on both sides the same; data as records only."""
    told: dict[Any, list[TraceEvent]] = {}
    for context in (client_context, server_context):
        context.trace = lambda connection, event: told.setdefault(connection, []).append(event)
        context.retransmission = (60, 1, 60)  # nothing is lost, so nothing is to be sent again
    link = MemoryLink(
        Connection(client_context, server_hostname=HOST), Connection(server_context, server_side=True)
    )  # fmt: skip
    link.shake_hands()
    link.client.send(b"x" * 100)
    link.settle()
    link.client.close()
    link.settle()
    client, server = told[link.client], told[link.server]
    messages = [(event.sent, event.content, event.name) for event in client if event.layer == "message"]
    assert messages == [
        (True, "handshake", "client_hello"),
        (False, "handshake", "server_hello"),
        (False, "handshake", "certificate"),
        (False, "handshake", "server_key_exchange"),
        (False, "handshake", "server_hello_done"),
        (True, "handshake", "client_key_exchange"),
        (True, "change_cipher_spec", None),
        (True, "handshake", "finished"),
        (False, "handshake", "new_session_ticket"),
        (False, "change_cipher_spec", None),
        (False, "handshake", "finished"),
        (True, "alert", "close_notify"),
    ]
    assert sorted(messages) == sorted(
        (not event.sent, event.content, event.name) for event in server if event.layer == "message"
    )
    records = [event for event in client if event.layer == "record" and event.content == "application_data"]
    assert [(event.sent, event.version, event.name, event.length) for event in records] == [
        (True, "DTLSv1.2", None, 124)
    ]


def test_an_event_makes_a_line() -> None:
    """For print and logging."""
    event = TraceEvent(True, "message", "DTLSv1.2", "handshake", "client_hello", 213)
    assert str(event) == "-> DTLSv1.2 message handshake client_hello 213"
    assert str(TraceEvent(False, "record", "DTLSv1.2", "alert", None, 26)) == "<- DTLSv1.2 record alert 26"


def test_nothing_secret_is_told(client_context: DTLSContext, server_context: DTLSContext) -> None:
    """Names and numbers are all there is in an event."""
    events: list[TraceEvent] = []
    client_context.trace = lambda _, event: events.append(event)
    handshake(client_context, server_context).shake_hands()
    for event in events:
        for value in vars(event).values():
            assert isinstance(value, (bool, int, str)) or value is None


def test_a_trace_that_fails_is_heard_of(client_context: DTLSContext, server_context: DTLSContext) -> None:
    """In the call that was traced."""
    client_context.trace = lambda *_: 1 // 0
    with pytest.raises(ZeroDivisionError):
        handshake(client_context, server_context).shake_hands()
    with pytest.raises(TypeError, match="trace is a callable or None"):
        DTLSContext().trace = "x"  # type: ignore[assignment]


def test_the_log_says_why_a_handshake_failed(caplog: pytest.LogCaptureFixture, server_context: DTLSContext) -> None:
    """In words, at DEBUG, with the peer's alert where one came."""
    caplog.set_level(logging.DEBUG, "dtlsffi")
    client = DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
    client.retransmission = server_context.retransmission = (0.001, 1.0, 0.001)
    link = handshake(client, server_context)
    with pytest.raises(dtlsffi.DTLSCertVerificationError):
        link.shake_hands()
    for datagram in link.client.datagrams_to_send():
        link.server.receive_datagram(datagram)
    while link.server.get_timer():
        pass
    with pytest.raises(dtlsffi.DTLSError):
        link.server.handle_timer()
    ours, theirs = caplog.records
    assert {record.name for record in caplog.records} == {"dtlsffi.handshake"}
    assert ours.getMessage().startswith(f"client: the handshake with {HOST} failed: [SSL: CERTIFICATE_VERIFY_FAILED]")
    assert "unknown_ca (alert 48): it does not know the authority that signed our certificate" in theirs.getMessage()


def test_the_log_names_a_callback_that_failed(
    caplog: pytest.LogCaptureFixture, client_context: DTLSContext, server_context: DTLSContext
) -> None:
    """By the type of its exception only: what it says may be secret."""
    caplog.set_level(logging.DEBUG, "dtlsffi")

    def fail(*_: object) -> bool:
        raise RuntimeError("the password is sesame")

    client_context.verify_callback = fail
    with pytest.raises(RuntimeError):
        handshake(client_context, server_context).shake_hands()
    (record,) = caplog.records
    assert "(because a callback raised RuntimeError)" in record.getMessage()
    assert "sesame" not in caplog.text
