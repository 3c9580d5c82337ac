"""dtlsffi.core.knowledge: what every door knows of its connection."""

from __future__ import annotations

from typing import Any

import pytest

import dtlsffi
from dtlsffi.testing import Authority, MemoryLink
from tests.helpers import HOST, Pair, handshake


def test_everything_known_is_passed_on(dtls_pair: Pair, client_context: dtlsffi.DTLSContext) -> None:
    """Ssl's names, on the socket."""
    client, server = dtls_pair
    assert (client.context, client.server_side, client.server_hostname) == (client_context, False, HOST)
    assert (server.server_side, server.server_hostname) == (True, None)
    assert client.version() == server.version() == "DTLSv1.2"
    assert client.cipher() == server.cipher()
    assert client.cipher() in (server.shared_ciphers() or [])
    assert client.shared_ciphers() is None
    certificate = client.getpeercert()
    assert certificate is not None
    assert ("DNS", HOST) in certificate["subjectAltName"]
    assert isinstance(client.getpeercert(binary_form=True), bytes)
    assert client.session is not None
    assert not client.session_reused
    assert client.get_timer() is None
    assert client.statistics()["datagrams_sent"] >= 2
    assert client.retransmission == (0.005, 2.0, 0.04)
    client.retransmission = (0.5, 2.0, 4.0)
    assert client.retransmission == (0.5, 2.0, 4.0)
    assert client.getpeername() == server.getsockname()
    client.handle_timer()


def test_keying_material_is_the_same_on_both_sides(joined: MemoryLink) -> None:
    """RFC 5705; by label, length and context, where no context is not an empty one."""
    client, server = joined.client, joined.server
    material = client.export_keying_material("EXPORTER-test", 100)
    assert material == server.export_keying_material(b"EXPORTER-test", 100)
    assert len(material) == 100
    assert client.export_keying_material("EXPORTER-test", 50) == material[:50]
    others = [
        client.export_keying_material("EXPORTER-other", 100),
        client.export_keying_material("EXPORTER-test", 100, b""),
        client.export_keying_material("EXPORTER-test", 100, b"context"),
    ]
    assert len({material, *others}) == 4
    with pytest.raises(ValueError, match="1 to 65535 bytes, not 0"):
        client.export_keying_material("EXPORTER-test", 0)
    with pytest.raises(dtlsffi.DTLSError, match="no keying material can be exported for the label 'client finished'"):
        client.export_keying_material("client finished", 10)  # it would be a key of the protocol's own


def test_channel_bindings_are_the_same_on_both_sides(
    joined: MemoryLink, client_context: dtlsffi.DTLSContext, server_context: dtlsffi.DTLSContext
) -> None:
    """And differ between connections, resumed ones included: RFC 5929, RFC 9266."""
    resumed = MemoryLink(
        dtlsffi.Connection(client_context, server_hostname=HOST, session=joined.client.session),
        dtlsffi.Connection(server_context, server_side=True),
    )
    assert resumed.client.get_channel_binding() is None
    resumed.shake_hands()
    assert resumed.client.session_reused
    for kind in dtlsffi.CHANNEL_BINDING_TYPES:
        bindings = {link.client.get_channel_binding(kind) for link in (joined, resumed)}
        assert bindings == {link.server.get_channel_binding(kind) for link in (joined, resumed)}
        assert len(bindings) == 2
        assert None not in bindings or (kind == "tls-unique" and dtlsffi.HAS_DTLSv1_3)
    with pytest.raises(ValueError, match="tls-server-end-point channel binding type not implemented"):
        joined.client.get_channel_binding("tls-server-end-point")


def test_the_exporter_binds_only_where_that_is_safe(authority: Authority) -> None:
    """Without the extended master secret (RFC 7627) another connection could have the same one."""
    client, server = authority.client_context(), authority.server_context(HOST)
    client.options |= dtlsffi.OP_NO_EXTENDED_MASTER_SECRET
    client.maximum_version = dtlsffi.DTLSVersion.DTLSv1_2
    link = handshake(client, server)
    link.shake_hands()
    assert link.client.get_channel_binding("tls-exporter") is link.server.get_channel_binding("tls-exporter") is None
    assert link.client.get_channel_binding("tls-unique") == link.server.get_channel_binding("tls-unique") is not None


def test_nothing_is_known_before_the_handshake(link: MemoryLink) -> None:
    """None, or ssl's exception where there could be no answer."""
    for side in (link.client, link.server):
        for ask in ("group", "client_sigalg", "server_sigalg", "selected_alpn_protocol", "selected_srtp_profile",
                    "compression", "version", "cipher"):  # fmt: skip
            assert getattr(side, ask)() is None
        assert side.psk_identity is side.psk_identity_hint is None
        assert not side.uses_psk()
        with pytest.raises(ValueError, match="handshake not done yet"):
            side.export_keying_material("EXPORTER-test", 10)


def test_keys_are_updated_in_dtls_1_3_only(joined: MemoryLink) -> None:
    """A clear error elsewhere."""
    if joined.client.version() == "DTLSv1.3":
        joined.client.update_keys(request_peer=True)
        joined.settle()
        joined.client.send(b"hello")
        joined.settle()
        assert joined.received[joined.server] == [b"hello"]
    else:
        with pytest.raises(ValueError, match=r"in DTLS 1.3 only, not in DTLSv1.2"):
            joined.client.update_keys()


@pytest.mark.parametrize("label", [3, [69], True, None])
def test_a_label_is_text_or_bytes(joined: MemoryLink, label: Any) -> None:
    """What bytes() would make of anything else, the other side would not."""
    with pytest.raises(TypeError, match="label is bytes"):
        joined.client.export_keying_material(label, 10)


def test_a_labels_text_and_length_are_checked_by_name(joined: MemoryLink) -> None:
    """And nobody waits long."""
    with pytest.raises(ValueError, match="label must be ASCII"):
        joined.client.export_keying_material("Schl\u00fcssel", 10)
    with pytest.raises(ValueError, match="length is 1 to 65535 bytes"):
        joined.client.export_keying_material("EXPORTER-test", 1 << 28)
