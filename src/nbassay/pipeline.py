"""The stages put together: run, score, report. Each reads the files that the one before it left."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import platform
from collections.abc import Collection, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal

import msgspec

from nbassay.answers import Answers
from nbassay.checking.case import read_bounds
from nbassay.classrun import ClassRun, Progress, Task, default_jobs, run_tasks, tasks_of
from nbassay.classscore import Scorer, score_learners
from nbassay.errors import ManifestError, OutputError
from nbassay.files import MARK, write_whole
from nbassay.identical import identical_learners, with_notes_of_same_code
from nbassay.kept_controls import KeptControls
from nbassay.places import Place, here
from nbassay.pristine import data_digest, read_pristine
from nbassay.records import SCHEMA_RESULTS, ControlResult, Results, SubmissionResult, WorkshopId
from nbassay.renaming import why_not_renamable
from nbassay.repeats import may_be_unlucky
from nbassay.reporting.write import write_reports
from nbassay.running import USUAL, Shortcuts
from nbassay.sandbox import ProbeResult, Sandbox, Walls
from nbassay.scoring import class_notes, judge_control
from nbassay.stages import Stages, read_stages
from nbassay.store import (
    CHALLENGE,
    LEARNERS,
    MEASURED,
    MOST_ATTEMPTS,
    SUBMISSION_FILE,
    Mark,
    forget_deleted,
    lay_folders,
    read_mark,
    read_results,
    read_sheet,
    read_submissions,
    read_used,
    submission_files,
    write_results,
)
from nbassay.submissions import Submission, slug_of
from nbassay.trust import fresh_runs
from nbassay.workshop import Workshop

Challenge = Literal["suspicious", "all", "never"]
"""Whose notebooks run once more with renamed classes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a class is run."""

    workshop: Workshop
    out: Path
    """The class's output folder, owned by the caller."""
    jobs: int
    """Boxes at once."""
    is_fresh: bool
    """Run even what was run before."""
    progress: Progress
    shortcuts: Shortcuts = USUAL
    kept: KeptControls | None = None
    """Controls that earlier classes ran."""
    challenge: Challenge = "suspicious"
    """Whose notebooks run once more with renamed classes (see `nbassay.renaming`)."""
    sandbox: Sandbox | None = None
    """Of this machine; None where a cluster runs the class."""
    probes: Sequence[ProbeResult] = ()
    """What was tried on the sandbox's walls before the class."""
    cluster: Place | None = None
    """Runs the notebooks instead of this machine."""

    @property
    def processes(self) -> int:
        """That score, here: as many as boxes, but no more than this machine has cores."""
        return min(self.jobs, default_jobs())

    @property
    def walls(self) -> Walls:
        """What keeps notebooks from the machines they run on."""
        if self.cluster is not None:
            return self.cluster.walls
        assert self.sandbox is not None
        return self.sandbox

    @property
    def usable_kept(self) -> KeptControls | None:
        """
        Controls that earlier classes ran; None where notebooks could lay something in, and where
        other machines run the class.
        """
        return self.kept if self.cluster is None and self.walls.is_isolated else None

    @contextlib.contextmanager
    def place(self) -> Iterator[Place]:
        """Where notebooks run, for as long as the block runs."""
        if self.cluster is not None:
            yield self.cluster
            return
        assert self.sandbox is not None
        with here(self.workshop, self.sandbox) as place:
            yield place


def run_class(
    options: RunOptions, submissions: Sequence[Submission], controls: Sequence[Submission]
) -> ClassRun:
    """
    Run a class and its controls; what was run before is not run again.

    Raises:
        DataError: Lab data are missing or not the pinned ones.
        KeyboardInterrupt: What is done stays done.
    """
    learners = class_of(options, submissions)
    if not (options.out / MARK).exists():
        _write_run_record(options, [], None)  # from here on the folder is known to be ours
    lay_folders(options.out, learners)
    _write_run_record(options, learners, None)
    class_run = _run(options, tasks_of(options.out, submissions, controls), None)
    _write_run_record(options, learners, class_run)
    return class_run


def class_of(options: RunOptions, submissions: Sequence[Submission]) -> list[str]:
    """
    Ids of the class: who was graded into the folder before stays, who is new comes in.

    Raises:
        OutputError: The folder holds a class of another workshop.
    """
    learners = {item.learner for item in submissions}
    if (options.out / MARK).exists():
        mark = read_mark(options.out)
        _refuse_other_workshop(options.out, mark, options.workshop)
        learners |= {
            learner
            for learner in mark.learners
            if (options.out / "learners" / learner / SUBMISSION_FILE).exists()
        }
    return sorted(learners)


def _refuse_other_workshop(out: Path, mark: Mark, workshop: Workshop) -> None:
    if mark.workshop != workshop.manifest.title:
        raise OutputError(
            f"{out}: holds a class of the workshop {mark.workshop!r}, this is "
            f"{workshop.manifest.title!r}; give another folder with -o, or the right --workshop"
        )


