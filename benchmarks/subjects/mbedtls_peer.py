"""python-mbedtls: a TLSWrappedSocket over UDP. It has an Mbed TLS of its own inside."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from mbedtls import pk, tls, x509

from .common import HOST, Options, connected, enlarge, obey, say
from .flows import echo, ping, receive_one_way, send_one_way

SUITE = ("TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",)
ROOM = 16384


def certificates(path: str) -> list[Any]:
    mark = "-----BEGIN CERTIFICATE-----"
    return [x509.CRT.from_PEM(mark + part) for part in Path(path).read_text().split(mark)[1:]]


def configuration(options: Options, *, server: bool) -> Any:
    if not server:
        store = tls.TrustStore()
        store.add(certificates(options.ca)[0])
        return tls.DTLSConfiguration(ciphers=SUITE, trust_store=store, validate_certificates=True)
    key = pk.ECC.from_PEM(Path(options.key).read_text())
    return tls.DTLSConfiguration(
        ciphers=SUITE, certificate_chain=(certificates(options.cert), key), validate_certificates=False
    )


def accept(options: Options) -> Any:
    """The first client, which says hello twice: once for the cookie."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # accept() binds another to the same port
    listener = tls.ServerContext(configuration(options, server=True)).wrap_socket(sock)
    listener.bind(("127.0.0.1", options.port))
    say(port=listener.getsockname()[1])
    conn, address = listener.accept()
    conn.setcookieparam(address[0].encode())
    with suppress(tls.HelloVerifyRequest):
        conn.do_handshake()
    conn, address = conn.accept()
    conn.setcookieparam(address[0].encode())
    conn.do_handshake()
    enlarge(conn)
    return conn


def connect(options: Options) -> Any:
    context = tls.ClientContext(configuration(options, server=False))
    conn = context.wrap_socket(connected(options.port), server_hostname=HOST)
    conn.do_handshake()
    return conn


def oneway_receive(options: Options) -> None:
    conn = accept(options)
    receive_one_way(lambda: conn.recv(ROOM))


def oneway_send(options: Options) -> None:
    send_one_way(connect(options).send, options.size, options.seconds)


def pingpong_serve(options: Options) -> None:
    conn = accept(options)
    echo(conn.send, lambda: conn.recv(ROOM))


def pingpong(options: Options) -> None:
    conn = connect(options)
    ping(conn.send, lambda: conn.recv(ROOM), options.size, options.seconds)


if __name__ == "__main__":
    obey(
        {
            "oneway-receive": oneway_receive,
            "oneway-send": oneway_send,
            "pingpong-serve": pingpong_serve,
            "pingpong": pingpong,
        }
    )
