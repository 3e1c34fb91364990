"""What goes wrong around a class costs nobody a mark: disks, folders, boxes and our own bugs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import RIGHT_CELLS, ROOT, TINY, Nbassay, write_notebook

from nbassay.files import UNFINISHED
from nbassay.sandbox.programs import find_programs

pytestmark = pytest.mark.kernel

FAILING_BWRAP = """#!/bin/sh
# Starts every box but those of notebooks.
case "$*" in *nbassay.inside.executor*) echo "no namespaces left" >&2; exit 1 ;; esac
exec {bwrap} "$@"
"""
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


# ------------------------------------------------------------------ boxes


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A class of two."""
    for name in ("ann", "zoe"):
        write_notebook(tmp_path / "class" / f"{name}.ipynb", *RIGHT_CELLS, f"{name} = 1")
    return tmp_path / "class"


def graded_while_killing(notebooks: Path, out: Path, victim: str) -> tuple[int, str]:
    """Grade a class and kill *victim* of the box that ann's notebook is in; exit code, messages."""
    with subprocess.Popen(
        [sys.executable, "-m", "nbassay", "grade", notebooks, "-o", out, "-j", "1", "--no-warm"],
        cwd=TINY,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as running:
        assert running.stderr is not None
        said = [running.stderr.readline(), running.stderr.readline()]
        assert [line[:5] for line in said] == ["[1/4]", "[2/4]"]  # the controls
        box_of(running, victim).kill()
        said.append(running.stderr.read())
    return running.returncode, "".join(said)


def box_of(grader: subprocess.Popen[str], victim: str) -> psutil.Process:
    """Wait for a box with an executor in it, as long as the grader lives."""
    while grader.poll() is None:
        for process in psutil.Process(grader.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.cmdline()[1:4] == ["-I", "-m", "nbassay.inside.executor"]:
                    return process if victim == "executor" else outermost(process, grader.pid)
    raise AssertionError("the grader ended, and no executor was seen")


def outermost(process: psutil.Process, grader: int) -> psutil.Process:
    """The grader's own child above *process*."""
    (bwrap,) = [parent for parent in process.parents() if parent.ppid() == grader]
    assert bwrap.name() == "bwrap"
    return bwrap


def test_a_box_that_is_killed_from_outside_is_our_failure(
    tmp_path: Path, two: Path, nbassay: Nbassay
) -> None:
    """
    Whose sandbox is killed is not-run, which ends with 4, and runs next time; the other is graded.
    """
    out = tmp_path / "graded"
    code, said = graded_while_killing(two, out, "bwrap")
    first = statuses(out)
    again = nbassay("grade", two, "-o", out)

    assert code == 4, said
    assert "ann: killed-outside" in said
    assert first == {"ann": "not-run", "zoe": "graded"}
    assert again.returncode == 0, again.stderr
    assert "ann: done" in again.stderr
    assert again.stderr.count(": already run") == 3
    assert statuses(out) == {"ann": "graded", "zoe": "graded"}


def test_an_executor_that_is_killed_from_outside_costs_nothing(tmp_path: Path, two: Path) -> None:
    """
    Who cannot have been at fault for certain is run once more at once, and has the full mark.
    """
    code, said = graded_while_killing(two, tmp_path / "graded", "executor")
    results = json.loads((tmp_path / "graded" / "results.json").read_text())

    assert code == 0, said
    assert [one["score"] for one in results["submissions"]] == [100, 100]
    assert [one["notes"] for one in results["submissions"]] == [[], []]


def test_a_box_that_cannot_start_is_our_failure(
    tmp_path: Path, two: Path, nbassay: Nbassay
) -> None:
    """
    Whose sandbox does not come up is not-run and runs next time, whatever was graded before.
    """
    out = tmp_path / "graded"
    assert nbassay("grade", two / "zoe.ipynb", "-o", out).returncode == 0
    failing = tmp_path / "failing"
    failing.mkdir()
    bwrap = failing / "bwrap"
    bwrap.write_text(FAILING_BWRAP.format(bwrap=find_programs()[0]))
    bwrap.chmod(0o755)

    done = nbassay("grade", two, "-o", out, PATH=f"{failing}:{os.environ['PATH']}")
    first = statuses(out)
    again = nbassay("grade", two, "-o", out)

    assert done.returncode == 4, done.stderr
    assert "ann: could-not-start" in done.stderr
    assert first == {"ann": "not-run", "zoe": "graded"}
    assert again.returncode == 0, again.stderr
    assert statuses(out) == {"ann": "graded", "zoe": "graded"}
