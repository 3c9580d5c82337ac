"""The asyncio door: transports that run an `asyncio.DatagramProtocol` unchanged, connections with `send` and `recv`.

`create_dtls_endpoint` is for protocols, `connect` and `serve` are for coroutines. Any event loop will do that has
`add_reader`, uvloop's for instance.
"""

from __future__ import annotations

from . import connections, endpoints, servers, transports
from .connections import *
from .endpoints import *
from .servers import *
from .transports import *

__all__: list[str] = []
__all__ += connections.__all__
__all__ += endpoints.__all__
__all__ += servers.__all__
__all__ += transports.__all__
