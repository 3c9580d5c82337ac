"""What machine it is, and what certificates it is measured with."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import dtlsffi
from dtlsffi.testing import Authority

from .subjects.common import HOST


def describe() -> dict[str, str]:
    """For the document."""
    model = "unknown"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
    return {
        "measured": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "on": f"{os.cpu_count()} CPUs ({model})",
        "Linux": platform.release().split("-")[0],
        "Python": platform.python_version(),
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
