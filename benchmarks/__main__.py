"""Runs the suites, and writes what came of them."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from . import build, instructions, machine, plots, report
from .progress import Progress
from .results import SuiteResults, load
from .suite import Bench, Settings, Suite
from .suites import SUITES

ROOT = Path(__file__).parent.parent
QUICK = Settings(pairs=1, seconds=0.05, quick=True)


def pairs(text: str) -> int:
    """A number of samples."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"at least 1, not {text}")
    return number


def seconds(text: str) -> float:
    """How long one takes."""
    if not 0 < (number := float(text)) < 3600:
        raise argparse.ArgumentTypeError(f"more than 0 and less than 3600, not {text}")
    return number


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ci/bench", description=__doc__)
    names = [suite.name for suite in SUITES]
    parser.add_argument("--suite", action="append", choices=names, help="this one only (more than one may be given)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="WORD", help="subjects whose name has WORD in it"
    )
    parser.add_argument("--case", action="append", default=[], metavar="WORDS", help="cases with WORDS in their name")
    parser.add_argument(
        "--quick", action="store_true", help="seconds, not hours: proves that it runs, measures nothing"
    )
    parser.add_argument("--pairs", type=pairs, default=5, help="samples of each, every one with its reference (5)")
    parser.add_argument("--seconds", type=seconds, default=1.0, help="how long a sample takes (1)")
    parser.add_argument("--output", type=Path, help="where to write (docs; build/benchmarks/... if a part)")
    parser.add_argument("--instructions", action="store_true", help="count instructions, compare with those recorded")
    parser.add_argument("--record", action="store_true", help="with --instructions: record them anew")
    arguments = parser.parse_args()
    if arguments.record and not arguments.instructions:
        parser.error("--record goes with --instructions")
    return arguments


def measure(suite: Suite, bench: Bench) -> SuiteResults:
    """One suite."""
    bench.comparisons = []
    where = machine.describe(bench.settings.seconds)
    suite.run(bench)
    return SuiteResults(suite.name, where, bench.settings.pairs, bench.comparisons)


def run(arguments: argparse.Namespace, output: Path) -> int:
    """The suites asked for; what else was measured before stays."""
    settings = QUICK if arguments.quick else Settings(arguments.pairs, arguments.seconds)
    settings = Settings(settings.pairs, settings.seconds, settings.quick, tuple(arguments.only), tuple(arguments.case))
    wanted = [suite for suite in SUITES if not arguments.suite or suite.name in arguments.suite]
    raw = output / "performance"
    found = False
    with tempfile.TemporaryDirectory() as directory, Progress() as progress:
        files = machine.make_certificates(Path(directory))
        bench = Bench(settings, build.reference(), files, progress, build.pion())
        for suite in wanted:
            results = measure(suite, bench)
            if results.comparisons:  # other suites may have what was asked for
                found = True
                results.save(raw)
                write(output)
    if not found:
        print(f"there is nothing like {[*arguments.only, *arguments.case]}", file=sys.stderr)
        return 2
    print(f"written: {output / 'performance.md'}")
    return 0


def write(output: Path) -> None:
    """The document and the pictures, from all samples there are."""
    raw = output / "performance"
    found = {suite.name: results for suite in SUITES if (results := load(raw, suite.name)) is not None}
    pictures = {suite.name: plots.draw(suite, found[suite.name], raw) for suite in SUITES if suite.name in found}
    report.write(output / "performance.md", SUITES, found, pictures)


def main() -> int:
    arguments = read_arguments()
    if arguments.instructions:
        return instructions.check(record=arguments.record)
    is_part = bool(arguments.only or arguments.case)  # which is not to take the place of the whole
    usual = "build/benchmarks/quick" if arguments.quick else "build/benchmarks/part" if is_part else "docs"
    try:
        return run(arguments, arguments.output or ROOT / usual)
    except KeyboardInterrupt:
        print("interrupted: the suites that were finished have been written", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
