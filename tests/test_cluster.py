"""A class on the workers of a real Dask scheduler, each a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from conftest import RIGHT_CELLS, ROOT, TINY, Nbassay, write_notebook

from nbassay import cluster as cluster_module
from nbassay.cluster import delivered_within, open_cluster
from nbassay.errors import ClusterError
from nbassay.notebook import Notebook, decode_notebook
from nbassay.options import CONTROL_WRONG, NOT_RUN
from nbassay.places import NotRunError, Place
from nbassay.running import USUAL
from nbassay.sandbox.programs import find_programs
from nbassay.workshop import read_workshop

Client = pytest.importorskip("distributed").Client
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
        self.scheduler = self._start(
            *("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        )
        wait_for(self._is_up)
        self.address: str = json.loads(self._file.read_text())["address"]

    def _is_up(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return "address" in json.loads(self._file.read_text())
        return False

    def _start(self, module: str, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((self._folder / f"{module}.log").open("ab"))
        process = self._stack.enter_context(
            subprocess.Popen(
                [
                    *(sys.executable, "-m", f"distributed.cli.{module}"),
                    *("--scheduler-file", str(self._file), *options),
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )
        )
        self._stack.callback(process.kill)
        return process

    def worker(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start one that runs a box at a time; what it runs ends with it."""
        return self._worker("--nthreads", "1", "--no-nanny", *options, **environment)

    def wait_for_workers(self, count: int) -> None:
        """Until so many have joined."""
        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=WAIT_S)

    def usual_worker(self, threads: int) -> subprocess.Popen[bytes]:
        """Start one as `dask worker` does: below a process that starts it again when it ends."""
        return self._worker("--nthreads", str(threads), "--nanny")

    def _worker(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        return self._start(
            *("dask_worker", "--host", "127.0.0.1", "--no-dashboard"),
            *("--local-directory", str(self._folder), *options),
            **environment,
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


@pytest.mark.tensorflow
def test_the_lab_itself(cluster: Cluster, tmp_path: Path, nbassay: Nbassay) -> None:
    """
    Notebooks that train networks, two at once in one worker, give the very results of this machine.
    """
    cluster.usual_worker(threads=2)
    here, there = tmp_path / "here", tmp_path / "there"
    given = [ROOT / "examples" / "submissions" / f"{name}.ipynb" for name in ("ada", "chen")]

    local = nbassay("grade", *given, "-o", here, "--workshop", ROOT)
    remote = nbassay(
        *("grade", *given, "-o", there, "--workshop", ROOT, "--cluster", cluster.address)
    )

    assert (local.returncode, remote.returncode) == (0, 0), remote.stderr
    assert (there / "results.json").read_bytes() == (here / "results.json").read_bytes()
    scores = {
        one["learner"]: one["score"]
        for one in json.loads((there / "results.json").read_text())["submissions"]
    }
    assert scores == {"ada": 100, "chen": 70}


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


def other_packages(folder: Path) -> dict[str, str]:
    """What makes a worker see another NumPy among the installed packages."""
    told = folder / "other" / "numpy-0.1.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n")
    return {"PYTHONPATH": str(told.parent)}


def no_walls(folder: Path) -> dict[str, str]:
    """What makes a worker find a bwrap that starts, and keeps nothing from the machine."""
    program = folder / "bin" / "bwrap"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\ncase "$*" in *"-c pass"|--version) ;; *) exit 1 ;; esac\n'
        f'exec {find_programs()[0]} "$@"\n'
    )
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


def test_other_versions(
    cluster: Cluster, submissions: Path, tmp_path: Path, nbassay: Nbassay
) -> None:
    """
    A worker with other packages is refused before anything runs there.
    """
    cluster.worker(**other_packages(tmp_path))

    done = nbassay("grade", submissions, "-o", tmp_path / "out", "--cluster", cluster.address)

    assert done.returncode == 2
    assert "expected the processor, Python, nbassay and packages of this machine" in done.stderr
    assert not (tmp_path / "out").exists()


