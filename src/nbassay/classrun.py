"""The run stage over a class: boxes side by side, what is done stays done."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from nbassay.errors import (
    AssayError,
    EvidenceError,
    NotebookError,
    our_failure,
)
from nbassay.evidence import read_evidence, write_evidence
from nbassay.executed import executed_notebook, read_outputs
from nbassay.files import refuse_link, write_whole
from nbassay.kept_controls import KeptControls
from nbassay.machine import free_bytes, usable_cores
from nbassay.notebook import Notebook, decode_notebook, digest_of
from nbassay.once import Once
from nbassay.parallel import side_by_side
from nbassay.places import NotRunError, Place
from nbassay.running import USUAL, Run, Shortcuts, evidence_key
from nbassay.stages import Stages
from nbassay.store import (
    CHALLENGE,
    EXECUTED_FILE,
    OUR_FAILURES,
    Kept,
    evidence_by_key,
    evidence_folder,
    failed_on_our_side,
    forget_evidence,
    has_evidence,
    keep,
    read_kept,
)
from nbassay.submissions import Submission, slug_of
from nbassay.workshop import Workshop

MEMORY_A_BOX = 2 << 30
"""Bytes: a fit on the lab's images peaks at 1.6 GB."""
WORTH_WARMING = 3
"""Notebooks: for fewer, the process that imports for them takes longer than it saves."""

NOT_STARTED = "could-not-start"
FAILED = "failed, which is a bug in nbassay"
ALREADY = "already run"
SAME = "same code as another, run once"
BEFORE = "run by an earlier class"
CHANGED = "changed since its first run; grade again"
OTHER_KEY = (
    "it ran with other packages, another nbassay or other lab data than this command found, so "
    "nothing of it was kept; let nobody change them while a class runs, then grade again"
)

_log = logging.getLogger(__name__)


class Progress(Protocol):
    """Hears how far a class is."""

    def start(self, total: int) -> None: ...

    def done(self, name: str, how: str) -> None: ...

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """One notebook to run into one folder."""

    item: Submission
    folder: Path
    attempt: int = 0
    """0 first; every attempt has other seeds. `CHALLENGE` has other names for the classes, too."""
    is_control: bool = False

    @property
    def evidence(self) -> Path:
        """Where its evidence goes."""
        return evidence_folder(self.folder, self.attempt)

    @property
    def is_challenge(self) -> bool:
        return self.attempt == CHALLENGE


@dataclasses.dataclass
class ClassRun:
    """What the run stage did; written to ``run.json``."""

    reused: int = 0
    not_run: int = 0
    """Boxes that failed on our side: tried again next time."""
    controls_run: set[str] = dataclasses.field(default_factory=set)
    """Folder names of those that were run now."""
    controls_taken: set[str] = dataclasses.field(default_factory=set)
    """Of those whose evidence is an earlier class's."""


