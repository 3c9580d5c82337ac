"""pyOpenSSL: two memory BIOs, or a connected UDP socket. It has an OpenSSL of its own inside."""

from __future__ import annotations

import socket
from collections.abc import Callable

from OpenSSL import SSL, crypto

from .common import CIPHER, HOST, MTU, Options, connected, first_client, obey
from .flows import echo, ping, receive_one_way, send_one_way, time_handshakes, time_records

NO_QUERY_MTU, DTLS1_2 = 0x1000, 0xFEFD
ROOM = 16384


def make_context(options: Options, *, server: bool) -> SSL.Context:
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_options(NO_QUERY_MTU)
    context.set_max_proto_version(DTLS1_2)
    context.set_cipher_list(CIPHER.encode())
    context.set_tmp_ecdh(crypto.get_elliptic_curve("prime256v1"))
    if server:
        context.use_certificate_chain_file(options.cert)
        context.use_privatekey_file(options.key)
    else:
        context.load_verify_locations(options.ca)
        context.set_verify(SSL.VERIFY_PEER, lambda *_: bool(_[-1]))
    return context


def make(context: SSL.Context, sock: socket.socket | None, *, server: bool) -> SSL.Connection:
    connection = SSL.Connection(context, sock)
    connection.set_ciphertext_mtu(MTU)
    if server:
        connection.set_accept_state()
    else:
        connection.set_connect_state()
        connection.set_tlsext_host_name(HOST.encode())
    return connection


def move(source: SSL.Connection, target: SSL.Connection) -> None:
    """Whatever one has to say goes to the other."""
    try:
        while True:
            target.bio_write(source.bio_read(ROOM))
    except SSL.WantReadError:
        pass


def step(connection: SSL.Connection) -> bool:
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return False
    return True


def shake_hands(
    contexts: tuple[SSL.Context, SSL.Context], session: SSL.Session | None = None
) -> tuple[SSL.Connection, SSL.Connection]:
    client, server = make(contexts[0], None, server=False), make(contexts[1], None, server=True)
    if session is not None:
        client.set_session(session)
    done = False
    while not done:
        finished = step(client)
        move(client, server)
        done = step(server) and finished
        move(server, client)
    return client, server


def both(options: Options) -> tuple[SSL.Context, SSL.Context]:
    return make_context(options, server=False), make_context(options, server=True)


def record(options: Options) -> None:
    client, server = shake_hands(both(options))
    data = bytes(options.size)
    room = options.size + 64  # it makes a buffer of this size each time

    def run(rounds: int) -> None:
        for _ in range(rounds):
            client.send(data)
            server.bio_write(client.bio_read(room))
            server.recv(room)

    time_records(run, 1, options.seconds)


def handshake(options: Options) -> None:
    contexts = both(options)
    first = shake_hands(contexts)  # is kept: what is freed without a goodbye cannot be resumed
    session = first[0].get_session() if options.mode == "resumed" else None

    def once() -> None:
        client, server = shake_hands(contexts, session)
        client.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
        server.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)

    time_handshakes(once, options.seconds)


def accept(options: Options) -> SSL.Connection:
    sock = first_client(options.port)
    connection = make(make_context(options, server=True), sock, server=True)
    connection.do_handshake()
    return connection


def connect(options: Options) -> SSL.Connection:
    connection = make(make_context(options, server=False), connected(options.port), server=False)
    connection.do_handshake()
    return connection


def receiver(connection: SSL.Connection, options: Options) -> Callable[[], bytes]:
    return lambda: connection.recv(options.size)


def oneway_receive(options: Options) -> None:
    receive_one_way(receiver(accept(options), options))


def oneway_send(options: Options) -> None:
    send_one_way(connect(options).send, options.size, options.seconds)


def pingpong_serve(options: Options) -> None:
    connection = accept(options)
    echo(connection.send, receiver(connection, options))


def pingpong(options: Options) -> None:
    connection = connect(options)
    ping(connection.send, receiver(connection, options), options.size, options.seconds)


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
