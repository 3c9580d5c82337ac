"""The end of the interpreter, which waits for no daemon thread: whoever is in a long call then keeps no lock."""

from __future__ import annotations

import subprocess
import sys

import pytest

OWNER = """
import sys, threading, types
import dtlsffi
from dtlsffi.testing import Authority, MemoryLink

class Owner:
    def __init__(self, connection):
        self.connection = connection

    def __del__(self):
        self.connection.close()
"""

PROGRAM = (
    OWNER
    + """
authority = Authority()
contexts = authority.client_context(), authority.server_context("device.example")

def make():
    return MemoryLink(
        dtlsffi.Connection(contexts[0], server_hostname="device.example"),
        dtlsffi.Connection(contexts[1], server_side=True),
    )

link = make()
link.shake_hands()
data = [bytes(1000)] * 3000
link.client.send_many(data)
datagrams = link.client.datagrams_to_send()
begun = threading.Event()

def sealing():
    link.client.send_many(data)
    link.client.datagrams_to_send()

def opening():
    link.server.receive_datagrams(datagrams)

def shaking():
    link = make()
    owners.shaking = [Owner(link.client), Owner(link.server)]
    link.shake_hands()

def run():
    while True:
        begun.set()
        WHAT()

sys.modules["owners"] = owners = types.ModuleType("owners")  # which is torn down late
owners.sealing, owners.opening = Owner(link.client), Owner(link.server)
threading.Thread(target=run, daemon=True).start()
begun.wait()
"""
)


@pytest.mark.parametrize("what", ["sealing", "opening", "shaking"])
def test_a_daemon_thread_in_a_long_call_stops_nobody(what: str) -> None:
    """Its connection is closed while everything is torn down."""
    for _ in range(5):
        subprocess.run([sys.executable, "-c", PROGRAM.replace("WHAT", what)], check=True, timeout=30)


IN_A_CALLBACK = (
    OWNER
    + """
begun = threading.Event()
client, server = (dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS) for _ in range(2))
client.check_hostname = False
client.set_psk_client_callback(lambda hint: ("me", bytes(16)))
server.set_psk_server_callback(lambda identity: begun.set() or threading.Event().wait())
link = MemoryLink(dtlsffi.Connection(client), dtlsffi.Connection(server, server_side=True))
sys.modules["owners"] = owners = types.ModuleType("owners")
owners.owners = [Owner(link.client), Owner(link.server)]
threading.Thread(target=link.shake_hands, daemon=True).start()
begun.wait()
"""
)


def test_a_daemon_thread_in_a_callback_stops_nobody() -> None:
    """It has its connection's lock, and never gives it back."""
    subprocess.run([sys.executable, "-c", IN_A_CALLBACK], check=True, timeout=30)


SUB_INTERPRETER = (
    OWNER
    + """
import time
try:
    import _interpreters
    def create(): return _interpreters.create("legacy")
except ImportError:
    import _xxsubinterpreters as _interpreters
    def create(): return _interpreters.create(isolated=False)

other = create()
_interpreters.run_string(other, "import dtlsffi")
_interpreters.destroy(other)

client, server = (dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS) for _ in range(2))
client.check_hostname = False
client.set_psk_client_callback(lambda hint: ("me", bytes(16)))
begun = threading.Event()
server.set_psk_server_callback(lambda identity: (begun.set(), time.sleep(2), bytes(16))[2])
link = MemoryLink(dtlsffi.Connection(client), dtlsffi.Connection(server, server_side=True))
thread = threading.Thread(target=link.shake_hands)
thread.start()
begun.wait()
link.server.receive_datagram(b"junk")
thread.join()
"""
)


def test_the_end_of_a_sub_interpreter_is_nobody_elses() -> None:
    """One that shares the GIL (mod_wsgi's) may import it; whoever waits for a connection in the main one goes on."""
    subprocess.run([sys.executable, "-c", SUB_INTERPRETER], check=True, timeout=30)


@pytest.mark.parametrize("how", ["close", "shutdown"])
@pytest.mark.parametrize("serves", [False, True])
def test_the_end_waits_for_no_listener(how: str, serves: bool) -> None:
    """Its threads are gone by then: whoever closes it in a `__del__` goes on."""
    program = f"""
import sys, threading, types
import dtlsffi

class Owner:
    def __init__(self):
        context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
        server = dtlsffi.create_server(("127.0.0.1", 0), context=context)
        if {serves}:
            threading.Thread(target=server.serve_forever, args=(print,), daemon=True).start()
        self.end = server.{how}

    def __del__(self):
        self.end()
        print("closed", flush=True)

sys.modules["owners"] = owners = types.ModuleType("owners")
owners.owner = Owner()
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=10)
    assert found.stdout == "closed\n", found.stderr
