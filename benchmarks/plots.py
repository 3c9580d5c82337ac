"""A picture of each suite, as SVG and PNG: medians with their range, where matplotlib is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .report import number
from .results import Comparison, Spread, SuiteResults
from .suite import Metric, Suite

OURS, REFERENCE, OTHERS = "#1f6feb", "#444444", "#b8bec5"
Bar = tuple[str, Spread]


def colour(name: str) -> str:
    """Ours are blue, the references dark."""
    return OURS if name.startswith("dtlsffi") else REFERENCE if name == "C" or name.startswith(("C ", "C,")) else OTHERS


def bars(comparisons: list[Comparison], metric: Metric) -> list[Bar]:
    """References first, then subjects."""
    found: dict[str, Spread] = {}
    for name in dict.fromkeys(comparison.reference for comparison in comparisons):
        samples = [sample for there in comparisons if there.reference == name for sample in there.references]
        spread = Comparison("", name, "", samples=samples).values(metric.key)
        if spread is not None:
            found[name] = spread
    for comparison in comparisons:
        spread = comparison.values(metric.key)
        if spread is not None:
            found.setdefault(comparison.subject, spread)
    return list(found.items())


def draw_bars(axes: Any, title: str, shown: list[Bar], metric: Metric) -> None:
    """One panel."""
    names = [name for name, _ in shown]
    middles = [spread.middle for _, spread in shown]
    errors = [
        [max(0.0, spread.middle - spread.low) for _, spread in shown],
        [max(0.0, spread.high - spread.middle) for _, spread in shown],
    ]
    axes.barh(
        range(len(names)), middles, xerr=errors, color=[colour(name) for name in names], ecolor="#d29922", height=0.7
    )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(f"{metric.name} ({'less' if metric.less_is_better else 'more'} is better)", fontsize=8)
    widest = max(spread.high for _, spread in shown)
    axes.set_xlim(0, widest * 1.15 or 1)
    for index, (_, spread) in enumerate(shown):
        axes.annotate(
            number(spread.middle), (spread.high, index), (4, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def draw_curve(axes: Any, results: SuiteResults, metric: Metric) -> None:
    """Cases that begin with a number, along the axis."""
    lines: dict[str, list[tuple[int, Spread]]] = {}
    for case in dict.fromkeys(comparison.case for comparison in results.comparisons):
        for name, spread in bars([there for there in results.comparisons if there.case == case], metric):
            lines.setdefault(name, []).append((int(case.split()[0]), spread))
    for index, (name, points) in enumerate(lines.items()):
        places = [place for place, _ in points]
        middles = [spread.middle for _, spread in points]
        style = ("-", "--", ":", "-.")[index % 4]
        axes.plot(places, middles, style, marker="o", color=colour(name), label=name)
        lows, highs = [spread.low for _, spread in points], [spread.high for _, spread in points]
        axes.fill_between(places, lows, highs, color=colour(name), alpha=0.12)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("peers", fontsize=9)
    axes.set_ylabel(metric.name, fontsize=9)
    axes.legend(fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def draw(suite: Suite, results: SuiteResults, directory: Path) -> list[str]:
    """The names of the files written; none without matplotlib."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra
    except ImportError:
        return []
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = suite.name  # the same picture is the same file
    from matplotlib import pyplot  # noqa: PLC0415

    if suite.curve:
        figure, axes = pyplot.subplots(figsize=(7, 4))
        draw_curve(axes, results, suite.metrics[0])
    else:
        panels = panels_of(suite, results)
        if not panels:
            return []
        heights = [len(shown) * 0.28 + 0.9 for _, shown, _ in panels]
        figure, grid = pyplot.subplots(len(panels), 1, figsize=(8, sum(heights)), squeeze=False, height_ratios=heights)
        for place, (title, shown, metric) in zip(grid[:, 0], panels, strict=True):
            draw_bars(place, title, shown, metric)
    figure.suptitle(suite.title, fontsize=11)
    figure.tight_layout()
    directory.mkdir(parents=True, exist_ok=True)
    names = [f"{suite.name}.svg", f"{suite.name}.png"]
    for name in names:
        metadata = {"Date": None} if name.endswith("svg") else None
        figure.savefig(directory / name, dpi=110, metadata=metadata)
    pyplot.close(figure)
    return names


def panels_of(suite: Suite, results: SuiteResults) -> list[tuple[str, list[Bar], Metric]]:
    """A panel for each case, with the first metric that its comparisons tell."""
    panels = []
    for case in dict.fromkeys(comparison.case for comparison in results.comparisons):
        comparisons = [
            comparison for comparison in results.comparisons if comparison.case == case and comparison.samples
        ]
        metrics = suite.metrics
        if "at " in case and "a second" in case:  # at a fixed rate it is the server's CPU that tells
            metrics = tuple(metric for metric in metrics if metric.key == "server_cpu_us") or metrics
        for metric in metrics:
            shown = bars(comparisons, metric)
            if shown:
                panels.append((case, shown, metric))
                break
    return panels
