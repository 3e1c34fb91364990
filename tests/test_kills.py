"""A class whose grader is killed again and again, and what is left of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbassay.files import UNFINISHED, owned
from nbassay.scratch import PREFIX, is_in_use, remove_left_behind, scratch

HOLDS = """
import sys
from nbassay.scratch import scratch
with scratch("data") as folder:
    (folder / "images").write_bytes(b"images")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of this test's own, also for programs that it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


@pytest.fixture
def another_run(temporary: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that lives, and its temporary folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        yield running, Path(running.stdout.readline().strip())
        running.kill()


# ------------------------------------------------------------------ what is left behind


def test_temporary_folders_of_a_run_that_lives_stay(
    another_run: tuple[subprocess.Popen[str], Path],
) -> None:
    """
    Nobody removes what another run is using.
    """
    _running, folder = another_run

    assert remove_left_behind() == []
    assert (folder / "images").read_bytes() == b"images"
    assert is_in_use(folder)


def test_temporary_folders_of_a_killed_run_are_removed(
    temporary: Path, another_run: tuple[subprocess.Popen[str], Path]
) -> None:
    """
    What a killed run left in the temporary folder is removed, and nothing else.
    """
    running, folder = another_run
    (temporary / "thesis").mkdir()
    (temporary / f"{PREFIX}link").symlink_to(temporary / "thesis")
    with scratch("labels") as ours:
        running.kill()
        running.wait()

        assert not is_in_use(folder)
        assert remove_left_behind() == [folder]
        assert {path.name for path in temporary.iterdir()} == {
            "thesis",
            f"{PREFIX}link",
            ours.name,
        }
    assert not ours.exists()


def test_unfinished_files_are_removed_from_the_output(tmp_path: Path) -> None:
    """
    Who owns an output folder finds nothing half-written in it, and loses nothing of others.
    """
    out, elsewhere = tmp_path / "graded", tmp_path / "elsewhere"
    (out / "learners" / "ann" / f"{UNFINISHED}x").mkdir(parents=True)
    (out / "learners" / "ann" / f"{UNFINISHED}x" / "evidence.json").write_text("{")
    (out / "learners" / "ann" / "report.html").write_text("whole")
    (out / f"{UNFINISHED}y").write_text("{")
    (out / "run.json").write_text("{}")
    elsewhere.mkdir()
    (elsewhere / f"{UNFINISHED}z").write_text("of another run")
    (out / "learners" / "linked").symlink_to(elsewhere)

    with owned(out):
        left = {path.name for path in out.rglob("*") if path.is_file()}

    assert left == {"report.html", "run.json", ".lock"}
    assert (elsewhere / f"{UNFINISHED}z").exists()
