"""The thread behind a listener, which moves all its connections on."""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from .core import errors
from .core.callbacks import is_callback
from .core.context import DTLSContext
from .core.draining import attempt
from .core.endpoint import Endpoint
from .core.endpoint_connection import EndpointConnection
from .core.limits import ServerLimits
from .waiting import Deadline, milliseconds, new_poller

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .accepted import DTLSServerConnection

logger = logging.getLogger("dtlsffi.server")
BACKLOG = 128  # connections that wait for accept(): socket.create_server's
BATCHES = 4  # taken from the socket before somebody else has a turn
PAUSE = 0.1  # seconds without looking at a socket that has just failed


class Engine(Endpoint):
    """What a listener and its connections share: the socket, the endpoint, and the thread that moves it on.

    `lock` is held over whatever touches the endpoint's tables. The thread knows of no listener, and of connections that
    somebody has taken only weakly: both can be forgotten. `make_door` makes what stands before a new connection.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: DTLSContext,
        make_door: Callable[[EndpointConnection, Engine], DTLSServerConnection],
        **limits: Unpack[ServerLimits],
    ) -> None:
        super().__init__(context, fileno=sock.fileno(), **limits)
        self._linger()  # no loop has to wait for that
        self.make_door = make_door
        self.sock = sock
        self.process = os.getpid()
        self.trouble: BaseException | None = None
        self.lock = threading.RLock()
        self.arrivals = threading.Condition()
        self.queue: deque[DTLSServerConnection] = deque()
        self.backlog, self.refused = BACKLOG, 0
        self.stopping = False
        self.left: deque[EndpointConnection] = deque()  # closed, and to be let go of
        self.blocked: deque[DTLSServerConnection] = deque()  # for which the socket's send buffer is full
        self.doors: WeakValueDictionary[EndpointConnection, DTLSServerConnection] = WeakValueDictionary()
        self.unclaimed: dict[EndpointConnection, DTLSServerConnection] = {}
        self.waking = threading.RLock()  # one that a finalizer may come upon in its own thread
        self.poller = new_poller()
        self.bell, self.ear = socket.socketpair()
        self.bell.setblocking(False)
        self.thread = threading.Thread(target=self.run, name="dtlsffi listener", daemon=True)

    def wake(self) -> None:
        """Has the thread look around. Never waits, so anybody may call it, a finalizer, too."""
        with self.waking, suppress(OSError):  # it is awake already, or it is over
            self.bell.send(b"\0")

    def stop(self) -> None:
        """Has the thread close everything and end."""
        self.stopping = True
        self.wake()

    def check(self) -> None:
        """Raises `DTLSError` in a child process, which has no thread, and locks that nobody will open."""
        if self.process != os.getpid():
            words = "the listener belongs to the parent process: make one anew after fork"
            raise errors.make(errors.DTLSError, "USED_AFTER_FORK", words)

    def is_current(self) -> bool:
        """Whether this is its thread, or one in a callback of any connection: that must not wait for anybody."""
        return threading.get_ident() == self.thread.ident or is_callback()

    def is_interrupted(self) -> bool:
        """Whether this thread has a lock for which the engine's may wait: it is in a signal handler, in the middle."""
        doors = [door for reference in self.doors.valuerefs() if (door := reference()) is not None]
        locks: list[Any] = [self.lock, self.arrivals, self.waking, *(door._changed for door in doors)]
        return any(lock._is_owned() for lock in locks)

    def check_callback(self) -> None:
        """Raises `DTLSError` in a callback of another thread's, whose connection the engine's may be waiting for."""
        if is_callback() and threading.get_ident() != self.thread.ident:
            raise self._reentered()

    def _reentered(self) -> errors.DTLSError:
        words = "a callback cannot wait for a connection or a listener"
        return errors.make(errors.DTLSError, "REENTERED", words)

    def wait(self, condition: threading.Condition, deadline: Deadline) -> None:
        """Waits for `condition`, which is held, to be notified; TimeoutError after the deadline."""
        if self.is_current():
            raise self._reentered()
        if not condition.wait(deadline.left()) and deadline.is_over():
            raise deadline.timed_out()

    # ---- the thread ----

    def run(self) -> None:
        """Moves everything on until `stop`; what goes wrong is logged, and ends it only without a socket."""
        self.poller.register(self.ear, select.POLLIN)
        try:
            while not self.stopping:
                self._careful_round(self.poller)
        except Exception as error:
            logger.exception("the listener has lost its socket")
            self.trouble = error
        finally:
            self._finish()

    def _careful_round(self, poller: select.poll) -> None:
        try:
            self._round(poller)
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in (errno.EBADF, errno.ENOTSOCK):
                raise
            logger.exception("something went wrong behind %s, which goes on", self.sock)
            poller.unregister(self.sock)
            poller.poll(PAUSE * 1000)

    def _round(self, poller: select.poll) -> None:
        """Waits until there is something to do, and does it."""
        with self.lock:
            timer = self.get_timer(time.monotonic())
        poller.register(self.sock, select.POLLIN | (select.POLLOUT if self.blocked else 0))
        found = dict(poller.poll(milliseconds(timer)))
        if self.ear.fileno() in found:
            self.ear.recv(4096)
        events = found.get(self.sock.fileno(), 0)
        try:
            with self.lock:
                self._move(readable=bool(events & ~select.POLLOUT))
        finally:
            with self.lock:
                accepted, ready = self.accepted(), self.ready()
            self._tell(accepted, ready)
        for _ in range(len(self.blocked) if events & select.POLLOUT else 0):
            self.blocked.popleft()._moved(room=True)

    def _move(self, *, readable: bool) -> None:
        now = time.monotonic()
        # Where somebody is to be ended, too: the process may have slept since poll() found nothing.
        for _ in range(BATCHES if readable or self.look_at() <= now else 0):
            if not self.pump(now):
                break
        self.handle_timers(now)
        while self.left:
            connection = self.left.popleft()
            self.unclaimed.pop(connection, None)
            connection.close()

    def _admit(self, *arguments: Any) -> EndpointConnection | None:
        """Nobody while `accept`'s queue is full of those who have finished; as with TCP, others do not count there."""
        if len(self.queue) >= self.backlog:
            with self.arrivals:
                for dead in [old for old in self.queue if old._connection.gone]:
                    self.queue.remove(dead)
                    dead._end()
                finished = sum(old._connection.is_established for old in self.queue)
            if finished >= self.backlog:
                self._refuse_behind(finished)
                return None
        return super()._admit(*arguments)

    def _refuse_behind(self, queue: int) -> None:
        """Counts somebody for whom `accept` would have to come sooner; the owner hears of the first."""
        if not self.refused:
            logger.warning(
                "%d connections wait to be accepted or served (listen()), so newcomers are ignored until there is room",
                queue,
            )
        self.refused += 1

    def _start(self, connection: EndpointConnection, now: float) -> None:
        """Gives each connection its door before anything happens to it, so that callbacks get that."""
        self.doors[connection] = self.unclaimed[connection] = self.make_door(connection, self)
        super()._start(connection, now)

    def _tell(self, accepted: list[EndpointConnection], ready: list[EndpointConnection]) -> None:
        for door in map(self.doors.get, ready):
            if door is not None:
                door._moved()
        with self.arrivals:
            for connection in accepted:
                if connection in self.unclaimed:  # not closed by a callback
                    self.queue.append(self.unclaimed.pop(connection))
            self.arrivals.notify_all()
        for connection in ready:
            if connection.gone and connection in self.unclaimed:  # nobody will ever know of it
                self.unclaimed.pop(connection)._end()

    def _finish(self) -> None:
        """Says goodbye to all, and wakes whoever waits."""
        self.stopping = True
        raised: list[BaseException] = []
        with self.lock:
            attempt(self.close, raised)
            self.get_timer(time.monotonic())  # which forgets those that have gone
            self.ready()
        for door in list(self.doors.values()):
            door._end()
        with self.arrivals:
            self.queue.clear()
            self.unclaimed.clear()
            self.arrivals.notify_all()
        with self.waking:
            self.drop_sockets()
        for error in raised:
            logger.error("something went wrong at the end of a listener", exc_info=error)

    def drop_sockets(self) -> None:
        """Closes the descriptors: at the end, or a child's copies of them."""
        for sock in (self.sock, self.bell, self.ear):
            with suppress(OSError):  # somebody else has closed it
                sock.close()
