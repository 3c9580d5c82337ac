"""Builds `dtlsffi._native._openssl`, cffi's API mode, out of line.

What Python may call is declared in two places: `openssl.cdef` (OpenSSL's own functions) and the part of `core.h`
between its CDEF lines (ours). OpenSSL is looked for in this order, and the choice is printed:

1. `DTLSFFI_OPENSSL_DIR`, a directory that holds `include/openssl/ssl.h` and `lib*/libssl.*`;
2. `pkg-config libssl` (`PKG_CONFIG` and `PKG_CONFIG_PATH` count);
3. whatever the compiler and linker find by themselves.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from cffi import FFI

ROOT = Path(__file__).resolve().parent
NATIVE = Path("dtlsffi", "_native")
OLDEST = "3.0.0"
PACKAGES = "Debian, Ubuntu: libssl-dev; Fedora: openssl-devel; Alpine: openssl-dev; Homebrew: openssl@3"


class OpenSSL(NamedTuple):
    """Where libssl was found, and what the compiler and the linker have to be told."""

    where: str
    compile_args: list[str]
    link_args: list[str]


def from_directory(directory: str) -> OpenSSL:
    """Libssl as `DTLSFFI_OPENSSL_DIR` has it; its libraries are found there at run time, too."""
    root = Path(directory).expanduser().resolve()
    include = root / "include"
    if not (include / "openssl" / "ssl.h").is_file():
        raise SystemExit(f"dtlsffi: DTLSFFI_OPENSSL_DIR is {directory!r}, but there is no {include}/openssl/ssl.h")
    libraries = [root / name for name in ("lib64", "lib", ".") if any((root / name).glob("libssl.*"))]
    if not libraries:
        raise SystemExit(f"dtlsffi: DTLSFFI_OPENSSL_DIR is {directory!r}, but there is no libssl in its lib or lib64")
    where = str(libraries[0])
    return OpenSSL(f"DTLSFFI_OPENSSL_DIR={directory}", [f"-I{include}"], [f"-L{where}", f"-Wl,-rpath,{where}"])


def from_pkg_config() -> OpenSSL | None:
    """Libssl as pkg-config knows it, or None."""
    program = shutil.which(os.environ.get("PKG_CONFIG", "pkg-config"))
    if program is None:
        return None

    def ask(*question: str) -> str | None:
        answer = subprocess.run([program, *question, "libssl"], capture_output=True, text=True, check=False)
        return answer.stdout.strip() if answer.returncode == 0 else None

    version = ask("--modversion")
    if version is None:
        return None
    if ask(f"--atleast-version={OLDEST}") is None:
        raise SystemExit(
            f"dtlsffi needs OpenSSL {OLDEST} or newer, but pkg-config knows {version}: "
            "point DTLSFFI_OPENSSL_DIR or PKG_CONFIG_PATH at a newer one"
        )
    return OpenSSL(
        f"pkg-config, OpenSSL {version}",
        shlex.split(ask("--cflags") or ""),
        shlex.split(ask("--libs-only-L") or ""),
    )


LINK_TIME = "-flto=auto"
"""What has a compiler see all our files at once, which saves a twentieth of a record's time."""
PROBE = f'#include "{ROOT / NATIVE / "compat.h"}"\nint main(void) {{ return SSL_CTX_new(DTLS_method()) == NULL; }}\n'


def compiler() -> list[str]:
    """The C compiler, with what it is always told."""
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def complaints(openssl: OpenSSL, *options: str) -> str:
    """What the compiler and the linker say of a program that needs OpenSSL; "" where they can make it."""
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "check.c")
        source.write_text(PROBE)
        command = [
            *compiler(), *options, *openssl.compile_args, str(source), "-o", str(Path(directory, "check")),
            *openssl.link_args, "-lssl", "-lcrypto",
        ]  # fmt: skip
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if answer.returncode == 0 else answer.stderr.strip() or "nothing"


def check(openssl: OpenSSL) -> None:
    """Ends the build in one sentence where a file of two lines does not compile and link."""
    program = compiler()[0]
    if shutil.which(program) is None:
        raise SystemExit(f"dtlsffi: there is no C compiler ({program!r}): install one (Debian, Ubuntu: gcc), or set CC")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        raise SystemExit(
            f"dtlsffi: Python's own headers are missing ({sysconfig.get_path('include')}/Python.h): "
            "install them (Debian, Ubuntu: python3-dev; Fedora: python3-devel)"
        )
    words = complaints(openssl)
    if words:
        errors = [line for line in words.splitlines() if "error" in line or "cannot find" in line]
        raise SystemExit(
            f"dtlsffi: OpenSSL's headers or libraries are missing or unusable ({openssl.where}): "
            f"install them ({PACKAGES}), or set DTLSFFI_OPENSSL_DIR.\n"
            f"The compiler said: {errors[0] if errors else words}"
        )


def link_time(openssl: OpenSSL) -> list[str]:
    """The option with which everything is optimised as one program, where the compiler and the linker can."""
    return [] if complaints(openssl, LINK_TIME) else [LINK_TIME]


def optimised() -> list[str]:
    """Python's own flags may say -O2, with which a record takes a seventh more of our instructions; CFLAGS decides."""
    return [] if "-O" in os.environ.get("CFLAGS", "") else ["-O3"]


def find_openssl() -> OpenSSL:
    """The OpenSSL to build against; raises SystemExit with one sentence if there is none."""
    directory = os.environ.get("DTLSFFI_OPENSSL_DIR")
    if directory:
        found = from_directory(directory)
    else:
        found = from_pkg_config() or OpenSSL("the compiler's own search path", [], [])
    check(found)
    print(f"dtlsffi: building against {found.where}", file=sys.stderr)
    return found


def declarations() -> str:
    """The cdef: OpenSSL's part, then the marked part of core.h."""
    core = (ROOT / NATIVE / "core.h").read_text()
    _, begin, rest = core.partition("/* CDEF BEGIN */")
    ours, end, _ = rest.partition("/* CDEF END */")
    if not (begin and end):
        raise SystemExit("dtlsffi: core.h has lost its CDEF lines")
    return (ROOT / NATIVE / "openssl.cdef").read_text() + ours


def builder() -> FFI:
    """Cffi's description of the module: what setuptools builds."""
    openssl = find_openssl()
    ffi = FFI()
    ffi.cdef(declarations())
    ffi.set_source(
        "dtlsffi._native._openssl",
        '#include "core.h"\n#include "gil.h"\n',
        **extension(openssl),
    )
    return ffi


def extension(openssl: OpenSSL) -> dict[str, Any]:
    """The arguments of setuptools' Extension."""
    sources = sorted(path.name for path in (ROOT / NATIVE).glob("*.c") if path.name != "_openssl.c")
    headers = sorted(path.name for path in (ROOT / NATIVE).glob("*.h"))
    flags = [*optimised(), *link_time(openssl)]
    return {
        "sources": [str(NATIVE / name) for name in sources],
        "depends": [str(NATIVE / name) for name in (*headers, "openssl.cdef")],
        "include_dirs": [str(NATIVE)],
        "libraries": ["ssl", "crypto"],
        "extra_compile_args": ["-Wall", "-Wextra", "-fvisibility=hidden", *flags, *openssl.compile_args],
        "extra_link_args": [*flags, *openssl.link_args],
    }


if __name__ == "__main__":
    builder().compile(verbose=True)
