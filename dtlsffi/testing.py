"""For tests: certificates to throw away, and a wire that loses, repeats and reorders datagrams under a seed.

Certificates need the extra `dtlsffi[testing]` (trustme makes them). The wire comes in two forms: `MemoryLink` joins two
`Connection`s, `Relay` stands between two UDP sockets. For pytest there are the fixtures `dtls_authority`,
`dtls_client_context` and `dtls_server_context`, to be imported into a conftest.py.
"""

from __future__ import annotations

import datetime
import random
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from .core.connection import Connection
from .core.constants import PROTOCOL_DTLS_CLIENT, PROTOCOL_DTLS_SERVER
from .core.context import DTLSContext
from .core.errors import DTLSWantReadError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Authority", "Identity", "MemoryLink", "Relay", "Wire"]

T = TypeVar("T")


# ---- certificates ----


@dataclass(frozen=True)
class Identity:
    """A certificate with its chain, and its private key: PEM, in memory."""

    certificate: bytes
    key: bytes = field(repr=False)


class Authority:
    """A certificate authority to throw away; each one has its own key. Raises ImportError without trustme."""

    def __init__(self) -> None:
        try:
            import trustme  # noqa: PLC0415 - an extra
        except ImportError:
            raise ImportError("throw-away certificates need trustme: the extra `testing`, or pip install it") from None
        self._trustme = trustme
        self._ca = trustme.CA()

    @property
    def certificate(self) -> bytes:
        """The authority's own certificate, in PEM: for `load_verify_locations(cadata=...)`."""
        return bytes(self._ca.cert_pem.bytes())

    def issue(
        self,
        *names: str,
        common_name: str | None = None,
        not_before: datetime.datetime | None = None,
        not_after: datetime.datetime | None = None,
        rsa: bool = False,
    ) -> Identity:
        """Issues a certificate for host names, IP addresses or e-mail addresses; P-256, or RSA with 2048 bits."""
        kind = self._trustme.KeyType.RSA if rsa else self._trustme.KeyType.ECDSA
        made = self._ca.issue_cert(
            *names, common_name=common_name, not_before=not_before, not_after=not_after, key_type=kind
        )
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        return Identity(chain, bytes(made.private_key_pem.bytes()))

    def revoke(self, *identities: Identity) -> bytes:
        """Makes a revocation list, in PEM, of the identities given; valid for a day."""
        from cryptography import x509  # noqa: PLC0415 - comes with trustme
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415

        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateRevocationListBuilder(
            issuer_name=x509.load_pem_x509_certificate(self.certificate).subject,
            last_update=now - datetime.timedelta(hours=1),
            next_update=now + datetime.timedelta(days=1),
        )
        for identity in identities:
            serial = x509.load_pem_x509_certificate(identity.certificate).serial_number
            entry = x509.RevokedCertificateBuilder(serial_number=serial, revocation_date=now)
            builder = builder.add_revoked_certificate(entry.build())
        key: Any = serialization.load_pem_private_key(self._ca.private_key_pem.bytes(), password=None)
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def server_context(self, *names: str) -> DTLSContext:
        """A server's context, with a certificate for `names` (`localhost` and the loopback addresses if none)."""
        identity = self.issue(*(names or ("localhost", "127.0.0.1", "::1")))
        context = DTLSContext(PROTOCOL_DTLS_SERVER)
        context.load_cert_chain(identity.certificate, identity.key)
        return context

    def client_context(self) -> DTLSContext:
        """A client's context, which trusts this authority and no other."""
        context = DTLSContext(PROTOCOL_DTLS_CLIENT)
        context.load_verify_locations(cadata=self.certificate)
        return context


# ---- the wire ----


