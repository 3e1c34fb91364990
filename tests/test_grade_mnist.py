"""The main job: the example class, real MNIST, real TensorFlow, a real kernel in a real box."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from browsing import browser, grave_findings, open_page
from conftest import ROOT, Nbassay

from nbassay.records import Results, SubmissionResult

__all__ = ["browser"]

pytestmark = [pytest.mark.kernel, pytest.mark.tensorflow]

MARKS = {
    "ada": (100, []),
    "ben": (100, []),
    "chen": (70, ["prep.scaling", "accuracy.train", "accuracy.test"]),
    "dana": (85, ["model.layers"]),
    "emil": (75, ["train.epochs", "accuracy.train", "accuracy.test"]),
    "fatima": (
        60,
        [
            "model.compiled",
            "train.data",
            "train.epochs",
            "accuracy.train",
            "accuracy.test",
            "predict.example",
            "evaluate.test",
        ],
    ),
    "goran": (0, None),
    "hana": (0, None),
}
"""Learner → mark and lost checks; None for all."""

PAGES = ["index.html", *(f"learners/{name}/report.html" for name in MARKS)]


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example class, graded once by the command of the README."""
    out = tmp_path_factory.mktemp("mnist") / "graded"
    done = subprocess.run(
        [sys.executable, "-m", "nbassay", "grade", "examples/submissions", "-o", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def results(graded: Path) -> Results:
    return msgspec.json.decode((graded / "results.json").read_bytes(), type=Results)


@pytest.fixture(scope="module")
def sheets(results: Results) -> dict[str, SubmissionResult]:
    return {one.learner: one for one in results.submissions}


@pytest.mark.parametrize("learner", MARKS)
def test_example_earns_its_mark(sheets: dict[str, SubmissionResult], learner: str) -> None:
    """
    Each of the eight gets the mark that a fair instructor would give, for the right reasons.
    """
    mark, lost = MARKS[learner]
    one = sheets[learner]

    assert (one.score, one.status) == (mark, "graded")
    if lost is not None:
        assert [check.id for check in one.checks if check.outcome != "passed"] == lost


def test_every_check_is_seen_both_ways(sheets: dict[str, SubmissionResult]) -> None:
    """
    Each of the 17 checks passes for somebody and does not pass for somebody else.
    """
    passed = {c.id for one in sheets.values() for c in one.checks if c.outcome == "passed"}
    lost = {c.id for one in sheets.values() for c in one.checks if c.outcome != "passed"}

    assert len(passed) == 17
    assert passed == lost


def test_what_is_kept_changes_no_byte(graded: Path, tmp_path: Path, nbassay: Nbassay) -> None:
    """
    results.json is the same whether networks are measured again or were measured before.
    """
    copied = Path(shutil.copytree(graded, tmp_path / "graded"))
    before = (copied / "results.json").read_bytes()
    kept = {path.name: path.read_bytes() for path in (copied / "measured").iterdir()}

    nbassay("score", copied, cwd=ROOT)
    from_kept = (copied / "results.json").read_bytes()
    shutil.rmtree(copied / "measured")
    nbassay("score", copied, cwd=ROOT)

    assert before == from_kept == (copied / "results.json").read_bytes()
    assert kept == {path.name: path.read_bytes() for path in (copied / "measured").iterdir()}
    assert kept


def test_accuracy_is_measured_not_copied(sheets: dict[str, SubmissionResult]) -> None:
    """
    The accuracies come from the weights and agree with the confusion matrix; what was only printed
    gives none.
    """
    ada = sheets["ada"]
    assert ada.details is not None
    assert ada.details.measurement is not None
    confusion = ada.details.measurement.confusion
    assert confusion is not None

    assert sum(map(sum, confusion)) == 10_000
    assert sum(confusion[digit][digit] for digit in range(10)) / 10_000 == ada.test_accuracy
    assert sheets["hana"].train_accuracy is None


def test_the_reference_stands_beside_every_learner(results: Results, graded: Path) -> None:
    """
    Its shapes, layers, epochs and accuracies are in the reports.
    """
    assert results.reference is not None
    assert results.reference.score == 100
    page = (graded / "learners" / "dana" / "report.html").read_text()

    assert "784-32-32-10" in page
    assert "784-16-16-10" in page


def test_controls_come_out_as_expected(results: Results) -> None:
    """
    The reference earns full marks and the known wrong notebook fails where it must.
    """
    assert [control.as_expected for control in results.controls] == [True, True]


def test_a_report_holds_nobody_elses_data(graded: Path) -> None:
    """
    A learner's page names no other learner.
    """
    page = (graded / "learners" / "ada" / "report.html").read_text()

    assert re.search(r"\bada\b", page)
    assert not [name for name in MARKS if name != "ada" and re.search(rf"\b{name}\b", page)]


def test_evidence_can_be_read_by_a_person(graded: Path) -> None:
    """
    evidence.json tells what ran where, and how the fit went.
    """
    evidence = json.loads((graded / "learners" / "ben" / "evidence" / "evidence.json").read_text())
    fits = [fact for fact in evidence["facts"] if fact["type"] == "fit"]

    assert evidence["is_isolated"] is True
    assert [fit["epochs_run"] for fit in fits] == [10]


@pytest.mark.browser
@pytest.mark.parametrize(
    "page", ["index.html", *(f"learners/{name}/report.html" for name in MARKS)]
)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_real_pages_are_accessible(browser, graded: Path, page: str, dark: bool) -> None:
    """
    axe-core finds nothing serious on the pages of a real class, and nothing scrolls sideways.
    """
    open_page(browser, graded / page, width=360, dark=dark)

    assert grave_findings(browser) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360


@pytest.mark.browser
def test_links_of_the_class_page_lead_to_reports(browser, graded: Path) -> None:
    """
    Every learner in the table links to a report that is there.
    """
    open_page(browser, graded / "index.html")
    links = browser.execute_script(
        "return [...document.querySelectorAll('#learners-table tbody th a')].map(a => a.href)"
    )

    assert len(links) == len(MARKS)
    for link in links:
        browser.get(link)
        assert browser.find_element("tag name", "h1").text.startswith("Report for")


def test_calibration_goes_on_where_it_was(tmp_path: Path) -> None:
    """
    Each run is kept as it ends, with what made it and when; a second call adds what is missing and
    runs nothing twice.
    """
    target = tmp_path / "calibration.json"

    def calibrate(runs: int) -> list[dict[str, float]]:
        done = subprocess.run(
            [sys.executable, "-m", "nbassay", "calibrate", "--runs", str(runs), "-o", str(target)],
            cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(target.read_text())["runs"]

    first = calibrate(1)
    both = calibrate(2)

    written = json.loads(target.read_text())

    assert set(written["made_with"]) == {"nbassay", "python"}
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", written["date"])
    assert [run["seed"] for run in both] == [0, 1]
    assert both[0] == first[0]
    assert both[0]["train_accuracy"] != both[1]["train_accuracy"]
    assert all(0.9 < run["test_accuracy"] < run["train_accuracy"] < 1.0 for run in both)
