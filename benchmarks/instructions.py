"""How many instructions a record takes, by callgrind, against what was recorded in instructions.json.

Wall time is too noisy to tell a regression of a tenth; instructions are not. Counted are those of our own shared
object, and those of the interpreter (with cffi and its modules), for each build that has been recorded. Those of
libcrypto and libc are not, since they choose their code by the CPU, nor those of libssl, which is the system's. What
start-up and handshakes take cancels out: each scenario runs twice, with more records the second time.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import dtlsffi

from .machine import make_certificates
from .subjects.ours_instructions import SCENARIOS

RECORDED = Path(__file__).with_name("instructions.json")
ROOT = Path(__file__).parent.parent
FEW, MANY = 320, 1600  # records, whole batches
TOLERANCE = 0.10
OURS, INTERPRETER = "dtlsffi", "Python"
COST = re.compile(r"^[+\-*\d][\d]* (\d+)$")
NAME = re.compile(r"^ob=\((\d+)\)(?: (.*))?$")


def group(path: str) -> str | None:
    """Whose a shared object or program is."""
    name = Path(path).name
    if name.startswith("_openssl.") and "dtlsffi" in path:
        return OURS
    if name.startswith(("python", "libpython", "_cffi_backend")) or ".cpython-" in name:
        return INTERPRETER
    return None


def add_up(lines: list[str]) -> Counter[str]:
    """A callgrind file: instructions by whose they are. The line after `calls=` is what the callee took."""
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}
    whose: str | None = None
    is_call = False
    for line in lines:
        if found := re.match(r"^c?ob=\((\d+)\) (.+)$", line):
            names[found[1]] = found[2]
        if found := NAME.match(line):
            whose = group(names.get(found[1], ""))
        elif line.startswith("calls="):
            is_call = True
        elif found := COST.match(line):
            if not is_call and whose is not None:
                counts[whose] += int(found[1])
            is_call = False
    return counts


def count(scenario: str, files: list[str], records: int) -> Counter[str]:
    """Instructions of a whole run."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory, "out")
        command = [
            shutil.which("valgrind") or "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={out}",
            "-q",
            sys.executable,
        ]
        command += ["-m", "benchmarks.subjects.ours_instructions", scenario, str(records), *files]
        subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": "0"}, timeout=600)
        return add_up(out.read_text().splitlines())


def per_record(scenario: str, files: list[str]) -> dict[str, float]:
    """Instructions for one more record."""
    with ThreadPoolExecutor(2) as pool:
        few, many = pool.map(partial(count, scenario, files), (FEW, MANY))
    return {whose: round((many[whose] - few[whose]) / (MANY - FEW), 1) for whose in (OURS, INTERPRETER)}


def build() -> str:
    """What the counts depend on: Python's version and compiler, whose flags are ours, and libssl."""
    python = f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}"
    return f"{python}, {dtlsffi.OPENSSL_VERSION.split(' (')[0]}"


def compare(scenario: str, seen: dict[str, float], recorded: dict[str, dict[str, float]]) -> bool:
    """Says how it compares; whether it is within the tolerance."""
    before = recorded.get(scenario)
    words = [f"{whose} {seen[whose]:,.0f}" for whose in seen]
    if before is None:
        print(f"{scenario}: {', '.join(words)} instructions a record; none recorded")
        return False
    good = True
    for index, whose in enumerate(seen):
        change = seen[whose] / before[whose] - 1
        words[index] += f" ({change:+.1%})"
        good = good and change <= TOLERANCE
    print(f"{scenario}: {', '.join(words)} instructions a record{'' if good else ' - MORE THAN RECORDED'}")
    return good


OTHER_BUILD = 2  # the exit status where there is nothing to compare with


def check(*, record: bool = False) -> int:
    """Counts, compares or records; the exit status."""
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: ci/setup test does that where it may", file=sys.stderr)
        return 1
    here, builds = build(), json.loads(RECORDED.read_text())
    if here not in builds and not record:
        print(f"nothing is recorded of {here}; of others: {'; '.join(builds)}")
        return OTHER_BUILD
    counted: dict[str, dict[str, float]] = {}
    good = True
    with tempfile.TemporaryDirectory() as directory:
        files = [word for word in make_certificates(Path(directory)) if not word.startswith("--")]
        for scenario, (_, missing) in SCENARIOS.items():
            if missing:
                print(f"{scenario}: not counted, there is no {missing}")
                continue
            counted[scenario] = per_record(scenario, files)
            good &= compare(scenario, counted[scenario], builds.get(here, {}))
    if record:
        RECORDED.write_text(json.dumps(builds | {here: counted}, indent=1) + "\n")
        print(f"recorded: {RECORDED}")
        return 0
    return 0 if good else 1
