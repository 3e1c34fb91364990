"""Controls run once in an environment: their evidence is kept from class to class."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from conftest import TINY, Nbassay

from nbassay.classrun import Task, control_submissions, run_tasks
from nbassay.kept_controls import (
    CACHE_VARIABLE,
    LASTS_S,
    MOST_KEPT,
    KeptControls,
    kept_controls,
)
from nbassay.places import here
from nbassay.progress import NoProgress
from nbassay.sandbox.choose import choose
from nbassay.stages import Stages
from nbassay.workshop import read_workshop

pytestmark = pytest.mark.kernel

RIGHT = TINY / "submissions" / "right.ipynb"
BEFORE = "run by an earlier class"


class Grader:
    """Grades a class of one after the other, each into a folder of its own."""

    def __init__(self, nbassay: Nbassay, folder: Path) -> None:
        self._nbassay = nbassay
        self._folder = folder
        self.cache = folder / "cache"
        self._classes = 0

    def grade(self, *options: str, workshop: Path = TINY) -> tuple[list[bool], bytes]:
        """Whether each control was taken from an earlier class, and the results."""
        self._classes += 1
        out = self._folder / f"class-{self._classes}"
        done = self._nbassay(
            *("grade", RIGHT, "-o", out, "--workshop", workshop, *options),
            **{CACHE_VARIABLE: str(self.cache)},
        )
        told = {line.partition("] ")[2] for line in done.stderr.splitlines()}
        controls = [item.name for item in sorted((out / "controls").iterdir())]
        assert len(controls) == 2
        assert all({f"{one}: done", f"{one}: {BEFORE}"} & told for one in controls)
        return [f"{one}: {BEFORE}" in told for one in controls], (out / "results.json").read_bytes()


@pytest.fixture
def grader(nbassay: Nbassay, tmp_path: Path) -> Grader:
    return Grader(nbassay, tmp_path)


def kept(cache: Path) -> list[Path]:
    """The kept runs."""
    return sorted((cache / "controls").glob("*"))


def made(run: Path) -> int:
    """When the evidence of a kept run was written."""
    return (run / "evidence" / "evidence.json").stat().st_mtime_ns


def test_the_next_class_takes_the_controls_of_the_one_before(grader: Grader) -> None:
    """
    In the same environment only the first class runs them, and all results are the same; --fresh
    runs them again, and so does a class with other limits.
    """
    first, second = grader.grade(), grader.grade()
    fresh = grader.grade("--fresh")
    other = grader.grade("--timeout", "77")

    assert [taken for taken, _ in (first, second, fresh, other)] == [
        [False, False],
        [True, True],
        [False, False],
        [False, False],
    ]
    assert first[1] == second[1] == fresh[1]
    assert len(kept(grader.cache)) == 4  # two under each of two keys


def test_what_was_kept_and_is_damaged_is_run_and_kept_again(grader: Grader) -> None:
    """
    Half a file, or none, costs a run and nothing else.
    """
    grader.grade()
    damaged, emptied = kept(grader.cache)
    evidence = damaged / "evidence" / "evidence.json"
    evidence.write_bytes(evidence.read_bytes()[:500])
    (emptied / "executed.ipynb").unlink()

    again, _ = grader.grade()
    once_more, _ = grader.grade()

    assert again == [False, False]
    assert once_more == [True, True]


@pytest.mark.skipif(os.name != "posix", reason="rights of files as POSIX has them")
def test_a_folder_that_others_can_write_to_is_not_used(grader: Grader) -> None:
    """
    Evidence that somebody else could have laid there counts for nothing.
    """
    grader.grade()
    (grader.cache / "controls").chmod(0o777)

    assert grader.grade()[0] == [False, False]


def test_a_run_counts_for_a_day(grader: Grader) -> None:
    """
    What befell the machine since may not show in its packages: older runs are made again.
    """
    grader.grade()
    for run in kept(grader.cache):
        evidence = run / "evidence" / "evidence.json"
        os.utime(evidence, (evidence.stat().st_atime, evidence.stat().st_mtime - LASTS_S))

    assert [grader.grade()[0], grader.grade()[0]] == [[False, False], [True, True]]


def test_a_repeat_makes_no_old_run_young(tmp_path: Path) -> None:
    """
    A control whose first run was an earlier class's is not kept anew for its repeat in this one.
    """
    (submission,) = control_submissions(
        read_workshop(TINY), only=read_workshop(TINY).manifest.reference
    )
    out, stages = tmp_path / "out", Stages()
    first = Task(item=submission, folder=out / "controls" / submission.learner, is_control=True)
    again = dataclasses.replace(first, attempt=1)
    (tmp_path / "cache").mkdir(mode=0o700)
    kept_there = KeptControls(tmp_path / "cache", "here")
    found = []
    with here(read_workshop(TINY), choose("auto")) as place:
        for tasks in ([first], [first], [again]):
            if tasks == [first]:
                shutil.rmtree(out, ignore_errors=True)
            found.append(
                run_tasks(
                    tasks,
                    workshop=read_workshop(TINY),
                    place=place,
                    jobs=1,
                    progress=NoProgress(),
                    kept=kept_there,
                    stages=stages,
                )
            )
            kept_there.keep(first.folder)

    assert [one.controls_run for one in found] == [{submission.learner}, set(), set()]
    assert [one.controls_taken for one in found] == [set(), {submission.learner}, set()]


def test_fresh_runs_take_the_place_of_kept_ones(grader: Grader) -> None:
    """
    After --fresh the next class judges what that left.
    """
    grader.grade()
    before = [made(run) for run in kept(grader.cache)]
    grader.grade("--fresh")
    after = [made(run) for run in kept(grader.cache)]

    assert len(before) == len(after) == 2
    assert not set(before) & set(after)
    assert grader.grade()[0] == [True, True]


def test_a_run_record_tells_whose_controls_they_are(grader: Grader, tmp_path: Path) -> None:
    """
    ``run.json`` names the controls that were not run for this class.
    """
    grader.grade()
    grader.grade()
    told = [
        json.loads((tmp_path / f"class-{number}" / "run.json").read_text())[
            "controls_of_earlier_classes"
        ]
        for number in (1, 2)
    ]

    assert told[0] == []
    assert len(told[1]) == 2


def test_without_a_sandbox_nothing_is_kept_or_taken(grader: Grader) -> None:
    """
    A notebook with the user's own rights could lay evidence there itself.
    """
    assert grader.grade("--sandbox", "none")[0] == [False, False]
    assert kept(grader.cache) == []
    grader.grade()
    assert grader.grade("--sandbox", "none")[0] == [False, False]


def test_a_control_that_came_out_wrong_is_not_kept(grader: Grader, tmp_path: Path) -> None:
    """
    What says that something is broken is tried anew by the next class.
    """
    broken = shutil.copytree(TINY, tmp_path / "broken")
    manifest = broken / "workshop.toml"
    names = [one["name"] for one in read_controls(manifest)]
    wrong = next(one for one in read_controls(manifest) if one["notebook"] != reference(manifest))
    shutil.copy(RIGHT, broken / wrong["notebook"])  # is to fail, and does not

    first, results = grader.grade(workshop=broken)
    second, _ = grader.grade(workshop=broken)

    as_expected = {one["name"]: one["as_expected"] for one in json.loads(results)["controls"]}
    assert as_expected == {name: name != wrong["name"] for name in names}
    assert len(kept(grader.cache)) == 1
    assert first == [False, False]
    assert sorted(second) == [False, True]


def read_controls(manifest: Path) -> list[dict[str, str]]:
    """The controls of a workshop."""
    return load(manifest)["controls"]


def reference(manifest: Path) -> str:
    """The path of its reference."""
    return load(manifest)["reference"]


def load(manifest: Path) -> dict:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(manifest.read_text("utf-8"))


def test_the_newest_runs_are_kept(tmp_path: Path) -> None:
    """
    The folder does not grow for ever, and one that cannot be written to is no error.
    """
    controls = KeptControls(tmp_path / "cache", "here")
    for number in range(MOST_KEPT + 3):
        control = tmp_path / f"control-{number}"
        (control / "evidence").mkdir(parents=True)
        (control / "executed.ipynb").write_text("{}")
        (control / "evidence" / "evidence.json").write_text(json.dumps({"key": str(number)}))
        controls.keep(control)
        for evidence in (tmp_path / "cache").glob("*/evidence/evidence.json"):
            made = evidence.stat()  # each is older than the ones after it
            os.utime(evidence, ns=(made.st_atime_ns, made.st_mtime_ns - 10**9))

    assert {key for key, _ in controls.known()} == {str(n) for n in range(3, MOST_KEPT + 3)}
    (tmp_path / "file").touch()
    KeptControls(tmp_path / "file" / "cache", "here").keep(control)
    assert list(KeptControls(tmp_path / "cache", "elsewhere").known()) == []


def test_the_folder_is_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    The variable names another folder, or none.
    """
    monkeypatch.setenv(CACHE_VARIABLE, "")
    assert kept_controls() is None
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    found = kept_controls()
    assert found is not None
    assert list(found.known()) == []
