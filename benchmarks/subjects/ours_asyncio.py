"""dtlsffi.asyncio, and (mode `plain`) asyncio's own UDP without DTLS beside it, with the same protocols."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import sys
import time
from typing import Any

from .common import END, HOST, Options, bound, enlarge, obey, say, skip
from .contexts import client_context, fitted, server_context
from .flows import tell_latency

door: Any
try:
    door = importlib.import_module("dtlsffi.asyncio")
except ImportError:
    door = None


class Echo(asyncio.DatagramProtocol):
    """Sends back what comes."""

    transport: Any

    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if len(data) == END:
            if not self.ended.done():
                self.ended.set_result(None)
        else:
            self.transport.sendto(data, addr)


class Ping(asyncio.DatagramProtocol):
    """One record there and back at a time."""

    transport: Any

    def __init__(self, size: int, seconds: float) -> None:
        self.data = bytes(size)
        self.seconds = seconds
        self.taken: list[int] = []
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def begin(self) -> None:
        self.before = self.start = time.perf_counter_ns()
        self.transport.sendto(self.data)

    def datagram_received(self, data: bytes, addr: Any) -> None:  # noqa: ARG002
        after = time.perf_counter_ns()
        self.taken.append(after - self.before)
        self.before = after
        if after < self.start + self.seconds * 1e9:
            self.transport.sendto(self.data)
        elif not self.ended.done():
            self.ended.set_result(None)


async def serve(options: Options, protocol: Any) -> Any:
    """An endpoint for any number of peers."""
    loop = asyncio.get_running_loop()
    if options.mode == "plain":
        return await loop.create_datagram_endpoint(protocol, sock=nonblocking(bound(options.port)))
    context = fitted(server_context(options, psk=options.mode == "psk"), options)
    return await door.create_dtls_endpoint(protocol, sock=nonblocking(bound(options.port)), context=context)


def nonblocking(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    return sock


def check(options: Options) -> None:
    if options.mode == "plain":
        return
    if door is None:
        skip("there is no dtlsffi.asyncio")
    if not hasattr(door, "create_dtls_endpoint"):
        skip("there is no dtlsffi.asyncio.create_dtls_endpoint")


async def pingpong_serve(options: Options) -> None:
    transport, protocol = await serve(options, Echo)
    say(port=transport.get_extra_info("sockname")[1])
    await protocol.ended


async def pingpong(options: Options) -> None:
    loop = asyncio.get_running_loop()
    address = ("127.0.0.1", options.port)
    protocol: Any

    def factory() -> Ping:
        return Ping(options.size, options.seconds)

    if options.mode == "plain":
        transport, protocol = await loop.create_datagram_endpoint(factory, remote_addr=address)
    else:
        transport, protocol = await door.create_dtls_endpoint(
            factory, remote_addr=address, context=fitted(client_context(options), options), server_hostname=HOST
        )
    protocol.begin()
    await asyncio.wait_for(protocol.ended, options.seconds + 10)
    tell_latency(protocol.taken, (protocol.before - protocol.start) / 1e9)
    transport.sendto(b"\0" * END)
    await asyncio.sleep(0.05)
    transport.close()


async def echo(options: Options) -> None:
    transport, _ = await serve(options, Echo)
    sock = transport.get_extra_info("socket")
    if isinstance(sock, socket.socket):
        enlarge(sock)
    say(port=transport.get_extra_info("sockname")[1], pid=os.getpid())
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    await ended.wait()


def played(role: Any) -> Any:
    def play(options: Options) -> None:
        check(options)
        asyncio.run(role(options))

    return play


if __name__ == "__main__":
    obey({"pingpong-serve": played(pingpong_serve), "pingpong": played(pingpong), "echo": played(echo)})