def test_workers_that_join_late(
    cluster: Cluster, submissions: Path, tmp_path: Path, nbassay: Nbassay
) -> None:
    """
    With its only worker killed, a class waits, names the ones that join and cannot be used, runs
    nothing there though nobody else is there, and goes on with a good one.
    """
    here, there = tmp_path / "here", tmp_path / "there"
    nbassay("grade", submissions, "-o", here)
    doomed = cluster.worker()
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
        assert grading.stderr is not None
        wait_for(lambda: has_box(doomed) or grading.poll() is not None)
        doomed.kill()
        told = []
        for environment, why in (
            (other_packages(tmp_path), "packages of this machine"),
            (no_walls(tmp_path), "does not hold"),
        ):
            cluster.worker(**environment)
            for line in grading.stderr:
                told.append(line)
                if why in line:
                    break
        cluster.worker()
        told += grading.stderr
        grading.wait(timeout=300)

    assert grading.returncode == 0, told
    assert (
        len(
            [line for line in told if "without a worker that cannot be used: worker tcp://" in line]
        )
        == 2
    ), told
    assert (there / "results.json").read_bytes() == (here / "results.json").read_bytes()


def notebook(folder: Path, *cells: str) -> Notebook:
    return decode_notebook(write_notebook(folder / "one.ipynb", *cells).read_bytes())


def test_as_many_notebooks_as_workers(cluster: Cluster, tmp_path: Path) -> None:
    """
    A worker that joins while notebooks run gets one of those that wait.
    """
    endless = notebook(tmp_path, "while True: pass")
    stop = threading.Event()
    first = cluster.worker()

    def run(place: Place) -> str:
        with pytest.raises(NotRunError) as error:
            place.run(endless, attempt=0, shortcuts=USUAL, should_stop=stop.is_set)
        return str(error.value)

    with (
        open_cluster(cluster.address, read_workshop(TINY), "auto", tell=pytest.fail) as place,
        ThreadPoolExecutor(4) as pool,
    ):
        runs = [pool.submit(run, place) for _ in range(4)]
        wait_for(lambda: has_box(first))
        second = cluster.worker()
        wait_for(lambda: has_box(second))
        assert has_box(first)
        stop.set()
        assert [run.result() for run in runs] == ["interrupted"] * 4


