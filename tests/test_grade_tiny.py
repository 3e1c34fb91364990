"""The tiny workshop through the command line: real kernels in a real sandbox, no TensorFlow."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import msgspec
import nbformat
import pytest
from conftest import RIGHT_CELLS, ROOT, TINY, Nbassay, write_notebook

from nbassay.files import owned
from nbassay.records import Results, SubmissionResult

pytestmark = pytest.mark.kernel


def results_of(out: Path) -> Results:
    return msgspec.json.decode((out / "results.json").read_bytes(), type=Results)


def by_learner(out: Path) -> dict[str, SubmissionResult]:
    return {one.learner: one for one in results_of(out).submissions}


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny class, graded once."""
    out = tmp_path_factory.mktemp("tiny") / "graded"
    done = subprocess.run(
        [sys.executable, "-m", "nbassay", "grade", "submissions", "-o", str(out)],
        cwd=TINY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def copied(graded: Path, tmp_path: Path) -> Path:
    """The graded class, to be changed."""
    return Path(shutil.copytree(graded, tmp_path / "graded"))


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """The tiny workshop, to be broken."""
    return Path(shutil.copytree(TINY, tmp_path / "workshop"))


# ------------------------------------------------------------------ marks and files


@pytest.mark.parametrize(
    ("learner", "mark", "lost"),
    [
        ("right", 100, []),
        ("unscaled", 70, ["tiles.scaled"]),
        ("stopped", 40, ["tiles.flat", "tiles.scaled"]),
        ("empty", 0, ["tiles.loaded", "labels.loaded", "tiles.flat", "tiles.scaled"]),
    ],
)
def test_marks_are_those_of_a_fair_instructor(
    graded: Path, learner: str, mark: float, lost: list[str]
) -> None:
    """
    Each submission earns what its work is worth, and loses it where it is wrong.
    """
    one = by_learner(graded)[learner]

    assert (one.score, one.status) == (mark, "graded")
    assert [check.id for check in one.checks if check.outcome != "passed"] == lost


def test_the_stopped_notebook_says_where_it_stopped(graded: Path) -> None:
    """
    The cell that stopped a notebook is named with its error.
    """
    one = by_learner(graded)["stopped"]

    assert one.notes[0].startswith("cell 2 stopped: AttributeError")
    assert one.details is not None
    assert one.details.stops[0].cell == 2


def test_every_file_of_a_class_is_there(graded: Path) -> None:
    """
    The output folder holds what the design promises.
    """
    top = {path.name for path in graded.iterdir() if not path.name.startswith(".")}
    learner = {path.name for path in (graded / "learners" / "right").iterdir()}

    assert top == {
        "results.json",
        "run.json",
        "gradebook.csv",
        "junit.xml",
        "index.html",
        "learners",
        "controls",
    }
    assert learner == {"report.html", "evidence", "executed.ipynb", "submission.json"}


def test_gradebook_has_a_row_a_learner_and_a_column_a_check(graded: Path) -> None:
    """
    gradebook.csv can be read back and agrees with results.json.
    """
    with (graded / "gradebook.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert {row["learner"] for row in rows} == {"empty", "right", "stopped", "unscaled"}
    assert {"tiles.loaded", "labels.loaded", "tiles.flat", "tiles.scaled"} <= set(rows[0])


def test_junit_has_a_suite_a_learner(graded: Path) -> None:
    """
    junit.xml holds one testsuite a learner with one testcase a check.
    """
    suites = ElementTree.parse(graded / "junit.xml").getroot().findall("testsuite")

    assert len(suites) == 4
    assert all(len(suite.findall("testcase")) == 4 for suite in suites)


def test_executed_notebook_is_valid(graded: Path) -> None:
    """
    executed.ipynb is a notebook again, with the error in it.
    """
    notebook = nbformat.read(graded / "learners" / "stopped" / "executed.ipynb", 4)
    nbformat.validate(notebook)

    assert [
        output.ename
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ] == ["AttributeError"]


def test_controls_are_graded_beside_the_class(graded: Path) -> None:
    """
    Both control samples came out as they must, and the reference's numbers are kept.
    """
    results = results_of(graded)

    assert [(control.name, control.as_expected) for control in results.controls] == [
        ("reference", True),
        ("known wrong", True),
    ]
    assert results.reference is not None
    assert results.reference.score == 100


def test_the_walls_are_recorded(graded: Path) -> None:
    """
    run.json tells which sandbox was used and that every attempt to leave it failed.
    """
    record = json.loads((graded / "run.json").read_text())

    assert record["is_isolated"] is True
    assert record["probes"]
    assert all(probe["holds"] for probe in record["probes"])


# ------------------------------------------------------------------ stages


def test_scoring_twice_gives_the_same_bytes(copied: Path, nbassay: Nbassay) -> None:
    """
    results.json is byte-identical for the same evidence and checks.
    """
    before = (copied / "results.json").read_bytes()

    assert nbassay("score", copied).returncode == 0
    assert before == (copied / "results.json").read_bytes()


def test_running_twice_gives_the_same_bytes(graded: Path, tmp_path: Path, nbassay: Nbassay) -> None:
    """
    Two runs of the same notebooks leave the same results and pages; what differs is in run.json.
    """
    again = tmp_path / "again"

    assert nbassay("grade", "submissions", "-o", again, "-j", 1).returncode == 0
    pages = ("results.json", "index.html", "gradebook.csv", "junit.xml", "learners/*/report.html")
    names = [path.relative_to(graded) for page in pages for path in sorted(graded.glob(page))]
    same = {name: (graded / name).read_bytes() == (again / name).read_bytes() for name in names}
    used = json.loads((again / "run.json").read_text())["used"]

    assert len(names) == 8
    assert [name for name in names if not same[name]] == []
    assert {*used} == {"empty", "right", "stopped", "unscaled"}
    assert all(one["seconds"] > 0 and one["peak_memory_mb"] > 0 for one in used.values())


def test_own_settings_of_pytest_change_no_mark(copied: Path, nbassay: Nbassay) -> None:
    """
    What a person set for pytest on their machine does not reach the checks.
    """
    before = (copied / "results.json").read_bytes()
    settings = {
        "PYTEST_ADDOPTS": "-k nothing --maxfail=1",
        "PYTEST_PLUGINS": "no_such_plugin",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }

    assert nbassay("score", copied, **settings).returncode == 0
    assert before == (copied / "results.json").read_bytes()


def test_a_sheet_that_no_known_way_explains_says_so(
    copied: Path, workshop: Path, nbassay: Nbassay
) -> None:
    """
    Where checks failed and no known misconception fits, the sheet says that it does not know.
    """
    manifest = workshop / "workshop.toml"
    manifest.write_text('misconceptions = "wrong"\n' + manifest.read_text())
    (workshop / "wrong").mkdir()
    (workshop / "wrong" / "other.toml").write_text(
        'title = "t"\nmust_fail = ["tiles.scaled"]\nhint = "h"\nscript = ""\n'
        '[shows]\n"tiles.scaled" = "what no sheet shows"\n'
    )

    nbassay("score", copied, "--workshop", workshop)

    unexplained = "checks failed in a way that no known misconception explains"
    said = {name: unexplained in one.notes for name, one in by_learner(copied).items()}
    assert said == {"unscaled": True, "right": False, "stopped": True, "empty": False}


def test_a_notebook_may_import_and_run_files_that_it_wrote(
    tmp_path: Path, nbassay: Nbassay
) -> None:
    """
    Modules and scripts beside the notebook work as they do in Jupyter.
    """
    load, prepare = RIGHT_CELLS
    notebook = write_notebook(
        tmp_path / "ann.ipynb",
        f"%%writefile loading.py\n{load}",
        f"%%writefile preparing.py\n{prepare}",
        "from loading import labels, tiles",
        "%run -i preparing.py",
    )

    assert nbassay("check", notebook, "-o", tmp_path / "out").returncode == 0


def test_reports_are_rendered_from_results_alone(copied: Path, nbassay: Nbassay) -> None:
    """
    `report` needs no evidence and no kernel, and writes the same pages.
    """
    before = (copied / "learners" / "right" / "report.html").read_bytes()
    for evidence in copied.glob("learners/*/evidence"):
        shutil.rmtree(evidence)
    (copied / "index.html").unlink()

    assert nbassay("report", copied).returncode == 0
    assert before == (copied / "learners" / "right" / "report.html").read_bytes()
    assert (copied / "index.html").exists()


def test_a_second_run_goes_on_from_the_first(copied: Path, nbassay: Nbassay) -> None:
    """
    What was run is not run again; a new submission is; the rest stays as it was.
    """
    submissions = copied.parent / "class"
    shutil.copytree(TINY / "submissions", submissions)
    write_notebook(submissions / "late.ipynb", *RIGHT_CELLS)

    done = nbassay("grade", submissions, "-o", copied)

    assert done.returncode == 0, done.stderr
    assert done.stderr.count(": already run") == 6  # four submissions, two controls
    assert "late: done" in done.stderr
    assert by_learner(copied)["late"].score == 100


def test_fresh_runs_everything_again(copied: Path, nbassay: Nbassay) -> None:
    """
    `--fresh` runs even what was run before.
    """
    done = nbassay("grade", "submissions", "-o", copied, "--fresh")

    assert done.returncode == 0, done.stderr
    assert "already run" not in done.stderr


def test_checks_run_by_hand_over_stored_evidence(graded: Path) -> None:
    """
    `pytest checks/ --evidence DIR` works without the command line.
    """
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "checks",
            "-p",
            "no:cacheprovider",
            "-q",
            "--evidence",
            str(graded / "learners" / "unscaled" / "evidence"),
        ],
        cwd=TINY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert "3 passed" in done.stdout, done.stdout
    assert "1 failed" in done.stdout
    assert "0.0 to 255.0" in done.stdout


def test_a_greeting_draws_no_random_number(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    However often a client asks the kernel who it is, as it does on a busy machine, the numbers
    that a notebook draws are the same.
    """
    asks = (
        "import random\n"
        "before = random.getstate()\n"
        "greetings = {get_ipython().kernel.banner for _time in range(20)}\n"
        "print('same' if before == random.getstate() else 'others', len(greetings))"
    )
    write_notebook(tmp_path / "class" / "asks.ipynb", asks)

    nbassay("run", tmp_path / "class", "-o", tmp_path / "out")

    notebook = nbformat.read(tmp_path / "out" / "learners" / "asks" / "executed.ipynb", 4)
    assert notebook.cells[0].outputs[0].text == "same 1\n"


def test_what_a_kernel_printed_in_pieces_is_joined(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    However the kernel flushed, what is printed between two pictures is one text, of a progress bar
    the last state is left, and a later cell may update what is shown.
    """
    shows = (
        "import sys\n"
        "def tell(stream, *parts):\n"
        "    for part in parts:\n"
        "        print(part, end='', file=stream, flush=True)\n"
        "tell(sys.stdout, 'Epo', 'ch 1\\n1/3', '\\r2/3', '\\r', '3/3 - loss 0.5\\n')\n"
        "tell(sys.stderr, 'a.py:1: Deprecation', 'Warning: old\\n')\n"
        "shown = display('between', display_id=True)\n"
        "tell(sys.stdout, 'af', 'ter\\r', '\\n')"
    )
    write_notebook(tmp_path / "class" / "shows.ipynb", shows, "shown.update('later')", "print(2)")

    nbassay("run", tmp_path / "class", "-o", tmp_path / "out")

    notebook = nbformat.read(tmp_path / "out" / "learners" / "shows" / "executed.ipynb", 4)
    told = [output.get("text") for output in notebook.cells[0].outputs]
    assert told == [
        "Epoch 1\n3/3 - loss 0.5\n",
        "a.py:1: DeprecationWarning: old\n",
        None,
        "after\n",
    ]
    assert notebook.cells[2].outputs[0].text == "2\n"


def test_bounds_of_other_versions_are_told(copied: Path, workshop: Path, nbassay: Nbassay) -> None:
    """
    A class that ran with other packages than the calibration says so, and so does `doctor`.
    """
    runs = [{"seed": n, "train_accuracy": 0.96, "test_accuracy": 0.95} for n in range(300)]
    calibration = {"schema": "nbassay/calibration/1", "made_by": "a test", "runs": runs}
    (workshop / "reference" / "calibration.json").write_text(
        json.dumps({**calibration, "packages": {"numpy": "1.0.0"}})
    )
    manifest = workshop / "workshop.toml"
    manifest.write_text('calibration = "reference/calibration.json"\n' + manifest.read_text())

    assert nbassay("score", copied, cwd=workshop).returncode == 0
    assert nbassay("report", copied, cwd=workshop).returncode == 0
    told = "accuracy bounds were measured with numpy 1.0.0"
    assert [told in note for note in results_of(copied).notes] == [True]
    assert told in (copied / "index.html").read_text()
    assert told in json.loads(nbassay("doctor", "--json", cwd=workshop).stdout)["notes"][0]


def test_fresh_runs_are_counted_and_reported(
    copied: Path, workshop: Path, tmp_path: Path, nbassay: Nbassay
) -> None:
    """
    The benchmark counts runs of the reference, a second call runs nothing again, nor does one
    beside other libraries that keeps earlier ones and counts them, and what it wrote is in
    results.json, the same bytes each time, and on the class page.
    """
    figures = workshop / "reference" / "trust.json"
    command = [
        sys.executable, str(ROOT / "benchmarks" / "fresh_reference.py"), "-n", "2",
        "--workshop", str(workshop), "-o", str(tmp_path / "fresh"), "--figures", str(figures),
    ]  # fmt: skip
    first, second = (
        subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        for _ in range(2)
    )
    manifest = workshop / "workshop.toml"
    manifest.write_text('trust = "reference/trust.json"\n' + manifest.read_text())

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "seeds: 2, 2 of them different" in first.stdout
    assert (first.stderr.count(": done"), second.stderr.count(": done")) == (2, 0)
    told = tmp_path / "other" / "other-1.0.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    beside = subprocess.run(
        [*command, "--keep-earlier"],
        env={**os.environ, "PYTHONPATH": str(told.parent)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (beside.returncode, beside.stderr.count(": done")) == (0, 0), beside.stderr
    assert json.loads(figures.read_text())["earlier"] == 2
    assert nbassay("score", copied, cwd=workshop).returncode == 0
    before = (copied / "results.json").read_bytes()
    assert nbassay("score", copied, cwd=workshop).returncode == 0
    assert nbassay("report", copied, cwd=workshop).returncode == 0
    assert before == (copied / "results.json").read_bytes()
    page = (copied / "index.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "of 2 fresh runs of the right solution, none lost points" in page


# ------------------------------------------------------------------ submissions of every kind


def test_bad_files_are_told_and_the_rest_is_graded(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    Whatever cannot be read becomes `unreadable` with its reason; the class is graded all the same.
    """
    folder = tmp_path / "class"
    write_notebook(folder / "good.ipynb", *RIGHT_CELLS)
    good = (folder / "good.ipynb").read_text()
    (folder / "not-json.ipynb").write_text("hello")
    (folder / "truncated.ipynb").write_text(good[: len(good) // 2])
    (folder / "nothing.ipynb").write_text("")
    (folder / "web.ipynb").write_text("<!DOCTYPE html><html></html>")
    (folder / "bytes.ipynb").write_bytes(b"\xff\xfe\x00\x01")
    (folder / "list.ipynb").write_text("[]")
    (folder / "r.ipynb").write_text(
        json.dumps(
            {
                "nbformat": 4,
                "nbformat_minor": 5,
                "cells": [],
                "metadata": {"kernelspec": {"name": "ir", "language": "R", "display_name": "R"}},
            }
        )
    )
    (folder / "folder.ipynb").mkdir()
    (folder / "gone.ipynb").symlink_to(folder / "nowhere.ipynb")
    out = tmp_path / "graded"

    done = nbassay("grade", folder, "-o", out)
    found = by_learner(out)

    assert done.returncode == 0, done.stderr
    assert found["good"].score == 100
    expected = {
        "not-json": "expected JSON, found 'hello'",
        "truncated": "truncated",
        "nothing": "empty",
        "web": "web page",
        "bytes": "expected JSON",
        "list": "JSON object",
        "r": "written in R",
        "folder": "folder",
        "gone": "No such file",
    }
    assert {name: found[name].status for name in expected} == dict.fromkeys(expected, "unreadable")
    for name, words in expected.items():
        assert words in found[name].notes[0], (name, found[name].notes)
        assert (out / "learners" / name / "report.html").exists()


def test_nbformat_3_is_brought_to_version_4(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    An old notebook is upgraded with a note and graded.
    """
    old = {
        "nbformat": 3,
        "nbformat_minor": 0,
        "metadata": {"name": "old"},
        "worksheets": [
            {
                "metadata": {},
                "cells": [
                    {
                        "cell_type": "code",
                        "input": cell,
                        "language": "python",
                        "outputs": [],
                        "metadata": {},
                        "collapsed": False,
                    }
                    for cell in RIGHT_CELLS
                ],
            }
        ],
    }
    (tmp_path / "old.ipynb").write_text(json.dumps(old))

    done = nbassay("grade", tmp_path / "old.ipynb", "-o", tmp_path / "graded")
    one = by_learner(tmp_path / "graded")["old"]

    assert done.returncode == 0, done.stderr
    assert one.score == 100
    assert "notebook format 3 was brought to version 4" in one.notes


def test_one_folder_a_learner_and_two_notebooks_of_one(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    The folder's name is the learner; two notebooks of one learner are both graded, with a note.
    """
    write_notebook(tmp_path / "class" / "Zoë Müller" / "lab.ipynb", *RIGHT_CELLS)
    write_notebook(tmp_path / "class" / "ann" / "draft.ipynb", RIGHT_CELLS[0])
    write_notebook(tmp_path / "class" / "ann" / "final.ipynb", *RIGHT_CELLS)
    write_notebook(tmp_path / "class" / "ann" / ".ipynb_checkpoints" / "final.ipynb", "1/0")

    done = nbassay("grade", tmp_path / "class", "-o", tmp_path / "graded")
    found = by_learner(tmp_path / "graded")

    assert done.returncode == 0, done.stderr
    assert set(found) == {"Zoe-Muller", "ann--draft", "ann--final"}
    assert found["ann--final"].score == 100
    assert any("handed in 2 notebooks" in note for note in found["ann--draft"].notes)


def test_zip_archive_of_a_learning_platform(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    A zip is read without unpacking it anywhere, names that climb out of it included.
    """
    notebook = write_notebook(tmp_path / "x.ipynb", *RIGHT_CELLS).read_bytes()
    with zipfile.ZipFile(tmp_path / "class.zip", "w") as archive:
        archive.writestr("ada_1_assignsubmission_file/lab.ipynb", notebook)
        archive.writestr("../../../escape/lab.ipynb", notebook)

    done = nbassay("grade", tmp_path / "class.zip", "-o", tmp_path / "graded")

    assert done.returncode == 0, done.stderr
    assert {one.score for one in results_of(tmp_path / "graded").submissions} == {100}
    assert not (tmp_path.parent.parent / "escape").exists()


def test_notebooks_of_one_name_are_all_graded(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    The shell's `*/lab.ipynb` loses nobody, and the reports tell the files apart.
    """
    files = [write_notebook(tmp_path / name / "lab.ipynb", *RIGHT_CELLS) for name in "abc"]

    done = nbassay("grade", *files, "-o", tmp_path / "graded")
    graded = results_of(tmp_path / "graded").submissions

    assert done.returncode == 0, done.stderr
    assert [one.score for one in graded] == [100, 100, 100]
    assert {one.file for one in graded} == set(map(str, files))


def test_output_inside_the_class_is_not_graded(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    `cd class; nbassay grade .` twice: the first call's output is no submission of the second.
    """
    write_notebook(tmp_path / "class" / "ann.ipynb", *RIGHT_CELLS)

    for _turn in range(2):
        done = nbassay("grade", ".", "--workshop", TINY, cwd=tmp_path / "class")
        assert done.returncode == 0, done.stderr

    assert set(by_learner(tmp_path / "class" / "graded")) == {"ann"}


def test_files_that_are_none_and_folders_without_one(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    A link to itself, a pipe and a learner's folder without a notebook are told, not followed.
    """
    folder = tmp_path / "class"
    write_notebook(folder / "ann" / "lab.ipynb", *RIGHT_CELLS)
    for name in ("loop", "pipe", "bob"):
        (folder / name).mkdir()
    (folder / "loop" / "lab.ipynb").symlink_to("lab.ipynb")
    os.mkfifo(folder / "pipe" / "lab.ipynb")
    (folder / "bob" / "notes.txt").write_text("sorry")

    done = nbassay("grade", folder, "-o", tmp_path / "graded")
    found = by_learner(tmp_path / "graded")

    assert done.returncode == 0, done.stderr
    assert found["ann"].score == 100
    assert "link" in found["loop"].notes[0] or "symbolic" in found["loop"].notes[0]
    assert "pipe" in found["pipe"].notes[0]
    assert found["bob"].notes[0] == "no notebook (*.ipynb) in this folder (found: notes.txt)"
    assert {found[name].status for name in ("loop", "pipe", "bob")} == {"unreadable"}


def test_a_late_file_joins_its_class(copied: Path, tmp_path: Path, nbassay: Nbassay) -> None:
    """
    Nobody is dropped from a class by grading one more into it, and the call says who stays.
    """
    late = write_notebook(tmp_path / "late.ipynb", *RIGHT_CELLS)

    done = nbassay("grade", late, "-o", copied)

    assert done.returncode == 0, done.stderr
    assert "4 graded into" in done.stderr
    assert set(by_learner(copied)) == {"late", "right", "unscaled", "stopped", "empty"}


def test_a_class_of_another_workshop_is_refused(
    copied: Path, workshop: Path, nbassay: Nbassay
) -> None:
    """
    Two workshops never share an output folder.
    """
    manifest = workshop / "workshop.toml"
    manifest.write_text(manifest.read_text().replace('title = "Tiles"', 'title = "Bricks"'))

    for command in (["grade", "submissions", "-o"], ["score"]):
        done = nbassay(*command, copied, cwd=workshop)
        assert done.returncode == 2
        assert "holds a class of the workshop 'Tiles'" in done.stderr


def test_what_was_not_run_is_not_forgotten(copied: Path, nbassay: Nbassay) -> None:
    """
    A member of the class without evidence, or with spoiled evidence, is `not-run` with the reason.
    """
    shutil.rmtree(copied / "learners" / "empty")
    (copied / "learners" / "empty").mkdir()
    (copied / "learners" / "right" / "evidence" / "evidence.json").write_text("")

    done = nbassay("score", copied)
    found = by_learner(copied)

    assert done.returncode == 4
    assert (found["empty"].status, found["right"].status) == ("not-run", "not-run")
    assert "not run yet" in found["empty"].notes[0]
    assert "no evidence that can be read" in found["right"].notes[0]
    assert found["stopped"].score == 40


def test_who_is_deleted_is_forgotten(copied: Path, nbassay: Nbassay) -> None:
    """
    With a learner's folder deleted, `score` and `report` leave no trace of that learner in the
    output, and the others as they were; so does the next `grade` of another file.
    """
    before = by_learner(copied)
    shutil.rmtree(copied / "learners" / "unscaled")

    assert nbassay("score", copied).returncode == 0
    assert nbassay("report", copied).returncode == 0
    left = by_learner(copied)
    # One of the controls has a file of that name.
    files = [path for path in copied.rglob("*") if path.is_file() and "controls" not in path.parts]
    traces = [path for path in files if b"unscaled" in path.read_bytes()]
    nbassay("grade", "submissions/right.ipynb", "-o", copied)

    assert left == {name: one for name, one in before.items() if name != "unscaled"}
    assert traces == []
    assert {*by_learner(copied)} == {*left}


def test_evidence_of_other_data_is_refused(copied: Path, workshop: Path, nbassay: Nbassay) -> None:
    """
    Stored positions mean nothing under other data: nothing is scored, nothing is guessed.
    """
    manifest = workshop / "workshop.toml"
    manifest.write_text(manifest.read_text().replace("levels = 255", "levels = 254"))

    nbassay("score", copied, cwd=workshop)

    assert {one.status for one in results_of(copied).submissions} == {"not-run"}


def test_written_evidence_can_be_read_by_colleagues(graded: Path) -> None:
    """
    Everything in a shared output folder is readable for all.
    """
    files = [path for path in graded.rglob("*") if path.is_file() and path.name != ".lock"]

    assert files
    assert [path for path in files if not path.stat().st_mode & 0o004] == []


def test_a_folder_without_notebooks_is_refused(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    Nothing to grade is an error of the caller, with what to do next.
    """
    done = nbassay("grade", tmp_path, "-o", tmp_path / "graded")

    assert done.returncode == 2
    assert "no notebook (*.ipynb)" in done.stderr
    assert not (tmp_path / "graded").exists()


# ------------------------------------------------------------------ a run that is disturbed


def test_interrupted_class_goes_on_where_it_was(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    Ctrl-C ends with 130; what was done stays done; the next call runs only the rest.
    """
    folder = tmp_path / "class"
    for number in range(4):
        write_notebook(folder / f"a{number}.ipynb", *RIGHT_CELLS, f"{number}")
    write_notebook(folder / "z.ipynb", *RIGHT_CELLS)
    out = tmp_path / "graded"
    with subprocess.Popen(
        [sys.executable, "-m", "nbassay", "grade", str(folder), "-o", str(out), "-j", "1"],
        cwd=TINY,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "a1: done" in line:
                running.send_signal(signal.SIGINT)
                break
        rest = running.stderr.read()
    assert running.returncode == 130, rest
    assert "goes on from there" in rest
    assert not (out / "results.json").exists()

    done = nbassay("grade", folder, "-o", out)

    assert done.returncode == 0, done.stderr
    assert done.stderr.count(": already run") >= 4  # two controls, a0, a1
    assert {one.score for one in results_of(out).submissions} == {100}


def test_a_folder_in_use_is_refused(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    Two runs into one folder: the second says so and touches nothing.
    """
    out = tmp_path / "graded"
    with owned(out):
        done = nbassay("grade", "submissions", "-o", out)

    assert done.returncode == 2
    assert "another run writes into this folder" in done.stderr


def test_a_folder_with_other_files_is_refused(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    Output never mixes with files that are not ours.
    """
    (tmp_path / "thesis.txt").write_text("precious")

    done = nbassay("grade", "submissions", "-o", tmp_path)

    assert done.returncode == 2
    assert "thesis.txt" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_corrupt_data_are_named_with_both_digests(
    workshop: Path, tmp_path: Path, nbassay: Nbassay
) -> None:
    """
    Lab data that are not the pinned ones stop the run before any notebook.
    """
    (workshop / "lab" / "data" / "labels-idx1-ubyte.gz").write_bytes(b"spoiled")

    done = nbassay("grade", "submissions", "-o", tmp_path / "graded", cwd=workshop)

    assert done.returncode == 2
    assert "labels-idx1-ubyte.gz" in done.stderr
    assert "expected sha256" in done.stderr


def test_missing_data_are_named(workshop: Path, tmp_path: Path, nbassay: Nbassay) -> None:
    """
    A missing data file is an error with its path.
    """
    (workshop / "lab" / "data" / "tiles-idx3-ubyte.gz").unlink()

    done = nbassay("grade", "submissions", "-o", tmp_path / "graded", cwd=workshop)

    assert done.returncode == 2
    assert "tiles-idx3-ubyte.gz: lab data cannot be read" in done.stderr


def test_a_wrong_control_makes_marks_provisional(
    workshop: Path, tmp_path: Path, nbassay: Nbassay
) -> None:
    """
    A control that comes out wrong is told first and ends with 5.
    """
    shutil.copy(
        workshop / "reference" / "solution.ipynb", workshop / "reference" / "unscaled.ipynb"
    )

    done = nbassay("grade", "submissions", "-o", tmp_path / "graded", cwd=workshop)

    assert done.returncode == 5
    assert "provisional" in (tmp_path / "graded" / "index.html").read_text()


def test_a_broken_check_costs_nobody_a_mark_silently(
    workshop: Path, copied: Path, nbassay: Nbassay
) -> None:
    """
    An exception in a check makes it broken and the sheet needs a review; it is not a failure.
    """
    checks = workshop / "checks" / "test_tiles.py"
    checks.write_text(
        checks.read_text().replace(
            "    last = tiles[-1].array\n", "    last = tiles[-1].nonsense\n"
        )
    )

    nbassay("score", copied, cwd=workshop)
    one = by_learner(copied)["right"]

    assert one.status == "needs-review"
    assert [check.outcome for check in one.checks if check.id == "tiles.scaled"] == ["broken"]


def test_without_any_sandbox_nothing_is_run(tmp_path: Path) -> None:
    """
    `grade` refuses without a sandbox, says what to install, and exits with 3.
    """
    # A machine without bwrap: no test can uninstall it, so the search comes back empty.
    program = (
        "from nbassay.sandbox import choose\n"
        "choose.find_programs = lambda: []\n"
        "from nbassay.cli import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "grade", "submissions", "-o", str(tmp_path / "graded")],
        cwd=TINY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 3, done.stderr
    assert "apt install bubblewrap" in done.stderr
    assert not (tmp_path / "graded" / "learners").exists()


def test_no_sandbox_is_used_only_by_name_and_marked(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    `--sandbox none` works, says so, and marks every result.
    """
    out = tmp_path / "graded"
    done = nbassay("grade", "submissions", "-o", out, "--sandbox", "none")

    assert done.returncode == 0, done.stderr
    assert "WITHOUT a sandbox" in done.stderr
    assert by_learner(out)["right"].score == 100
    assert all(
        any("without a sandbox" in note for note in one.notes)
        for one in results_of(out).submissions
    )


def test_python_without_assertions_is_refused(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    `python -O` would switch the checks off.
    """
    done = nbassay("grade", "submissions", "-o", tmp_path / "graded", python=("-O",))

    assert done.returncode == 2
    assert "run without -O" in done.stderr


# ------------------------------------------------------------------ the other commands


def test_check_tells_a_learner_what_to_do_next(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    `check` prints the mark, what was seen, the hint and the report; it ends with 1.
    """
    done = nbassay("check", "submissions/unscaled.ipynb", "-o", tmp_path / "mine")

    assert done.returncode == 1, done.stderr
    assert "70" in done.stdout
    assert "Divide by the largest value" in done.stdout
    assert "report.html" in done.stdout


def test_check_of_right_work_ends_with_0(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    Full marks end with 0.
    """
    assert nbassay("check", "submissions/right.ipynb", "-o", tmp_path / "mine").returncode == 0


def test_fail_under(tmp_path: Path, copied: Path, nbassay: Nbassay) -> None:
    """
    `--fail-under` ends with 1 when a mark lies below it, and with 0 when none does.
    """
    good = ["grade", "submissions/right.ipynb", "-o", tmp_path / "good"]

    assert nbassay("grade", "submissions", "-o", copied, "--fail-under", 50).returncode == 1
    assert nbassay(*good, "--fail-under", 50).returncode == 0


def test_doctor_tells_of_walls_and_data(nbassay: Nbassay) -> None:
    """
    `doctor` tries the walls for real and counts the data.
    """
    done = nbassay("doctor", "--json")
    found = json.loads(done.stdout)

    assert done.returncode == 0, done.stdout + done.stderr
    assert found["sandbox_holds"] is True
    assert found["data"] == {"tiles": "40 rows of 16 values, digests match"}


def test_doctor_tells_of_versions_that_lose_work(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    A version that nbassay's own requirements exclude is a problem, with what to install instead.
    """
    metadata = "Metadata-Version: 2.1\nName: ipykernel\nVersion: 7.2.0\n"
    (tmp_path / "ipykernel-7.2.0.dist-info").mkdir()
    (tmp_path / "ipykernel-7.2.0.dist-info" / "METADATA").write_text(metadata)
    done = nbassay("doctor", "--json", PYTHONPATH=str(tmp_path))
    (problem,) = json.loads(done.stdout)["problems"]

    assert done.returncode == 2
    assert problem.startswith("ipykernel 7.2.0 is installed, and nbassay needs ")
    assert "!=7.2.*" in problem.partition("pip install 'ipykernel")[2]


def test_data_unpacks_the_raw_files(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    `data DIR` gives a learner without network the raw files, and keeps right ones.
    """
    (tmp_path / "labels-idx1-ubyte").write_bytes(b"half a download")

    assert nbassay("data", tmp_path).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "labels-idx1-ubyte",
        "tiles-idx3-ubyte",
    ]
    assert (tmp_path / "labels-idx1-ubyte").stat().st_size == 48


def test_grading_needs_a_workshop(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    Without a workshop.toml in sight the message names the option.
    """
    done = nbassay("grade", ROOT / "examples", cwd=tmp_path)

    assert done.returncode == 2
    assert "--workshop" in done.stderr


# ------------------------------------------------------------------ notebooks that stop badly

STOPS = {
    "endless": ("while True: pass", "timeout", "CellTimeout", True),
    "deaf": (
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
        "timeout",
        "CellTimeout",
        False,
    ),
    "exit": ("import os; os._exit(3)", "error", "KernelDied", False),
    "crash": ("import os; os.kill(os.getpid(), 11)", "error", "KernelDied", False),
    "system-exit": ("raise SystemExit", "error", "SystemExit", True),
    "shell": ("%%bash\nexit 3", "error", "CalledProcessError", True),
    "syntax": ("def f(:", "error", "SyntaxError", True),
}
"""Learner → second cell, how it ends, the error's name, whether the notebook goes on."""


@pytest.fixture(scope="module")
def stopped_class(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SubmissionResult]:
    """A class whose second cells stop in every way, graded once."""
    folder = tmp_path_factory.mktemp("stops")
    for learner, (cell, *_rest) in STOPS.items():
        write_notebook(folder / "class" / f"{learner}.ipynb", RIGHT_CELLS[0], cell, RIGHT_CELLS[1])
    arguments = ["grade", str(folder / "class"), "-o", str(folder / "graded"), "--timeout", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "nbassay", *arguments],
        cwd=TINY, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return by_learner(folder / "graded")


@pytest.mark.parametrize("learner", STOPS)
def test_what_was_seen_before_a_stop_counts(
    stopped_class: dict[str, SubmissionResult], learner: str
) -> None:
    """
    A cell that hangs, crashes or fails costs what comes after it at most, and the report names it.
    """
    _cell, status, name, goes_on = STOPS[learner]
    one = stopped_class[learner]

    assert one.status == "graded", one.notes
    assert one.details is not None
    assert [(stop.cell, stop.status, stop.error_name) for stop in one.details.stops] == [
        (2, status, name)
    ]
    assert one.score == (100 if goes_on else 40)


# ------------------------------------------------------------------ two graded classes


def test_diff_of_equal_classes_is_empty(graded: Path, copied: Path, nbassay: Nbassay) -> None:
    """
    A class beside itself: nobody changed.
    """
    done = nbassay("diff", graded, copied)

    assert done.returncode == 0, done.stderr
    assert "0 learners changed, 4 did not." in done.stdout.replace("\N{NO-BREAK SPACE}", " ")


def test_diff_names_learner_check_and_reason(
    graded: Path, copied: Path, workshop: Path, nbassay: Nbassay
) -> None:
    """
    A changed check, a changed notebook and a new learner are told apart.
    """
    checks = workshop / "checks" / "test_tiles.py"
    checks.write_text(checks.read_text().replace("== (0.0, 1.0)", "== (0.0, 255.0)"))
    write_notebook(workshop / "submissions" / "empty.ipynb", *RIGHT_CELLS)
    write_notebook(workshop / "submissions" / "late.ipynb", *RIGHT_CELLS)
    nbassay("grade", "submissions", "-o", copied, cwd=workshop)

    found = json.loads(nbassay("diff", graded, copied, "--json").stdout)
    changes = {change["learner"]: change for change in found["changes"]}

    assert found["workshop_changed"] is True
    assert changes["unscaled"]["before"] == "70"
    assert changes["unscaled"]["after"] == "100"
    assert changes["unscaled"]["outcomes"] == [
        {"check": "tiles.scaled", "before": "failed", "after": "passed"}
    ]
    assert changes["unscaled"]["reasons"] == [
        "check changed: checks, points, tolerances or calibration are others"
    ]
    assert "evidence changed: another notebook was handed in" in changes["empty"]["reasons"]
    assert changes["late"]["before"] == "absent"
    assert "not in both classes" in changes["late"]["reasons"]


@pytest.mark.parametrize(
    ("seed", "numpy", "cell_s", "reason"),
    [
        ("7", None, None, r"evidence changed: Seed \d+ before, 7 now"),
        (None, None, 2.0, r"evidence changed: limit cell_s 20\.0 before, 2\.0 now"),
        (None, "1.0.0", None, r"library changed: numpy [\d.]+ before, 1\.0\.0 now"),
        (None, None, None, r"evidence changed: the same notebook showed other facts, .+"),
    ],
    ids=["seed", "limit", "library", "nothing recorded"],
)
def test_diff_tells_why_the_same_notebook_changed(
    graded: Path,
    copied: Path,
    nbassay: Nbassay,
    seed: str | None,
    numpy: str | None,
    cell_s: float | None,
    reason: str,
) -> None:
    """
    Evidence of another run of the same notebook: what differs in how it was made is the reason.
    """
    right = json.loads((copied / "learners" / "right" / "evidence" / "evidence.json").read_bytes())
    here = next(fact for fact in right["facts"] if fact["type"] == "environment")
    shutil.rmtree(copied / "learners" / "right" / "evidence")
    shutil.copytree(
        copied / "learners" / "unscaled" / "evidence", copied / "learners" / "right" / "evidence"
    )
    path = copied / "learners" / "right" / "evidence" / "evidence.json"
    evidence = json.loads(path.read_bytes())
    for fact in evidence["facts"]:
        if fact["type"] == "environment":
            fact["seed"] = here["seed"] if seed is None else int(seed)
            fact["packages"]["numpy"] = numpy or here["packages"]["numpy"]
    evidence["limits"]["cell_s"] = cell_s or right["limits"]["cell_s"]
    evidence["notebook"] = right["notebook"]
    path.write_text(json.dumps(evidence))

    assert nbassay("score", copied).returncode == 0
    (change,) = json.loads(nbassay("diff", graded, copied, "--json").stdout)["changes"]

    assert (change["learner"], change["before"], change["after"]) == ("right", "100", "70")
    assert len(change["reasons"]) == 1
    assert re.fullmatch(reason, change["reasons"][0])
