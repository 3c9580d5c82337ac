"""dtlsffi.core.settings: what every part of a context begins with."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import dtlsffi
from dtlsffi import DTLSContext
from dtlsffi.testing import Authority
from tests.helpers import HOST, handshake

METHODS = {
    "load_cert_chain": (b"", b""),
    "load_client_ca": (b"",),
    "load_default_certs": (),
    "load_dh_params": ("x",),
    "load_private_key": (b"",),
    "load_verify_locations": ("x",),
    "set_alpn_protocols": (["x"],),
    "set_ciphers": ("ALL",),
    "set_ciphersuites": ("x",),
    "set_client_sigalgs": ("x",),
    "set_default_verify_paths": (),
    "set_ecdh_curve": ("x",),
    "set_groups": ("x",),
    "set_ocsp_client_callback": (None,),
    "set_ocsp_server_callback": (None,),
    "set_psk_client_callback": (None,),
    "set_psk_server_callback": (None,),
    "set_server_sigalgs": ("x",),
    "set_servername_callback": (None,),
    "set_session_callbacks": (),
    "set_srtp_profiles": (["x"],),
}
UNFROZEN = {"set_ticket_keys"}
"""Keys rotate while connections come in."""


def test_no_setter_is_forgotten_below() -> None:
    """Whatever sets or loads is in the one list or the other."""
    setters = {name for name in dir(DTLSContext) if name.startswith(("set_", "load_"))}
    assert setters == METHODS.keys() | UNFROZEN | {"set_certificate_types"}


@pytest.mark.parametrize("name", METHODS)
def test_a_context_in_use_refuses_every_change(name: str) -> None:
    """Connections of one context never differ in what they allow."""
    context = DTLSContext()
    dtlsffi.Connection(context, server_side=True)
    with pytest.raises(RuntimeError, match="in use since its first connection"):
        getattr(context, name)(*METHODS[name])
    with pytest.raises(RuntimeError, match="in use since its first connection"):
        context.set_certificate_types()
    context.set_ticket_keys([os.urandom(80)])


@pytest.mark.parametrize("twice", [copy.copy, copy.deepcopy, pickle.dumps])
def test_there_is_one_of_each(twice: Callable[[object], object]) -> None:
    """A copy would change the original's verification, and a connection's have the same C side, freed with either."""
    context = DTLSContext()
    for original in (context, dtlsffi.Connection(context, server_side=True), dtlsffi.Endpoint(context)):
        with pytest.raises(TypeError, match=f"cannot pickle '{type(original).__name__}' object"):
            twice(original)


@pytest.mark.parametrize(
    "arguments",
    [
        {"session": object(), "server_hostname": HOST},
        {"server_hostname": "a" * 60 + ".b" * 100},
        {"server_hostname": ".example"},
        {"server_hostname": HOST, "verify_fingerprint": "no such thing"},
        {"server_side": True, "server_hostname": HOST},
    ],
)
def test_a_connection_that_is_refused_leaves_its_context_open(arguments: Any) -> None:
    """Nothing has used it yet."""
    context = DTLSContext()
    with pytest.raises((TypeError, ValueError)):
        dtlsffi.Connection(context, **arguments)
    context.set_ciphers("ALL")


def test_a_context_and_its_callbacks_go_together(authority: Authority) -> None:
    """Callbacks that know their context make a cycle, which the garbage collector can follow."""

    def make() -> weakref.ref[DTLSContext]:
        server = authority.server_context(HOST)
        server.sni_callback = lambda _connection, _name, context: setattr(server, "seen", context)
        server.set_session_callbacks(remove=lambda _: server)
        server.set_psk_server_callback(lambda _: server)  # type: ignore[arg-type, return-value]
        handshake(authority.client_context(), server).shake_hands()
        return weakref.ref(server)

    gone = make()
    gc.collect()
    assert gone() is None


def test_a_connection_and_its_callbacks_go_together(authority: Authority) -> None:
    """Nothing keeps a connection alive but who holds it: no cycle of our own making."""
    gc.collect()
    gc.disable()
    try:
        link = handshake(authority.client_context(), authority.server_context(HOST))
        link.shake_hands()
        gone = weakref.ref(link.client), weakref.ref(link.server)
        del link
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()


def test_a_class_of_ones_own_may_know_how_to_be_made_again() -> None:
    """From its configuration, for other processes."""

    class Rebuilt(DTLSContext):
        def __reduce__(self) -> Any:
            return DTLSContext, (self.protocol,)

    assert isinstance(pickle.loads(pickle.dumps(Rebuilt())), DTLSContext)  # noqa: S301
