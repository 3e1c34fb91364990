"""``%load_ext nbassay`` and ``%assay`` in real kernels, on the tiny workshop."""

import json
import shutil
import textwrap
import time

import nbformat
import psutil
import pytest
from conftest import RIGHT_CELLS, TINY, write_notebook
from live_kernel import live_kernel

LOAD = "%load_ext nbassay"
READ, PREPARE = RIGHT_CELLS


@pytest.fixture
def lab(tmp_path, nbassay):
    """The tiny workshop as a learner has it: data beside the notebook, packed and not."""
    folder = tmp_path / "lab"
    shutil.copytree(TINY, folder)
    for packed in (folder / "lab" / "data").glob("*.gz"):
        shutil.copy(packed, folder)
    done = nbassay("data", folder, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def kernel(lab):
    with live_kernel(lab) as started:
        yield started


@pytest.mark.kernel
def test_outcomes_come_with_the_work(kernel):
    """
    A check is not reached, then failed or passed, as the cells that it asks about are run.
    """
    kernel.run(LOAD)
    before = kernel.run("%assay").outcomes
    kernel.run(READ)
    halfway = kernel.run("%assay").outcomes
    kernel.run(PREPARE)
    after = kernel.run("%assay").outcomes

    assert set(before.values()) == {"not-reached"}
    assert halfway == {
        "tiles.loaded": "passed",
        "labels.loaded": "passed",
        "tiles.flat": "failed",
        "tiles.scaled": "failed",
    }
    assert set(after.values()) == {"passed"}


@pytest.mark.kernel
def test_a_step_or_a_check_is_asked_alone(kernel):
    """
    ``%assay 2`` shows the checks of step 2, ``%assay ID`` the one; what is neither is explained.
    """
    for cell in (LOAD, READ):
        kernel.run(cell)

    assert set(kernel.run("%assay 2").outcomes) == {"tiles.flat", "tiles.scaled"}
    assert set(kernel.run("%assay tiles.flat").outcomes) == {"tiles.flat"}
    unknown = kernel.run("%assay tiles.scale")
    assert unknown.error is None
    assert "Did you mean tiles.scaled?" in unknown.text
    assert "%assay 1" in unknown.text


@pytest.mark.kernel
def test_a_hint_grows_more_concrete(kernel):
    """
    The first hint says what is wanted, the next adds where to look; then there are no more.
    """
    for cell in (LOAD, READ):
        kernel.run(cell)
    first, second, third = (kernel.run("%assay hint tiles.scaled") for _ in range(3))
    other = kernel.run("%assay hint tiles.flat")

    assert "lie between 0.0 and 1.0" in first.text
    assert "Divide by the largest value" not in first.text
    assert "Divide by the largest value" in second.text
    assert third.text == second.text
    assert "That is the last hint." in third.text
    assert "Keep the first axis" not in other.text


@pytest.mark.kernel
def test_the_sheet_itself_gives_no_hint(kernel):
    """
    ``%assay`` says what was wanted and seen; hints are for who asks.
    """
    for cell in (LOAD, READ):
        kernel.run(cell)
    shown = kernel.run("%assay")

    assert "0.0 to 255.0" in shown.html
    assert "Divide by the largest value" not in shown.html + shown.text


@pytest.mark.kernel
def test_nothing_of_the_learner_is_changed(kernel):
    """
    Names, random numbers, warning filters, import hooks and environment are as they were before
    ``%assay``, and neither pytest nor the lab's data came into the kernel.
    """
    look = """
    import os, random, sys, warnings
    import numpy
    def now():
        names = sorted(name for name in globals() if not name.startswith("_"))
        state = numpy.random.get_state()[1].tolist(), random.getstate()
        lists = warnings.filters, sys.meta_path, sys.path
        return names, state, dict(os.environ), *map(list, lists)
    """
    kernel.run("fresh = set(globals())")
    kernel.run(LOAD)
    added = kernel.run("print(sorted(n for n in set(globals()) - fresh if n[0] != '_'))")
    kernel.run(READ)
    kernel.run(textwrap.dedent(look))
    kernel.run("before = None\nbefore = now()")
    kernel.run("%assay\n%assay hint tiles.scaled")
    same = kernel.run("print([a == b for a, b in zip(before, now())])")
    modules = kernel.run("print({'pytest', '_pytest', 'jinja2', 'scipy'} & set(sys.modules))")

    assert added.text.strip() == "['fresh']"
    assert same.text.strip() == str([True] * 6)
    assert modules.text.strip() == "set()"


@pytest.mark.kernel
def test_a_cell_that_runs_again_replaces_what_it_did_before(kernel):
    """
    What an earlier run of the same cell showed no longer counts, right or wrong.
    """
    kernel.run(LOAD, "a")
    kernel.run(READ, "b")
    kernel.run(PREPARE, "c")
    right = kernel.run("%assay", "d").outcomes
    kernel.run(READ, "b")
    kernel.run("tiles = tiles.reshape(40, 16) / 256", "c")
    wrong = kernel.run("%assay", "d").outcomes
    kernel.run(READ, "b")
    kernel.run(PREPARE, "c")
    again = kernel.run("%assay", "d").outcomes

    assert set(right.values()) == set(again.values()) == {"passed"}
    assert wrong["tiles.scaled"] == "failed"
    assert wrong["tiles.flat"] == "passed"


@pytest.mark.kernel
def test_what_was_not_seen_is_said(kernel):
    """
    Loaded late, the answer says how many cells were not seen; after a restart all of it is.
    """
    for cell in (READ, "del tiles", LOAD):
        kernel.run(cell)
    late = kernel.run("%assay")
    kernel.manager.restart_kernel(now=True)
    kernel._client.wait_for_ready(timeout=60)
    for cell in (LOAD, READ, PREPARE):
        kernel.run(cell)
    fresh = kernel.run("%assay")

    assert "2 cells ran before nbassay was loaded" in late.text
    assert late.outcomes["labels.loaded"] == "passed"
    assert late.outcomes["tiles.loaded"] == "not-reached"
    assert set(fresh.outcomes.values()) == {"passed"}
    assert "before nbassay was loaded" not in fresh.text


@pytest.mark.kernel
def test_what_may_have_been_there_is_not_called_wrong(kernel):
    """
    Loaded late, nothing fails for what was not seen; it may fail once those cells have run again.
    """
    kernel.run("import numpy", "a")
    kernel.run(READ, "b")
    kernel.run(LOAD, "c")
    late = kernel.run("%assay", "d")
    kernel.run(READ, "b")
    again = kernel.run("%assay", "d")

    assert late.outcomes == {
        "tiles.loaded": "passed",
        "labels.loaded": "passed",
        "tiles.flat": "not-reached",
        "tiles.scaled": "not-reached",
    }
    assert "1 cell ran before nbassay was loaded" in late.text
    assert "load nbassay in the first cell" in late.text
    assert again.outcomes["tiles.flat"] == again.outcomes["tiles.scaled"] == "failed"
    assert "before nbassay was loaded" not in again.text


@pytest.mark.kernel
def test_errors_of_cells_are_named_until_they_are_mended(kernel):
    """
    What is not reached says which cell stopped, by the number that the notebook shows.
    """
    kernel.run(LOAD, "a")
    kernel.run("1 / 0", "b")
    stopped = kernel.run("%assay", "c")
    kernel.run("1 / 1", "b")
    mended = kernel.run("%assay", "c")

    assert "cell 2 stopped with ZeroDivisionError" in stopped.text
    assert "stopped" not in mended.text


@pytest.mark.kernel
def test_a_judge_that_ended_is_started_again(kernel):
    """
    Whatever ends the process that checks, the next ``%assay`` has the whole answer.
    """
    for cell in (LOAD, READ, PREPARE):
        kernel.run(cell)
    kernel.run("%assay")
    (judge,) = psutil.Process(kernel.pid).children()
    judge.kill()
    answered = kernel.run("%assay")

    assert answered.error is None
    assert set(answered.outcomes.values()) == {"passed"}


@pytest.mark.kernel
def test_the_judge_ends_with_the_kernel(lab):
    """
    No process stays behind when a kernel is killed.
    """
    with live_kernel(lab) as kernel:
        kernel.run(LOAD)
        (judge,) = psutil.Process(kernel.pid).children()

    ends = time.monotonic() + 60
    while _is_alive(judge):
        assert time.monotonic() < ends
        time.sleep(0.05)


def _is_alive(process):
    """A process that ended may wait as a zombie for whoever is to ask how."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.kernel
def test_a_lab_that_lies_elsewhere_is_named(lab, tmp_path):
    """
    Without a lab in sight nothing fails; ``%assay lab FOLDER`` tells where it is.
    """
    elsewhere = tmp_path / "elsewhere" / "deep"
    elsewhere.mkdir(parents=True)
    for name in ("tiles-idx3-ubyte", "labels-idx1-ubyte"):
        shutil.copy(lab / name, elsewhere)
    with live_kernel(elsewhere) as kernel:
        loaded = kernel.run(LOAD)
        wrong = kernel.run("%assay lab /nowhere")
        found = kernel.run(f"%assay lab {lab}")
        for cell in (READ, PREPARE):
            kernel.run(cell)
        outcomes = kernel.run("%assay").outcomes

    assert loaded.error is wrong.error is found.error is None
    assert "%assay lab FOLDER" in loaded.text
    assert "no workshop.toml" in wrong.text
    assert set(outcomes.values()) == {"passed"}


@pytest.mark.kernel
def test_markup_of_a_learner_stays_text(kernel):
    """
    Names and error messages of a learner reach the page escaped.
    """
    kernel.run(LOAD)
    kernel.run(
        "class Odd(Exception): pass\nOdd.__name__ = '<script>alert(1)</script>'\nraise Odd()"
    )
    shown = kernel.run("%assay")

    assert "<script>" not in shown.html
    assert "&lt;script&gt;" in shown.html


@pytest.mark.kernel
def test_the_grader_is_not_disturbed(tmp_path, nbassay):
    """
    In a graded notebook the extension only says that it is one: all points, no sign, no doubt.
    """
    cells = [LOAD, RIGHT_CELLS[0], "%assay", RIGHT_CELLS[1], "%assay 2\n%assay hint tiles.flat"]
    notebook = write_notebook(tmp_path / "mine.ipynb", *cells)
    done = nbassay("check", notebook, "-o", tmp_path / "out", "--json")
    result = json.loads(done.stdout)
    executed = nbformat.read(
        next((tmp_path / "out" / "learners").glob("*/executed.ipynb")), as_version=4
    )

    assert (result["status"], result["score"]) == ("graded", 100)
    assert result["details"]["provenance"]["signs"] == []
    assert "being graded" in executed.cells[0].outputs[0].text
    assert [cell.outputs for cell in executed.cells[2:]] == [[], [], []]


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["right", "unscaled", "stopped", "empty"])
def test_the_box_and_the_kernel_agree(kernel, nbassay, tmp_path, name):
    """
    ``nbassay check NOTEBOOK`` and ``%assay`` give the same outcome for each check.
    """
    path = TINY / "submissions" / f"{name}.ipynb"
    done = nbassay("check", path, "-o", tmp_path / "out", "--json")
    result = json.loads(done.stdout)
    boxed = {check["id"]: check["outcome"] for check in result["checks"]}
    loaded = kernel.run(LOAD)
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            kernel.run(cell.source)
    live = kernel.run("%assay")

    assert live.outcomes == boxed, (result["status"], result["notes"], loaded.text, live.text)
