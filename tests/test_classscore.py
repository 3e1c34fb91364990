"""A class is scored in groups and side by side; nobody can see that in its results."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
from conftest import TINY, tiny_with_checks
from test_evidence import evidence_with

from nbassay import scoring
from nbassay.classscore import GROUP
from nbassay.errors import OutputError
from nbassay.evidence import write_evidence
from nbassay.files import MARK
from nbassay.observed import Observed
from nbassay.pipeline import report_class, score_class
from nbassay.pristine import data_digest, read_pristine
from nbassay.records import (
    Array,
    ArrayFact,
    Data,
    FitFact,
    Labels,
    ModelFact,
    Rows,
    SubmissionResult,
)
from nbassay.reporting import write
from nbassay.scoring import score
from nbassay.store import Attempt, Kept, Scorable, keep
from nbassay.workshop import Workshop, read_workshop

ROWS, LABELS = "0" * 64, "1" * 64


def tiles(scale: float) -> ArrayFact:
    """All tiles of the tiny workshop, flat, one level being *scale*."""
    rows = Rows(width=16, count=40, scale=scale, offset=0.0, residual=0.0, digests=ROWS)
    return ArrayFact(
        cell=1, source="namespace",
        array=Array(shape=[40, 16], dtype="float64", low=0.0, high=255 * scale, rows=rows),
    )  # fmt: skip


LABELLED = ArrayFact(
    cell=0, source="namespace",
    array=Array(shape=[40], dtype="uint8", low=0.0, high=1.0,
                labels=Labels(form="integer", classes=2, values=LABELS)),
)  # fmt: skip


def lay_class(out: Path, workshop: Workshop, count: int) -> None:
    """A class of *count* learners with evidence of different worth, as the run stage leaves it."""
    labels = read_pristine(workshop)["tiles"].labels.astype(np.int64)
    blobs = {ROWS: np.arange(40, dtype=np.int32), LABELS: labels}
    names = [f"learner-{number:03}" for number in range(count)]
    for number, name in enumerate(names):
        folder = out / "learners" / name
        if number % 7 == 3:
            folder.mkdir(parents=True)
            continue  # not run yet
        unreadable = "not a notebook" if number % 7 == 5 else None
        kept = Kept(learner=name, file=f"{name}.ipynb", digest="sha256:0", notes=[],
                    unreadable=unreadable)  # fmt: skip
        keep(folder, kept)
        facts = [LABELLED, tiles(1 / 255 if number % 2 else 1.0)]
        evidence = msgspec.structs.replace(evidence_with(facts), data=data_digest(workshop))
        write_evidence(folder / "evidence", evidence, blobs)
        if number % 7 == 6:
            (folder / "evidence" / "evidence.json").write_bytes(b"{}")
    mark = {"schema": "nbassay/run/1", "workshop": workshop.manifest.title, "learners": names}
    (out / MARK).write_bytes(msgspec.json.encode(mark))


def test_groups_and_processes_leave_no_trace(tmp_path: Path) -> None:
    """
    results.json of a class of several groups is the same from one process and from two, and each
    sheet is the one that the learner gets alone.
    """
    workshop = read_workshop(TINY)
    lay_class(tmp_path, workshop, GROUP + 20)

    one = score_class(tmp_path, workshop=workshop, jobs=1)
    bytes_of_one = (tmp_path / "results.json").read_bytes()
    score_class(tmp_path, workshop=workshop, jobs=2)

    assert bytes_of_one == (tmp_path / "results.json").read_bytes()
    assert len(one.submissions) == GROUP + 20
    assert {sheet.status for sheet in one.submissions} == {"graded", "unreadable", "not-run"}
    for other in (1, GROUP + 1):
        shutil.rmtree(tmp_path / "learners")
        lay_class(tmp_path, workshop, other + 1)
        alone = score_class(tmp_path, workshop=workshop).submissions
        sheets = {sheet.learner: sheet for sheet in one.submissions}
        assert all(sheets[sheet.learner] == sheet for sheet in alone)


# ------------------------------------------------------------------ what goes wrong on our side


@pytest.mark.parametrize(
    ("where", "status", "score"),
    [("cases_of", "not-run", None), ("contradictions", "needs-review", 100)],
)
def test_a_bug_of_ours_with_one_sheet_costs_nobody_else_the_mark(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
    status: str,
    score: float | None,
) -> None:
    """
    Where scoring fails at one learner's evidence, that sheet says so; the others are as ever.
    """
    workshop = read_workshop(TINY)
    lay_class(tmp_path, workshop, 3)
    expected = score_class(tmp_path, workshop=workshop).submissions
    sound = getattr(scoring, where)

    def with_a_bug(*arguments: object) -> object:
        observed = next(one for one in arguments if isinstance(one, Observed))
        if tiles(1 / 255) in observed.evidence.facts:
            raise ZeroDivisionError("ours")
        return sound(*arguments)

    monkeypatch.setattr(scoring, where, with_a_bug)
    one, bad, other = score_class(tmp_path, workshop=workshop).submissions

    assert [one, other] == [expected[0], expected[2]]
    assert (bad.status, bad.score) == (status, score)
    assert bad.notes[0] == "nbassay itself failed at this evidence (ZeroDivisionError); report it"
    assert "learner-001" in caplog.text


def test_a_report_that_fails_is_written_with_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Where one report cannot be rendered, the learner gets one without the details, and every page
    tells that a person has to look; the others are as ever.
    """
    workshop = read_workshop(TINY)
    lay_class(tmp_path, workshop, 3)
    score_class(tmp_path, workshop=workshop)
    report_class(tmp_path, workshop=workshop)
    page = tmp_path / "learners" / "learner-000" / "report.html"
    whole = page.read_bytes()
    sound = write.render_student

    def with_a_bug(one: SubmissionResult, **arguments: Any) -> str:
        if one.learner == "learner-001" and one.details is not None:
            raise ZeroDivisionError("ours")
        return sound(one, **arguments)

    monkeypatch.setattr(write, "render_student", with_a_bug)
    told = report_class(tmp_path, workshop=workshop).submissions
    failed = "nbassay itself failed at showing this sheet"

    assert [one.status for one in told] == ["graded", "needs-review", "graded"]
    assert failed in (page.parents[1] / "learner-001" / "report.html").read_text()
    assert failed in (tmp_path / "index.html").read_text()
    assert page.read_bytes() == whole
    assert "learner-001" in caplog.text


