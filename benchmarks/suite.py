"""What a suite is, and what it measures with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from .programs import Failed, Sample, Skipped, Subject
from .progress import Progress
from .results import Comparison

Sampler = Callable[[], Sample]
C = "C"


@dataclass(frozen=True)
class Metric:
    """Something that is told of each sample: its key there, its name, and whether less is better."""

    key: str
    name: str
    less_is_better: bool = False


@dataclass(frozen=True)
class Settings:
    """How long and how often; `quick` only proves that everything runs."""

    pairs: int = 5
    seconds: float = 1.0
    quick: bool = False
    only: tuple[str, ...] = ()  # subjects
    cases: tuple[str, ...] = ()

    def peers(self, *numbers: int) -> tuple[int, ...]:
        """So many peers, or a few."""
        return tuple(max(8, number // 100) for number in numbers) if self.quick else numbers

    def sizes(self, *numbers: int) -> tuple[int, ...]:
        """So many bytes, or only the first."""
        return numbers[:1] if self.quick else numbers


@dataclass
class Bench:
    """What the suites are given."""

    settings: Settings
    reference: Path
    files: tuple[str, ...]  # options that name certificates
    progress: Progress
    pion: Path | str
    comparisons: list[Comparison] = field(default_factory=list)

    def wants(self, subject: Subject) -> bool:
        """Whether a subject was asked for."""
        return not self.settings.only or any(word in subject.name for word in self.settings.only)

    def wants_case(self, case: str) -> bool:
        """Whether a case was asked for, or one of those that `case` is the beginning of."""
        return not self.settings.cases or any(word in case or case in word for word in self.settings.cases)

    def c(self, *options: str, name: str = C) -> Subject:
        """The reference in C."""
        return Subject(name, (str(self.reference),), (*self.files, *options))

    def seconds(self) -> tuple[str, str]:
        """The option of how long a sample takes."""
        return "--seconds", str(self.settings.seconds)

    def compare(
        self, case: str, reference: str, measure_reference: Sampler, subjects: dict[str, Sampler], name: str = ""
    ) -> None:
        """Samples each subject right after the reference, in turn, and keeps the pairs."""
        if not self.wants_case(case):
            return
        comparisons = {subject: Comparison(case, subject, reference) for subject in subjects}
        self.comparisons += comparisons.values()
        with self.progress.task(f"{name or case}", self.settings.pairs * len(subjects)) as task:
            for _ in range(self.settings.pairs):
                for subject, measure in subjects.items():
                    task.step(subject)
                    comparison = comparisons[subject]
                    if comparison.skipped:
                        continue
                    with noting(comparison):
                        before = measure_reference()
                        sample = measure()
                        comparison.references.append(before)
                        comparison.samples.append(sample)

    def compare_subjects(
        self, case: str, reference: Subject, subjects: Sequence[Subject], measure: Callable[[Subject], Sample]
    ) -> None:
        """`compare`, of all subjects that were asked for, each measured in the same way."""
        self.compare(
            case,
            reference.name,
            partial(measure, reference),
            {subject.name: partial(measure, subject) for subject in subjects if self.wants(subject)},
            f"{case} against {reference.name}",
        )

    def skip(self, case: str, subject: str, reference: str, why: str) -> None:
        """Notes that there is nothing to compare."""
        self.comparisons.append(Comparison(case, subject, reference, skipped=why))


@contextmanager
def noting(comparison: Comparison) -> Iterator[None]:
    """Whatever cannot be measured is noted, and nothing else suffers."""
    try:
        yield
    except Skipped as reason:
        comparison.skipped = str(reason)
    except Failed as reason:
        comparison.skipped = f"failed: {reason}"
    except Exception as error:  # noqa: BLE001 - a run of hours does not end because of one of them
        comparison.skipped = f"failed: {type(error).__name__}: {error}"


@dataclass(frozen=True)
class Suite:
    """One kind of measurement."""

    name: str
    title: str
    words: str
    metrics: tuple[Metric, ...]
    run: Callable[[Bench], None]
    curve: bool = False  # the cases are points of a curve
