"""``nbassay regress --against``: what is new in a page, and what that did."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY, Nbassay

SOUND = (TINY / "lab" / "lab.md").read_text("utf-8")


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """A copy of the tiny workshop."""
    return Path(shutil.copytree(TINY, tmp_path / "tiles"))


@pytest.fixture
def against(nbassay: Nbassay, tiles: Path) -> Callable[..., dict]:
    """Compare a changed page with the sound one, kept beside it."""

    def run(text: str, *, old: str = SOUND) -> dict:
        (tiles / "lab" / "old.md").write_text(old)
        (tiles / "lab" / "lab.md").write_text(text)
        done = nbassay("regress", "--against", "lab/old.md", "--json", cwd=tiles)
        assert done.returncode in (0, 1), done.stderr
        return json.loads(done.stdout)["against"]

    return run


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("text", "summary"),
    [
        (SOUND, "nothing changed"),
        (SOUND.replace("You should see", "You see"), "the text around is not"),
        (SOUND.replace("```python", "````python\n").replace("```\n\n", "````\n\n"), "packaging"),
        (SOUND.replace("    print(rows", "    # look\n    print( rows"), "remarks and blanks"),
        (
            SOUND.replace(
                "    print(rows",
                "    </copy>\n    ```\n\n    ```python\n    <copy>\n    print(rows",
            ),
            "the same statements in 3 cells instead of 2",
        ),
    ],
    ids=["same", "text", "fences", "remarks", "cut"],
)
def test_packaging_is_told_from_code(against: Callable[..., dict], text: str, summary: str) -> None:
    """
    A page whose code does the same says so, and nothing of the old one is run.
    """
    found = against(text)

    assert summary in found["summary"]
    assert not found["summary"].startswith("code changed")
    assert found["effects"] == []


@pytest.mark.kernel
def test_changed_code_is_told_cell_by_cell_with_what_it_did(against: Callable[..., dict]) -> None:
    """
    Changed, new and removed cells are listed, and what became of arrays, checks and warnings.
    """
    new = SOUND.replace("reshape(40, 16) / 255", "reshape(16, 40) / 255.0").replace(
        "## Task 2",
        "2. Warn.\n\n    ```python\n    <copy>\n    import warnings\n"
        '    warnings.warn("later", FutureWarning)\n    </copy>\n    ```\n\n## Task 2',
    )

    found = against(new)

    assert found["summary"] == "code changed: 2 cells of 3 (there were 2)"
    assert [(one["before"], one["after"]) for one in found["cells"]] == [(None, 2), (2, 3)]
    lines = [line for one in found["cells"] for line in one["diff"]]
    assert "-rows = tiles.reshape(40, 16) / 255" in lines
    assert "+rows = tiles.reshape(16, 40) / 255.0" in lines
    assert "array rows: (40, 16) float64, 0 to 1 → (16, 40) float64, 0 to 1" in found["effects"]
    assert "check tiles.flat: passed → failed" in found["effects"]
    assert "warns now: FutureWarning: later" in found["effects"]


@pytest.mark.kernel
def test_a_revision_of_git_is_the_old_version(nbassay: Nbassay, tiles: Path) -> None:
    """
    The page is compared with the same file as it was in a revision, also when it is told from
    another folder.
    """
    git(tiles, "init", "-q")
    git(tiles, "add", ".")
    git(tiles, "commit", "-qm", "first")
    (tiles / "lab" / "lab.md").write_text(SOUND.replace("/ 255", "/ 255.0"))

    done = nbassay("regress", "--workshop", tiles, "--against", "HEAD", cwd=tiles.parent)

    assert done.returncode == 0, done.stderr
    assert "Against HEAD: code changed: 1 cell of 2 (there were 2)" in done.stdout
    assert "+rows = tiles.reshape(40, 16) / 255.0" in done.stdout


@pytest.mark.kernel
def test_a_page_that_only_now_has_variants_is_compared(nbassay: Nbassay, tiles: Path) -> None:
    """
    With ``--type``, an older page from before there were variants is read whole.
    """
    (tiles / "lab" / "old.md").write_text(SOUND)
    (tiles / "lab" / "lab.md").write_text(SOUND + '\n<if type="cloud">Log out.</if>\n')

    done = nbassay("regress", "--type", "cloud", "--against", "lab/old.md", cwd=tiles)

    assert done.returncode == 0, done.stderr
    assert "code unchanged" in done.stdout


@pytest.mark.parametrize(("old", "is_repository"), [("v1", True), ("v1", False), ("--all", True)])
def test_what_is_no_older_version_is_refused(
    nbassay: Nbassay, tiles: Path, old: str, is_repository: bool
) -> None:
    """
    A name that is no page, class or revision ends with 2 and says what was expected.
    """
    if is_repository:
        git(tiles, "init", "-q")
        git(tiles, "commit", "-qm", "first", "--allow-empty")

    done = nbassay("regress", f"--against={old}", cwd=tiles)

    assert done.returncode == 2
    assert f"--against {old}: expected a page, a graded class or a revision of git" in done.stderr


def test_a_revision_without_the_page_is_refused(nbassay: Nbassay, tiles: Path) -> None:
    """
    A revision from before the page ends with 2 and names the page.
    """
    git(tiles, "init", "-q")
    git(tiles, "add", "workshop.toml")
    git(tiles, "commit", "-qm", "first")

    done = nbassay("regress", "--against", "HEAD", cwd=tiles)

    assert done.returncode == 2
    assert "--against HEAD: lab/lab.md was not there in this revision" in done.stderr


@pytest.mark.kernel
def test_a_graded_class_is_scored_again_and_left_alone(nbassay: Nbassay, tiles: Path) -> None:
    """
    Whose outcome the checks of today would change is listed; no file of the class is touched.
    """
    out = tiles / "graded"
    nbassay("grade", "submissions", "-o", out, "-q", cwd=tiles)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    same = nbassay("regress", "--against", out, cwd=tiles)
    check = tiles / "checks" / "test_tiles.py"
    check.write_text(check.read_text().replace("== (0.0, 1.0)", "== (0.0, 2.0)"))

    changed = nbassay("regress", "--against", out, "--json", cwd=tiles)

    assert (same.returncode, changed.returncode) == (0, 1)
    (one,) = json.loads(changed.stdout)["changes"]
    assert (one["learner"], one["before"], one["after"]) == ("right", "100", "70")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
