"""
The stages put together: run, score, report. Each reads the files that the one before it left.

::

    OUT/learners/ID/submission.json, evidence/, executed.ipynb      run
    OUT/controls/ID/…                                               run, the control samples
    OUT/results.json                                                score
    OUT/index.html, learners/ID/report.html, gradebook.csv, …       report
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from importlib import metadata
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import psutil

from nbassay.errors import EvidenceError, NotebookError, OutputError
from nbassay.evidence import read_evidence, write_evidence
from nbassay.executed import executed_notebook
from nbassay.files import MARK, write_whole
from nbassay.notebook import decode_notebook, digest_of
from nbassay.pristine import Pristine, read_pristine, unpack_data
from nbassay.records import (
    SCHEMA_RESULTS,
    ControlResult,
    Record,
    Results,
    SubmissionResult,
    WorkshopId,
)
from nbassay.reporting.write import write_reports
from nbassay.running import evidence_key, run_notebook
from nbassay.sandbox import Sandbox
from nbassay.scoring import Scorable, judge_control, score
from nbassay.submissions import Submission, slug_of
from nbassay.workshop import Workshop

SUBMISSION_FILE = "submission.json"
RESULTS_FILE = "results.json"
MEMORY_A_BOX = 2 << 30
"""Bytes: a fit on the lab's images peaks at 1.6 GB."""


class Kept(Record, frozen=True, kw_only=True):
    """``submission.json``: what the run stage knows of a submission besides its evidence."""

    learner: str
    file: str
    digest: str
    notes: list[str]
    unreadable: str | None


class Progress(Protocol):
    """Hears how far a class is."""

    def start(self, total: int) -> None: ...

    def done(self, name: str, how: str) -> None: ...


@dataclasses.dataclass
class ClassRun:
    """What the run stage did; written to ``run.json``."""

    done: int = 0
    reused: int = 0
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    """Learner → wall seconds of its box, measured outside."""
    was_interrupted: bool = False


