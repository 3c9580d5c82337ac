"""The blocking server's door: many connections behind one UDP port, with the manners of a listening socket.

One thread for each listener takes the datagrams, minds the timers and tells those that wait; everybody else sends by
themselves, and waits for that thread.
"""

from __future__ import annotations

import errno
import inspect
import logging
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from operator import index
from typing import TYPE_CHECKING, Any

from .accepted import DTLSServerConnection
from .binding import bound, check_bound, check_place, family_of, host_and_port
from .core.arguments import check_handler
from .core.association import check_context, check_side
from .core.context import DTLSContext
from .core.errors import in_words
from .core.limits import ServerLimits
from .engine import BACKLOG, Engine
from .made import Made
from .waiting import Deadline, Patience

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["DTLSListener", "create_server"]

logger = logging.getLogger("dtlsffi.server")


def create_server(
    address: tuple[str, int] | None = None,
    *,
    context: DTLSContext,
    sock: socket.socket | None = None,
    family: int | None = None,
    reuse_port: bool = False,
    dualstack_ipv6: bool = False,
    **limits: Unpack[ServerLimits],
) -> DTLSListener:
    """A listener on a UDP port of its own; `address` is a host (`""`: all of them) and a port (0: any that is free).

    The manner is that of `socket.create_server`. `context` is a server's. Or `sock` is a UDP socket that is bound, and
    used up: systemd's, for instance, or one with options of its own. `family` follows from the host unless given.
    `dualstack_ipv6` takes IPv4 in, too. With `reuse_port` processes share the port; they need one `cookie_secret`.
    When one of them starts or ends, the kernel assigns peers to sockets anew, which breaks most connections.
    `limits` are `Endpoint`'s, by name: `cookies` (bool), `cookie_secret` (bytes), `max_pending`, `max_connections`,
    `max_queue` (numbers), `handshake_timeout` and `idle_timeout` (seconds), `verify_fingerprint` and
    `verify_public_key` (what every client has to show).

    Raises OSError where the address cannot be had; TypeError, ValueError or OverflowError for senseless arguments.
    """
    check_context(context)
    host, port = (None, None) if address is None else host_and_port(address, "address")
    check_place(address, sock, family, reuse_port, dualstack_ipv6)
    make = context.dtlslistener_class._create
    if sock is not None:
        return make(sock, context, **limits)
    family = family_of(host, family, dualstack_ipv6)
    found = socket.getaddrinfo(host or None, port, family, socket.SOCK_DGRAM, 0, socket.AI_PASSIVE)
    with bound(found, reuse_port=reuse_port, dualstack_ipv6=dualstack_ipv6) as own:
        return make(own, context, **limits)


