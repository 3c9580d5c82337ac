"""What stands before a connection: a class whose instances come from a function, and answer in the core's words."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from .core.connection import Connection
from .core.endpoint_connection import EndpointConnection
from .core.knowledge import Knowledge

logger = logging.getLogger("dtlsffi.server")


class Made:
    """A class without a public constructor, as `ssl.SSLSocket` is: `_made_by` says where its instances come from."""

    _made_by: ClassVar[str]

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        raise TypeError(f"{type(self).__name__} does not have a public constructor. {self._made_by} returns instances.")


class Door(Made, Knowledge):
    """What has a `Connection`, and can be asked what that knows."""

    _connection: Connection
    _check_open: Callable[[], None]

    @property
    def _association(self) -> Connection:
        return self._connection

    def update_keys(self, *, request_peer: bool = False) -> None:
        """Encrypts with new keys from now on: `Connection.update_keys`."""
        self._check_open()
        self._connection.update_keys(request_peer=request_peer)


class Served(Door):
    """One that a server gives to a handler."""

    _closed: bool
    _connection: EndpointConnection

    def pending(self) -> int:
        """How many bytes the next `recv` can give at once; 0 where it would wait."""
        return next((len(record) for record in tuple(self._connection._records)), 0)

    def getpeername(self) -> Any:
        """The peer's address."""
        return self._connection.address

    def __repr__(self) -> str:
        """Name the peer."""
        return f"<{type(self).__name__} with {self.peer}{', closed' if self._closed else ''}>"

    def _closed_error(self) -> Exception:
        return OSError(errno.EBADF, f"this {type(self).__name__} is closed")

    def _its_end(self, error: BaseException) -> str:
        """What has ended it, where what a handler has raised is but that; "" where it is a fault of the handler's."""
        raise NotImplementedError

    @contextmanager
    def _excused(self) -> Iterator[None]:
        """Passes over what a handler raises since its connection has ended: that is a line in the log."""
        try:
            yield
        except Exception as error:
            end = self._its_end(error)
            if not end:
                raise
            logger.info("%s: %s", self.peer, end)