def test_ctrl_c_while_checks_run_is_not_kept_by_pytest(tmp_path: Path) -> None:
    """
    Who interrupts scoring interrupts nbassay, and is not told of a bug.
    """
    folder = Path(shutil.copytree(TINY, tmp_path / "workshop"))
    (folder / "checks" / "conftest.py").write_text(
        "def pytest_runtest_call(item): raise KeyboardInterrupt"
    )
    workshop = read_workshop(folder)
    lay_class(tmp_path, workshop, 1)

    with pytest.raises(KeyboardInterrupt):
        score_class(tmp_path, workshop=workshop)


SCORES = """
import sys
from pathlib import Path
from nbassay import classscore
from nbassay.pristine import read_pristine
from nbassay.workshop import read_workshop

if __name__ == "__main__":
    classscore.GROUP = 1
    out, workshop = Path(sys.argv[1]), read_workshop(Path(sys.argv[2]))
    scorer = classscore.Scorer(out=out, workshop=workshop, pristine=read_pristine(workshop),
                               are_all_challenged=False, measured=None)
    for group in classscore.score_learners(scorer, sys.argv[3:], jobs=3):
        print(group.sheets[0].learner, group.sheets[0].score, flush=True)
        sys.stdin.readline()
"""


SCORED = (0, 1, 2, 4, 5, 6, 8, 9)


