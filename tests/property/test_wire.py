"""Whatever the network does: handshakes complete, and each record that arrives arrives once and whole."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dtlsffi
from dtlsffi.testing import Authority, MemoryLink, Wire
from tests.helpers import HOST

FAST = (0.003, 1.5, 0.02)


@pytest.fixture(scope="module")
def contexts(authority: Authority) -> tuple[dtlsffi.DTLSContext, dtlsffi.DTLSContext]:
    """With certificates on both sides: six flights of several datagrams."""
    client, server = authority.client_context(), authority.server_context(HOST)
    identity = authority.issue("client.example")
    client.load_cert_chain(identity.certificate, identity.key)
    server.load_verify_locations(cadata=authority.certificate)
    server.verify_mode = dtlsffi.CERT_REQUIRED
    client.retransmission = server.retransmission = FAST
    return client, server


def join(contexts: tuple[dtlsffi.DTLSContext, dtlsffi.DTLSContext], seed: int, **conditions: object) -> MemoryLink:
    client, server = contexts
    return MemoryLink(
        dtlsffi.Connection(client, server_hostname=HOST),
        dtlsffi.Connection(server, server_side=True),
        seed=seed,
        **conditions,
    )


def talk(link: MemoryLink, seed: int) -> None:
    """Sends records of random sizes both ways, and checks what came of them."""
    dice = random.Random(seed)
    ways = ((link.client, link.up, link.server), (link.server, link.down, link.client))
    sent: dict[dtlsffi.Connection, list[bytes]] = {link.client: [], link.server: []}
    for number in range(40):
        for sender, _, _ in ways:
            data = number.to_bytes(2, "big") + dice.randbytes(dice.randrange(sender.data_mtu or 0) // 4)
            sender.send(data)
            sent[sender].append(data)
        if dice.random() < 0.5:
            link.settle()
    link.settle()
    for sender, _, receiver in ways:
        received = link.received[receiver]
        assert len(set(received)) == len(received), "a record arrived twice"
        assert set(received) <= set(sent[sender]), "a record was changed"
        counters = receiver.statistics()
        assert counters["records_received"] == len(received)
        assert counters["dropped_unauthenticated"] == 0
        assert len(received) > 10


@pytest.mark.parametrize("seed", range(300))
def test_a_bad_network_is_survived(seed: int, contexts: tuple[dtlsffi.DTLSContext, dtlsffi.DTLSContext]) -> None:
    """30 % lost, 10 % twice, 20 % late; every tenth wire loses 20 %, and all above 548 bytes.

    OpenSSL gives up after a flight that was sent 13 times, and who sends next is a matter of two timers: of a wire that
    loses more, the dice are thrown against it now and then.
    """
    mtu = 548 if seed % 10 == 0 else None
    link = join(contexts, seed, loss=0.3 if mtu is None else 0.2, duplication=0.1, reordering=0.2, mtu=mtu)
    if mtu is not None:  # the path's, which an application has to know for its data
        link.client.mtu = 548
    link.shake_hands()
    link.server.mtu = mtu or 1200
    talk(link, seed)


@pytest.mark.parametrize("seed", range(10))
def test_a_narrow_path_is_survived(seed: int, contexts: tuple[dtlsffi.DTLSContext, dtlsffi.DTLSContext]) -> None:
    """All above 548 bytes is dropped, and nobody was told."""
    link = join(contexts, seed, mtu=548, loss=0.05 * (seed % 2))
    link.shake_hands()
    assert link.down.lost > 0


# ---- the wire itself ----

CONDITIONS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32),
        "loss": st.floats(0, 1),
        "duplication": st.floats(0, 1),
        "reordering": st.floats(0, 1),
        "mtu": st.none() | st.integers(1, 20),
    }
)


@given(conditions=CONDITIONS, sizes=st.lists(st.integers(1, 30), max_size=50))
@settings(max_examples=300, deadline=None)
def test_a_wire_invents_nothing_and_forgets_nothing(conditions: dict[str, object], sizes: list[int]) -> None:
    """What goes in comes out once, twice or never; never is counted; and the same seed does the same again."""
    datagrams = [bytes([number]) * size for number, size in enumerate(sizes)]

    def run() -> tuple[list[bytes], int]:
        wire = Wire(**conditions)  # type: ignore[arg-type]
        out = [arriving for datagram in datagrams for arriving in wire.carry(datagram)] + wire.flush()
        assert wire.flush() == []
        assert wire.carried == len(datagrams)
        return out, wire.lost

    out, lost = run()
    assert (out, lost) == run()
    assert set(out) <= set(datagrams)
    assert len(set(out)) == len(datagrams) - lost
    assert all(out.count(datagram) <= 2 for datagram in out)
    if conditions["duplication"] == 0:
        assert len(out) == len(set(out))
    if conditions["reordering"] == 0:
        assert sorted(out) == out
    mtu = conditions["mtu"]
    assert mtu is None or all(len(datagram) <= mtu for datagram in out)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["loss", "duplication", "reordering"])
def test_a_probability_is_one(name: str) -> None:
    """0 to 1."""
    for value in (-0.1, 1.1):
        with pytest.raises(ValueError, match=name):
            Wire(**{name: value})  # type: ignore[arg-type]
