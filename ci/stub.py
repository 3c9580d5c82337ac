"""Writes dtlsffi/_native/_openssl.pyi from the very declarations that cffi compiles.

python ci/stub.py            prints it
python ci/stub.py --write    writes it
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from cffi import FFI, model

ROOT = Path(__file__).resolve().parent.parent
STUB = ROOT / "dtlsffi" / "_native" / "_openssl.pyi"
sys.path.insert(0, str(ROOT))

HEADER = """\
# Written by ci/stub.py from openssl.cdef and core.h: do not edit.
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

class CType:
    fields: Sequence[tuple[str, Any]]

class CData:
    def __getattr__(self, name: str) -> Any: ...
    def __setattr__(self, name: str, value: Any) -> None: ...
    def __getitem__(self, index: int | slice) -> Any: ...
    def __setitem__(self, index: int | slice, value: Any) -> None: ...
    def __add__(self, offset: int) -> CData: ...
    def __len__(self) -> int: ...
    def __int__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __enter__(self) -> CData: ...
    def __exit__(self, *exc_info: object) -> None: ...

class Octets:
    def __getitem__(self, index: slice) -> bytes: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int) -> memoryview: ...

class FFI:
    NULL: CData
    error: type[Exception]
    def new(self, cdecl: str, init: Any = ...) -> CData: ...
    def cast(self, cdecl: str, value: CData | int) -> CData: ...
    def gc(self, cdata: CData, destructor: Callable[[CData], Any] | None, size: int = ...) -> CData: ...
    def buffer(self, cdata: CData, size: int = ...) -> Octets: ...
    def string(self, cdata: CData, maxlen: int = ...) -> bytes: ...
    def unpack(self, cdata: CData, length: int) -> Any: ...
    def memmove(self, dest: CData | bytearray, src: CData | bytes | bytearray, n: int) -> None: ...
    def from_buffer(self, cdecl: Any, python_buffer: Any = ..., require_writable: bool = ...) -> CData: ...
    def from_handle(self, x: CData) -> Any: ...
    def new_handle(self, x: Any) -> CData: ...
    def typeof(self, cdecl: str | CData) -> CType: ...
    def sizeof(self, cdecl: str | CData) -> int: ...
    def def_extern(self, name: str = ..., error: Any = ..., onerror: Any = ...) -> Callable[[F], F]: ...
    def release(self, cdata: CData) -> None: ...
    def addressof(self, cdata: CData, *fields_or_indexes: str | int) -> CData: ...

class Lib:
"""

FOOTER = """\

ffi: FFI
lib: Lib
"""


def declarations() -> dict[str, tuple[Any, int]]:
    """Everything that the module declares: kind and name -> type, as cffi's own parser has it."""
    build_ffi: Any = importlib.import_module("build_ffi")
    ffi = FFI()
    ffi.cdef(build_ffi.declarations())
    parsed: dict[str, tuple[Any, int]] = ffi._parser._declarations
    return parsed


def is_text(kind: Any) -> bool:
    """Whether cffi takes bytes for it: a pointer to bytes, or to void."""
    return isinstance(kind, model.PointerType) and (
        isinstance(kind.totype, model.VoidType) or getattr(kind.totype, "name", "") in BYTES
    )


BYTES = {"char", "unsigned char", "uint8_t"}


def python_type(kind: Any, *, argument: bool) -> str:
    """The Python side of a C type."""
    if isinstance(kind, model.VoidType):
        return "None"
    if isinstance(kind, (model.PrimitiveType, model.UnknownIntegerType, model.EnumType)):
        return "float" if kind.name in ("double", "float") else "int"
    return "CData | bytes" if argument and is_text(kind) else "CData"


def members() -> list[str]:
    """A line for each name of `lib`."""
    lines = []
    for key, (kind, _) in sorted(declarations().items(), key=lambda item: item[0].split(" ", 1)[1]):
        category, name = key.split(" ", 1)
        if category.startswith("extern_python"):
            lines.append(f"    {name}: CData")
        elif category == "function":
            arguments = "".join(f", a{i}: {python_type(a, argument=True)}" for i, a in enumerate(kind.args))
            slash = ", /" if arguments else ""
            lines.append(f"    def {name}(self{arguments}{slash}) -> {python_type(kind.result, argument=False)}: ...")
        elif category in ("macro", "constant", "variable"):
            lines.append(f"    {name}: {'int' if category == 'macro' else python_type(kind, argument=False)}")
        elif category == "enum":
            lines += [f"    {member}: int" for member in kind.enumerators]
    return sorted(set(lines), key=lambda line: line.replace("def ", ""))


def stub() -> str:
    """The whole file."""
    return HEADER + "\n".join(members()) + "\n" + FOOTER


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        STUB.write_text(stub())
    else:
        sys.stdout.write(stub())