@pytest.fixture
def scoring_program(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Scores eight learners with two helpers, each a group; goes on for a line that it is sent."""
    lay_class(tmp_path / "out", read_workshop(TINY), 10)
    program = tmp_path / "scores.py"
    program.write_text(SCORES)
    learners = [f"learner-{number:03}" for number in SCORED]
    with subprocess.Popen(
        [sys.executable, program, tmp_path / "out", TINY, *learners],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        yield running
        running.kill()


def workers(program: subprocess.Popen[str]) -> list[psutil.Process]:
    """Its two helpers, as soon as they are there."""
    while True:
        children = psutil.Process(program.pid).children()
        found = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        if len(found) == 2:
            return found


def test_processes_that_score_end_with_the_grader(scoring_program: subprocess.Popen[str]) -> None:
    """
    When the grader is killed, the processes that scored for it do not wait for it forever.
    """
    found = workers(scoring_program)
    assert scoring_program.stdout is not None
    assert scoring_program.stdout.readline() == "learner-000 70.0\n"
    scoring_program.kill()

    assert psutil.wait_procs(found, timeout=60)[1] == []


def test_processes_that_die_leave_the_rest_to_the_grader(
    scoring_program: subprocess.Popen[str],
) -> None:
    """
    When processes that score die, as for want of memory, the class is scored all the same, each
    learner once.
    """
    helpers = workers(scoring_program)
    assert scoring_program.stdout is not None
    first = scoring_program.stdout.readline()
    for helper in helpers:
        helper.kill()

    rest, _ = scoring_program.communicate("\n" * len(SCORED))

    told = dict(line.split() for line in (first + rest).splitlines())
    assert list(told) == [f"learner-{number:03}" for number in SCORED]
    assert (first + rest).count("learner") == len(SCORED)
    assert told["learner-001"] == "100.0"
    assert told["learner-002"] == "70.0"


def test_damage_that_this_process_finds_ends_its_helpers(tmp_path: Path) -> None:
    """
    A file that cannot be read in a group of this process's own is told, and no helper is left.
    """
    workshop = read_workshop(TINY)
    lay_class(tmp_path, workshop, GROUP + 20)
    (tmp_path / "learners" / f"learner-{GROUP + 2:03}" / "submission.json").write_bytes(b"{")
    before = set(psutil.Process().children(recursive=True))

    with pytest.raises(OutputError, match=f"learner-{GROUP + 2:03}"):
        score_class(tmp_path, workshop=workshop, jobs=2)

    after = psutil.Process().children(recursive=True)
    assert not [one for one in set(after) - before if "spawn_main" in " ".join(one.cmdline())]


FITS = '''
from nbassay.authoring import check

@check("net.first", step=1, hint="?")
def test_first(candidate, saw):
    """An even number of epochs."""
    saw(f"cell {candidate.fits[-1].cell}")
    assert candidate.fits[-1].epochs_run % 2 == 0

@check("net.second", step=1, hint="?")
def test_second(candidate):
    """More than two epochs."""
    assert candidate.fits[-1].epochs_run > 2
'''

COUNTS = {
    "the last of full marks": ([4, 6, 6], 2),
    "more before less": ([3, 1], 0),
    "full marks before one that lost": ([4, 3], 0),
    "the later of full marks before one that lost": ([4, 6, 3], 1),
    "the last of equals, though none is full": ([3, 2, 1], 1),
    "one": ([1], 0),
    "nothing earned at all": ([1, 1], 1),
}


@pytest.mark.parametrize(("epochs", "expected"), COUNTS.values(), ids=COUNTS)
def test_the_network_that_earns_most_counts(
    tmp_path: Path, epochs: list[int], expected: int
) -> None:
    """
    Of several networks the one with the highest score counts, of equals the last.
    """
    folder = tiny_with_checks(
        tmp_path / "workshop", "test_networks.py", FITS, net_first=20, net_second=20
    )
    workshop = read_workshop(folder)
    facts = []
    for number, run in enumerate(epochs):
        facts += [
            ModelFact(cell=number, model=number, state=number, kind="Sequential", name=None,
                      layers=[], steps=None, why_not="?", gap=None, compiled=None, weights=None),
            FitFact(cell=number, model=number, before=None, state=number,
                    data=Data(kind="arrays", x=None), validation=None, validation_split=0.0,
                    epochs_asked=run, epochs_run=run, batch_size=None, history={}, error=None),
        ]  # fmt: skip
    kept = Kept(learner="ada", file="ada.ipynb", digest="sha256:0", notes=[], unreadable=None)
    attempt = Attempt(evidence=evidence_with(facts), blobs={})

    (sheet,) = score(
        [Scorable(kept=kept, attempts=(attempt,))],
        workshop=workshop,
        pristine=read_pristine(workshop),
    )

    assert sheet.checks[0].saw == f"cell {expected}"


def test_rows_of_a_set_are_counted() -> None:
    """
    A set is covered by all of its rows in any order, twice or among others of the lab, and by
    nothing else.
    """
    pristine = read_pristine(read_workshop(TINY))
    whole = np.arange(40, dtype=np.int32)
    for positions, covered in (
        (whole, True),
        (whole[::-1], True),
        (np.concatenate([whole, whole]), True),
        (whole[1:], False),
        (np.where(whole == 7, 8, whole), False),
        (np.append(whole, np.int32(-1)), False),
        (whole[:0], False),
    ):
        observed = Observed(evidence_with([]), {ROWS: positions.astype(np.int32)}, pristine)
        assert observed.covers(tiles(1.0).array, pristine["tiles"]) is covered
