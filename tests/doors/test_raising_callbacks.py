"""What a callback raises in a handshake, through the doors that wait: it is no end of their own waiting."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest

import dtlsffi
from dtlsffi.server import DTLSListener
from tests.doors.accepting import accept
from tests.doors.loops import Runner, dial, echo, serving
from tests.helpers import HOST

RAISED = [TimeoutError("the key server did not answer"), ConnectionRefusedError("no key server"), KeyError("no key")]


def failing(error: Exception) -> Callable[..., Any]:
    def callback(*_: Any) -> Any:
        raise error

    return callback


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_a_client_gets_it(error: Exception, listener: DTLSListener, client_context: dtlsffi.DTLSContext) -> None:
    """A TimeoutError, too, which is no HandshakeTimeout."""
    client_context.verify_callback = failing(error)
    with pytest.raises(type(error)) as caught:
        dtlsffi.create_connection(listener.getsockname(), context=client_context, server_hostname=HOST, timeout=10)
    assert caught.value.args == error.args
    assert type(caught.value) is type(error)


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_a_servers_is_in_the_log(
    error: Exception,
    server_context: dtlsffi.DTLSContext,
    client_context: dtlsffi.DTLSContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of whatever class it is: the listener's owner has to know, and do_handshake() raises it."""
    server_context.sni_callback = failing(error)
    with dtlsffi.create_server(("127.0.0.1", 0), context=server_context) as listener:
        listener.settimeout(10)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, caplog.at_level(logging.ERROR, "dtlsffi.server"):
            sock.connect(listener.getsockname())
            with client_context.wrap_socket(sock, server_hostname=HOST, do_handshake_on_connect=False) as client:
                client.setblocking(False)
                with pytest.raises(dtlsffi.DTLSWantReadError):
                    client.do_handshake()
                client.settimeout(10)
                with pytest.raises(OSError):  # noqa: PT011 - an alert, or nothing but the end
                    client.do_handshake()
        server = accept(listener)
        with server, pytest.raises(type(error)) as caught:
            server.do_handshake()
        assert caught.value.args == error.args
    assert any(record.exc_info and record.exc_info[1].args == error.args for record in caplog.records)  # type: ignore[union-attr]


@pytest.mark.parametrize("which", ["new", "remove"])
def test_a_store_that_fails_leaves_nobody_in_the_dark(
    which: str, run: Runner, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Whose session cannot be kept is told of the end; that somebody else's is gone is nobody's end."""

    def fail(*_: object) -> None:
        raise RuntimeError("the store is down")

    client_context.options |= dtlsffi.OP_NO_TICKET
    server_context.options |= dtlsffi.OP_NO_TICKET
    server_context.session_cache_size = 1
    server_context.set_session_callbacks(**{which: fail})

    async def main() -> None:
        async with serving(server_context, echo) as server:
            for _ in range(2):
                async with await dial(server.getsockname(), client_context) as client:
                    if which == "remove":
                        await client.send(b"still there")
                    assert await client.recv() == (b"still there" if which == "remove" else b"")

    run(main)
    assert "the store is down" in caplog.text
