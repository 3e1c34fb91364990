"""The run stage: one notebook into a box, evidence out."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import platform
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from packaging.utils import canonicalize_name

import nbassay
from nbassay.evidence import Collector
from nbassay.inside.job import Job
from nbassay.inside.workspace import FOLDERS, LAB
from nbassay.notebook import Notebook
from nbassay.pristine import data_digest
from nbassay.records import SCHEMA_EVIDENCE, Ending, Evidence, Record
from nbassay.renaming import Renaming, lay_renamed_labels
from nbassay.sandbox import Ahead, Box, Mount, OnFrame, Sandbox, Walls
from nbassay.scratch import scratch
from nbassay.secondbox import measure_again
from nbassay.stages import Stages
from nbassay.store import CHALLENGE
from nbassay.telling import what_tells
from nbassay.workbench import Workbench
from nbassay.workshop import Workshop

HOME = "/home/learner"
WORK = "/home/learner/work"
SCRATCH = "/run/nbassay"
BESIDE_THE_PROBE = (
    "evidence.py",
    "graph.py",
    "measure.py",
    "network.py",
    "notebook.py",
    "observed.py",
    "pristine.py",
    "records.py",
    "renaming.py",
    "running.py",
    "sandbox",
    "secondbox.py",
)
"""Modules and packages that decide what evidence holds, besides those inside the box."""
PROGRAMS = ("nbassay.inside.executor", "nbassay.inside.kernel")
LARGE = ("tensorflow", "keras")
"""Libraries that take seconds to import, and can be imported ahead (see `nbassay.inside.ahead`)."""
FACTS_SHARE = 0.75
"""Part of the pipe's budget that the kernel's facts may take; the rest is for outputs."""
MOST_CRASHES = 2
"""
A box that crashed is run once more before the notebook is blamed: from outside it cannot be told
who killed the executor, the notebook or a machine without memory.
"""


class Shortcuts(Record, frozen=True, kw_only=True):
    """What a run may save time by; none changes a bit of what a notebook computes."""

    is_fast: bool = True
    """Let ``fit`` and ``evaluate`` run many batches a call (see `nbassay.inside.fastfit`)."""
    is_warm: bool = False
    """Start as a fork of a process that imported the libraries, where no cell can tell."""


USUAL = Shortcuts()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What one run of a notebook left."""

    evidence: Evidence
    blobs: dict[str, np.ndarray]
    outputs: dict[int, list[dict[str, Any]]]
    """Outputs by cell, as the box sent them: not cleaned."""
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Stage → what it took (see `nbassay.stages`)."""


def run_notebook(
    notebook: Notebook,
    bench: Workbench,
    *,
    attempt: int = 0,
    shortcuts: Shortcuts = USUAL,
    seed: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Run:
    """
    Run *notebook* in a box of its own; networks that NumPy cannot follow, in a second one.

    Args:
        attempt: 0 first; every attempt has other seeds. `nbassay.store.CHALLENGE` has other names
            for the classes, too, drawn for this run alone.
        seed: For Python, NumPy and TensorFlow; drawn from the code's digest by default.
        should_stop: Asked several times a second; True ends the box as ``interrupted``.

    Raises:
        ValueError: It is a challenge, and the workshop's classes cannot be renamed.
    """
    stages = Stages()
    with stages.stage("collect"), _labels(bench, attempt) as renaming:
        run = _run(notebook, bench, attempt, shortcuts, seed, renaming, should_stop, stages)
    return dataclasses.replace(run, seconds=stages.seconds)


@contextlib.contextmanager
def _labels(bench: Workbench, attempt: int) -> Iterator[Renaming | None]:
    """Other names for the classes; None where it is no challenge."""
    if attempt != CHALLENGE:
        yield None
        return
    with scratch("labels") as folder:
        folder.chmod(0o755)
        yield lay_renamed_labels(bench.workshop, bench.pristine, folder)


def _run(
    notebook: Notebook,
    bench: Workbench,
    attempt: int,
    shortcuts: Shortcuts,
    seed: int | None,
    renaming: Renaming | None,
    should_stop: Callable[[], bool],
    stages: Stages,
) -> Run:
    workshop, pristine, sandbox = bench.workshop, bench.pristine, bench.sandbox
    limits = workshop.limits
    nonce = secrets.token_bytes(32)
    job = Job(
        notebook=notebook.runnable,
        cell_s=limits.cell_s,
        output_bytes=int(limits.output_mb * (1 << 20)),
        facts_bytes=int(limits.evidence_mb * (1 << 20) * FACTS_SHARE),
        nonce=nonce.hex(),
        widths=pristine.widths,
        levels=pristine.levels,
        seed=seed_of(notebook.code_digest, attempt) if seed is None else seed,
        packages=workshop.manifest.packages,
        attempt=attempt,
        loaders=workshop.manifest.data.loaders,
        typed=workshop.manifest.typed,
        is_fast=shortcuts.is_fast,
    )
    box = _box(
        workshop,
        stdin=msgspec.json.encode(job),
        mounts=_data_mounts(workshop, bench.data_folder, renaming),
        is_warm=shortcuts.is_warm and not could_tell(notebook),
    )
    for _ in range(MOST_CRASHES):
        collector = Collector()
        ending = _timed(sandbox, box, collector.on_frame, should_stop, stages)
        if ending.reason != "crashed":
            break
        box = dataclasses.replace(box, ahead=None)  # nor is a fork of ours to be blamed for it
    facts, blobs = collector.finish(pristine.keyed(nonce))
    evidence = Evidence(
        schema=SCHEMA_EVIDENCE,
        notebook=notebook.code_digest,
        key=evidence_key(
            notebook.code_digest, workshop, sandbox, attempt, is_fast=shortcuts.is_fast
        ),
        data=data_digest(workshop),
        sandbox=sandbox.mode,
        is_isolated=sandbox.is_isolated,
        attempt=attempt,
        limits={name: float(value) for name, value in dataclasses.asdict(limits).items()},
        ending=ending,
        facts=facts,
        refused=collector.refused,
        renaming=None if renaming is None else list(renaming.names),
    )
    if ending.reason != "interrupted":
        with stages.stage("measure"):
            evidence, blobs = _with_second_box(evidence, blobs, bench, should_stop)
    return Run(evidence=evidence, blobs=blobs, outputs=collector.cells)


def _box(workshop: Workshop, *, stdin: bytes, mounts: list[Mount], is_warm: bool) -> Box:
    """A notebook's box; with *is_warm* it may start as a fork."""
    return Box(
        argv=[sys.executable, "-I", "-m", "nbassay.inside.executor"],
        stdin=stdin,
        mounts=mounts,
        env={**_environment(), FOLDERS: ":".join(workshop.manifest.data_folders)},
        limits=workshop.limits,
        writable=[HOME, "/tmp", SCRATCH, *workshop.manifest.data_folders],  # noqa: S108 - inside
        workdir=WORK,
        ahead=_ahead(workshop) if is_warm else None,
    )


