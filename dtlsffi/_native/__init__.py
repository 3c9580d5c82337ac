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
CONDITIONAL: dict[str, str] = {}


def _visible(everything: Lib) -> Lib:
    hidden = {name for name, flag in CONDITIONAL.items() if not getattr(everything, flag)}
    names = set(dir(everything)) - hidden
    return cast("Lib", SimpleNamespace(**{name: getattr(everything, name) for name in names}))


lib = _visible(_everything)

if not lib.dtlsffi_module_init():
    raise ImportError("dtlsffi: OpenSSL could not be prepared (no memory, or no free BIO type)")