def grade_class(
    options: RunOptions, submissions: Sequence[Submission], controls: Sequence[Submission]
) -> Results:
    """
    Run, score and report; notebooks that may have missed an accuracy by chance run again.

    Training is random: a bound that covers 99 % of right solutions would still fail one in a
    hundred. So a run below it is repeated up to twice with fresh seeds, and the best counts (see
    `nbassay.repeats`). Whose work may have been brought along runs again with renamed classes (see
    `nbassay.provenance`).

    Raises:
        ManifestError: Checks, rubric or calibration cannot be used.
        DataError: Lab data are missing or not the pinned ones.
        KeyboardInterrupt: What is done stays done.
    """
    why_not = why_not_renamable(read_pristine(options.workshop))
    if why_not is not None and options.challenge == "all":
        raise ManifestError(
            f"{options.workshop.folder}: nobody can be challenged with renamed classes: {why_not}; "
            "leave --challenge all out"
        )
    class_run = run_class(options, submissions, controls)
    tasks = tasks_of(options.out, submissions, controls)
    unlucky, challenged = _scored_for_more(options)
    for attempt in range(1, MOST_ATTEMPTS):
        if not unlucky:
            break
        _run_again(options, tasks, unlucky, attempt, class_run)
        unlucky, challenged = _scored_for_more(options)
    if challenged and why_not is None:
        _run_again(options, tasks, challenged, CHALLENGE, class_run)
        score_class(options.out, workshop=options.workshop, jobs=options.processes)
    results = report_class(options.out, workshop=options.workshop)
    if options.usable_kept is not None:
        _keep_controls(options.usable_kept, options.out, results, class_run)
    return results


def _scored_for_more(options: RunOptions) -> tuple[set[Path], set[Path]]:
    """
    Score the class: folders to run again with fresh seeds, and with renamed classes.

    The results of a large class are large: they are let go before the next ones are made.
    """
    results = score_class(options.out, workshop=options.workshop, jobs=options.processes)
    return _unlucky(results, options), _to_be_challenged(results, options)


def _run_again(
    options: RunOptions,
    tasks: Sequence[Task],
    folders: Collection[Path],
    attempt: int,
    class_run: ClassRun,
) -> None:
    again = [dataclasses.replace(task, attempt=attempt) for task in tasks if task.folder in folders]
    _run(options, again, class_run)
    _write_run_record(options, sorted(read_mark(options.out).learners), class_run)


def _keep_controls(kept: KeptControls, out: Path, results: Results, class_run: ClassRun) -> None:
    """Those that were run now and came out as expected; none that came out otherwise."""
    for control in results.controls:
        folder = out / "controls" / slug_of(control.name)
        if not control.as_expected:
            kept.forget(folder)
        elif folder.name in class_run.controls_run:
            kept.keep(folder)


def _run(options: RunOptions, tasks: Sequence[Task], class_run: ClassRun | None) -> ClassRun:
    stages = Stages()
    with contextlib.ExitStack() as stack:
        with stages.stage("start"):
            place = stack.enter_context(options.place())
        class_run = run_tasks(
            tasks,
            workshop=options.workshop,
            place=place,
            jobs=options.jobs,
            progress=options.progress,
            is_fresh=options.is_fresh,
            shortcuts=options.shortcuts,
            kept=options.usable_kept,
            class_run=class_run,
            stages=stages,
        )
    stages.keep(options.out)
    return class_run


def _unlucky(results: Results, options: RunOptions) -> set[Path]:
    """Folders of submissions whose lost accuracies may be chance."""
    bounds, calibrated = options.workshop.manifest.bounds, read_bounds(options.workshop)
    graded = [(options.out / "learners" / one.learner, one) for one in results.submissions]
    if results.reference is not None:
        graded.append((options.out / "controls" / results.reference.learner, results.reference))
    return {folder for folder, one in graded if may_be_unlucky(one, bounds, calibrated)}


def _to_be_challenged(results: Results, options: RunOptions) -> set[Path]:
    """Folders of submissions that are to show once more that their work is done in the run."""
    if options.challenge == "never":
        return set()
    return {
        options.out / "learners" / one.learner
        for one in results.submissions
        if one.score
        and one.details is not None
        and one.details.provenance is not None
        and one.details.provenance.challenge == "not-run"
        and (options.challenge == "all" or one.details.provenance.signs)
    }


def score_class(out: Path, *, workshop: Workshop, jobs: int = 1) -> Results:
    """
    Score all evidence below *out* and write ``results.json``; forget whose folder was deleted.

    Args:
        jobs: Processes that score; a small class needs only this one.

    Raises:
        ManifestError: Checks, rubric or calibration cannot be used.
        DataError: Lab data are missing or not the pinned ones.
        OutputError: Nothing was run into *out*.
    """
    forget_deleted(out)
    measured = out / MEASURED
    stages = Stages()
    results, used = _scored(out, stages, workshop=workshop, jobs=jobs, measured=measured)
    Answers(measured).forget_others(used)
    write_results(out, results)
    stages.keep(out)
    return results


