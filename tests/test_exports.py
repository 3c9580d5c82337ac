"""Every public name is in some `__all__`, has a docstring, and every module has its tests."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import dtlsffi

ROOT = Path(__file__).parent.parent
MODULES = [
    importlib.import_module(info.name)
    for info in pkgutil.walk_packages(dtlsffi.__path__, "dtlsffi.")
    if not info.name.endswith(("__main__", "_openssl"))
]
PUBLIC = [module for module in MODULES if hasattr(module, "__all__") and "_native" not in module.__name__]
APART = {"dtlsffi.anyio", "dtlsffi.cli", "dtlsffi.testing"}
APART |= {module.__name__ for module in PUBLIC if module.__name__.startswith("dtlsffi.asyncio")}
"""Public modules that are imported by their own name."""


def test_the_top_levels_all_is_the_union() -> None:
    """Of the modules that have one, each name once."""
    union = [name for module in PUBLIC if module.__name__ not in APART for name in module.__all__]
    assert sorted(dtlsffi.__all__) == sorted(union)
    assert len(set(dtlsffi.__all__)) == len(dtlsffi.__all__)


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_every_name_exists_and_is_sorted(module: ModuleType) -> None:
    """`from dtlsffi import *` works."""
    for name in module.__all__:
        assert hasattr(module, name)
        assert getattr(dtlsffi, name, None) is getattr(module, name) or module.__name__ in APART


def documented(item: object) -> bool:
    return bool(inspect.getdoc(item))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_everything_public_has_a_docstring(module: ModuleType) -> None:
    """Modules, functions, classes, methods and properties."""
    assert module.__doc__
    for name, item in vars(module).items():
        if name.startswith("_") or getattr(item, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(item) or inspect.isclass(item):
            assert documented(item), f"{module.__name__}.{name}"
        if inspect.isclass(item):
            for member, value in vars(item).items():
                if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                    assert documented(value), f"{module.__name__}.{name}.{member}"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_module_has_its_tests(module: ModuleType) -> None:
    """tests/core and tests/doors mirror the package."""
    *_, floor, name = module.__name__.split(".")
    if hasattr(module, "__path__"):
        return
    assert (ROOT / "tests" / ("core" if floor == "core" else "doors") / f"test_{name}.py").exists()


def test_without_anyio_its_door_is_an_attribute_that_is_not_there() -> None:
    """Tools that walk over modules find nothing to stumble on; who asks for it is told what to install."""
    script = """
import sys
class Without:
    def find_spec(self, name, *_):
        if name == "anyio":
            raise ModuleNotFoundError("No module named 'anyio'", name=name)
sys.meta_path.insert(0, Without())
import inspect, importlib.util, dtlsffi
importlib.util.find_spec = lambda name: None
assert not hasattr(dtlsffi, "anyio")
assert "anyio" not in dir(dtlsffi)
inspect.getmembers(dtlsffi)
try:
    dtlsffi.anyio
except AttributeError as error:
    assert "dtlsffi[anyio]" in str(error)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