class Wire:
    """One direction of a bad network: what becomes of each datagram follows from `seed` alone.

    `loss`, `duplication` and `reordering` are probabilities from 0 to 1; a datagram that is reordered arrives after
    one to three later ones, or when the wire falls silent. Datagrams above `mtu` bytes never arrive.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        loss: float = 0.0,
        duplication: float = 0.0,
        reordering: float = 0.0,
        mtu: int | None = None,
    ) -> None:
        for name, value in (("loss", loss), ("duplication", duplication), ("reordering", reordering)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is a probability from 0 to 1, not {value}")
        self._random = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self._loss = loss
        self._duplication = duplication
        self._reordering = reordering
        self._mtu = mtu
        self._held: list[tuple[int, Any]] = []  # how many later datagrams go first, and what waits
        self.carried = 0
        """Datagrams put in."""
        self.lost = 0
        """Datagrams that will not arrive."""

    def carry(self, datagram: bytes) -> list[bytes]:
        """Puts a datagram in; returns what arrives now."""
        return self.carry_parcel(len(datagram), datagram)

    def carry_parcel(self, length: int, parcel: T) -> list[T]:
        """The same for what stands for a datagram of some length, such as the datagram with its addressee."""
        self.carried += 1
        # All the dice are thrown for every datagram, so that one outcome does not shift the others.
        lost, again, late = (self._random.random() for _ in range(3))
        wait = self._random.randint(1, 3)
        if lost < self._loss or (self._mtu is not None and length > self._mtu):
            self.lost += 1
            return []
        arriving = [parcel] * (2 if again < self._duplication else 1)
        overdue = [held for turns, held in self._held if turns <= 1]
        self._held = [(turns - 1, held) for turns, held in self._held if turns > 1]
        if late < self._reordering:
            self._held.append((wait, arriving.pop()))
        return arriving + overdue

    def flush(self) -> list[Any]:
        """What still waits for later datagrams, now that there are none."""
        held, self._held = self._held, []
        return [parcel for _, parcel in held]


class MemoryLink:
    """Two `Connection`s with a `Wire` in each direction. No sockets, no threads; time passes only for timers.

    The keywords are `Wire`'s, for both directions. Data that has arrived is in `received`, by connection.
    """

    def __init__(self, client: Connection, server: Connection, *, seed: int = 0, **conditions: Any) -> None:
        self.client = client
        self.server = server
        self.up = Wire(seed=2 * seed, **conditions)
        self.down = Wire(seed=2 * seed + 1, **conditions)
        self.received: dict[Connection, list[bytes]] = {client: [], server: []}

    def _ways(self) -> tuple[tuple[Connection, Wire, Connection], ...]:
        return (self.client, self.up, self.server), (self.server, self.down, self.client)

    def _deliver(self, datagrams: list[bytes], receiver: Connection) -> None:
        for datagram in datagrams:
            receiver.receive_datagram(datagram)
            self.received[receiver] += receiver.data_received()

    def settle(self) -> None:
        """Carries datagrams to and fro until both sides are silent."""
        busy = True
        while busy:
            busy = False
            for sender, wire, receiver in self._ways():
                for datagram in sender.datagrams_to_send():
                    busy = True
                    self._deliver(wire.carry(datagram), receiver)
            if not busy:
                for _, wire, receiver in self._ways():
                    late = wire.flush()
                    busy = busy or bool(late)
                    self._deliver(late, receiver)

    def wait(self) -> bool:
        """Waits for the nearer of the two timers and moves it on; False where none runs."""
        running = [timer for side in (self.client, self.server) if (timer := side.get_timer()) is not None]
        if not running:
            return False
        threading.Event().wait(min(running))
        for side in (self.client, self.server):
            side.handle_timer()
        return True

    def run_until(self, done: Callable[[], bool], *, within: float = 60.0) -> None:
        """Carries and waits until `done()`; raises TimeoutError after `within` seconds, or where nothing can happen."""
        end = time.monotonic() + within
        self.settle()
        while not done():
            if time.monotonic() > end or not self.wait():
                raise TimeoutError(f"not done; client: {self.client!r}, server: {self.server!r}")
            self.settle()

    def shake_hands(self, *, within: float = 60.0) -> None:
        """Finishes the handshake on both sides; raises what either side fails with."""
        with suppress(DTLSWantReadError):
            self.client.do_handshake()
        self.run_until(lambda: self.client.is_established and self.server.is_established, within=within)


class Relay:
    """A bad network on a UDP port of its own: what comes there goes on to `target`, and back, over a `Wire` each way.

    The keywords are `Wire`'s. Used in a with statement; clients send to `address`. Each client reaches the target from
    a port of its own.
    """

    FLUSH = 0.01  # seconds of silence after which reordered datagrams arrive

    def __init__(self, target: tuple[str, int], *, seed: int = 0, **conditions: Any) -> None:
        self._target = target
        self._family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self._front = socket.socket(self._family, socket.SOCK_DGRAM)
        self._front.bind(("::1" if self._family == socket.AF_INET6 else "127.0.0.1", 0))
        self._stop, self._stopped = socket.socketpair()
        self.up = Wire(seed=2 * seed, **conditions)
        """The way to the target."""
        self.down = Wire(seed=2 * seed + 1, **conditions)
        """The way back."""
        self._clients: dict[Any, socket.socket] = {}
        self._thread = threading.Thread(target=self._run, name="dtlsffi relay", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Where clients send to: host and port."""
        host, port = self._front.getsockname()[:2]
        return host, port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.close()
        self._thread.join()
        for sock in (self._front, self._stopped, *self._clients.values()):
            sock.close()

    def _run(self) -> None:
        while True:
            backs = {sock: address for address, sock in self._clients.items()}
            ready, _, _ = select.select([self._stopped, self._front, *backs], [], [], self.FLUSH)
            if self._stopped in ready:
                return
            if self._front in ready:
                self._forward()
            for sock in backs.keys() & set(ready):
                self._return(sock, backs[sock])
            if not ready:
                for wire in (self.up, self.down):
                    self._send(wire.flush())

    def _forward(self) -> None:
        datagram, address = self._front.recvfrom(65535)
        if address not in self._clients:
            self._clients[address] = socket.socket(self._family, socket.SOCK_DGRAM)
            self._clients[address].connect(self._target)
            self._clients[address].setblocking(False)
        self._carry(self.up, datagram, self._clients[address].send)

    def _return(self, sock: socket.socket, address: Any) -> None:
        try:
            datagram = sock.recv(65535)
        except OSError:  # nobody listens at the target just now, or what was ready was that very error
            return
        self._carry(self.down, datagram, lambda data: self._front.sendto(data, address))

    def _carry(self, wire: Wire, datagram: bytes, send: Callable[[bytes], object]) -> None:
        self._send(wire.carry_parcel(len(datagram), (datagram, send)))

    @staticmethod
    def _send(parcels: list[tuple[bytes, Callable[[bytes], object]]]) -> None:
        for datagram, send in parcels:
            with suppress(OSError):  # likewise, or the client has gone
                send(datagram)


# ---- pytest ----

try:
    import pytest
except ImportError:
    pass
else:

    @pytest.fixture(scope="session")
    def dtls_authority() -> Authority:
        """A certificate authority to throw away."""
        return Authority()

    @pytest.fixture
    def dtls_client_context(dtls_authority: Authority) -> DTLSContext:
        """A client's context that trusts `dtls_authority`."""
        return dtls_authority.client_context()

    @pytest.fixture
    def dtls_server_context(dtls_authority: Authority) -> DTLSContext:
        """A server's context with a certificate for localhost and the loopback addresses."""
        return dtls_authority.server_context()
