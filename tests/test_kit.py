"""A learner's kit: all that is needed to do the lab and check it, and nothing of a solution."""

import json
import shutil

import nbformat
import pytest
from conftest import RIGHT_CELLS, ROOT, TINY, write_notebook
from live_kernel import live_kernel
from reporting_samples import reference

from nbassay.errors import OutputError
from nbassay.kit import write_kit
from nbassay.misconceptions import read_misconceptions
from nbassay.workshop import read_workshop

SHORT = 12
"""Characters: shorter lines of code say nothing of where they come from."""

IMPORTS = ("import ", "from ")


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """Of the MNIST workshop."""
    folder = tmp_path_factory.mktemp("kits") / "mnist"
    write_kit(read_workshop(ROOT), folder, reference())
    return folder


def code_lines(*sources):
    """Lines of code that are long enough to be known again."""
    lines = (line.strip() for source in sources for line in source.splitlines())
    return {line for line in lines if len(line) > SHORT and not line.startswith("#")}


def cells_of(path):
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def test_a_kit_holds_what_is_allowed_and_nothing_else(kit):
    """
    Lab, checks, templates, bounds, hints and the reference's sheet: no notebook but the starter, no
    script, no control.
    """
    found = {path.relative_to(kit).as_posix() for path in kit.rglob("*") if path.is_file()}
    hints = {name for name in found if name.startswith("hints/")}
    checks = {f"checks/{path.name}" for path in (ROOT / "checks").glob("*.py")}
    data = {path.stem for path in (ROOT / "lab" / "data").glob("*.gz")}
    images = {f"lab/images/{path.name}" for path in (ROOT / "lab" / "images").glob("*.png")}

    assert {name.removeprefix("hints/") for name in hints} == {
        path.name for path in (ROOT / "reference" / "misconceptions").iterdir()
    }
    assert found - hints - checks - images == {
        "README.md",
        "workshop.toml",
        "lab/lab.md",
        "lab/lab.ipynb",
        "lab/data/README.md",
        *(f"lab/data/{name}.gz" for name in data),
        *(f"lab/{name}" for name in data),
        "reference/calibration.json",
        "reference/trust.json",
        "reference/sheet.json",
        "reports/student.html",
    }


def test_a_kit_holds_no_code_of_a_solution(kit):
    """
    No line of the reference, of a control or of a known wrong way is in it that the lab's own page
    does not give.
    """
    ways = read_misconceptions(ROOT / "reference" / "misconceptions").values()
    theirs = code_lines(
        *cells_of(ROOT / "reference" / "solution.ipynb"),
        *cells_of(ROOT / "reference" / "controls" / "never-scaled.ipynb"),
        *(
            source
            for way in ways
            for part in (way.cells, way.before, way.after)
            for source in part.values()
        ),
        *(way.script or "" for way in ways),
    )
    page = (ROOT / "lab" / "lab.md").read_text("utf-8")
    secret = {line for line in theirs if line not in page and not line.startswith(IMPORTS)}
    texts = {
        path: path.read_text("utf-8")
        for path in kit.rglob("*")
        if path.suffix in (".md", ".py", ".toml", ".json", ".ipynb", ".html")
    }

    assert len(secret) > 100
    told = {
        (path.name, line)
        for path, text in texts.items()
        for line in secret
        if line in text or json.dumps(line, ensure_ascii=False)[1:-1] in text
    }
    assert told == set()


def test_hints_of_a_kit_are_those_of_the_workshop(kit):
    """
    A kit recognises what the workshop recognises, by the same signs, and says the same.
    """
    ours = read_misconceptions(ROOT / "reference" / "misconceptions")
    theirs = read_misconceptions(kit / "hints")

    assert {
        way_id: (way.must_fail, way.may_fail, way.shows, way.hint) for way_id, way in ours.items()
    } == {
        way_id: (way.must_fail, way.may_fail, way.shows, way.hint) for way_id, way in theirs.items()
    }
    assert not any(way.cells or way.before or way.after or way.script for way in theirs.values())


def test_a_kit_asks_for_the_same(kit):
    """
    Points, tolerances, bounds, steps and data of a kit are those of the workshop.
    """
    ours, theirs = read_workshop(ROOT).manifest, read_workshop(kit).manifest

    for name in ("rubric", "tolerances", "bounds", "steps", "data", "limits", "packages"):
        assert getattr(theirs, name) == getattr(ours, name), name
    assert theirs.controls == []


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    """
    A kit is never written over something.
    """
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(OutputError, match="holds something already"):
        write_kit(read_workshop(TINY), tmp_path, reference())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.kernel
def test_a_kit_is_enough_to_check_with(nbassay, tmp_path):
    """
    In a kit ``nbassay check`` shows the reference's numbers, and ``%assay`` finds the lab.
    """
    folder = tmp_path / "kit"
    made = nbassay("kit", folder, cwd=TINY)
    notebook = write_notebook(folder / "lab" / "mine.ipynb", *RIGHT_CELLS)
    done = nbassay("check", notebook, "-o", tmp_path / "out", "--json", cwd=folder / "lab")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    with live_kernel(folder / "lab") as kernel:
        for cell in ("%load_ext nbassay", *RIGHT_CELLS):
            kernel.run(cell)
        outcomes = kernel.run("%assay").outcomes

    assert made.returncode == 0, made.stderr
    assert json.loads(done.stdout)["score"] == 100
    assert results["controls"] == []
    assert results["reference"]["score"] == 100
    assert set(outcomes.values()) == {"passed"}


@pytest.mark.kernel
def test_no_kit_is_made_of_a_reference_that_fails(nbassay, tmp_path):
    """
    Learners are compared with a reference that has all points, or with none.
    """
    workshop = tmp_path / "tiles"
    shutil.copytree(TINY, workshop)
    shutil.copy(TINY / "reference" / "unscaled.ipynb", workshop / "reference" / "solution.ipynb")
    made = nbassay("kit", tmp_path / "kit", cwd=workshop)

    assert made.returncode == 2
    assert "expected a reference with 100 points, but it got 70" in made.stderr
    assert not (tmp_path / "kit").exists()


@pytest.mark.kernel
def test_a_kit_takes_its_numbers_from_a_graded_class(nbassay, tmp_path):
    """
    ``--from`` runs nothing, and refuses a class that another version of the workshop graded.
    """
    workshop = tmp_path / "tiles"
    shutil.copytree(TINY, workshop)
    nbassay("grade", "submissions/right.ipynb", "-o", tmp_path / "graded", cwd=workshop)
    made = nbassay("kit", tmp_path / "kit", "--from", tmp_path / "graded", cwd=workshop)
    sheet = json.loads((tmp_path / "kit" / "reference" / "sheet.json").read_text())
    with (workshop / "workshop.toml").open("a") as manifest:
        manifest.write("# later\n")
    refused = nbassay("kit", tmp_path / "other", "--from", tmp_path / "graded", cwd=workshop)

    assert made.returncode == 0, made.stderr
    assert sheet == json.loads((tmp_path / "graded" / "results.json").read_text())["reference"]
    assert refused.returncode == 2
    assert "another version of the workshop" in refused.stderr
    assert not (tmp_path / "other").exists()