def test_no_usable_worker_left(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Where only a worker is left that cannot be used, what is to run ends with its name and reason,
    though it is idle.
    """
    monkeypatch.setattr(cluster_module, "JOIN_S", WAIT_S)
    told: list[str] = []
    good = cluster.worker()

    with open_cluster(cluster.address, read_workshop(TINY), "auto", tell=told.append) as place:
        cluster.worker(**other_packages(tmp_path))
        wait_for(lambda: bool(told))
        good.kill()
        monkeypatch.setattr(cluster_module, "JOIN_S", 1.0)
        with pytest.raises(ClusterError, match="no usable worker is left") as error:
            place.run(
                notebook(tmp_path, *RIGHT_CELLS),
                attempt=0,
                shortcuts=USUAL,
                should_stop=lambda: False,
            )

    assert len(told) == 1
    assert told[0].partition(": ")[2] in str(error.value)


FULL_DISK = """
import errno, os
from nbassay import cluster_worker

def dask_setup(worker):
    run = cluster_worker.run_notebook

    def run_notebook(*given, **named):
        try:
            os.unlink({trigger!r})
        except FileNotFoundError:
            return run(*given, **named)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cluster_worker.run_notebook = run_notebook
"""
"""A worker whose disk is full for one notebook, if the file *trigger* is there."""


def test_a_full_disk_of_a_worker(
    cluster: Cluster, submissions: Path, tmp_path: Path, nbassay: Nbassay
) -> None:
    """
    An error of a worker's machine costs the one notebook that it met, which is said with the
    worker's name; the class goes on, and the same command gives what this machine gives.
    """
    here, there = tmp_path / "here", tmp_path / "there"
    nbassay("grade", submissions, "-o", here)
    trigger, preload = tmp_path / "trigger", tmp_path / "preload.py"
    preload.write_text(FULL_DISK.format(trigger=str(trigger)))
    cluster.worker("--preload", str(preload))
    command = ("grade", submissions, "-o", there, "--cluster", cluster.address)
    trigger.touch()

    done = nbassay(*command)

    assert done.returncode in (NOT_RUN, CONTROL_WRONG), done.stderr
    assert done.stderr.count("could-not-start") == 1
    reasons = [
        note
        for kept in there.glob("*/*/submission.json")
        for note in json.loads(kept.read_text())["notes"]
        if "could not run it" in note
    ]
    assert len(reasons) == 1
    assert reasons[0].startswith("worker tcp://127.0.0.1:")
    assert "No space left on device" in reasons[0]
    assert nbassay(*command).returncode == 0
    assert (there / "results.json").read_bytes() == (here / "results.json").read_bytes()


def test_a_disk_that_stays_full(
    cluster: Cluster, submissions: Path, tmp_path: Path, nbassay: Nbassay
) -> None:
    """
    A worker that fails at everything is named and gets no more; another one runs the class, also
    what the first one failed at.
    """
    preload = tmp_path / "preload.py"
    # What is a folder cannot be unlinked: that error, at every notebook.
    preload.write_text(FULL_DISK.format(trigger=str(tmp_path)))
    cluster.worker("--preload", str(preload))
    cluster.worker()
    cluster.wait_for_workers(2)
    command = ("run", submissions, "-o", tmp_path / "out", "--cluster", cluster.address)

    done = nbassay(*command)

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("failed at 3 notebooks one after the other") == 1
    assert done.stderr.count(": done") == 8, done.stderr


def test_boxes_that_cannot_start(
    cluster: Cluster, submissions: Path, tmp_path: Path, nbassay: Nbassay
) -> None:
    """
    A worker whose sandbox stops working while a class runs costs no notebook: another one runs
    them, and it is dismissed.
    """
    trigger, program = tmp_path / "trigger", tmp_path / "bin" / "bwrap"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ -e {trigger} ] && exit 1\nexec {find_programs()[0]} "$@"\n')
    program.chmod(0o755)
    preload = tmp_path / "preload.py"
    preload.write_text(BREAKS_DOWN.format(trigger=str(trigger)))
    environment = {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    cluster.worker("--preload", str(preload), **environment)
    cluster.worker()
    cluster.wait_for_workers(2)
    command = ("run", submissions, "-o", tmp_path / "out", "--cluster", cluster.address)

    done = nbassay(*command, "--no-warm")

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("failed at 3 notebooks one after the other") == 1
    assert done.stderr.count(": done") == 8, done.stderr


BREAKS_DOWN = """
import pathlib
from nbassay import cluster_worker

def dask_setup(worker):
    run = cluster_worker.run_notebook

    def run_notebook(*given, **named):
        pathlib.Path({trigger!r}).touch()
        return run(*given, **named)

    cluster_worker.run_notebook = run_notebook
"""
"""A worker whose bwrap ends at once from its first notebook on, once *trigger* is there."""


NO_NBASSAY = """
import sys

class Missing:
    def find_spec(self, name, *given):
        if name.partition(".")[0] == "nbassay":
            raise ModuleNotFoundError("No module named 'nbassay'", name="nbassay")

def dask_setup(worker):
    import importlib.metadata as metadata
    own = metadata.version

    def version(name):
        if name == "nbassay":
            raise metadata.PackageNotFoundError(name)
        return own(name)

    metadata.version = version
    sys.meta_path.insert(0, Missing())
"""
"""A worker in an environment without nbassay."""


def test_a_worker_without_nbassay(
    cluster: Cluster, submissions: Path, tmp_path: Path, nbassay: Nbassay
) -> None:
    """
    The likeliest mistake is told with the worker's name and what to do, not as a bug.
    """
    preload = tmp_path / "preload.py"
    preload.write_text(NO_NBASSAY)
    cluster.worker("--preload", str(preload))

    done = nbassay("grade", submissions, "-o", tmp_path / "out", "--cluster", cluster.address)

    assert done.returncode == 2
    assert "worker tcp://127.0.0.1:" in done.stderr
    assert "expected nbassay" in done.stderr
    assert "pip install" in done.stderr
    assert "bug" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_killed_command_leaves_nothing_on_workers(
    cluster: Cluster, submissions: Path, tmp_path: Path, nbassay: Nbassay
) -> None:
    """
    A command that is killed takes the class's data and processes from its workers with it.
    """
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    worker = cluster.worker(TMPDIR=str(scratch))
    command = ("grade", submissions, "-o", tmp_path / "out", "--cluster", cluster.address)
    grading = subprocess.Popen(
        [sys.executable, "-m", "nbassay", *map(str, command)],
        cwd=TINY,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    with grading:
        wait_for(lambda: has_box(worker) or grading.poll() is not None)
        assert any(scratch.iterdir())
        grading.kill()

    wait_for(lambda: not any(scratch.iterdir()))
    wait_for(lambda: not psutil.Process(worker.pid).children(recursive=True))
    assert nbassay(*command).returncode == 0


OTHER_KEY = """
import dataclasses
import msgspec
from nbassay import cluster_worker

def dask_setup(worker):
    run = cluster_worker.run_notebook

    def run_notebook(*given, **named):
        done = run(*given, **named)
        evidence = msgspec.structs.replace(done.evidence, key="0" * 64)
        return dataclasses.replace(done, evidence=evidence)

    cluster_worker.run_notebook = run_notebook
"""
"""A worker whose packages were changed after it was judged, as its evidence tells."""


def test_evidence_of_other_packages(
    cluster: Cluster, submissions: Path, tmp_path: Path, nbassay: Nbassay
) -> None:
    """
    Evidence under another key than was asked for is never kept, and the sheet says why.
    """
    out, preload = tmp_path / "out", tmp_path / "preload.py"
    preload.write_text(OTHER_KEY)
    cluster.worker("--preload", str(preload))

    done = nbassay("run", submissions, "-o", out, "--cluster", cluster.address)

    assert done.returncode == NOT_RUN, done.stderr
    assert done.stderr.count("could-not-start") == 8
    assert not list(out.glob("*/*/evidence*"))
    kept = json.loads((out / "learners" / "learner-1" / "submission.json").read_text())
    assert "it ran with other packages" in kept["notes"][0]


def test_a_scheduler_that_dies(cluster: Cluster, submissions: Path, tmp_path: Path) -> None:
    """
    A class whose scheduler is killed ends, and is told what to do.
    """
    worker = cluster.worker()
    command = ("grade", submissions, "-o", tmp_path / "out", "--cluster", cluster.address)
    grading = subprocess.Popen(
        [sys.executable, "-m", "nbassay", *map(str, command)],
        cwd=TINY,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    with grading:
        wait_for(lambda: has_box(worker) or grading.poll() is not None)
        cluster.scheduler.kill()
        _none, told = grading.communicate(timeout=300)

    assert grading.returncode == 2, told
    assert "the scheduler was lost" in told
    assert "Traceback" not in told


class Told:
    """A future that says what it is told to."""

    def __init__(self, status: str, error: Exception) -> None:
        self.status = status
        self._error = error

    def result(self, timeout: float) -> bytes:
        raise self._error


def test_what_a_future_says() -> None:
    """
    No result yet is no error, whichever of Python's two timeouts says so; an error of the task is
    one notebook's, even a timeout; anything else from the network is the scheduler's.
    """
    assert delivered_within(0.0, Told("pending", asyncio.TimeoutError())) is None
    for error in (asyncio.TimeoutError(), TimeoutError(), OSError("full"), ClusterError("odd")):
        with pytest.raises(NotRunError, match="a worker failed at it"):
            delivered_within(0.0, Told("error", error))
    for error in (OSError("closed"), CancelledError()):
        with pytest.raises(ClusterError, match="the scheduler was lost"):
            delivered_within(0.0, Told("cancelled", error))
