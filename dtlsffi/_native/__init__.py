"""The C side: the only place that imports the compiled module.

`ffi` is cffi's, `lib` has what this libssl offers. A name that it lacks is not in `lib` at all (calling its stub
would crash), so `hasattr(lib, name)` is a feature test.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

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
    raise

if TYPE_CHECKING:
    from ._openssl import CData, Lib
else:
    CData = ffi.CData

__all__ = ["CData", "ffi", "lib"]

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


lib = _visible(_everything)

if not lib.dtlsffi_module_init():
    raise ImportError("dtlsffi: OpenSSL could not be prepared (no memory, or no free BIO type)")
