"""trio's DTLSEndpoint, which is pyOpenSSL over trio's sockets."""

from __future__ import annotations

import os
import sys
import time

import trio
from OpenSSL import SSL

from .common import END, Options, enlarge, obey, say
from .flows import tell_latency, tell_received
from .pyopenssl import make_context


def endpoint() -> trio.DTLSEndpoint:
    sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    enlarge(sock._sock)  # type: ignore[attr-defined,unused-ignore]
    return trio.DTLSEndpoint(sock, incoming_packets_buffer=4096)


async def serve(options: Options, handler: object) -> None:
    there = endpoint()
    await there.socket.bind(("127.0.0.1", options.port))
    context: SSL.Context = make_context(options, server=True)
    async with trio.open_nursery() as nursery:

        async def handle(channel: trio.DTLSChannel) -> None:
            if await handler(channel):  # type: ignore[operator]
                nursery.cancel_scope.cancel()

        await nursery.start(there.serve, context, handle)
        say(port=there.socket.getsockname()[1], pid=os.getpid())
        if options.role == "echo":
            await trio.to_thread.run_sync(sys.stdin.read)
            os._exit(0)


async def receive(channel: trio.DTLSChannel) -> bool:
    count = 0
    data = await channel.receive()
    start = time.perf_counter()
    while len(data) > END:
        count += 1
        data = await channel.receive()
    tell_received(count, time.perf_counter() - start)
    return True


async def echo(channel: trio.DTLSChannel) -> bool:
    async for data in channel:
        if len(data) <= END:
            return True
        await channel.send(data)
    return False


async def connect(options: Options) -> trio.DTLSChannel:
    channel = endpoint().connect(("127.0.0.1", options.port), make_context(options, server=False))
    await channel.do_handshake()
    return channel


async def send(options: Options) -> None:
    channel = await connect(options)
    data = bytes(options.size)
    sent = 0
    end = time.perf_counter() + options.seconds
    while time.perf_counter() < end:
        for _ in range(32):
            await channel.send(data)
        sent += 32
    say(sent=sent)
    for _ in range(20):
        await trio.sleep(0.01)
        await channel.send(b"\0" * END)


async def ping(options: Options) -> None:
    channel = await connect(options)
    data = bytes(options.size)
    taken = []
    before = start = time.perf_counter_ns()
    while before < start + options.seconds * 1e9:
        await channel.send(data)
        await channel.receive()
        after = time.perf_counter_ns()
        taken.append(after - before)
        before = after
    await channel.send(b"\0" * END)
    tell_latency(taken, (before - start) / 1e9)


if __name__ == "__main__":
    obey(
        {
            "oneway-receive": lambda options: trio.run(serve, options, receive),
            "oneway-send": lambda options: trio.run(send, options),
            "pingpong-serve": lambda options: trio.run(serve, options, echo),
            "pingpong": lambda options: trio.run(ping, options),
            "echo": lambda options: trio.run(serve, options, echo),
        }
    )
