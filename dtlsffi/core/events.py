"""What can happen on a connection beside its data: rare, and worth a look."""

from __future__ import annotations

from dataclasses import dataclass

from .constants import ALERT_NAMES

__all__ = ["AlertReceived", "CloseReceived", "Event", "HandshakeCompleted", "MTUChanged"]


@dataclass(frozen=True)
class HandshakeCompleted:
    """The handshake is finished: data may be sent, the peer is who it says it is."""


@dataclass(frozen=True)
class AlertReceived:
    """The peer sent an alert: RFC 5246 section 7.2."""

    description: int
    """Its number in IANA's TLS alert registry."""

    @property
    def name(self) -> str:
        """Its name there, such as `"handshake_failure"`."""
        return ALERT_NAMES.get(self.description, "unknown")


@dataclass(frozen=True)
class CloseReceived:
    """The peer has closed the connection with close_notify; nothing more will come."""


@dataclass(frozen=True)
class MTUChanged:
    """Handshake datagrams were cut down after two lost flights: the path may carry no more than this.

    `Connection.mtu`, the ceiling for data, stays as it was set.
    """

    mtu: int
    """Bytes of UDP payload."""


Event = HandshakeCompleted | AlertReceived | CloseReceived | MTUChanged
