"""What every door shows of its connection."""

from __future__ import annotations

from typing import Any, Literal, overload

from .connection import Connection
from .context import DTLSContext
from .session import DTLSSession


class Facade:
    """Passes on what a `Connection` knows; after `ssl.SSLSocket`."""

    _connection: Connection

    @property
    def context(self) -> DTLSContext:
        """The context it was made from."""
        return self._connection.context

    @property
    def server_side(self) -> bool:
        """Whether it takes the server's part."""
        return self._connection.server_side

    @property
    def server_hostname(self) -> str | None:
        """The name asked for, in its ASCII form (IDNA), or None."""
        return self._connection.server_hostname

    @property
    def session(self) -> DTLSSession | None:
        """The session, for a later connection to resume."""
        return self._connection.session

    @property
    def session_reused(self) -> bool:
        """Whether an earlier session was resumed."""
        return self._connection.session_reused

    @property
    def mtu(self) -> int:
        """The ceiling for a datagram's UDP payload; what the kernel knows of the path until it is set."""
        return self._connection.mtu

    @mtu.setter
    def mtu(self, mtu: int) -> None:
        self._connection.mtu = mtu

    @property
    def data_mtu(self) -> int | None:
        """The largest data that `send` takes, in bytes; None before the handshake is finished."""
        return self._connection.data_mtu

    @property
    def retransmission(self) -> tuple[float, float, float]:
        """The handshake's timer: `DTLSContext.retransmission`."""
        return self._connection.retransmission

    @retransmission.setter
    def retransmission(self, timers: tuple[float, float, float]) -> None:
        self._connection.retransmission = timers

    def version(self) -> str | None:
        """The version spoken, such as `"DTLSv1.2"`, or None before the handshake is finished."""
        return self._connection.version()

    def cipher(self) -> tuple[str, str, int] | None:
        """The cipher suite: name, the version that defined it, bits of secret; None before there is one."""
        return self._connection.cipher()

    def shared_ciphers(self) -> list[tuple[str, str, int]] | None:
        """A server's view of the suites that both sides allow; None for a client."""
        return self._connection.shared_ciphers()

    @overload
    def getpeercert(self, binary_form: Literal[False] = False) -> dict[str, Any] | None: ...
    @overload
    def getpeercert(self, binary_form: Literal[True]) -> bytes | None: ...
    @overload
    def getpeercert(self, binary_form: bool) -> dict[str, Any] | bytes | None: ...
    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """The peer's certificate: `Connection.getpeercert`."""
        return self._connection.getpeercert(binary_form)

    def statistics(self) -> dict[str, int]:
        """Counters since the beginning: `Connection.statistics`."""
        return self._connection.statistics()
