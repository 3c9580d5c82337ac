"""What can happen on a connection beside its data: rare, and worth a look."""

from __future__ import annotations

from dataclasses import dataclass

from .constants import ALERT_NAMES

__all__ = ["AlertReceived", "CloseReceived", "Event", "HandshakeCompleted", "MTUChanged", "TraceEvent"]


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


@dataclass(frozen=True)
class TraceEvent:
    """A record, or a message inside one, on its way: what `DTLSContext.trace` is told. `str` makes a line of it."""

    sent: bool
    """Whether it goes to the peer, or comes from it."""
    layer: str
    """`"record"`, or `"message"` for what is inside one."""
    version: str
    """As in the record's header: `"DTLSv1.2"`."""
    content: str
    """`"handshake"`, `"alert"`, `"change_cipher_spec"`, `"application_data"`: RFC 5246 section 6.2.1."""
    name: str | None
    """The handshake message (RFC 5246 section 7.4) or alert, such as `"client_hello"`; None for anything else."""
    length: int
    """Bytes: of a record's fragment, encrypted or not; of a message with its header."""

    def __str__(self) -> str:
        """Make a line of it, without its end."""
        arrow = "->" if self.sent else "<-"
        return (
            f"{arrow} {self.version} {self.layer} {self.content}{(self.name and f' {self.name}') or ''} {self.length}"
        )
