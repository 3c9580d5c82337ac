"""Endpoints without sockets, what goes between them, and clients that say hello by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import dtlsffi
from dtlsffi import DTLSContext, Endpoint, EndpointConnection
from dtlsffi.testing import Authority, Wire
from tests.helpers import HOST

SERVER = ("192.0.2.1", 5684)
Address = tuple[Any, ...]


class Net:
    """Endpoints by address, and the datagrams between them."""

    def __init__(self, **conditions: Any) -> None:
        self.now = 0.0
        self.endpoints: dict[Address, Endpoint] = {}
        self.conditions = {"seed": 0} | conditions
        self.wires: dict[tuple[Address, Address], Wire] = {}
        self.carried: list[tuple[Address, Address, bytes]] = []

    def add(self, address: Address, context: DTLSContext | None = None, **more: Any) -> Endpoint:
        self.endpoints[address] = Endpoint(context, **more)
        return self.endpoints[address]

    def wire(self, sender: Address, receiver: Address) -> Wire:
        """A way of its own for each direction."""
        if (sender, receiver) not in self.wires:
            seed = self.conditions["seed"] * 1000 + len(self.wires)
            self.wires[sender, receiver] = Wire(**(self.conditions | {"seed": seed}))
        return self.wires[sender, receiver]

    def settle(self) -> None:
        """Carries datagrams until all are silent."""
        while out := [
            (sender, receiver, datagram)
            for sender, endpoint in self.endpoints.items()
            for datagram, receiver in endpoint.datagrams_to_send()
        ]:
            for sender, receiver, datagram in out:
                self.carried.append((sender, receiver, datagram))
                for arriving in self.wire(sender, receiver).carry(datagram):
                    if receiver in self.endpoints:
                        self.endpoints[receiver].receive_datagram(arriving, sender, self.now)

    def wait(self) -> None:
        """Lets the next timer run out: OpenSSL's are real, so that long is waited for."""
        pending = [c for endpoint in self.endpoints.values() for c in endpoint.connections if not c.is_established]
        while all(connection.get_timer() not in (0, None) for connection in pending) and pending:
            pass
        self.now += 0.05
        for endpoint in self.endpoints.values():
            endpoint.handle_timers(self.now)
        self.settle()


@pytest.fixture
def client_context(authority: Authority) -> DTLSContext:
    """A client in no hurry: OpenSSL sends again by itself when it is slow to be asked."""
    return authority.client_context()


def client_address(number: int) -> Address:
    return f"10.0.{number // 250}.{number % 250 + 1}", 40000 + number


def connect(net: Net, number: int, context: DTLSContext, **more: Any) -> EndpointConnection:
    address = client_address(number)
    endpoint = net.endpoints.get(address) or net.add(address)
    return endpoint.connect(SERVER, net.now, context=context, server_hostname=HOST, **more)


def hello(context: DTLSContext) -> tuple[dtlsffi.Connection, bytes]:
    """A client's first datagram."""
    client = dtlsffi.Connection(context, server_hostname=HOST)
    with pytest.raises(dtlsffi.DTLSWantReadError):
        client.do_handshake()
    (datagram,) = client.datagrams_to_send()
    return client, datagram


def fragments(datagram: bytes, size: int, first: int = 0) -> Iterator[bytes]:
    """A ClientHello cut into records of `size` bytes of body, as a client with a large one sends it."""
    body = datagram[25:]
    for number, start in enumerate(range(0, len(body), size), first):
        piece = body[start : start + size]
        message = datagram[13:19] + start.to_bytes(3, "big") + len(piece).to_bytes(3, "big") + piece
        yield datagram[:5] + number.to_bytes(6, "big") + len(message).to_bytes(2, "big") + message
