"""dtlsffi: the `ssl` module for UDP, over OpenSSL's DTLS."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import TYPE_CHECKING

from . import accepted, connecting, objects, server, sockets
from .accepted import *
from .connecting import *
from .core import (
    connection,
    constants,
    context,
    endpoint,
    endpoint_connection,
    errors,
    events,
    knowledge,
    negotiation,
    same,
    session,
    trust,
)
from .core.connection import *
from .core.constants import *
from .core.context import *
from .core.endpoint import *
from .core.endpoint_connection import *
from .core.errors import *
from .core.events import *
from .core.knowledge import *
from .core.negotiation import *
from .core.same import *
from .core.session import *
from .core.trust import *
from .objects import *
from .server import *
from .sockets import *

if TYPE_CHECKING:
    from . import anyio as anyio
    from . import asyncio as asyncio
    from . import testing as testing

__version__ = "0.1.0"

__all__: list[str] = []
__all__ += connection.__all__
__all__ += constants.__all__
__all__ += context.__all__
__all__ += endpoint.__all__
__all__ += endpoint_connection.__all__
__all__ += errors.__all__
__all__ += events.__all__
__all__ += knowledge.__all__
__all__ += negotiation.__all__
__all__ += same.__all__
__all__ += session.__all__
__all__ += trust.__all__
__all__ += objects.__all__
__all__ += accepted.__all__
__all__ += server.__all__
__all__ += sockets.__all__
__all__ += connecting.__all__


_LATER = ("anyio", "asyncio", "testing")

if not TYPE_CHECKING:  # to which any name would be one

    def __getattr__(name: str) -> ModuleType:
        """The doors of event loops, and the help for tests, are imported when they are asked for."""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            words = f"{__name__}.{name} needs what the extra {__name__}[{name}] installs: {error}"
            raise AttributeError(words) from error


def __dir__() -> list[str]:
    """What there is, with what is yet to be imported, and can be."""
    try:
        missing = set() if importlib.util.find_spec("anyio") else {"anyio"}
    except ValueError:  # somebody has put something in its place
        missing = set()
    return sorted({*globals(), *_LATER} - missing)
