"""The package and its users pass `mypy --strict`."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_what_users_write_has_the_types_they_expect() -> None:
    """tests/typing/usage.py."""
    if importlib.util.find_spec("mypy") is None:
        pytest.fail("mypy is not installed: run ./ci/test, which sees to it")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", os.devnull]
    result = subprocess.run(
        [*command, "tests/typing/usage.py"],
        cwd=ROOT, env={**os.environ, "MYPYPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
