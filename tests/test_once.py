"""Equal code is run once: a copy for everybody, and nobody's name in another one's report."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from conftest import RIGHT_CELLS, Nbassay, write_notebook
from test_grade_tiny import by_learner, results_of

from nbassay.identical import identical_learners, with_notes_of_same_code
from nbassay.notebook import NO_CODE, decode_notebook
from nbassay.once import Once
from nbassay.store import Kept, keep

ASIDE = "a text cell that is nobody else's"


def lay(path: Path, *cells: str, text: str | None = None, is_text_first: bool = False) -> None:
    """A notebook with *cells*, and a text cell behind or in front of them."""
    write_notebook(path, *cells)
    notebook = nbformat.read(path, as_version=4)
    if text is not None:
        notebook.cells.insert(
            0 if is_text_first else len(cells), nbformat.v4.new_markdown_cell(text)
        )
    nbformat.write(notebook, path)


@pytest.fixture
def hand_in(tmp_path: Path) -> Path:
    """Four notebooks: two with the same code, one with it in other places, one with other code."""
    folder = tmp_path / "class"
    shown = (*RIGHT_CELLS, "print(int(tiles.sum()))")
    lay(folder / "quincy.ipynb", *shown)
    lay(folder / "xander.ipynb", *shown, text=ASIDE)
    lay(folder / "cat.ipynb", *shown, text=ASIDE, is_text_first=True)
    lay(folder / "dan.ipynb", *RIGHT_CELLS)
    return folder


@pytest.mark.kernel
def test_same_code_is_run_once_and_told(hand_in: Path, tmp_path: Path, nbassay: Nbassay) -> None:
    """
    Who has the same code cells in the same places gets a copy of the one run, is named on the class
    page and on nobody else's report; `--fresh` runs once more, and once only.
    """
    out = tmp_path / "graded"
    for fresh in ((), ("--fresh",)):
        done = nbassay("grade", hand_in, "-o", out, "-j", "2", *fresh)

        assert done.returncode == 0, done.stderr
        lines = sorted(line.partition("] ")[2] for line in done.stderr.splitlines())
        same = [line for line in lines if line.endswith(": same code as another, run once")]
        assert [line.partition(":")[0] in ("quincy", "xander") for line in same] == [True]
        assert sum(line.endswith(": done") for line in lines) == 5  # three of them and the controls
    results, sheets = results_of(out), by_learner(out)
    assert results.identical == [["quincy", "xander"]]
    assert sheets["quincy"].checks == sheets["xander"].checks
    told = "its code cells are those of another submission of this class, too"
    note = f"{told}: one run may serve for all"
    assert [note in sheets[name].notes for name in sorted(sheets)] == [False, False, True, True]
    for name, other in (("quincy", "xander"), ("xander", "quincy")):
        page = (out / "learners" / name / "report.html").read_text()
        assert note in page
        assert other not in page
    page = (out / "index.html").read_text()
    assert "Same code" in page
    executed = json.loads((out / "learners" / "xander" / "executed.ipynb").read_text())
    assert executed["cells"][-1]["source"] == ASIDE
    assert executed["cells"][2]["outputs"] == [
        {
            "output_type": "stream",
            "name": "stdout",
            "text": executed["cells"][2]["outputs"][0]["text"],
        }
    ]
    evidence = [
        out / "learners" / name / "evidence" / "evidence.json" for name in ("quincy", "xander")
    ]
    assert evidence[0].read_bytes() == evidence[1].read_bytes()


@pytest.mark.kernel
def test_what_was_run_under_another_name_is_not_run_again(
    hand_in: Path, tmp_path: Path, nbassay: Nbassay
) -> None:
    """
    A notebook handed in again under another name, or with other text cells, starts no kernel.
    """
    out = tmp_path / "graded"
    assert nbassay("grade", hand_in / "dan.ipynb", "-o", out).returncode == 0
    shutil.move(hand_in / "dan.ipynb", hand_in / "eve.ipynb")

    renamed = nbassay("grade", hand_in / "eve.ipynb", "-o", out)
    lay(hand_in / "eve.ipynb", *RIGHT_CELLS, text=ASIDE)
    with_text = nbassay("grade", hand_in / "eve.ipynb", "-o", out)

    assert "eve: same code as another, run once" in renamed.stderr
    assert "eve: already run" in with_text.stderr
    assert ASIDE in (out / "learners" / "eve" / "executed.ipynb").read_text()
    assert by_learner(out)["eve"].score == 100


def test_a_box_is_sent_code_only(hand_in: Path) -> None:
    """
    Texts of cells that are not run do not reach the box, and the code keeps its places.
    """
    notebook = decode_notebook((hand_in / "cat.ipynb").read_bytes())

    assert ASIDE in str(notebook.content)
    assert ASIDE not in str(notebook.runnable)
    assert [cell["cell_type"] for cell in notebook.runnable["cells"]] == ["markdown", *["code"] * 3]


def test_equal_keys_take_turns() -> None:
    """
    However many ask at once, one of each key makes it and the others find it.
    """
    once = Once()
    at_work: set[str] = set()
    made: list[str] = []
    start = threading.Barrier(8)

    def work(key: str) -> Path | None:
        start.wait()
        with once.turn(key) as found:
            assert key not in at_work
            at_work.add(key)
            if found is None:
                made.append(key)
                once.add(key, Path(key))
            at_work.remove(key)
            return found

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, "abababab"))

    assert sorted(made) == ["a", "b"]
    assert found.count(Path("a")) == found.count(Path("b")) == 3


def test_a_run_that_failed_is_tried_by_the_next() -> None:
    """
    Whoever waited for a run that came to nothing makes it.
    """
    once = Once()
    with pytest.raises(OSError, match="no space"), once.turn("a"):
        raise OSError("no space")

    with once.turn("a") as found:
        assert found is None


def test_who_handed_in_no_code_is_like_nobody(tmp_path: Path) -> None:
    """
    Empty notebooks, unreadable ones and those of people who left are not called the same.
    """
    codes = {
        "ann": NO_CODE,
        "bob": NO_CODE,
        "cat": None,
        "dan": None,
        "eve": "sha256:1",
        "gone": "sha256:1",
        **dict.fromkeys(("kim", "lea", "max"), "sha256:2"),
    }
    for learner, code in codes.items():
        kept = Kept(learner=learner, file="", digest="", notes=[], unreadable=None, code=code)
        keep(tmp_path / learner, kept)

    identical = identical_learners(tmp_path, set(codes) - {"gone"})

    assert identical == [["kim", "lea", "max"]]
    assert with_notes_of_same_code([], identical) == []
