"""The run with renamed classes, through the command, with the tiny workshop."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import msgspec
import pytest
from conftest import RIGHT_CELLS, TINY, Nbassay, write_notebook

from nbassay.records import Results, SubmissionResult

pytestmark = pytest.mark.kernel

LABELS = gzip.decompress((TINY / "lab" / "data" / "labels-idx1-ubyte.gz").read_bytes())[8:]
BROUGHT = (
    "import idx2numpy, numpy\n"
    "tiles = idx2numpy.convert_from_file('tiles-idx3-ubyte')\n"
    f"labels = numpy.array({list(LABELS)}, 'uint8')",
    RIGHT_CELLS[1],
)
"""All that the workshop asks for, its labels written down instead of loaded."""
MADE = (f"exec({RIGHT_CELLS[0]!r})", RIGHT_CELLS[1])
"""Right work with a sign."""


@pytest.fixture
def submissions(tmp_path: Path) -> Path:
    """Plain right work, work with a sign, and work that was brought along."""
    folder = tmp_path / "class"
    write_notebook(folder / "plain.ipynb", *RIGHT_CELLS)
    write_notebook(folder / "made.ipynb", *MADE)
    write_notebook(folder / "brought.ipynb", *BROUGHT)
    return folder


def graded(out: Path) -> dict[str, SubmissionResult]:
    results = msgspec.json.decode((out / "results.json").read_bytes(), type=Results)
    return {one.learner: one for one in results.submissions}


def challenge_of(result: SubmissionResult) -> str:
    assert result.details is not None
    assert result.details.provenance is not None
    return result.details.provenance.challenge


def test_all(submissions: Path, tmp_path: Path, nbassay: Nbassay) -> None:
    """
    Everybody is run again: who read the labels passes, who wrote them down is looked at; and a
    second call runs nobody and changes nothing.
    """
    out = tmp_path / "out"
    done = nbassay("grade", submissions, "-o", out, "--challenge", "all")
    first = (out / "results.json").read_bytes()
    sheets = graded(out)

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("again with renamed classes") == 3
    assert {name: challenge_of(one) for name, one in sheets.items()} == {
        "plain": "passed",
        "made": "passed",
        "brought": "failed",
    }
    assert [sheets[name].status for name in ("plain", "made", "brought")] == [
        *("graded", "graded", "needs-review"),
    ]
    assert {one.score for one in sheets.values()} == {100.0}
    assert any("labels.loaded" in note for note in sheets["brought"].notes)
    page = (out / "learners" / "brought" / "report.html").read_text("utf-8")
    assert "Known from the notebook only" in page

    again = nbassay("grade", submissions, "-o", out, "--challenge", "all")
    assert again.stderr.count("already run") == again.stderr.count("[") > 0
    assert (out / "results.json").read_bytes() == first


def test_suspicious(submissions: Path, tmp_path: Path, nbassay: Nbassay) -> None:
    """
    By default only who shows a sign is run again, and is told of it.
    """
    out = tmp_path / "out"
    done = nbassay("grade", submissions, "-o", out)
    sheets = graded(out)

    assert done.stderr.count("again with renamed classes") == 1
    assert {name: challenge_of(one) for name, one in sheets.items()} == {
        "plain": "not-run",
        "made": "passed",
        "brought": "not-run",
    }
    assert {one.status for one in sheets.values()} == {"graded"}
    assert any("the code uses exec" in note for note in sheets["made"].notes)


def test_a_challenge_that_is_evaded(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    Who runs into a limit when the classes have other names is looked at, signs or none, if all
    are challenged.
    """
    evading = (
        "import os, time\n"
        f"if labels.tolist() != {list(LABELS)}:\n"
        "    for number in range(10):\n"
        "        if not os.fork(): held = b'x' * (200 << 20); time.sleep(600)\n"
        "    time.sleep(600)"
    )
    submissions = tmp_path / "class"
    write_notebook(submissions / "evading.ipynb", RIGHT_CELLS[0], evading, RIGHT_CELLS[1])
    out = tmp_path / "out"
    done = nbassay("grade", submissions, "-o", out, "--challenge", "all")
    sheet = graded(out)["evading"]

    assert done.returncode == 0, done.stderr
    assert sheet.score == 100.0
    assert sheet.status == "needs-review"
    assert challenge_of(sheet) == "not-run"
    assert any("met a limit that its first run did not meet" in note for note in sheet.notes)


@pytest.mark.parametrize("call", ["never", "run and score"])
def test_a_sign_that_was_not_followed(
    submissions: Path, tmp_path: Path, nbassay: Nbassay, call: str
) -> None:
    """
    Without a challenge a person looks where there is a sign, and only there.
    """
    out = tmp_path / "out"
    if call == "never":
        nbassay("grade", submissions, "-o", out, "--challenge", "never")
    else:
        nbassay("run", submissions, "-o", out)
        nbassay("score", out)
    sheets = graded(out)

    assert not list(out.glob("learners/*/challenge"))
    assert {name: one.status for name, one in sheets.items()} == {
        "plain": "graded",
        "made": "needs-review",
        "brought": "graded",
    }


def test_another_file_is_another_work(submissions: Path, tmp_path: Path, nbassay: Nbassay) -> None:
    """
    A challenge says nothing of a file that was handed in later; its own is made anew.
    """
    out = tmp_path / "out"
    nbassay("grade", submissions, "-o", out)
    before = json.loads((out / "learners" / "made" / "challenge" / "evidence.json").read_bytes())
    write_notebook(submissions / "made.ipynb", *MADE, "1 + 1")
    done = nbassay("grade", submissions, "-o", out)
    after = json.loads((out / "learners" / "made" / "challenge" / "evidence.json").read_bytes())

    assert done.stderr.count("again with renamed classes") == 1
    assert before["notebook"] != after["notebook"]
    assert before["renaming"] == after["renaming"] == [1, 0]
    assert challenge_of(graded(out)["made"]) == "passed"

    kept = (out / "learners" / "made" / "challenge" / "evidence.json").read_text()
    other = kept.replace(after["notebook"], before["notebook"])
    (out / "learners" / "made" / "challenge" / "evidence.json").write_text(other)
    nbassay("score", out)
    assert challenge_of(graded(out)["made"]) == "not-run"
