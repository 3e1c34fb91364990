"""The benchmark of scoring and rendering: the classes that it grows."""

from __future__ import annotations

from pathlib import Path

from conftest import TINY
from rescoring import grow
from safetensors.numpy import load_file
from test_classscore import ROWS, lay_class

from nbassay.evidence import ARRAYS_FILE
from nbassay.pipeline import score_class
from nbassay.records import SubmissionResult
from nbassay.workshop import read_workshop


def passed(one: SubmissionResult) -> set[str]:
    return {check.id for check in one.checks if check.outcome == "passed"} - {"labels.loaded"}


def test_a_grown_class_scores_as_its_learners_do(tmp_path: Path) -> None:
    """
    Every learner of a grown class has rows in an order of its own and passes what the one passed
    that it was made of, but for labels that are asked for in the file's order.
    """
    workshop = read_workshop(TINY)
    lay_class(tmp_path / "graded", workshop, 4)
    (tmp_path / "graded" / "controls").mkdir()
    sheets = score_class(tmp_path / "graded", workshop=workshop).submissions
    before = {one.learner: passed(one) for one in sheets}

    grow(tmp_path / "graded", tmp_path / "grown", 8)
    after = score_class(tmp_path / "grown", workshop=workshop).submissions

    assert len(after) == 8
    assert [before[one.learner.rpartition("-")[0]] for one in after] == list(map(passed, after))
    rows = [
        tuple(load_file(folder / ARRAYS_FILE)[ROWS].tolist())
        for folder in sorted((tmp_path / "grown" / "learners").glob("*/evidence"))
    ]
    assert len(set(rows)) == 5  # the file's order, and that of each odd one
    assert {tuple(sorted(one)) for one in rows} == {tuple(range(40))}