def default_jobs() -> int:
    """As many boxes as cores, as far as the memory reaches: both as this process may use them."""
    return max(1, min(usable_cores(), free_bytes() // MEMORY_A_BOX))


def why_not_all_cores() -> str | None:
    """What keeps `default_jobs` below the number of the machine's cores; None if nothing does."""
    jobs, cores = default_jobs(), os.cpu_count() or 1
    if jobs >= cores:
        return None
    free_gb = max(0, free_bytes()) / (1 << 30)
    return (
        f"{jobs} at once by default on {cores} cores: this process may use {usable_cores()} "
        f"of them and {free_gb:.1f} GB more memory, {MEMORY_A_BOX >> 30} GB for each notebook; "
        "-j takes another number"
    )


def is_worth_warming(shortcuts: Shortcuts, notebooks: int) -> bool:
    """Whether this many *notebooks* may and should start from a process that imports for them."""
    return shortcuts.is_warm and notebooks >= WORTH_WARMING


def control_submissions(workshop: Workshop, *, only: str | None = None) -> list[Submission]:
    """The control samples as submissions; *only* those with this notebook, if one is given."""
    return [
        Submission(
            learner=slug_of(control.name),
            file=Path(control.notebook).name,
            read=workshop.path(control.notebook).read_bytes,
        )
        for control in workshop.manifest.controls
        if only in (None, control.notebook)
    ]


def tasks_of(
    out: Path, submissions: Sequence[Submission], controls: Sequence[Submission]
) -> list[Task]:
    """The first run of everything, controls first."""
    return [
        *(
            Task(item=item, folder=out / "controls" / item.learner, is_control=True)
            for item in controls
        ),
        *(Task(item=item, folder=out / "learners" / item.learner) for item in submissions),
    ]


def run_tasks(
    tasks: Sequence[Task],
    *,
    workshop: Workshop,
    place: Place,
    jobs: int,
    progress: Progress,
    is_fresh: bool = False,
    shortcuts: Shortcuts = USUAL,
    kept: KeptControls | None = None,
    class_run: ClassRun | None = None,
    stages: Stages | None = None,
) -> ClassRun:
    """
    Run every notebook that was not run before; what is done stays done whatever happens next.

    Args:
        tasks: What to run.
        place: Where.
        jobs: Boxes at once.
        is_fresh: Run even what was run before.
        shortcuts: What may save time; a warm start does only where there are enough tasks.
        kept: Controls that earlier classes ran.
        class_run: Carried on, if there is one.
        stages: Takes what became of the seconds that the *jobs* had, all together.

    Raises:
        DataError: Lab data are missing or not the pinned ones.
        KeyboardInterrupt: After the boxes that were running have ended; the next call goes on.
    """
    class_run = class_run or ClassRun()
    stop = threading.Event()
    progress.start(len(tasks))
    runner = _Runner(
        workshop=workshop,
        place=place,
        is_fresh=is_fresh,
        shortcuts=msgspec.structs.replace(
            shortcuts, is_warm=is_worth_warming(shortcuts, len(tasks))
        ),
        once={
            task.folder.parent: Once(() if is_fresh else _known(task, kept))
            for task in {task.folder.parent: task for task in tasks}.values()
        },
        should_stop=stop.is_set,
    )
    began, slots, worked = time.monotonic(), min(jobs, len(tasks)), Stages()
    ended = side_by_side(tasks, runner.run, jobs=jobs, stop=stop)
    with contextlib.closing(ended), contextlib.closing(progress):
        for task, (how, seconds) in ended:
            worked.add(seconds)
            class_run.reused += how in (ALREADY, SAME, BEFORE)
            class_run.not_run += how in (*OUR_FAILURES, FAILED)
            if task.is_control and task.attempt == 0:
                if how == BEFORE:
                    class_run.controls_taken.add(task.folder.name)
                elif how not in (ALREADY, SAME):
                    class_run.controls_run.add(task.folder.name)
            progress.done(task.item.learner, how + _again(task))
    idle = slots * (time.monotonic() - began) - sum(worked.seconds.values())
    worked.add({"wait": max(0.0, idle)})
    if stages is not None:
        stages.add(worked.seconds)
    return class_run


def _known(task: Task, kept: KeptControls | None) -> Iterator[tuple[str, Path]]:
    """Key and folder of evidence that need not be made again, of those that *task* belongs to."""
    if task.is_control and kept is not None:
        yield from kept.known()
    yield from evidence_by_key(task.folder.parent)


def _again(task: Task) -> str:
    if task.is_challenge:
        return ", again with renamed classes"
    return ", again with fresh seeds" if task.attempt else ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Runner:
    """Runs tasks, from several threads at once."""

    workshop: Workshop
    place: Place
    is_fresh: bool
    shortcuts: Shortcuts
    once: Mapping[Path, Once]
    """Folder of submissions → who has what; learners never share with controls."""
    should_stop: Callable[[], bool]

    def run(self, task: Task) -> tuple[str, Mapping[str, float]]:
        """How it went, in a word or two, and stage → seconds that it took."""
        stages = Stages()
        with stages.stage("collect"):
            how = self._guarded(task, stages)
        return how, stages.seconds

    def _guarded(self, task: Task, stages: Stages) -> str:
        """A mistake of ours with one notebook costs nobody else of the class the mark."""
        if self.should_stop():
            return "interrupted"
        try:
            return self._run(task, stages)
        except AssayError:
            raise
        except NotRunError as error:
            if self.should_stop():
                return "interrupted"
            self._not_run(task, str(error))
            return NOT_STARTED
        except Exception as error:
            _log.exception("%s could not be run", task.item.learner)
            self._not_run(task, our_failure(error, "this notebook"))
            return FAILED

    def _not_run(self, task: Task, why: str) -> None:
        if task.is_challenge:  # what the first run showed still stands
            return
        forget_evidence(task.folder)
        self._keep(task, "", [why], None)

    def _run(self, task: Task, stages: Stages) -> str:
        item, folder, attempt = task.item, task.folder, task.attempt
        refuse_link(folder)
        digest, notes = "", list(item.notes)
        try:
            raw = _read(item)
            digest = digest_of(raw)
            notebook = decode_notebook(raw)
        except NotebookError as error:
            if attempt:
                return CHANGED
            forget_evidence(folder)
            self._keep(task, digest, notes, str(error))
            return "unreadable"
        if attempt and digest != read_kept(folder).digest:
            return CHANGED
        notes += notebook.notes
        code = notebook.code_digest
        key = evidence_key(
            code, self.workshop, self.place.walls, attempt, is_fast=self.shortcuts.is_fast
        )
        if not (self.is_fresh and attempt == 0) and has_evidence(task.evidence, key):
            self._keep(task, digest, notes, None, code)
            outputs = read_outputs(folder / EXECUTED_FILE)
            if outputs is not None:  # its text cells may be others than when it was run
                write_whole(folder / EXECUTED_FILE, executed_notebook(notebook, outputs))
            return ALREADY
        once = self.once[folder.parent]
        with contextlib.ExitStack() as stack:
            with stages.stage("wait"):
                made = stack.enter_context(once.turn(key))
            run = None if made is None else _made_before(made, key)
            how = SAME if made and made.is_relative_to(folder.parent) else BEFORE
            if run is None:
                run = self._placed(notebook, attempt, stages)
                if run.evidence.key != key:
                    raise NotRunError(OTHER_KEY)
                reason = run.evidence.ending.reason
                how = "done" if reason == "finished" else reason
            if how == "interrupted":
                return how
            forget_evidence(folder, first=attempt)  # repeats of an older run are not of this one
            if attempt == 0:
                write_whole(folder / EXECUTED_FILE, executed_notebook(notebook, run.outputs))
            self._keep(task, digest, notes, None, code)
            write_evidence(task.evidence, run.evidence, run.blobs)
            once.add(key, task.evidence)
        return how

    def _placed(self, notebook: Notebook, attempt: int, stages: Stages) -> Run:
        """Run it; what the place does not tell of, it waited there."""
        with stages.stage("wait"):
            run = self.place.run(
                notebook,
                attempt=attempt,
                shortcuts=self.shortcuts,
                should_stop=self.should_stop,
            )
            stages.add(run.seconds)
        return run

    def _keep(
        self,
        task: Task,
        digest: str,
        notes: list[str],
        unreadable: str | None,
        code: str | None = None,
    ) -> None:
        item = task.item
        keep(
            task.folder,
            Kept(
                learner=item.learner,
                file=item.file,
                digest=digest,
                notes=notes,
                unreadable=unreadable,
                code=code,
            ),
        )


def _read(item: Submission) -> bytes:
    try:
        return item.read()
    except OSError as error:
        raise NotRunError(
            f"the file could not be read on this machine ({error.strerror}); grade again"
        ) from error


def _made_before(folder: Path, key: str) -> Run | None:
    """The run that left its evidence in *folder*; None when it cannot be used again."""
    # Outputs first: whoever runs another notebook into that folder removes the evidence before.
    outputs = read_outputs(folder.parent / EXECUTED_FILE)
    if outputs is None:
        return None
    try:
        evidence, blobs = read_evidence(folder)
    except EvidenceError:
        return None
    if evidence.key != key or failed_on_our_side(evidence):
        return None
    return Run(evidence=evidence, blobs=blobs, outputs=outputs)
