"""Imports point down only: doors -> core -> _native -> the compiled module. ../shared/DESIGN.md section 3."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "dtlsffi"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted(Path(__file__).parent.rglob("*.py"))
NO_IO = {"socket", "select", "selectors", "threading", "asyncio", "time", "anyio", "trio"}
DOORS = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"} | {"asyncio"}


ALLOWED = {
    "__init__": DOORS,
    "__main__": {"cli"},
    "cli": DOORS,
    "connecting": {"binding", "ordering", "sockets", "waiting"},
    "accepted": {"made", "manners", "waiting"},
    "engine": {"waiting"},
    "manners": {"waiting"},
    "server": {"accepted", "binding", "engine", "made", "waiting"},
    "lingering": {"waiting"},
    "awaiting": {"made"},
    "binding": {"ordering"},
    "objects": {"made"},
    "turning": {"binding"},
    "sockets": {"binding", "lingering", "made", "manners", "waiting"},
    "asyncio": {"asyncio", "awaiting", "binding", "made", "ordering", "turning"},
    "anyio": {"awaiting", "binding", "ordering", "turning"},
}


def door_of(path: Path) -> str:
    """A door is a file or a folder."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that is imported at run time, in full."""
    package = name_of(path).split(".")[:-1]
    tree = ast.parse(path.read_text())
    for_types = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for part in node.body
        for child in ast.walk(part)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def floor(module: str) -> int | None:
    """0 the C side, 1 the core, 2 the doors, None somebody else's."""
    parts = module.split(".")
    if parts[0] != "dtlsffi" or len(parts) == 1:
        return None
    if parts[1] == "_native":
        return 0
    return 1 if parts[1] == "core" else 2


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    """And `_openssl` is imported by `_native` only, `_native` by `core` only."""
    here = floor(name_of(path)) if path != PACKAGE / "__init__.py" else 3
    for module in imports(path):
        there = floor(module)
        if "_openssl" in module:
            assert here == 0, f"{module} is for _native only"
        if there is None or here is None:
            continue
        assert there <= here, f"{module} is a floor above"
        assert there != 0 or here in (0, 1), f"{module} is for core only"


@pytest.mark.parametrize("path", [p for p in MODULES if floor(name_of(p)) == 1], ids=name_of)
def test_the_core_does_no_io(path: Path) -> None:
    """No socket, no clock, no thread, no event loop."""
    assert not {module.split(".")[0] for module in imports(path)} & NO_IO


@pytest.mark.parametrize("path", [p for p in MODULES if floor(name_of(p)) == 2], ids=name_of)
def test_doors_do_not_lean_on_one_another(path: Path) -> None:
    """But those that block on waiting, server and connecting on sockets, the command line on any; none knows C."""
    doors = {module.split(".")[1] for module in imports(path) if floor(module) == 2} & DOORS
    assert doors <= ALLOWED.get(door_of(path), set())
    assert not re.search(r"\bffi\b|SSL_ERROR", path.read_text())


def test_no_module_imports_itself_through_others() -> None:
    """No cycles."""
    graph = {name_of(path).removesuffix(".__init__"): set(imports(path)) for path in MODULES}
    graph = {module: targets & graph.keys() - {module} for module, targets in graph.items()}
    del graph["dtlsffi"]  # the front of the house: it may be seen from anywhere

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        for target in graph.get(module, ()):
            walk(target, (*trail, module))

    for module in graph:
        walk(module, ())


C_FILES = sorted((PACKAGE / "_native").glob("*.[ch]"))


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: path.name)
def test_versions_are_looked_at_in_one_place(path: Path) -> None:
    """`#if` on a version or a platform stands in compat.h only."""
    conditions = re.findall(r"^#\s*(?:if|ifdef|ifndef|elif)\b(.*)$", path.read_text(), re.MULTILINE)
    guard = f"DTLSFFI_{path.stem.upper()}_H"
    for condition in conditions:
        if path.name == "compat.h" or condition.strip() == guard:
            continue
        assert re.fullmatch(r"\s*(DTLSFFI_\w+|Py_GIL_DISABLED|EAGAIN != EWOULDBLOCK)", condition), condition


@pytest.mark.parametrize("path", [*MODULES, *C_FILES, *TESTS], ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_no_file_is_too_long(path: Path) -> None:
    """Above 450 lines a file is two rooms."""
    assert len(path.read_text().splitlines()) <= 450


@pytest.mark.parametrize("path", [p for p in C_FILES if p.name != "_openssl.c"], ids=lambda path: path.name)
def test_no_line_of_c_is_too_long(path: Path) -> None:
    """As ruff sees to it for Python."""
    assert [line for line in path.read_text().splitlines() if len(line) > 120] == []
