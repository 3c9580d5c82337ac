"""`_native/_openssl.pyi` says what the compiled module has, and `lib` hides what this libssl lacks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from dtlsffi import _native
from dtlsffi._native import _openssl, lib

ROOT = Path(__file__).parent.parent
STUB = ROOT / "dtlsffi" / "_native" / "_openssl.pyi"


def test_the_stub_is_what_the_declarations_say() -> None:
    """Written by ci/stub.py; `python ci/stub.py --write` renews it."""
    fresh = subprocess.run(
        [sys.executable, str(ROOT / "ci" / "stub.py")], capture_output=True, text=True, check=True
    ).stdout
    assert fresh == STUB.read_text()


def test_the_stub_names_everything_in_lib() -> None:
    """And nothing else."""
    text = STUB.read_text().partition("class Lib:")[2]
    names = set(re.findall(r"^    (?:def )?(\w+)", text, re.MULTILINE))
    assert names == set(dir(_openssl.lib))


def test_names_that_this_libssl_lacks_are_hidden() -> None:
    """hasattr() is the feature test: calling a stub would crash."""
    for name, flag in _native.CONDITIONAL.items():
        assert hasattr(lib, name) == bool(getattr(lib, flag)), name
        assert hasattr(_openssl.lib, name)
    assert set(vars(lib)) == set(dir(_openssl.lib)) - {
        name for name, flag in _native.CONDITIONAL.items() if not getattr(lib, flag)
    }
