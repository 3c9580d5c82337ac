"""Builds the reference in C, and pion's program where Go is installed, into build/benchmarks."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "benchmarks"
WARNINGS = "-Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla"
GO_LIBRARIES = Path("/usr/share/gocode")


def is_newer(made: Path, sources: list[Path]) -> bool:
    """Whether something is newer than all it is made of."""
    return made.exists() and all(made.stat().st_mtime > source.stat().st_mtime for source in sources)


def openssl_flags(what: str) -> list[str]:
    """For the libssl that dtlsffi is built against."""
    directory = os.environ.get("DTLSFFI_OPENSSL_DIR")
    if directory:
        library = next((path for path in Path(directory).glob("lib*") if list(path.glob("libssl*"))), Path(directory))
        return [f"-I{directory}/include"] if what == "--cflags" else [f"-L{library}", f"-Wl,-rpath,{library}"]
    pkg_config = shutil.which("pkg-config")
    if pkg_config is None:
        return []
    found = subprocess.run([pkg_config, what, "libssl"], capture_output=True, text=True, check=False)
    return [flag for flag in shlex.split(found.stdout) if flag not in ("-lssl", "-lcrypto")]


def compile_c(made: Path, sources: list[Path], *flags: str) -> Path:
    """A program or a library from C files; it is left alone where it is new enough."""
    watched = [*sources, *(HERE / "reference").glob("*.h")]
    common = ["-D_GNU_SOURCE", "-std=gnu11", "-O2", *WARNINGS.split(), *openssl_flags("--cflags")]
    partial = made.with_name(f"{made.name}.{os.getpid()}")
    command = [os.environ.get("CC", "cc"), *common, *map(str, sources), "-o", str(partial), *flags]
    stamp = made.with_name(f"{made.name}.flags")
    how = shlex.join([*common, *flags])
    if not is_newer(made, watched) or not stamp.exists() or stamp.read_text() != how:
        BUILD.mkdir(parents=True, exist_ok=True)
        subprocess.run(command, check=True)
        partial.replace(made)
        stamp.write_text(how)
    return made


def reference() -> Path:
    """The reference program."""
    sources = sorted((HERE / "reference").glob("*.c"))
    return compile_c(BUILD / "reference", sources, *openssl_flags("--libs"), "-lssl", "-lcrypto")


def refusal() -> Path:
    """A library to be preloaded, under which sockets refuse segmentation offload."""
    return compile_c(BUILD / "refuse.so", [HERE / "preload" / "refuse.c"], "-shared", "-fPIC", "-ldl")


def pion() -> Path | str:
    """Pion's program, or why there is none."""
    go = shutil.which("go")
    if go is None:
        return "Go is not installed (Debian: golang)"
    if not (GO_LIBRARIES / "src/github.com/pion/dtls").exists():
        return "pion is not installed (Debian: golang-github-pion-dtls.v2-dev)"
    made = BUILD / "pion"
    source = HERE / "pion" / "main.go"
    if not is_newer(made, [source]):
        BUILD.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(GO_LIBRARIES), "GOFLAGS": "", "GOPROXY": "off"}
        done = subprocess.run(
            [go, "build", "-o", str(made), str(source)], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            return f"pion's program does not build: {done.stderr.strip().splitlines()[-1:]}"
    return made
