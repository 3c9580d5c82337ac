"""docs/performance.md: tables of what was measured, and whether the targets are reached."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .results import Comparison, Spread, SuiteResults
from .suite import Metric, Suite
from .targets import TARGETS, Target

HEAD = """\
# How fast it is

Written by `ci/bench`; every figure is measured, and the raw samples are in [performance](performance). Each sample is
taken right after a sample of its reference in the same run, first one, then the other, so that what else the machine
does meanwhile strikes both: trust the ratios, which are medians of the ratios of such pairs (smallest to largest in
brackets), more than the absolute figures beside them, and little where the brackets are wide: the machine is shared.
The reference, [benchmarks/reference](../benchmarks/reference), is a plain program in C on the same libssl; pyOpenSSL
and python-mbedtls bring a library of their own. It is DTLS 1.2 with ECDHE-ECDSA-AES128-GCM-SHA256 and P-256, but for
pre-shared keys, and for ssl's TLS over TCP. Another machine has other ratios, too: the less it takes for a system
call and for AES, the more of what we add is seen.

`ci/bench` measures it all again (an hour, all peers), `ci/bench --suite oneway --only dtlsffi` a part of it, which
goes to `build/benchmarks/part`, and `ci/bench --instructions` counts instructions where wall time is too noisy to
tell a regression.
"""


def number(value: float) -> str:
    """Three digits, or all that stand before the point."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def told(spread: Spread | None) -> str:
    """A median with its range."""
    if spread is None:
        return ""
    if spread.low == spread.high:
        return number(spread.middle)
    return f"{number(spread.middle)} ({number(spread.low)} to {number(spread.high)})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """In Markdown."""
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


def row(comparison: Comparison, metrics: Sequence[Metric], pairs: int) -> list[str]:
    """One subject in one case."""
    taken = len(comparison.samples)
    cells = [comparison.case, comparison.subject + ("" if taken == pairs else f" ({taken} of {pairs} samples)")]
    for index, metric in enumerate(metrics):
        cells.append(told(comparison.values(metric.key)))
        if index == 0 or metric.key.endswith("_us"):
            ratio = comparison.ratios(metric.key)
            cells.append(f"**{ratio.middle:.2f}** ({ratio.low:.2f} to {ratio.high:.2f})" if ratio else "")
    return [*cells, comparison.reference]


def reference_rows(comparisons: Sequence[Comparison], metrics: Sequence[Metric]) -> list[list[str]]:
    """The references themselves, with all samples that were taken of them."""
    rows = []
    for case, name in dict.fromkeys((comparison.case, comparison.reference) for comparison in comparisons):
        samples = [
            sample
            for comparison in comparisons
            if (comparison.case, comparison.reference) == (case, name)
            for sample in comparison.references
        ]
        whole = Comparison(case, name, "", samples=samples, references=samples)
        cells = [case, f"*{name}*"]
        for index, metric in enumerate(metrics):
            cells.append(told(whole.values(metric.key)))
            if index == 0 or metric.key.endswith("_us"):
                cells.append("1" if whole.values(metric.key) else "")
        rows.append([*cells, ""])
    return rows


def measured(suite: Suite, results: SuiteResults) -> list[str]:
    """One table a group of cases that tell the same metrics."""
    lines: list[str] = []
    there = [comparison for comparison in results.comparisons if comparison.samples]
    groups: dict[tuple[Metric, ...], list[Comparison]] = {}
    for comparison in there:
        tells = tuple(
            m for m in suite.metrics if (spread := comparison.values(m.key)) and (spread.high or "lost" in m.key)
        )
        groups.setdefault(tells, []).append(comparison)
    for metrics, comparisons in groups.items():
        head = ["case", "who"]
        for index, metric in enumerate(metrics):
            head += [metric.name, "ratio"] if index == 0 or metric.key.endswith("_us") else [metric.name]
        rows = []
        references = reference_rows(comparisons, metrics)
        for case in dict.fromkeys(comparison.case for comparison in comparisons):
            rows += [line for line in references if line[0] == case]
            rows += [row(comparison, metrics, results.pairs) for comparison in comparisons if comparison.case == case]
        lines += table([*head, "against"], rows)
    return lines


def unmeasured(results: SuiteResults) -> list[str]:
    """Who was left out, and why."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for comparison in results.comparisons:
        if comparison.skipped:
            reasons.setdefault((comparison.subject, comparison.skipped), []).append(comparison.case)
    return [
        f"- Not measured: {subject} ({'; '.join(dict.fromkeys(cases))}): {why}."
        for (subject, why), cases in reasons.items()
    ] + ([""] if reasons else [])


def verdict(target: Target, results: SuiteResults) -> list[str]:
    """One target as a row."""
    value = target.value(results)
    said = "not measured" if value is None else number(value) if target.absolute else f"{value:.3g} x"
    reached = "" if value is None else "reached" if target.is_reached(value) else "**not reached**"
    return [target.case, target.subject, target.metric, target.words(), said, reached]


def section(suite: Suite, results: SuiteResults, pictures: Sequence[str]) -> list[str]:
    """All about one suite."""
    machine = results.machine
    lines = [f"## {suite.title}", "", suite.words, ""]
    lines += [f"![{suite.title}](performance/{picture})" for picture in pictures if picture.endswith(".svg")] + [""]
    lines += measured(suite, results)
    lines += unmeasured(results)
    targets = [target for target in TARGETS if target.suite == suite.name]
    if targets:
        head = ["case", "who", "what", "target", "measured", ""]
        lines += ["Targets:", "", *table(head, [verdict(target, results) for target in targets])]
    lines += [f"{results.pairs} pairs, {', '.join(f'{name} {value}' for name, value in machine.items())}.", ""]
    return lines


def write(path: Path, suites: Sequence[Suite], found: dict[str, SuiteResults], pictures: dict[str, list[str]]) -> None:
    """The whole document, of all suites that have ever been measured."""
    lines = [*HEAD.splitlines(), ""]
    for suite in suites:
        if suite.name in found:
            lines += section(suite, found[suite.name], pictures.get(suite.name, []))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines).rstrip() + "\n")