def begin_warm(workshop: Workshop, sandbox: Sandbox) -> None:
    """Let *sandbox* begin to import what notebooks start with, while other things are done."""
    sandbox.begin(_box(workshop, stdin=b"", mounts=[], is_warm=True))


def _timed(
    sandbox: Sandbox,
    box: Box,
    on_frame: OnFrame,
    should_stop: Callable[[], bool],
    stages: Stages,
) -> Ending:
    """Run *box*; it starts until its first frame, which tells that the kernel is up."""
    began = time.monotonic()
    up: list[float] = []

    def heard(kind: bytes, payload: bytes) -> None:
        if not up:
            up.append(time.monotonic())
        on_frame(kind, payload)

    try:
        return sandbox.run(box, heard, should_stop=should_stop)
    finally:
        ended = time.monotonic()
        started = up[0] if up else ended
        stages.add({"start": started - began, "run": ended - started})


def _with_second_box(
    evidence: Evidence,
    blobs: dict[str, np.ndarray],
    bench: Workbench,
    should_stop: Callable[[], bool],
) -> tuple[Evidence, dict[str, np.ndarray]]:
    """Evidence and blobs with what Keras answered for networks that NumPy cannot follow."""
    second, classes = measure_again(
        evidence, blobs, bench, env=_environment(), workdir=HOME, should_stop=should_stop
    )
    ending = evidence.ending
    if second is not None and second.ending is not None:
        ending = second.ending if second.ending.reason == "interrupted" else ending
    return msgspec.structs.replace(evidence, second=second, ending=ending), {**blobs, **classes}


