"""That the benchmarks run, and say what they measured: not that anything is fast."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from benchmarks import build, instructions, plots
from benchmarks.results import Comparison, SuiteResults
from benchmarks.suite import Metric
from benchmarks.suites import SUITES
from benchmarks.targets import AT_LEAST, AT_MOST, TARGETS, Target

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ci/bench --quick writes, without the other libraries: they need not be here."""
    output = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "dtlsffi", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return output


@pytest.mark.slow
@pytest.mark.parametrize("name", [suite.name for suite in SUITES])
def test_every_suite_runs(written: Path, name: str) -> None:
    words = json.loads((written / "performance" / f"{name}.json").read_text())
    assert not [there["skipped"] for there in words["comparisons"] if there["skipped"].startswith("failed")]
    metrics = {metric.key for suite in SUITES if suite.name == name for metric in suite.metrics}
    measured = [there for there in words["comparisons"] if there["samples"]]
    assert measured
    for comparison in measured:
        assert len(comparison["samples"]) == len(comparison["references"]) == 1
        assert metrics & set(comparison["samples"][0])
        for sample in (*comparison["samples"], *comparison["references"]):
            assert all(value >= 0 for key, value in sample.items() if key in metrics)
            assert sample.get("wrong", 0) == 0, "an echo was not what was sent"


@pytest.mark.slow
def test_the_document_has_every_suite(written: Path) -> None:
    text = (written / "performance.md").read_text()
    for suite in SUITES:
        assert f"## {suite.title}" in text
    assert "Targets:" in text
    assert "reached" in text
    for line in text.splitlines():
        if line.startswith("!["):
            assert (written / line.split("(")[1].rstrip(")")).exists()


@pytest.mark.parametrize("options", [["--pairs", "0"], ["--seconds", "0"], ["--seconds", "-1"], ["--record"]])
def test_senseless_options_are_refused(tmp_path: Path, options: list[str]) -> None:
    """Before anything is measured, and written over what was."""
    command = [sys.executable, "-m", "benchmarks", "--suite", "record", "--only", "batch", "--output", str(tmp_path)]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert options[0] in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_subject_is_looked_for_in_every_suite(tmp_path: Path) -> None:
    """The first suite has none of that name."""
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "recv_into", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "performance" / "oneway.json").exists()


def test_a_curve_shows_what_the_table_says() -> None:
    """All samples of the reference, not only those beside the first subject."""
    first = Comparison("8 peers", "dtlsffi", "C", samples=[{"x": 1.0}], references=[{"x": 1.0}])
    second = Comparison("8 peers", "trio", "C", samples=[{"x": 1.0}], references=[{"x": 3.0}])
    drawn: dict[str, list[float]] = {}
    axes = MagicMock()
    axes.plot = lambda _places, middles, *_, label, **__: drawn.update({label: middles})
    plots.draw_curve(axes, SuiteResults("growth", {}, 1, [first, second]), Metric("x", "x"))
    assert drawn["C"] == [2.0]


def test_a_receiver_counts_what_a_sender_sent() -> None:
    """The reference by itself."""
    reference = str(build.reference())
    with subprocess.Popen([reference, "oneway-receive"], stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        port = json.loads(receiver.stdout.readline())["port"]
        command = [reference, "oneway-send", "--port", str(port), "--seconds", "0.1"]
        sent = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["sent"]
        assert 0 < json.loads(receiver.stdout.readline())["records"] <= sent


def results(subject: str, values: list[float], references: list[float], case: str = "case") -> Comparison:
    return Comparison(case, subject, "C", [{"x": value} for value in values], [{"x": value} for value in references])


def test_a_ratio_is_the_median_of_the_ratios_of_pairs() -> None:
    ratios = results("dtlsffi", [10.0, 30.0, 22.0], [10.0, 10.0, 11.0]).ratios("x")
    assert ratios is not None
    assert (ratios.low, ratios.middle, ratios.high) == (1.0, 2.0, 3.0)


def test_a_target_knows_whether_it_is_reached() -> None:
    measured = SuiteResults(
        "suite",
        {},
        1,
        [results("dtlsffi", [12.0], [10.0]), results("other", [60.0], [10.0]), results("dtlsffi", [6.0], [5.0], "few")],
    )
    for target, value, reached in (
        (Target("suite", "case", "dtlsffi", "x", AT_MOST, 1.2), 1.2, True),
        (Target("suite", "case", "dtlsffi", "x", AT_LEAST, 1.3), 1.2, False),
        (Target("suite", "case", "dtlsffi", "x", AT_MOST, 0.25, other_subject="other"), 0.2, True),
        (Target("suite", "case", "dtlsffi", "x", AT_MOST, 1.5, other_case="few"), 2.0, False),
        (Target("suite", "case", "dtlsffi", "x", AT_MOST, 12, absolute=True), 12.0, True),
    ):
        assert target.value(measured) == pytest.approx(value)
        assert target.is_reached(value) is reached
    assert Target("suite", "case", "nobody", "x", AT_MOST, 1).value(measured) is None


def test_every_target_is_of_a_suite_that_tells_its_metric() -> None:
    metrics = {suite.name: {metric.key for metric in suite.metrics} for suite in SUITES}
    assert all(target.metric in metrics[target.suite] for target in TARGETS)


@pytest.mark.slow
def test_a_record_takes_no_more_instructions_than_were_recorded() -> None:
    """Of ours and of the interpreter's, where this build has been counted."""
    command = [sys.executable, "-m", "benchmarks", "--instructions"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    if done.returncode == instructions.OTHER_BUILD:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def test_instructions_are_added_up_without_what_callees_took() -> None:
    lines = """\
ob=(1) /x/dtlsffi/_native/_openssl.abi3.so
fn=(1) one
10 5
+3 7
cob=(2) /usr/lib/libcrypto.so.3
cfn=(2) two
calls=1 4
12 1000
ob=(2)
fn=(2)
4 1000
ob=(3) /usr/bin/python3.11
fn=(3) three
* 20
""".splitlines()
    assert instructions.add_up(lines) == {"dtlsffi": 12, "Python": 20}
