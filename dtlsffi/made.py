"""What stands before a connection: a class whose instances come from a function, and answer in the core's words."""

from __future__ import annotations

from typing import Any, ClassVar

from .core.connection import Connection
from .core.knowledge import Knowledge


class Made:
    """A class without a public constructor, as `ssl.SSLSocket` is: `_made_by` says where its instances come from."""

    _made_by: ClassVar[str]

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        raise TypeError(f"{type(self).__name__} does not have a public constructor. {self._made_by} returns instances.")


class Door(Made, Knowledge):
    """What has a `Connection`, and can be asked what that knows."""

    _connection: Connection

    @property
    def _association(self) -> Connection:
        return self._connection
