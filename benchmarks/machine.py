"""What machine it is, and what certificates it is measured with."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

import dtlsffi
from dtlsffi.testing import Authority

from .subjects.common import HOST


def revision() -> str:
    """What is measured, as git calls it."""
    try:
        words = ["git", "describe", "--always", "--dirty"]
        found = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def describe(seconds: float) -> dict[str, str]:
    """For the document."""
    model = "unknown"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
    return {
        "measured": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "of": f"{seconds} s each",
        "on": f"{len(os.sched_getaffinity(0))} CPUs ({model})",
        "Linux": platform.release().split("-")[0],
        "Python": f"{platform.python_version()} ({platform.python_compiler()})",
        "dtlsffi": revision(),
        "libssl": dtlsffi.OPENSSL_VERSION.split()[1],
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def make_certificates(directory: Path) -> tuple[str, ...]:
    """An authority's certificate, and a server's with its key: as options of the programs."""
    directory.mkdir(parents=True, exist_ok=True)
    authority = Authority()
    identity = authority.issue(HOST)
    parts = {"cert": identity.certificate, "key": identity.key, "ca": authority.certificate}
    options: list[str] = []
    for name, contents in parts.items():
        path = directory / f"{name}.pem"
        path.write_bytes(contents)
        options += [f"--{name}", str(path)]
    return tuple(options)