def default_jobs() -> int:
    """As many boxes as cores, as far as the memory reaches."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, min(cores, int(psutil.virtual_memory().available) // MEMORY_A_BOX))


def control_submissions(workshop: Workshop, *, only: str | None = None) -> list[Submission]:
    """The control samples as submissions; *only* those with this notebook, if one is given."""
    return [
        Submission(
            learner=slug_of(control.name),
            file=Path(control.notebook).name,
            raw=workshop.path(control.notebook).read_bytes(),
        )
        for control in workshop.manifest.controls
        if only in (None, control.notebook)
    ]


def run_class(
    submissions: Sequence[Submission],
    *,
    workshop: Workshop,
    sandbox: Sandbox,
    out: Path,
    jobs: int,
    progress: Progress,
    is_fresh: bool = False,
    controls: Sequence[Submission] | None = None,
) -> ClassRun:
    """
    Run every notebook that was not run before; what is done stays done whatever happens next.

    Args:
        submissions: The class.
        out: The class's output folder, owned by the caller.
        jobs: Boxes at once.
        is_fresh: Run even what was run before.
        controls: Control samples; None for the workshop's own.

    Raises:
        DataError: Lab data are missing or not the pinned ones.
        KeyboardInterrupt: After the boxes that were running have ended; the next call goes on.
    """
    pristine = read_pristine(workshop)
    controls = control_submissions(workshop) if controls is None else controls
    work = [(item, out / "controls" / item.learner) for item in controls]
    work += [(item, out / "learners" / item.learner) for item in submissions]
    class_run = ClassRun()
    stop = threading.Event()
    progress.start(len(work))
    with tempfile.TemporaryDirectory(prefix="nbassay-data-") as data:
        Path(data).chmod(0o755)  # a box that runs as another user reads them
        unpack_data(workshop, Path(data))

        def one(item: Submission, folder: Path) -> tuple[str, float]:
            started = time.monotonic()
            how = _run_one(
                item,
                folder,
                workshop=workshop,
                pristine=pristine,
                sandbox=sandbox,
                data_folder=Path(data),
                is_fresh=is_fresh,
                should_stop=stop.is_set,
            )
            return how, time.monotonic() - started

        with ThreadPoolExecutor(max_workers=jobs) as pool:
            waiting = {pool.submit(one, item, folder): item for item, folder in work}
            try:
                while waiting:
                    finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in finished:
                        item = waiting.pop(future)
                        how, seconds = future.result()
                        class_run.done += 1
                        class_run.reused += how == "already run"
                        class_run.seconds[item.learner] = round(seconds, 3)
                        progress.done(item.learner, how)
            except BaseException:
                stop.set()
                for future in waiting:
                    future.cancel()
                raise
    return class_run


def _run_one(
    item: Submission,
    folder: Path,
    *,
    workshop: Workshop,
    pristine: Pristine,
    sandbox: Sandbox,
    data_folder: Path,
    is_fresh: bool,
    should_stop: Callable[[], bool],
) -> str:
    """Run one notebook unless its evidence is there; tells how it went in a word or two."""
    if should_stop():
        return "interrupted"
    digest = digest_of(item.raw) if item.raw is not None else ""
    notes = list(item.notes)
    try:
        if item.raw is None:
            raise NotebookError(notes.pop(0) if notes else "the file cannot be read")
        notebook = decode_notebook(item.raw)
    except NotebookError as error:
        shutil.rmtree(folder / "evidence", ignore_errors=True)
        (folder / "executed.ipynb").unlink(missing_ok=True)
        _keep(folder, item, digest, notes, str(error))
        return "unreadable"
    notes += notebook.notes
    if not is_fresh and _has_evidence(folder, evidence_key(digest, workshop, sandbox, 0)):
        _keep(folder, item, digest, notes, None)
        return "already run"
    run = run_notebook(
        notebook,
        workshop=workshop,
        pristine=pristine,
        data_folder=data_folder,
        sandbox=sandbox,
        should_stop=should_stop,
    )
    if run.evidence.ending.reason == "interrupted":
        return "interrupted"
    write_whole(folder / "executed.ipynb", executed_notebook(notebook, run.outputs))
    _keep(folder, item, digest, notes, None)
    write_evidence(folder / "evidence", run.evidence, run.blobs)
    return "done" if run.evidence.ending.reason == "finished" else run.evidence.ending.reason


def _has_evidence(folder: Path, key: str) -> bool:
    """Whether evidence of the same run is there; one that our side failed at is tried again."""
    try:
        evidence, _blobs = read_evidence(folder / "evidence")
    except EvidenceError:
        return False
    return evidence.key == key and evidence.ending.reason != "could-not-start"


def _keep(
    folder: Path, item: Submission, digest: str, notes: list[str], unreadable: str | None
) -> None:
    kept = Kept(
        learner=item.learner, file=item.file, digest=digest, notes=notes, unreadable=unreadable
    )
    write_whole(folder / SUBMISSION_FILE, msgspec.json.format(msgspec.json.encode(kept)) + b"\n")


def score_class(out: Path, *, workshop: Workshop) -> Results:
    """
    Score all evidence below *out* and write ``results.json``.

    Raises:
        ManifestError: Checks, rubric or calibration cannot be used.
        DataError: Lab data are missing or not the pinned ones.
        OutputError: Nothing was run into *out*.
    """
    pristine = read_pristine(workshop)
    intern: dict[bytes, np.ndarray] = {}
    controls = {item.learner: item for item in _scorables(out / "controls", intern)}
    members = _members(out)
    learners = [one for one in _scorables(out / "learners", intern) if one.learner in members]
    if not learners:
        raise OutputError(
            f"{out}: no submissions were run into it; `nbassay run PATH -o {out}` first"
        )
    scored = score([*controls.values(), *learners], workshop=workshop, pristine=pristine)
    by_name = dict(zip(controls, scored, strict=False))
    judged: list[ControlResult] = []
    reference: SubmissionResult | None = None
    for control in workshop.manifest.controls:
        result = by_name.get(slug_of(control.name))
        if result is None:
            continue
        judged.append(judge_control(control, result))
        if control.notebook == workshop.manifest.reference:
            reference = result
    results = Results(
        schema=SCHEMA_RESULTS,
        workshop=WorkshopId(title=workshop.manifest.title, digest=workshop.digest()),
        controls=judged,
        reference=reference,
        submissions=scored[len(controls) :],
    )
    write_whole(
        out / RESULTS_FILE, msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n"
    )
    return results


def _members(out: Path) -> set[str]:
    """Who is in the class that was run last; folders of earlier classes are left alone."""
    try:
        return set(msgspec.json.decode((out / MARK).read_bytes())["learners"])
    except (OSError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise OutputError(
            f"{out / MARK}: cannot be read ({error}); is this a graded class?"
        ) from error


def _scorables(folder: Path, intern: dict[bytes, np.ndarray]) -> Iterable[Scorable]:
    """Submissions below *folder*, by name; equal arrays are held once for the whole class."""
    for path in sorted(folder.glob(f"*/{SUBMISSION_FILE}")):
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=Kept)
        except (OSError, msgspec.DecodeError) as error:
            raise OutputError(f"{path}: cannot be read: {error}; run this class again") from error
        evidence, blobs = None, None
        if kept.unreadable is None:
            try:
                evidence, read = read_evidence(path.parent / "evidence")
                blobs = {ref: _interned(array, intern) for ref, array in read.items()}
            except EvidenceError:
                evidence = None  # our failure: the submission is not-run, and run again next time
        yield Scorable(
            learner=kept.learner,
            file=kept.file,
            digest=kept.digest,
            notes=tuple(kept.notes),
            unreadable=kept.unreadable,
            evidence=evidence,
            blobs=blobs,
        )


def _interned(array: np.ndarray, intern: dict[bytes, np.ndarray]) -> np.ndarray:
    head = f"{array.dtype} {array.shape}".encode()
    return intern.setdefault(hashlib.sha256(head + array.tobytes()).digest(), array)


def read_results(out: Path) -> Results:
    """
    Read ``results.json``.

    Raises:
        OutputError: It is missing or of another version.
    """
    try:
        return msgspec.json.decode((out / RESULTS_FILE).read_bytes(), type=Results)
    except (OSError, msgspec.DecodeError) as error:
        raise OutputError(
            f"{out / RESULTS_FILE}: no results that can be read ({error}); "
            f"`nbassay score {out}` makes them"
        ) from error


def report_class(out: Path, *, workshop: Workshop) -> Results:
    """
    Render everything that people read from ``results.json``.

    Raises:
        OutputError: There are no results, or a file cannot be written.
    """
    results = read_results(out)
    sets = read_pristine(workshop).sets
    test = sets.get("test")
    write_reports(
        results,
        workshop_title=workshop.manifest.title,
        reports_dir=workshop.path(workshop.manifest.reports),
        pristine_rows=None if test is None else lambda index: test.rows[index],
        out=out,
        step_titles=workshop.step_titles,
    )
    return results


def write_run_record(
    out: Path,
    *,
    workshop: Workshop,
    sandbox: Sandbox,
    probes: list[dict[str, object]],
    learners: list[str],
    class_run: ClassRun | None,
) -> None:
    """Write ``run.json``: all that may differ between two runs with equal results."""
    record = {
        "schema": "nbassay/run/1",
        "written": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "nbassay": metadata.version("nbassay"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "sandbox": sandbox.mode,
        "is_isolated": sandbox.is_isolated,
        "probes": probes,
        "limits": dataclasses.asdict(workshop.limits),
        "learners": learners,
        "seconds": class_run.seconds if class_run else {},
        "kept": class_run.reused if class_run else 0,
    }
    write_whole(out / MARK, msgspec.json.format(msgspec.json.encode(record)) + b"\n")
