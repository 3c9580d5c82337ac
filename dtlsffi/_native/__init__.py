"""The C side: the only place that imports the compiled module.

`ffi` is cffi's, `lib` has what this libssl offers. A name that it lacks is not in `lib` at all (calling its stub
would crash), so `hasattr(lib, name)` is a feature test. `calls` are those that every record passes through: calls.c.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

try:
    from ._openssl import ffi
    from ._openssl import lib as _everything
except ImportError as error:
    if error.name == "dtlsffi._native._openssl":
        raise ImportError(
            "dtlsffi's compiled part is missing: install the package (`pip install .`, or `pip install -e .` to work "
            "on it); running from a source tree that was never built cannot work",
            name=error.name,
        ) from None
    if "undefined symbol" in str(error) or "not found (required by" in str(error):
        raise ImportError(
            f"dtlsffi was built for a newer OpenSSL than the one that is here ({error}): install that, or build anew. "
            "One of the same name that Python's own ssl has loaded is taken for it: LD_LIBRARY_PATH can put the newer "
            "into its place"
        ) from None
    raise

if TYPE_CHECKING:
    from ._openssl import CData, Lib
else:
    CData = ffi.CData

__all__ = ["CData", "Holder", "address_of", "calls", "ffi", "lib", "text"]

# name -> the DTLSFFI_HAS_X that says whether this libssl has it
CONDITIONAL: dict[str, str] = {
    "SSL_set1_client_cert_type": "DTLSFFI_HAS_RPK",
    "SSL_set1_server_cert_type": "DTLSFFI_HAS_RPK",
    "SSL_get0_peer_rpk": "DTLSFFI_HAS_RPK",
    "X509_STORE_CTX_get0_rpk": "DTLSFFI_HAS_RPK",
    "SSL_get1_builtin_sigalgs": "DTLSFFI_HAS_SIGALGS_LIST",
    "SSL_CTX_get0_implemented_groups": "DTLSFFI_HAS_GROUPS_LIST",
    "SSL_get0_signature_name": "DTLSFFI_HAS_SIGALG_NAMES",
    "SSL_get0_peer_signature_name": "DTLSFFI_HAS_SIGALG_NAMES",
}


def _visible(everything: Lib) -> Lib:
    hidden = {name for name, flag in CONDITIONAL.items() if not getattr(everything, flag)}
    names = set(dir(everything)) - hidden
    return cast("Lib", SimpleNamespace(**{name: getattr(everything, name) for name in names}))


T = TypeVar("T")


class Calls(Protocol):
    """The functions of calls.c. C structures are given by their addresses; a negative int is a `dtlsffi_answer`."""

    def claim(self, connection: Holder, /) -> None:
        """Raises ValueError where a connection's object has its C side already: it is made once."""
        raise NotImplementedError

    def equip(self, cls: type, /) -> None:
        """Puts methods that are in C into the places of those that stand for them: methods.c."""
        raise NotImplementedError

    def equip_socket(self, cls: type, /) -> None:
        """The same with those of socket_methods.c."""
        raise NotImplementedError

    def hold(self, connection: Holder, conn: int, /) -> None:
        """Has a connection's object own the C side of it; ValueError if it has one already."""
        raise NotImplementedError

    def locked(self, connection: Holder, value: T, /) -> AbstractContextManager[T]:
        """The connection's lock, for a `with` that gives the value; it calls `_raise` where it cannot be had."""
        raise NotImplementedError

    def pump(
        self, table: int, udp: int, batch: int, steps: int, now: float, slots: list[Any], records: list[Any],
        odd: list[Any], /,
    ) -> int:  # fmt: skip
        """Takes what a socket has: messages, with DTLSFFI_PUMP_..., or -errno."""
        raise NotImplementedError

    def receive_all(self, connection: Holder, datagrams: Iterable[Any], /) -> int:
        """Takes some datagrams; their records are kept for `data_received`."""
        raise NotImplementedError

    def receive_batch(self, connection: Holder, batch: int, records: list[bytes], /) -> int:
        """Takes what a socket has given."""
        raise NotImplementedError

    def receive_rest(self, connection: Holder, records: list[bytes], /) -> int:
        """Takes what has waited since the last datagram."""
        raise NotImplementedError

    def send(self, connection: Holder, data: Any, udp: int = 0, /) -> int:
        """Sends one record; its length, or 0 where it would not go over the socket `udp`."""
        raise NotImplementedError

    def send_all(self, connection: Holder, buffers: Iterable[Any], /) -> int:
        """Sends a record each into memory; how many."""
        raise NotImplementedError

    def send_by_many(self, udp: int, items: Iterable[tuple[Any, Any]], /) -> int:
        """Sends records of many connections over the socket that they share; how many are dealt with."""
        raise NotImplementedError

    def send_many(self, connection: Holder, udp: int, buffers: Iterable[Any], /) -> int:
        """Sends a record each over the connection's own socket; how many."""
        raise NotImplementedError


def _calls() -> Calls:
    functions: dict[str, Any] = {}
    if not lib.dtlsffi_calls_put(ffi.cast("void *", id(functions))):
        raise MemoryError
    return cast("Calls", SimpleNamespace(**functions))


def address_of(pointer: CData) -> int:
    """Where something is, for `calls`; its owner keeps it there meanwhile."""
    return int(ffi.cast("uintptr_t", pointer))


def text(pointer: CData) -> str:
    """A C string as str; OpenSSL writes ASCII, and what is not is shown escaped."""
    words: bytes = ffi.string(pointer)
    return words.decode("ascii", "backslashreplace")


lib = _visible(_everything)

if not lib.dtlsffi_module_init():
    raise ImportError("dtlsffi: OpenSSL could not be prepared (no memory, or no free BIO type)")

calls = _calls()
atexit.register(lib.dtlsffi_lock_end)

if TYPE_CHECKING:

    class Holder:
        """What a connection begins with in memory: its C side, freed with it, and what has come for it: holder.c."""

        __slots__ = ()

        @property
        def is_established(self) -> bool:
            """Whether the handshake is finished."""
            raise NotImplementedError

else:
    Holder = calls.Holder
