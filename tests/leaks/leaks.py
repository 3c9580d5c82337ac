"""Handshakes of every kind, many of each: memory has to stay what it was.

    python -m tests.leaks.leaks [--count N] [--growth KB] [KIND ...]

ends with status 1 where a kind grows by more than `--growth` between its warm-up and its end.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import dtlsffi
from dtlsffi import Connection, DTLSContext
from dtlsffi.testing import Authority, Identity, MemoryLink

HOST = "device.example"
KEY = bytes(16)
RESPONSE = bytes.fromhex("308207ea0a0100a08207e3308207df06092b0601050507300101048207d0") + bytes(2000)
"""An OCSPResponse of some size (RFC 6960 section 4.2.1), of which OpenSSL 4.0 looks at the outside."""


def resident() -> int:
    """The process's memory in kB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


class Leaks:
    """One method for each kind; each does one handshake, with new contexts or old ones as it likes."""

    def __init__(self) -> None:
        self.authority = Authority()
        self.server_identity = self.authority.issue(HOST)
        self.client_identity = self.authority.issue("client.example")
        self.key = os.urandom(80)
        self.kept: dict[str, Any] = {}

    # ---- what they are made of ----

    def client(self, identity: Identity | None = None) -> DTLSContext:
        context = self.authority.client_context()
        if identity is not None:
            context.load_cert_chain(identity.certificate, identity.key)
        return context

    def server(self) -> DTLSContext:
        context = DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
        context.load_cert_chain(self.server_identity.certificate, self.server_identity.key)
        return context

    def psk(self) -> tuple[DTLSContext, DTLSContext]:
        client, server = DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT), DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
        client.check_hostname = False
        return client, server

    @staticmethod
    def shake(client: DTLSContext, server: DTLSContext, by_server: Any = None, **by_client: Any) -> MemoryLink:
        if "verify_fingerprint" not in by_client:
            by_client["server_hostname"] = HOST
        link = MemoryLink(Connection(client, **by_client), Connection(server, server_side=True, **(by_server or {})))
        link.shake_hands()
        return link

    def reuse(self, name: str, make: Callable[[], Any]) -> Any:
        """Something made once."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    # ---- the kinds ----

    def certificates(self) -> None:
        """Old contexts, both sides verified, data, close."""
        client, server = self.reuse("certificates", lambda: (self.client(), self.server()))
        link = self.shake(client, server)
        link.client.send(b"hello")
        link.settle()
        link.client.getpeercert()
        link.client.get_verified_chain()
        link.client.get_unverified_chain()
        link.client.peer_public_key()
        link.client.close()

    def contexts(self) -> None:
        """New contexts each time, with everything set that takes memory."""
        client, server = self.client(self.client_identity), self.server()
        server.load_verify_locations(cadata=self.authority.certificate)
        server.load_client_ca(self.authority.certificate)
        server.verify_mode = dtlsffi.CERT_REQUIRED
        server.set_ticket_keys([self.key])
        for context in (client, server):
            context.set_alpn_protocols(["coap"])
            context.set_srtp_profiles(["SRTP_AES128_CM_SHA1_80"])
            context.set_groups("X25519:P-256")
            context.set_server_sigalgs("ECDSA+SHA256")
        link = self.shake(client, server)
        link.client.srtp_keys()
        link.server.client_ca_names()

    def pre_shared_keys(self) -> None:
        """New contexts each time, whose callbacks know them."""
        client, server = self.psk()
        client.set_psk_client_callback(lambda _hint: ("me", KEY if client else b""))
        server.set_psk_server_callback(lambda _identity: KEY if server else None, "hint")
        self.shake(client, server)

    def tickets(self) -> None:
        """Resumed by ticket, through bytes."""
        client, server = self.reuse("tickets", lambda: (self.client(), self.server()))
        session = self.reuse("session", lambda: self.shake(client, server).client.session)
        copy = dtlsffi.DTLSSession.from_bytes(session.to_bytes())
        assert self.shake(client, server, session=copy).client.session_reused

    def store(self) -> None:
        """Sessions in a store of one's own, resumed from there."""

        def make() -> tuple[DTLSContext, DTLSContext, dict[bytes, bytes]]:
            client, server, sessions = self.client(), self.server(), {}
            server.options |= dtlsffi.OP_NO_TICKET
            server.session_cache_size = 0
            server.set_session_callbacks(
                new=lambda _, session: sessions.__setitem__(session.id, session.to_bytes()),
                get=lambda _, identifier: sessions.get(identifier),
                remove=lambda identifier: sessions.pop(identifier, None),
            )
            return client, server, sessions

        client, server, sessions = self.reuse("store", make)
        sessions.clear()
        session = self.shake(client, server).client.session
        assert self.shake(client, server, session=session).client.session_reused

    def names(self) -> None:
        """Another context chosen by name."""

        def make() -> tuple[DTLSContext, DTLSContext]:
            front, behind = self.server(), self.server()
            front.sni_callback = lambda connection, *_: setattr(connection, "context", behind)
            return self.client(), front

        self.shake(*self.reuse("names", make))

    def verification(self) -> None:
        """A callback for each certificate, and a trace of each message."""

        def make() -> tuple[DTLSContext, DTLSContext]:
            client = self.client()
            client.verify_callback = lambda _, check: check.ok and bool(check.certificate)
            client.trace = lambda _, event: str(event)
            return client, self.server()

        self.shake(*self.reuse("verification", make))

    def fingerprints(self) -> None:
        """Each side pinned by the other."""

        def make() -> tuple[DTLSContext, DTLSContext]:
            client, server = DTLSContext(), DTLSContext()
            client.load_cert_chain(self.client_identity.certificate, self.client_identity.key)
            server.load_cert_chain(self.server_identity.certificate, self.server_identity.key)
            return client, server

        client, server = self.reuse("fingerprints", make)
        self.shake(
            client, server, {"verify_fingerprint": client.fingerprint()}, verify_fingerprint=server.fingerprint()
        )

    def stapling(self) -> None:
        """A response of some size with each certificate."""

        def make() -> tuple[DTLSContext, DTLSContext]:
            client, server = self.client(), self.server()
            server.set_ocsp_server_callback(lambda _: RESPONSE)
            client.set_ocsp_client_callback(lambda _, response: response == RESPONSE)
            return client, server

        self.shake(*self.reuse("stapling", make))

    def refusals(self) -> None:
        """Callbacks that raise, on either side."""
        client, server = self.psk()
        client.set_psk_client_callback(lambda _hint: ("me", KEY))
        server.set_psk_server_callback(lambda _identity: {}["nobody"])
        with suppress(KeyError):
            self.shake(client, server)
        strict = self.client()
        strict.verify_callback = lambda *_: False
        with suppress(dtlsffi.DTLSCertVerificationError):
            self.shake(strict, self.server())

    def closing(self) -> None:
        """Callbacks that close their connection."""
        server = self.server()
        server.sni_callback = lambda connection, *_: connection.close()
        link = MemoryLink(Connection(self.client(), server_hostname=HOST), Connection(server, server_side=True))
        with suppress(dtlsffi.DTLSError):
            link.client.do_handshake()
        link.settle()

    def objects(self) -> None:
        """Between two MemoryBIOs."""
        client, server = self.reuse("objects", lambda: (self.client(), self.server()))
        up, down = dtlsffi.MemoryBIO(), dtlsffi.MemoryBIO()
        sides = [
            client.wrap_bio(down, up, server_hostname=HOST),
            server.wrap_bio(up, down, server_side=True),
        ]
        while not all(side.is_established for side in sides):
            for side in sides:
                with suppress(dtlsffi.DTLSWantReadError):
                    side.do_handshake()


KINDS = [name for name, item in vars(Leaks).items() if callable(item) and item.__doc__ and not name.startswith("_")]
KINDS = [name for name in KINDS if name != "reuse"]


def growth(kind: str, count: int) -> int:
    """By how many kB memory has grown over `count` handshakes, after a tenth as many to warm up."""
    leaks = Leaks()
    run = getattr(leaks, kind)
    for _ in range(max(count // 10, 50)):
        run()
    gc.collect()
    before = resident()
    for number in range(count):
        run()
        if number % 20 == 0:  # free-threaded Python lets 1,000 contexts that know themselves wait for it
            gc.collect()
    gc.collect()
    return resident() - before


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, metavar="N")
    parser.add_argument("--growth", type=int, default=1024, metavar="KB")
    parser.add_argument("kinds", nargs="*", default=KINDS, metavar="KIND", help=", ".join(KINDS))
    arguments = parser.parse_args()
    worst = 0
    for kind in arguments.kinds:
        grown = growth(kind, arguments.count)
        worst = max(worst, grown)
        print(f"{kind}: {arguments.count} handshakes, {grown} kB more", flush=True)
    return int(worst > arguments.growth)


if __name__ == "__main__":
    sys.exit(main())
