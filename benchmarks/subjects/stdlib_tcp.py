"""ssl of the standard library, over TCP: a stream, so that a record is whatever arrives together."""

from __future__ import annotations

import socket
import ssl
import time

from .common import CIPHER, END, HOST, Options, obey, say
from .flows import ping, send_one_way, tell_received, time_handshakes, time_records


def client_context(options: Options) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHER)
    return context


def server_context(options: Options) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(options.cert, options.key)
    context.set_ciphers(CIPHER)
    context.set_ecdh_curve("prime256v1")
    return context


class Side:
    """One end of a connection in memory."""

    def __init__(self, context: ssl.SSLContext, *, server: bool, session: ssl.SSLSession | None = None) -> None:
        self.input, self.output = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.input, self.output, server, server_hostname=None if server else HOST, session=session
        )

    def step(self) -> bool:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True


def shake_hands(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], session: ssl.SSLSession | None = None
) -> tuple[Side, Side]:
    client, server = Side(contexts[0], server=False, session=session), Side(contexts[1], server=True)
    done = False
    while not done:
        finished = client.step()
        server.input.write(client.output.read())
        done = server.step() and finished
        client.input.write(server.output.read())
    return client, server


def both(options: Options) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return client_context(options), server_context(options)


def record(options: Options) -> None:
    client, server = shake_hands(both(options))
    data = bytes(options.size)

    def run(rounds: int) -> None:
        for _ in range(rounds):
            client.tls.write(data)
            server.input.write(client.output.read())
            server.tls.read(16384)

    time_records(run, 1, options.seconds)


def handshake(options: Options) -> None:
    contexts = both(options)
    first = shake_hands(contexts)  # is kept: what is freed without a goodbye cannot be resumed
    session = first[0].tls.session if options.mode == "resumed" else None

    def once() -> None:
        client, _ = shake_hands(contexts, session)
        if client.tls.session_reused != (session is not None):
            raise RuntimeError("the session was not resumed")

    time_handshakes(once, options.seconds)


def accept(options: Options) -> ssl.SSLSocket:
    listener = socket.create_server(("127.0.0.1", options.port))
    say(port=listener.getsockname()[1])
    sock, _ = listener.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server_context(options).wrap_socket(sock, server_side=True)


def connect(options: Options) -> ssl.SSLSocket:
    sock = socket.create_connection(("127.0.0.1", options.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client_context(options).wrap_socket(sock, server_hostname=HOST)


def oneway_receive(options: Options) -> None:
    conn = accept(options)
    count = 0
    data = conn.recv(16384)
    start = time.perf_counter()
    while len(data) > END:
        count += 1
        data = conn.recv(16384)
    tell_received(count, time.perf_counter() - start)


def oneway_send(options: Options) -> None:
    conn = connect(options)
    send_one_way(conn.sendall, options.size, options.seconds)


def pingpong_serve(options: Options) -> None:
    conn = accept(options)
    while len(data := conn.recv(16384)) > END:
        conn.sendall(data)


def pingpong(options: Options) -> None:
    conn = connect(options)
    ping(conn.sendall, lambda: conn.recv(16384), options.size, options.seconds)


if __name__ == "__main__":
    obey(
        {
            "record": record,
            "handshake": handshake,
            "oneway-receive": oneway_receive,
            "oneway-send": oneway_send,
            "pingpong-serve": pingpong_serve,
            "pingpong": pingpong,
        }
    )