def evidence_key(
    code_digest: str, workshop: Workshop, walls: Walls, attempt: int, *, is_fast: bool
) -> str:
    """
    Names what a run depends on: equal keys need no second run.

    nbassay's version is not in it, but the sources that decide what evidence holds: environment and
    seeds are among them.
    """
    parts = [
        SCHEMA_EVIDENCE,
        platform.machine(),
        platform.python_version(),
        _libraries(),
        workshop.manifest.packages,
        workshop.manifest.data_folders,
        workshop.manifest.data.loaders,
        workshop.manifest.typed,
        _probe_digest(),
        code_digest,
        walls.name,
        attempt,
        is_fast,
        dataclasses.asdict(workshop.limits),
        data_digest(workshop),
    ]
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


@functools.cache
def _libraries() -> list[tuple[str, str]]:
    """
    Name and version of whatever is installed, but for nbassay: a notebook may use any of it.

    A package that is there twice counts twice: which one is imported is not asked.
    """
    installed = {
        (canonicalize_name(one.metadata["Name"]), one.version)
        for one in metadata.distributions()
        if "Name" in one.metadata  # an uninstallation that broke off leaves none
    }
    return sorted(found for found in installed if found[0] != "nbassay")


@functools.cache
def _probe_digest() -> str:
    """
    Of the sources that run in a box or say what does: another probe may see other things, another
    second box give other answers.
    """
    hasher = hashlib.sha256()
    package = Path(nbassay.__file__).parent
    places = [package / name for name in ("inside", *BESIDE_THE_PROBE)]
    sources = [
        path for place in places for path in (place.rglob("*.py") if place.is_dir() else [place])
    ]
    for path in sorted(sources):
        hasher.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return hasher.hexdigest()


def seed_of(code_digest: str, attempt: int) -> int:
    """The seed of a run: the same code gives the same evidence."""
    return int(hashlib.sha256(f"{code_digest} {attempt}".encode()).hexdigest()[:8], 16) >> 1


def could_tell(notebook: Notebook) -> bool:
    """Whether the code could tell a fork with libraries imported from a fresh process."""
    return what_tells(source for _index, source in notebook.code_cells) is not None


def why_not_warm(workshop: Workshop, sandbox: Sandbox) -> str | None:
    """Why boxes of *workshop* cannot start as forks here, found by trying; None if they can."""
    box = Box(
        argv=[sys.executable, "-I", "-c", "pass"],
        stdin=b"",
        mounts=[],
        env=_environment(),
        limits=workshop.limits,
        writable=[HOME, "/tmp"],  # noqa: S108 - inside
        workdir=HOME,
        ahead=_ahead(workshop),
    )
    with contextlib.closing(sandbox):
        ending = sandbox.run(box, lambda kind, payload: None, should_stop=lambda: False)
        return None if ending.is_warm else sandbox.why_not_warm or ending.message


def _ahead(workshop: Workshop) -> Ahead:
    """What a box may have imported before it begins: our own, and large libraries of the lab."""
    return Ahead(
        modules=(*PROGRAMS, "ipykernel.ipkernel", "ipykernel.kernelapp"),
        programs=PROGRAMS,
        libraries=tuple(name for name in LARGE if name in workshop.manifest.packages),
    )


def _data_mounts(workshop: Workshop, data_folder: Path, renaming: Renaming | None) -> list[Mount]:
    """The lab's files, unpacked and as they are kept; inside they are copied to where needed."""
    files = {}
    for name, file in workshop.manifest.data.files.items():
        files[name] = data_folder / name
        files[workshop.packed_name(name)] = workshop.path(file.path).resolve()
    if renaming is not None:
        files |= {path.name: path for path in renaming.folder.iterdir()}
    return [Mount(host=host, inside=f"{SCRATCH}/{LAB}/{name}") for name, host in files.items()]


def _environment() -> dict[str, str]:
    """The whole environment inside: one thread, so that results do not depend on the cores."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": HOME,
        "USER": "learner",
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",  # noqa: S108 - inside the box
        "IPYTHONDIR": f"{HOME}/.ipython",
        "JUPYTER_RUNTIME_DIR": SCRATCH,
        "NBASSAY_SCRATCH": SCRATCH,
        "MPLCONFIGDIR": f"{HOME}/.config/matplotlib",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_HOME": f"{HOME}/.keras",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
