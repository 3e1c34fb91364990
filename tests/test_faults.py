"""What goes wrong around a class costs nobody a mark: disks, folders, boxes and our own bugs."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, TINY, Nbassay

from nbassay.files import UNFINISHED

pytestmark = pytest.mark.kernel

MOUNTED = ("mount", "-t", "tmpfs", "-o")


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of that size at *folder*."""
    folder.mkdir()
    made = subprocess.run([*MOUNTED, f"size={size}", "tmpfs", folder], check=False)
    if made.returncode:
        pytest.skip("only root can make a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)


def told(done: subprocess.CompletedProcess[str]) -> str:
    """What a run said that ended for a reason of the machine's."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def statuses(out: Path) -> dict[str, str]:
    results = json.loads((out / "results.json").read_text())
    return {one["learner"]: one["status"] for one in results["submissions"]}


def unfinished(out: Path) -> list[Path]:
    return [*out.rglob(f"{UNFINISHED}*")]


# ------------------------------------------------------------------ disks


@pytest.mark.parametrize("size", ["60k", "120k"])
def test_a_full_disk_is_told_and_the_class_goes_on(
    tmp_path: Path, nbassay: Nbassay, size: str
) -> None:
    """
    A full output disk ends with 2 and what to do; with room, the same command goes on from there.
    """
    with small_disk(tmp_path / "graded", size) as out:
        message = told(nbassay("grade", "submissions", "-o", out))
        left = unfinished(out)
        whole = len([*out.glob("*/*/evidence/evidence.json")])
        remount(out, "size=10M")
        done = nbassay("grade", "submissions", "-o", out)
        graded = statuses(out)

    assert "No space left on device; make room there and give the same command again" in message
    assert str(out) in message
    assert left == []
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(": already run") == whole
    assert {*graded.values()} == {"graded"}


def test_a_file_may_grow_too_large_for_the_system(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    A limit of the system's for files ends with 2 and what to do, and nothing is run again for it.
    """
    out = tmp_path / "graded"
    limited = nbassay("grade", "submissions", "-o", out, file_bytes=24_000)
    message = told(limited)
    left = unfinished(out)
    done = nbassay("grade", "submissions", "-o", out)

    assert "report.html: cannot be written: File too large; make room" in message
    assert left == []
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(": already run") == 6


def test_an_output_that_may_only_be_read(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    A read-only output ends with 2 before any notebook is run, and stays as it was.
    """
    with small_disk(tmp_path / "graded", "10M") as out:
        remount(out, "ro")
        done = nbassay("grade", "submissions", "-o", out)
        message = told(done)
        left = [*out.iterdir()]

    assert "cannot be used as output: Read-only file system; give another place" in message
    assert "done" not in done.stderr
    assert left == []


@pytest.mark.parametrize(
    ("size", "workshop"), [("4k", TINY), ("8k", ROOT)], ids=["the probes", "the lab's data"]
)
def test_no_room_for_temporary_files(
    tmp_path: Path, nbassay: Nbassay, size: str, workshop: Path
) -> None:
    """
    A full disk for temporary files ends with 2 and names it, whatever had to be written there.
    """
    out = tmp_path / "graded"
    with small_disk(tmp_path / "tmp", size) as temporary:
        message = told(
            nbassay("grade", TINY / "submissions", "-o", out, cwd=workshop, TMPDIR=str(temporary))
        )
        left = [*temporary.iterdir()]

    assert "No space left on device; make room" in message
    assert str(temporary) in message
    assert left == []
    assert not (out / "results.json").exists()
