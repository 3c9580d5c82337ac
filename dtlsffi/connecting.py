"""Connecting by name: every address of a host is tried, and the first to finish its handshake wins. RFC 8305."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from types import NoneType
from typing import Any, Final

from .binding import host_and_port, made_of, open_client
from .core.arguments import NUMBERS, check_is
from .core.association import check_client, identity_of
from .core.constants import PROTOCOL_DTLS_CLIENT
from .core.context import DTLSContext, create_default_context
from .core.errors import DTLSCertVerificationError, DTLSError, DTLSWantReadError, DTLSWantWriteError
from .core.pins import Fingerprints, Keys
from .core.same import CERT_NONE, DER_cert_to_PEM_cert
from .core.session import DTLSSession
from .ordering import ATTEMPT_DELAY, alternate
from .sockets import DTLSSocket
from .waiting import Deadline, poll, shorter

__all__ = ["create_connection", "get_server_certificate"]

DEFAULT: Final = object()  # stands for socket.getdefaulttimeout(), which may be None


def create_connection(
    address: tuple[str, int],
    *,
    context: DTLSContext,
    server_hostname: str | None = None,
    timeout: float | None = DEFAULT,  # type: ignore[assignment]
    source_address: tuple[str, int] | None = None,
    session: DTLSSession | None = None,
    verify_fingerprint: Fingerprints | None = None,
    verify_public_key: Keys | None = None,
) -> DTLSSocket:
    """Connects to `address`, a host and a port, and finishes the handshake.

    All of the host's addresses are tried, each 0.25 s after the last while that one has not finished, and the first
    to do so wins (RFC 8305). `server_hostname` is the host unless given. `timeout`, in seconds, is for all of this,
    and then for each call on the socket; without it the default of `socket.setdefaulttimeout` counts. `source_address`
    is where to send from. `session` is one to resume. `verify_fingerprint` and `verify_public_key` are `Connection`'s.

    Raises `DTLSCertVerificationError` as soon as the certificate of one address fails verification, otherwise what the
    last address failed with: `HandshakeTimeout`, ConnectionRefusedError, another `DTLSError` or OSError.
    """
    host, port = host_and_port(address, "address", 1)
    limit = socket.getdefaulttimeout() if timeout is DEFAULT else timeout
    check_is(limit, (*NUMBERS, NoneType), "timeout is a number of seconds or None")
    if limit is not None and not 0 < limit <= threading.TIMEOUT_MAX:
        words = f"timeout is a number of seconds above 0 (at most {threading.TIMEOUT_MAX:.0f}), or None for ever"
        raise ValueError(f"{words}, not {limit}")
    arguments = identity_of(host, context, server_hostname, session, verify_fingerprint, verify_public_key)
    check_client(**arguments)
    del arguments["context"]  # which is asked to wrap a socket
    wrap: Any = partial(context.wrap_socket, do_handshake_on_connect=False, **arguments)

    def attempt(place: Any) -> DTLSSocket:
        conn: DTLSSocket = made_of(open_client(place, source_address), wrap)
        return conn

    found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    conn = Race(attempt, alternate(found), Deadline(limit)).winner()
    conn.settimeout(limit)
    return conn


def get_server_certificate(
    addr: tuple[str, int],
    dtls_version: object = None,
    ca_certs: str | os.PathLike[str] | None = None,
    timeout: float | None = 10.0,
) -> str:
    """The certificate that a server shows, in PEM: `ssl.get_server_certificate`.

    It is verified only if `ca_certs`, a file, is given. `dtls_version` is there for ssl's sake: the newest that both
    sides speak is used. Raises what `create_connection` raises.
    """
    del dtls_version
    if ca_certs is None:
        context = DTLSContext(PROTOCOL_DTLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = CERT_NONE
    else:
        context = create_default_context(cafile=ca_certs)
    with create_connection(addr, context=context, timeout=timeout) as conn:
        der = conn.getpeercert(True)
    if der is None:
        raise ValueError(f"the server at {addr[0]}:{addr[1]} has no certificate")
    return DER_cert_to_PEM_cert(der)


class Race:
    """Handshakes with several addresses at once, of which the first to finish wins."""

    def __init__(self, attempt: Callable[[Any], DTLSSocket], places: list[Any], deadline: Deadline) -> None:
        self._attempt = attempt
        self._places = deque(places)
        self._deadline = deadline
        self._running: list[DTLSSocket] = []
        self._next_start: Deadline | None = Deadline(0)
        self._failure: BaseException | None = None

    def winner(self) -> DTLSSocket:
        """The first socket to finish its handshake; raises the last failure where all have failed."""
        won: DTLSSocket | None = None
        try:
            while won is None:
                self._start_next()
                won = next((conn for conn in list(self._running) if self._move(conn)), None)
                if won is None and self._running:
                    self._wait()
        finally:
            for conn in self._running:
                if conn is not won:
                    conn.close()
            self._failure = None  # it knows frames that know this
        return won

    def _start_next(self) -> None:
        """Starts one more address if none is running, or the last had its time."""
        while not self._running or (self._next_start is not None and self._next_start.is_over()):
            if not self._places:
                self._next_start = None
                if not self._running:
                    raise self._failure or OSError("getaddrinfo returns an empty list")
                return
            try:
                self._running.append(self._attempt(self._places.popleft()))
            except OSError as error:
                self._failure = error
            self._next_start = Deadline(ATTEMPT_DELAY)

    def _move(self, conn: DTLSSocket) -> bool:
        """Moves one handshake on; whether it is finished."""
        try:
            if conn.get_timer() == 0:
                conn.handle_timer()
            conn.do_handshake()
        except (DTLSWantReadError, DTLSWantWriteError):
            return False
        except DTLSCertVerificationError:
            raise
        except (OSError, DTLSError) as error:
            self._failure = error
            self._running.remove(conn)
            conn.close()
            self._next_start = Deadline(0)
            return False
        return True

    def _wait(self) -> None:
        if self._deadline.is_over():
            self._running[-1]._give_up(self._deadline)
        timers = [conn.get_timer() for conn in self._running]
        start = None if self._next_start is None else self._next_start.left()
        descriptors = {conn.fileno(): select.POLLIN for conn in self._running}
        poll(descriptors, shorter(self._deadline.left(), start, *timers))
