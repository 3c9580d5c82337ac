"""dtlsffi: the `ssl` module for UDP, over OpenSSL's DTLS."""

from __future__ import annotations

from . import connecting, sockets
from .connecting import *
from .core import connection, constants, context, errors, events, session
from .core.connection import *
from .core.constants import *
from .core.context import *
from .core.errors import *
from .core.events import *
from .core.session import *
from .sockets import *

__version__ = "0.1.0"

__all__: list[str] = []
__all__ += connection.__all__
__all__ += constants.__all__
__all__ += context.__all__
__all__ += errors.__all__
__all__ += events.__all__
__all__ += session.__all__
__all__ += sockets.__all__
__all__ += connecting.__all__
