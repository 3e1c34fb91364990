"""A class on the workers of a real Dask scheduler, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from conftest import RIGHT_CELLS, TINY, Nbassay, write_notebook

pytest.importorskip("distributed")
pytestmark = pytest.mark.kernel

WAIT_S = 60.0


def wait_for(what: Callable[[], bool]) -> None:
    """Wait until *what* holds."""
    ends = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < ends, "it did not come to be"
        time.sleep(0.02)


class Cluster:
    """A scheduler and its workers, on this machine alone."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._file = folder / "scheduler.json"
        self._start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        wait_for(self._is_up)
        self.address: str = json.loads(self._file.read_text())["address"]

    def _is_up(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return "address" in json.loads(self._file.read_text())
        return False

    def _start(self, module: str, *options: str) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((self._folder / f"{module}.log").open("ab"))
        process = self._stack.enter_context(
            subprocess.Popen(
                [
                    *(sys.executable, "-m", f"distributed.cli.{module}"),
                    *("--scheduler-file", str(self._file), *options),
                ],
                stdout=log,
                stderr=log,
            )
        )
        self._stack.callback(process.kill)
        return process

    def worker(self) -> subprocess.Popen[bytes]:
        """Start one that runs a box at a time; what it runs ends with it."""
        return self._start(
            *("dask_worker", "--host", "127.0.0.1", "--nthreads", "1"),
            *("--no-nanny", "--no-dashboard", "--local-directory", str(self._folder)),
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        yield Cluster(folder, stack)


@pytest.fixture
def submissions(tmp_path: Path) -> Path:
    """Right and wrong work, and what is no notebook."""
    folder = tmp_path / "class"
    for number in range(6):
        cells = (*RIGHT_CELLS, f"print({number})") if number % 2 else (RIGHT_CELLS[0], f"{number}")
        write_notebook(folder / f"learner-{number}.ipynb", *cells)
    (folder / "odd.ipynb").write_text("<html>")
    return folder


def has_box(process: subprocess.Popen[bytes]) -> bool:
    """Whether it runs a notebook now."""
    with contextlib.suppress(psutil.Error):
        return any(
            "nbassay.inside.executor" in child.cmdline()
            for child in psutil.Process(process.pid).children(recursive=True)
        )
    return False


def test_the_same_as_here(
    cluster: Cluster, submissions: Path, tmp_path: Path, nbassay: Nbassay
) -> None:
    """
    Two workers give the very results that this machine gives, challenges too, and say what holds.
    """
    cluster.worker()
    cluster.worker()
    here, there = tmp_path / "here", tmp_path / "there"
    options = ("--challenge", "all")

    local = nbassay("grade", submissions, "-o", here, *options)
    remote = nbassay("grade", submissions, "-o", there, *options, "--cluster", cluster.address)

    assert (local.returncode, remote.returncode) == (0, 0), remote.stderr
    assert (there / "results.json").read_bytes() == (here / "results.json").read_bytes()
    record = json.loads((there / "run.json").read_text())
    assert record["on_a_cluster"]
    assert {probe["holds"] for probe in record["probes"]} == {True}
    assert len(list(there.glob("learners/*/executed.ipynb"))) == 6
    again = nbassay("grade", submissions, "-o", there, *options, "--cluster", cluster.address)
    assert again.stderr.count("already run") == again.stderr.count("[") - 1  # one is unreadable


def test_a_worker_that_dies(
    cluster: Cluster, submissions: Path, tmp_path: Path, nbassay: Nbassay
) -> None:
    """
    What a killed worker was running is run by another one, and nobody's result is another.
    """
    here, there = tmp_path / "here", tmp_path / "there"
    nbassay("grade", submissions, "-o", here)
    doomed = cluster.worker()
    cluster.worker()
    grading = subprocess.Popen(
        [
            *(sys.executable, "-m", "nbassay", "grade", str(submissions), "-o", str(there)),
            *("--cluster", cluster.address),
        ],
        cwd=TINY,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    with grading:
        wait_for(lambda: has_box(doomed) or grading.poll() is not None)
        doomed.kill()
        _none, told = grading.communicate(timeout=300)

    assert doomed.wait() == -signal.SIGKILL
    assert grading.returncode == 0, told
    assert (there / "results.json").read_bytes() == (here / "results.json").read_bytes()


def test_ctrl_c(cluster: Cluster, submissions: Path, tmp_path: Path, nbassay: Nbassay) -> None:
    """
    Interrupted, a class stops; the same command goes on.
    """
    worker = cluster.worker()
    out = tmp_path / "out"
    command = ("grade", submissions, "-o", out, "--cluster", cluster.address)
    grading = subprocess.Popen(
        [sys.executable, "-m", "nbassay", *map(str, command)],
        cwd=TINY,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with grading:
        wait_for(lambda: has_box(worker) or grading.poll() is not None)
        grading.send_signal(signal.SIGINT)
        _none, told = grading.communicate(timeout=300)

    assert grading.returncode == 130, told
    assert nbassay(*command).returncode == 0
    assert len(json.loads((out / "results.json").read_text())["submissions"]) == 7


def test_no_scheduler(submissions: Path, tmp_path: Path, nbassay: Nbassay) -> None:
    """
    Where no scheduler listens, nothing is run, and the message says what was expected.
    """
    done = nbassay("grade", submissions, "-o", tmp_path / "out", "--cluster", "tcp:127.0.0.1:1:")

    assert done.returncode == 2
    assert "expected a Dask scheduler" in done.stderr
    assert not (tmp_path / "out").exists()


def test_other_versions(
    cluster: Cluster,
    submissions: Path,
    tmp_path: Path,
    nbassay: Nbassay,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A worker with other packages is refused before anything runs there.
    """
    told = tmp_path / "other" / "numpy-0.1.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n")
    monkeypatch.setenv("PYTHONPATH", str(told.parent))
    cluster.worker()
    monkeypatch.delenv("PYTHONPATH")

    done = nbassay("grade", submissions, "-o", tmp_path / "out", "--cluster", cluster.address)

    assert done.returncode == 2
    assert "expected the Python, nbassay and packages of this machine" in done.stderr
    assert not (tmp_path / "out").exists()
