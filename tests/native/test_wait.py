"""dtlsffi/_native/wait.c: what a thread that waits has opened before it asks for the GIL."""

from __future__ import annotations

import threading
import time

import pytest

from dtlsffi import DTLSContext
from dtlsffi._native import lib
from tests.helpers import Pair

ROUNDS = 20


@pytest.fixture
def patient(client_context: DTLSContext, server_context: DTLSContext) -> None:
    """Nothing of a handshake is said twice, and nothing of it left to be read."""
    for context in (client_context, server_context):
        context.retransmission = (60, 1, 60)


@pytest.mark.usefixtures("patient", "no_preemption")
def test_a_datagram_is_opened_without_the_gil(dtls_pair: Pair) -> None:
    """Otherwise another thread could receive hundreds of later ones first, and this would come too late for OpenSSL."""
    client, server = dtls_pair
    counters = lib.dtlsffi_conn_stats(client._connection._conn)  # to look at it lets go of nothing
    client.settimeout(10)
    for number in range(1, ROUNDS + 1):
        thread = threading.Thread(target=client.recv)
        thread.start()
        while not client._carrier.is_waited_for:
            time.sleep(0.001)
        server.send(b"x")
        end = time.monotonic() + 5
        while counters.records_received < number and time.monotonic() < end:
            pass
        opened = counters.records_received
        thread.join()
        assert opened == number
