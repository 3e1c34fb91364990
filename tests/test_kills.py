"""A class whose grader is killed again and again, and what is left of it."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import TINY

from nbassay.errors import EvidenceError
from nbassay.evidence import read_evidence
from nbassay.files import UNFINISHED, owned
from nbassay.sandbox.unbegun import BWRAP, is_unbegun
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


# ------------------------------------------------------------------ a class that is killed

KILLED = """
import json, os, psutil, runpy, signal, sys
out, told, clock, left = sys.argv[1:5]
sys.argv[1:5] = []
left = float(left)
ticks = {"files": 0, "time": 0}
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"}

def before(event, arguments):
    global left
    if left < 0 or event not in CHANGES | {"open", "subprocess.Popen"}:
        return
    # From the first program that it starts, a grader opens files all the time: it looks into /proc
    # several times a second.
    if event == "subprocess.Popen" or (event == "open" and ticks["time"]):
        ticks["time"] += 1
    writes = event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))
    within = event in ("os.remove", "os.rmdir") and arguments[-1] != -1
    if writes and (within or str(arguments[0]).startswith(out)):
        ticks["files"] += 1
    if ticks[clock] > left:
        left = -1
        children = psutil.Process().children(recursive=True)
        tell({"children": [[child.pid, child.create_time()] for child in children]})
        os.kill(os.getpid(), signal.SIGKILL)

def tell(what):
    with open(told, "w") as file:
        json.dump(what, file)

sys.addaudithook(before)
try:
    runpy.run_module("nbassay", run_name="__main__")
finally:
    left = -1
    tell(ticks)
"""
"""The command line, killed before it opens a file for the n-th time, or changes one of OUT."""
PAGES = ("results.json", "index.html", "gradebook.csv", "junit.xml", "learners/*/report.html")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grader:
    """Grades the tiny class into one folder, and is killed."""

    folder: Path
    unbegun: list[psutil.Process] = dataclasses.field(default_factory=list)
    """What killed ones left of boxes that had not begun: the next one is to end it."""

    @property
    def out(self) -> Path:
        return self.folder / "graded"

    def grade(self, *, clock: str = "time", ticks: float = float("inf")) -> dict[str, int] | None:
        """Grade until *ticks* of *clock* are over; all ticks of one that came to its end."""
        told, temporary = self.folder / "told.json", self.folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        told.unlink(missing_ok=True)
        done = subprocess.run(
            [
                *(sys.executable, "-c", KILLED, self.out, told, clock, str(ticks)),
                *("grade", "submissions", "-o", self.out),
            ],
            cwd=TINY,
            env={**os.environ, "TMPDIR": str(temporary)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        found = json.loads(told.read_text())
        if "children" not in found:
            assert done.returncode == 0, done.stderr
            assert [*temporary.iterdir()] == []
            return dict(found)
        assert done.returncode == -signal.SIGKILL, done.stderr
        self.unbegun.extend(left_alive(found["children"]))
        return None

    def evidence(self) -> dict[str, int]:
        """Folders of whole evidence, and when each was made."""
        found = {}
        for path in self.out.glob("*/*/evidence"):
            with contextlib.suppress(EvidenceError):
                read_evidence(path)
                found[str(path)] = path.joinpath("evidence.json").stat().st_mtime_ns
        return found

    def pages(self) -> dict[str, bytes]:
        """All that may not differ from that of a class that nobody disturbed."""
        return {
            str(path.relative_to(self.out)): path.read_bytes()
            for page in PAGES
            for path in self.out.glob(page)
        }


def left_alive(children: list[tuple[int, float]]) -> list[psutil.Process]:
    """Those of a killed grader's processes that do not end: boxes that had not begun, at most."""
    processes = []
    for pid, created in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.create_time() == created:
                processes.append(process)
    ends = time.monotonic() + 60
    while processes and not all(map(is_left_unbegun, processes)):
        assert time.monotonic() < ends, processes
        processes = psutil.wait_procs(processes, timeout=1)[1]
    return processes


def is_left_unbegun(process: psutil.Process) -> bool:
    try:
        return bool(process.name() == BWRAP and is_unbegun(process))
    except (psutil.Error, OSError):
        return False


def read_whole(path: Path) -> None:
    """Read a file of a class as who uses it does; raises when it ends too early."""
    if path.suffix == ".ipynb":
        nbformat.validate(nbformat.read(path, 4))
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".xml":
        ElementTree.parse(path)
    elif path.suffix == ".html":
        assert path.read_text().rstrip().endswith("</html>"), path
    elif path.suffix == ".csv":
        with path.open(newline="") as file:
            assert len({len(row) for row in csv.reader(file)}) == 1, path
    else:
        assert path.suffix == ".safetensors", path
        read_evidence(path.parent)


def visible_files(out: Path) -> Iterator[Path]:
    for path in out.rglob("*"):
        is_hidden = any(part.startswith(".") for part in path.relative_to(out).parts)
        if path.is_file() and not is_hidden:
            yield path


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, bytes], dict[str, int]]:
    """Pages of the tiny class, and how many ticks of each clock it takes."""
    grader = Grader(folder=tmp_path_factory.mktemp("undisturbed"))
    ticks = grader.grade()
    assert ticks is not None
    return grader.pages(), ticks


@pytest.mark.kernel
@pytest.mark.parametrize("kills", [6, pytest.param(100, marks=pytest.mark.attacks)])
def test_a_class_survives_any_kill(
    tmp_path: Path, undisturbed: tuple[dict[str, bytes], dict[str, int]], kills: int
) -> None:
    """
    However often the grader is killed, at whatever point: no box that had begun lives on, no file
    is seen half-written, nothing that was whole is run again, and the class ends the same to the
    byte.
    """
    expected, ticks = undisturbed
    draw = random.Random(kills)
    killed = classes = 0
    while killed < kills:
        grader = Grader(folder=tmp_path / str(classes))
        is_done = False
        while not is_done:
            clock = draw.choice(["files", "time"])
            before = grader.evidence()
            at = draw.randrange(ticks[clock]) if killed < kills else float("inf")
            is_done = grader.grade(clock=clock, ticks=at) is not None
            killed += not is_done
            for path in visible_files(grader.out):
                read_whole(path)
            assert before.items() <= grader.evidence().items(), (clock, at)
        classes += 1

        assert grader.pages() == expected
        assert psutil.wait_procs(grader.unbegun, timeout=60)[1] == []
        assert [*grader.out.rglob(f"{UNFINISHED}*")] == []
