"""dtlsffi.core.events."""

import dtlsffi


def test_alerts_have_their_rfc_names() -> None:
    """And unknown ones do not raise."""
    assert dtlsffi.AlertReceived(40).name == "handshake_failure"
    assert dtlsffi.AlertReceived(255).name == "unknown"


def test_events_are_values() -> None:
    """Equal if they say the same, and hashable."""
    assert dtlsffi.MTUChanged(548) == dtlsffi.MTUChanged(548) != dtlsffi.MTUChanged(1200)
    assert len({dtlsffi.HandshakeCompleted(), dtlsffi.HandshakeCompleted(), dtlsffi.CloseReceived()}) == 2
