"""The build: metadata, one abi3 wheel, how OpenSSL is found, and what is said where it is not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import dtlsffi

ROOT = Path(__file__).parent.parent


def test_the_version_is_the_same_everywhere() -> None:
    """Metadata, module, CHANGELOG."""
    assert metadata.version("dtlsffi") == dtlsffi.__version__
    assert f"## {dtlsffi.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_metadata_is_complete() -> None:
    """What PyPI shows."""
    data = metadata.metadata("dtlsffi")
    assert data["License-Expression"] == "MIT"
    assert data["License-File"] == "LICENSE"
    assert data["Requires-Python"] == ">=3.10"
    assert data["Summary"]
    assert data["Keywords"]
    assert "Typing :: Typed" in data.get_all("Classifier", [])
    assert data["Description-Content-Type"] == "text/markdown"
    needed = [line for line in data.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert [re.split(r"[<>=;\s]", line)[0] for line in needed] == ["cffi"]


def tracked() -> list[str]:
    """The files that a clone has, and those about to be added."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [name for name in names if (ROOT / name).exists()]


@pytest.mark.slow
def test_one_wheel_serves_every_python(tmp_path: Path) -> None:
    """From the source distribution: abi3 from 3.10 on, with the stub and the marker for type checkers, no sources."""
    source = tmp_path / "source"
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    make = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", make], cwd=source, capture_output=True, check=True)
    (archive,) = tmp_path.glob("dtlsffi-*.tar.gz")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    subprocess.run([*pip, str(archive)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert "-cp310-abi3-" in wheel.name
    members = zipfile.ZipFile(wheel).namelist()
    assert "dtlsffi/py.typed" in members
    assert "dtlsffi/_native/_openssl.pyi" in members
    assert any(re.fullmatch(r"dtlsffi/_native/_openssl\..*\.?(so|pyd)", name) for name in members)
    assert not [name for name in members if name.endswith((".c", ".h", ".cdef")) or name.startswith("tests")]


def build(
    tmp_path: Path, script: str = "build_ffi.find_openssl()", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Looks for OpenSSL as the build does, in an environment of its own."""
    script = f"import build_ffi; print({script})"
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    variables = {name: value for name, value in variables.items() if value}
    return subprocess.run(
        [sys.executable, "-c", script], env=variables, cwd=tmp_path, capture_output=True, text=True, check=False
    )


def tree(tmp_path: Path, version: int = 0x300000D0) -> Path:
    """A directory that looks like an OpenSSL, for as far as `DTLSFFI_OPENSSL_DIR` looks."""
    root = tmp_path / "openssl"
    (root / "include" / "openssl").mkdir(parents=True)
    (root / "lib").mkdir()
    (root / "include" / "openssl" / "ssl.h").write_text(f"#define OPENSSL_VERSION_NUMBER {version:#x}L\n")
    for name in ("bio", "crypto", "err", "evp", "pem", "x509", "x509_vfy", "x509v3"):
        (root / "include" / "openssl" / f"{name}.h").touch()
    (root / "lib" / "libssl.so").touch()
    return root


def test_the_choice_of_openssl_is_printed(tmp_path: Path) -> None:
    """Whichever way it was found."""
    result = build(tmp_path, DTLSFFI_OPENSSL_DIR="")
    assert result.returncode == 0, result.stderr
    assert "dtlsffi: building against" in result.stderr


def test_files_are_optimised_as_one_program_where_that_can_be_done(tmp_path: Path) -> None:
    """And else each by itself."""
    script = "build_ffi.link_time(build_ffi.find_openssl())"
    assert build(tmp_path, script, CC="gcc").stdout.strip() == "['-flto=auto']"
    old = tmp_path / "old-cc"
    old.write_text('#!/bin/sh\ncase "$*" in *-flto*) exit 1;; esac\nexec cc "$@"\n')
    old.chmod(0o755)
    assert build(tmp_path, script, CC=str(old)).stdout.strip() == "[]"


def test_a_directory_without_openssl_is_named(tmp_path: Path) -> None:
    """With the variable that names it."""
    result = build(tmp_path, DTLSFFI_OPENSSL_DIR=str(tmp_path))
    assert result.returncode == 1
    assert f"DTLSFFI_OPENSSL_DIR is '{tmp_path}', but there is no" in result.stderr
    root = tree(tmp_path)
    (root / "lib" / "libssl.so").unlink()
    result = build(tmp_path, DTLSFFI_OPENSSL_DIR=str(root))
    assert "there is no libssl in its lib or lib64" in result.stderr


@pytest.mark.parametrize("version", [0x20000000, 0x101011F0])
def test_an_openssl_that_is_too_old_is_said(tmp_path: Path, version: int) -> None:
    """LibreSSL and 1.1.1 alike, in one sentence from compat.h."""
    result = build(tmp_path, DTLSFFI_OPENSSL_DIR=str(tree(tmp_path, version)))
    assert result.returncode == 1
    assert "dtlsffi needs OpenSSL 3.0 or newer" in result.stderr
    assert "Traceback" not in result.stderr


def test_missing_headers_are_said_with_the_package(tmp_path: Path) -> None:
    """And the variable."""
    fake = tmp_path / "cc"
    fake.write_text("#!/bin/sh\necho 'fatal error: openssl/ssl.h: No such file or directory' >&2\nexit 1\n")
    fake.chmod(0o755)
    result = build(tmp_path, CC=str(fake), DTLSFFI_OPENSSL_DIR="")
    assert result.returncode == 1
    for word in ("libssl-dev", "openssl-devel", "DTLSFFI_OPENSSL_DIR", "openssl/ssl.h: No such file"):
        assert word in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_compiler_is_said(tmp_path: Path) -> None:
    """With its package."""
    result = build(tmp_path, CC="/nonexistent/cc", DTLSFFI_OPENSSL_DIR="")
    assert result.returncode == 1
    assert "there is no C compiler ('/nonexistent/cc'): install one (Debian, Ubuntu: gcc), or set CC" in result.stderr


def test_an_openssl_that_pkg_config_finds_too_old_is_said(tmp_path: Path) -> None:
    """Before anything is compiled."""
    fake = tmp_path / "pkg-config"
    fake.write_text('#!/bin/sh\ncase "$1" in --modversion) echo 1.1.1w;; *) exit 1;; esac\n')
    fake.chmod(0o755)
    result = build(tmp_path, PKG_CONFIG=str(fake), DTLSFFI_OPENSSL_DIR="")
    assert result.returncode == 1
    assert "needs OpenSSL 3.0.0 or newer, but pkg-config knows 1.1.1w" in result.stderr


def test_without_pkg_config_the_compiler_is_asked(tmp_path: Path) -> None:
    """It finds OpenSSL in its own places."""
    result = build(tmp_path, PKG_CONFIG="/nonexistent/pkg-config", DTLSFFI_OPENSSL_DIR="")
    assert result.returncode == 0, result.stderr
    assert "the compiler's own search path" in result.stderr


def test_a_tree_that_was_never_built_says_so(tmp_path: Path) -> None:
    """Instead of a bare ImportError."""
    shutil.copytree(ROOT / "dtlsffi", tmp_path / "dtlsffi", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    result = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = [{str(tmp_path)!r}, *sys.path]; import dtlsffi"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "dtlsffi's compiled part is missing: install the package" in result.stderr