class DTLSListener(Made, Patience):
    """A UDP port that accepts DTLS connections from any number of peers; from `create_server`.

    A thread of its own carries on the handshakes, so that no client delays another. It is a context manager, and has
    the methods of a listening `socket.socket`.
    """

    _made_by = "dtlsffi.create_server()"
    _engine: Engine
    _context: DTLSContext
    _name: Any
    _handlers: set[threading.Thread]
    _ending: list[threading.Thread]  # whose handlers have returned: they are gone at any moment
    _server: int | None  # the thread in serve_forever
    _shutting: bool
    _closed = True

    @classmethod
    def _create(cls, sock: socket.socket, context: DTLSContext, **limits: Unpack[ServerLimits]) -> DTLSListener:
        """From a bound UDP socket, which is used up; `limits` are `Endpoint`'s."""
        check_bound(sock)
        check_side(context, True, None, None)
        self = cls.__new__(cls)
        self._timeout = sock.gettimeout()
        self._context = context
        self._handlers = set()
        self._ending = []
        self._server, self._shutting = None, False
        self._engine = engine = Engine(sock, context, DTLSServerConnection._create, **limits)
        kind = (sock.family, sock.type, sock.proto)
        engine.sock = socket.socket(*kind, fileno=sock.detach())
        engine.sock.setblocking(False)
        self._name = engine.sock.getsockname()
        try:
            engine.thread.start()
        except BaseException:
            engine.drop_sockets()
            raise
        self._closed = False
        return self

    @property
    def context(self) -> DTLSContext:
        """The context that connections are made from."""
        return self._context

    @property
    def server_side(self) -> bool:
        """True."""
        return True

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET or AF_INET6."""
        return socket.AddressFamily(self._engine.sock.family)

    @property
    def type(self) -> socket.SocketKind:
        """SOCK_DGRAM."""
        return socket.SocketKind(self._engine.sock.type)

    @property
    def proto(self) -> int:
        """The UDP socket's, mostly 0."""
        return self._engine.sock.proto

    def get_inheritable(self) -> bool:
        """Whether child processes that execute another program get the UDP socket: `socket.get_inheritable`."""
        self._check()
        return self._engine.sock.get_inheritable()

    def set_inheritable(self, inheritable: bool) -> None:
        """Changes that."""
        self._check()
        self._engine.sock.set_inheritable(inheritable)

    def fileno(self) -> int:
        """The UDP socket's descriptor, -1 after `close`. Not to be read from: the listener does."""
        return -1 if self._closed else self._engine.sock.fileno()

    def getsockname(self) -> Any:
        """The address it is bound to."""
        return self._name

    def getsockopt(self, *arguments: Any) -> Any:
        """`socket.getsockopt` of the UDP socket."""
        self._check()
        return self._engine.sock.getsockopt(*arguments)

    def setsockopt(self, *arguments: Any) -> None:
        """`socket.setsockopt` of the UDP socket: SO_RCVBUF, for instance, where many datagrams come at one time."""
        self._check()
        self._engine.sock.setsockopt(*arguments)

    def statistics(self) -> dict[str, int]:
        """`Endpoint.statistics`, and `refused_backlog`: hellos for which `accept`'s queue had no room."""
        return self._engine.statistics() | {"refused_backlog": self._engine.refused}

    @property
    def connections(self) -> list[DTLSServerConnection]:
        """Those whose handshake is finished, that are not closed, and that the program still has a reference to."""
        self._engine.check()
        doors = [connection._subject() for connection in self._engine.connections if connection.is_established]
        return [door for door in doors if door is not None and not door._closed]

    def listen(self, backlog: int = BACKLOG) -> None:
        """Sets how many connections may wait for `accept`, at least 1; further clients are ignored until there is room.

        Those whose handshake is not finished do not count: of them there may be `max_pending`.
        """
        self._engine.backlog = max(1, backlog)

    # ---- connections ----

    def _check(self) -> None:
        self._engine.check()
        if self._closed or self._engine.stopping:
            raise OSError(errno.EBADF, f"this {type(self).__name__} is closed") from self._engine.trouble

    def accept(self) -> tuple[DTLSServerConnection, Any]:
        """Waits for a client; returns its connection, whose handshake is not finished yet, and its address.

        The connection has the timeout of `socket.setdefaulttimeout`. Raises TimeoutError, BlockingIOError without
        blocking, and OSError (EBADF) when the listener is closed.
        """
        deadline = Deadline(self._timeout)
        self._check()
        with self._engine.arrivals:
            while not self._engine.queue:
                self._check()
                if deadline.timeout == 0:
                    raise BlockingIOError(errno.EAGAIN, "no connection is waiting to be accepted")
                self._engine.wait(self._engine.arrivals, deadline)
            conn = self._engine.queue.popleft()
        conn._listener = self
        return conn, conn.getpeername()

    def connect(
        self, address: Any, *, context: DTLSContext | None = None, server_hostname: str | None = None, **arguments: Any
    ) -> DTLSServerConnection:
        """Begins a connection with a server, from this very port; it is returned before its handshake is finished.

        `address` is a host and a port; `server_hostname` is the host unless given, `context` the listener's.
        `arguments` are `session`, `verify_fingerprint` and `verify_public_key` of `Connection`. Raises ValueError where
        there is a connection with that address, or the context is not for a client; OSError where the host is unknown.
        """
        self._check()
        self._engine.check_callback()
        host, port = host_and_port(address[:2] if isinstance(address, tuple) else address, "address", 1)
        scope = f"%{address[3]}" if address[3:] and address[3] and "%" not in host else ""
        mapped = socket.AI_V4MAPPED if self.family == socket.AF_INET6 else 0
        place = socket.getaddrinfo(host + scope, port, self.family, socket.SOCK_DGRAM, 0, mapped)[0][4]
        arguments["context"] = context or self._context
        arguments["server_hostname"] = host if server_hostname is None else server_hostname
        with self._engine.lock:
            self._check()
            connection = self._engine.connect(place, time.monotonic(), **arguments)
            conn = self._engine.unclaimed.pop(connection)
        self._engine.wake()
        conn._listener = self
        return conn

    # ---- serving ----

    def serve_forever(
        self, handler: Callable[[DTLSServerConnection, Any], object], *, threads: int | None = None
    ) -> None:
        """Calls `handler(conn, addr)` for each connection in a thread of its own, until `shutdown` or `close`.

        It is called when the handshake is finished, so a stalled client takes no thread. With `threads`, no more than
        that many handlers run at a time; other connections wait. When the handler ends, its connection is closed. What
        it raises is logged (`dtlsffi.server`) and ends nothing else. Raises OSError where the socket has been lost.
        """
        check_handler(handler)
        if inspect.iscoroutinefunction(handler):
            raise TypeError("handler cannot be a coroutine function here: serve() of dtlsffi.asyncio takes one")
        if threads is not None and index(threads) < 1:
            raise ValueError(f"threads is a number of at least 1, or None, not {threads}")
        arrivals = self._engine.arrivals
        self._check()
        with arrivals:
            if self._server is not None:
                raise RuntimeError("serve_forever() is running already")
            self._server = threading.get_ident()
        try:
            while (conn := self._next_to_serve(threads)) is not None:
                self._start_handler(handler, conn)
        finally:
            with arrivals:
                self._server, self._shutting = None, False
                arrivals.notify_all()
        if self._engine.trouble is not None:
            self._check()

    def _next_to_serve(self, threads: int | None) -> DTLSServerConnection | None:
        engine = self._engine
        with engine.arrivals:
            while not (self._shutting or engine.stopping):
                if threads is None or len(self._handlers) < threads:
                    conn = self._take_ready()
                    if conn is not None:
                        return conn
                engine.wait(engine.arrivals, Deadline(None))
        return None

    def _take_ready(self) -> DTLSServerConnection | None:
        """The first in the queue whose handshake is finished; those that have failed are let go of."""
        for conn in tuple(self._engine.queue):
            over = conn._over()
            if not conn._ready and over is None:
                continue
            self._engine.queue.remove(conn)
            if conn._ready:
                return conn
            logger.info("%s did not finish its handshake: %s", conn.peer, in_words(over))
            conn.close()
        return None

    def _start_handler(self, handler: Callable[..., object], conn: DTLSServerConnection) -> None:
        conn._listener = self
        name = f"dtlsffi handler of {conn.peer}"
        thread = threading.Thread(target=self._handle, args=(handler, conn), name=name, daemon=True)
        while self._ending:
            self._ending.pop().join()
        with self._engine.arrivals:
            try:
                thread.start()
            except RuntimeError:
                logger.exception("%s gets no thread", conn.peer)
                conn.close()
            else:
                self._handlers.add(thread)

    def _handle(self, handler: Callable[..., object], conn: DTLSServerConnection) -> None:
        try:
            self._careful(handler, conn)
        finally:
            with self._engine.arrivals:
                self._handlers.discard(threading.current_thread())
                self._ending.append(threading.current_thread())
                self._engine.arrivals.notify_all()

    def _careful(self, handler: Callable[..., object], conn: DTLSServerConnection) -> None:
        """To the end of the connection, whatever the handler, or the last callback, raises."""
        try:
            with conn, conn._excused():
                handler(conn, conn.getpeername())
        except Exception:
            logger.exception("the handler of %s failed", conn.peer)

    def shutdown(self) -> None:
        """Ends `serve_forever`, and waits until it has returned; handlers that run go on.

        A `serve_forever` that has not begun yet returns at once. A signal handler may call it.
        """
        self._engine.check()
        with self._engine.arrivals:
            self._shutting = True
            self._engine.arrivals.notify_all()
            self._engine.wake()  # which notifies again, where a signal has come just before serve_forever() waits
            self._wait_for_the_server()

    def _wait_for_the_server(self) -> None:
        while self._server not in (None, threading.get_ident()) and not sys.is_finalizing():
            self._engine.arrivals.wait()

    # ---- the end ----

    def close(self) -> None:
        """Closes all connections with close_notify, and the socket; waits for the handlers of `serve_forever` to end.

        Whoever waits in `accept`, `recv` or `send` gets OSError (EBADF). A signal handler may call it; where that has
        interrupted a call of the listener or of one of its connections, nothing is waited for until it is called again.
        Nor is it at the interpreter's end, in a `__del__` for instance: there are no threads any more.
        """
        closed, self._closed = self._closed, True
        engine = self._engine
        if engine.process != os.getpid():
            if not closed:
                engine.drop_sockets()
            return
        engine.stop()
        if engine.is_current() or engine.is_interrupted() or sys.is_finalizing():
            return
        engine.thread.join()
        if threading.current_thread() in self._handlers:
            return  # two handlers that close it would wait for one another
        with engine.arrivals:
            self._wait_for_the_server()
            handlers = [*self._handlers, *self._ending]
        for thread in handlers:
            thread.join()

    def __repr__(self) -> str:
        """Name the address."""
        return f"<{type(self).__name__} {self._name}{', closed' if self._closed else ''}>"

    def __del__(self) -> None:
        """Warn, as sockets do, and have it closed."""
        if not self._closed and self._engine.process == os.getpid():
            words = f"unclosed {self!r}"
            self._closed = True
            self._engine.stop()
            warnings.warn(words, ResourceWarning, source=self, stacklevel=2)


DTLSContext.dtlslistener_class = DTLSListener
