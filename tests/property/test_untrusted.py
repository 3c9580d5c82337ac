"""Hypothesis throws datagrams at connections: nothing but their own failure may come of it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dtlsffi
from dtlsffi.testing import Authority, MemoryLink
from tests.helpers import HOST

RECORD = st.builds(
    lambda kind, version, epoch, number, fragment, wrong: (
        struct.pack("!BHH", kind, version, epoch)
        + number.to_bytes(6, "big")
        + struct.pack("!H", max(0, min(0xFFFF, len(fragment) + wrong)))
        + fragment
    ),
    kind=st.sampled_from([20, 21, 22, 23]) | st.integers(0, 255),
    version=st.sampled_from([0xFEFD, 0xFEFF]) | st.integers(0, 0xFFFF),
    epoch=st.integers(0, 2) | st.integers(0, 0xFFFF),
    number=st.integers(0, 100) | st.integers(0, 2**48 - 1),
    fragment=st.binary(max_size=80),
    wrong=st.sampled_from([0, 0, 0, 1, -1, 70000]),
)
DATAGRAM = st.binary(max_size=100) | st.lists(RECORD, max_size=5).map(b"".join)


@pytest.fixture(scope="module")
def established(authority: Authority) -> MemoryLink:
    """One pair for all examples: nothing may end it."""
    link = MemoryLink(
        dtlsffi.Connection(authority.client_context(), server_hostname=HOST),
        dtlsffi.Connection(authority.server_context(HOST), server_side=True),
    )
    link.shake_hands()
    return link


@given(datagrams=st.lists(DATAGRAM, min_size=1, max_size=5))
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_established_connection_survives_everything(established: MemoryLink, datagrams: list[bytes]) -> None:
    """And hands out nothing that was not authenticated."""
    for side, peer in ((established.client, established.server), (established.server, established.client)):
        for datagram in datagrams:
            side.receive_datagram(datagram)
        assert side.data_received() == []
        peer.send(b"alive")
        for datagram in peer.datagrams_to_send():
            side.receive_datagram(datagram)
        assert side.data_received() == [b"alive"]


@given(datagrams=st.lists(DATAGRAM, min_size=1, max_size=5), started=st.booleans(), server_side=st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_handshake_fails_alone(
    authority_contexts: tuple[dtlsffi.DTLSContext, dtlsffi.DTLSContext],
    datagrams: list[bytes],
    started: bool,
    server_side: bool,
) -> None:
    """With a DTLSError, that it goes on raising."""
    client, server = authority_contexts
    side = (
        dtlsffi.Connection(server, server_side=True)
        if server_side
        else dtlsffi.Connection(client, server_hostname=HOST)
    )
    if started:
        with pytest.raises(dtlsffi.DTLSWantReadError):
            side.do_handshake()
    for datagram in datagrams:
        try:
            side.receive_datagram(datagram)
        except dtlsffi.DTLSError:
            with pytest.raises(dtlsffi.DTLSError):
                side.receive_datagram(b"more")
            break
    assert side.data_received() == []
    assert not side.is_established


@pytest.fixture(scope="module")
def authority_contexts(authority: Authority) -> tuple[dtlsffi.DTLSContext, dtlsffi.DTLSContext]:
    return authority.client_context(), authority.server_context(HOST)
