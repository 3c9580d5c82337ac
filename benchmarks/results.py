"""What was measured: samples in pairs, each with a sample of the reference taken right before it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

Sample = dict[str, Any]


@dataclass(frozen=True)
class Spread:
    """A median with the smallest and the largest."""

    middle: float
    low: float
    high: float


@dataclass
class Comparison:
    """One subject against one reference in one case, or why there is none."""

    case: str
    subject: str
    reference: str
    samples: list[Sample] = field(default_factory=list)
    references: list[Sample] = field(default_factory=list)
    skipped: str = ""

    def values(self, metric: str) -> Spread | None:
        """The subject's."""
        return spread([float(sample[metric]) for sample in self.samples if metric in sample])

    def reference_values(self, metric: str) -> Spread | None:
        """The reference's."""
        return spread([float(sample[metric]) for sample in self.references if metric in sample])

    def ratios(self, metric: str) -> Spread | None:
        """Each sample over its own reference."""
        pairs = zip(self.samples, self.references, strict=True)
        return spread([float(a[metric]) / float(b[metric]) for a, b in pairs if metric in a and b.get(metric)])


def spread(numbers: list[float]) -> Spread | None:
    """Of numbers, if there are any."""
    return Spread(median(numbers), min(numbers), max(numbers)) if numbers else None


@dataclass
class SuiteResults:
    """All comparisons of a suite, and where and when they were made."""

    suite: str
    machine: dict[str, str]
    pairs: int
    comparisons: list[Comparison] = field(default_factory=list)

    def find(self, case: str, subject: str) -> Comparison | None:
        """The comparison of a subject in a case."""
        for comparison in self.comparisons:
            if (comparison.case, comparison.subject) == (case, subject) and comparison.samples:
                return comparison
        return None

    def save(self, directory: Path) -> None:
        """As SUITE.json."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{self.suite}.json").write_text(json.dumps(asdict(self), indent=1) + "\n")


def load(directory: Path, suite: str) -> SuiteResults | None:
    """What was saved of a suite."""
    path = directory / f"{suite}.json"
    if not path.exists():
        return None
    words = json.loads(path.read_text())
    words["comparisons"] = [Comparison(**comparison) for comparison in words["comparisons"]]
    return SuiteResults(**words)
