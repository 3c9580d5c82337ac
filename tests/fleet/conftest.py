"""What a fleet of servers shares, and what its clients are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from dtlsffi.testing import Authority
from tests.crowd.clients import Client, Crowd
from tests.crowd.servers import QUICK, Server

Serve = Callable[..., list[Server]]
Gather = Callable[..., Crowd]


@pytest.fixture
def serve(authority: Authority) -> Iterator[Serve]:
    """Starts servers named A and B, which share their keys; `one_port` says whether they share a port, too."""
    keys = (os.urandom(80),)
    with ExitStack() as stack:

        def start(door: str, *, one_port: bool, **more: Any) -> list[Server]:
            more = {"reuse_port": one_port, "cookie_secret": os.urandom(32), "ticket_keys": keys} | more
            servers: list[Server] = []
            for name in "AB":
                port = servers[0].address[1] if servers and one_port else 0
                servers.append(stack.enter_context(Server(door, authority, name=name, port=port, **more)))
            return servers

        yield start


@pytest.fixture
def gather(authority: Authority) -> Iterator[Gather]:
    """Makes clients of an address."""
    with ExitStack() as stack:

        def make(address: tuple[str, int], count: int) -> Crowd:
            context = authority.client_context()
            context.retransmission = QUICK
            return stack.enter_context(Crowd(Client(number, address, context) for number in range(count)))

        yield make


def come_back(client: Client) -> None:
    """Has a client begin anew, with the session of its last connection."""
    session = client.conn.session
    assert session is not None
    client.begin_anew(client.conn.context, session)


def on(server: Server, crowd: Crowd) -> list[Client]:
    """The clients that a server has answered."""
    return [client for client in crowd.clients if client.server == server.name]


def in_good_order(crowd: Crowd) -> bool:
    """Whether all have got through, and nobody heard what was meant for another."""
    return not crowd.failures() and crowd.total("mixed") == 0