def scored_class(out: Path, *, workshop: Workshop) -> Results:
    """
    What the evidence below *out* is worth; nothing there is changed.

    Raises:
        ManifestError, DataError, OutputError: As `score_class`.
    """
    return _scored(out, Stages(), workshop=workshop, jobs=1, measured=None)[0]


def _scored(
    out: Path, stages: Stages, *, workshop: Workshop, jobs: int, measured: Path | None
) -> tuple[Results, set[str]]:
    """Results, and names of the answers in *measured* that they came from."""
    mark = read_mark(out)
    _refuse_other_workshop(out, mark, workshop)
    with stages.stage("read"):
        controls = list(read_submissions(out / "controls", {}, data=data_digest(workshop)))
    scorer = Scorer(
        out=out,
        workshop=workshop,
        pristine=read_pristine(workshop),
        are_all_challenged=mark.are_all_challenged,
        measured=measured,
    )
    # Controls come first, and alone: what is wrong with the checks themselves is told at once.
    of_controls = scorer.submissions(controls, stages, are_challenged=False)
    sheets: list[SubmissionResult] = []
    used = of_controls.used
    for group in score_learners(scorer, _by_name(out, mark.learners), jobs=jobs):
        sheets += group.sheets
        used |= group.used
        stages.add(group.seconds)
    judged, reference = _judge(workshop, of_controls.sheets)
    identical = identical_learners(out / LEARNERS, mark.learners)
    results = Results(
        schema=SCHEMA_RESULTS,
        workshop=WorkshopId(title=workshop.manifest.title, digest=workshop.digest()),
        controls=judged,
        reference=reference,
        submissions=with_notes_of_same_code(sheets, identical),
        identical=identical,
        notes=class_notes(controls, workshop),
        fresh_runs=fresh_runs(workshop),
    )
    return results, used


def _by_name(out: Path, learners: Collection[str]) -> list[str]:
    """Learners by name; those who were not run yet come last."""
    there = [path.parent.name for path in submission_files(out / LEARNERS)]
    return [*(one for one in there if one in learners), *sorted(set(learners) - set(there))]


def _judge(
    workshop: Workshop, scored: Sequence[SubmissionResult]
) -> tuple[list[ControlResult], SubmissionResult | None]:
    """How the controls came out, and the reference's own sheet."""
    by_name = {result.learner: result for result in scored}
    judged: list[ControlResult] = []
    reference: SubmissionResult | None = None
    for control in workshop.manifest.controls:
        result = by_name.get(slug_of(control.name))
        if result is None:
            continue
        judged.append(judge_control(control, result))
        if control.notebook == workshop.manifest.reference:
            reference = result
    if reference is None and workshop.manifest.reference.endswith(".json"):
        reference = read_sheet(workshop.path(workshop.manifest.reference))
    return judged, reference


def report_class(out: Path, *, workshop: Workshop) -> Results:
    """
    Render everything that people read from ``results.json``.

    Raises:
        OutputError: There are no results, or a file cannot be written.
    """
    results = read_results(out)
    stages = Stages()
    with stages.stage("render"):
        test = read_pristine(workshop).sets.get("test")
        results = write_reports(
            results,
            workshop_title=workshop.manifest.title,
            reports_dir=workshop.path(workshop.manifest.reports),
            pristine_rows=None if test is None else lambda index: test.rows[index],
            out=out,
            step_titles=workshop.step_titles,
        )
    stages.keep(out)
    return results


def _write_run_record(
    options: RunOptions, learners: Sequence[str], class_run: ClassRun | None
) -> None:
    """Write ``run.json``: all that may differ between two runs with equal results."""
    record = {
        "schema": "nbassay/run/1",
        "written": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "nbassay": metadata.version("nbassay"),
        "python": platform.python_version(),
        "workshop": options.workshop.manifest.title,
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "sandbox": options.walls.mode,
        "is_isolated": options.walls.is_isolated,
        "is_warm": options.shortcuts.is_warm,
        "why_not_warm": None if options.sandbox is None else options.sandbox.why_not_warm,
        "on_a_cluster": options.cluster is not None,
        "probes": [dataclasses.asdict(result) for result in options.probes],
        "limits": dataclasses.asdict(options.workshop.limits),
        "challenge": options.challenge,
        "learners": learners,
        "used": {
            learner: used
            for learner in learners
            if (used := read_used(options.out / "learners" / learner)) is not None
        },
        "kept": class_run.reused if class_run else 0,
        "controls_of_earlier_classes": sorted(class_run.controls_taken) if class_run else [],
        "stages": read_stages(options.out) if class_run else {},
    }
    text = msgspec.json.format(msgspec.json.encode(record))
    write_whole(options.out / MARK, text + b"\n")
