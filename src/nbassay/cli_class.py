"""``nbassay grade``, ``run``, ``score``, ``report``, ``check``: a class, or a learner's own."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console

from nbassay.classrun import control_submissions, default_jobs, is_worth_warming
from nbassay.errors import SandboxError
from nbassay.files import is_graded_class, owned
from nbassay.kept_controls import kept_controls
from nbassay.options import (
    BELOW,
    CHALLENGE,
    CLUSTER,
    COLD,
    CONTROL_WRONG,
    DONE,
    FRESH,
    JOBS,
    JSON,
    JSON_TOO,
    NOT_RUN,
    OUTPUT,
    PROCESSES,
    PROFILE,
    QUIET,
    SANDBOX,
    SLOW_FIT,
    TIMEOUT,
    WORKSHOP,
    open_workshop,
    proven_walls,
    tell_if_open,
)
from nbassay.pipeline import (
    Challenge,
    RunOptions,
    class_of,
    grade_class,
    report_class,
    run_class,
    score_class,
)
from nbassay.progress import progress
from nbassay.records import Results
from nbassay.running import Shortcuts, begin_warm
from nbassay.sandbox.choose import choose
from nbassay.stages import read_stages
from nbassay.submissions import Submission, find_submissions


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@OUTPUT
@WORKSHOP
@JOBS
@TIMEOUT
@SANDBOX
@CLUSTER
@FRESH
@SLOW_FIT
@COLD
@CHALLENGE
@click.option("--fail-under", metavar="MARK", type=float, help="Exit 1 if a mark is below this.")
@PROFILE
@QUIET
@JSON
def grade(
    paths: tuple[Path, ...],
    out: Path,
    workshop_folder: Path | None,
    jobs: int | None,
    timeout: int | None,
    sandbox_name: str,
    cluster_address: str | None,
    is_fresh: bool,
    is_slow: bool,
    is_cold: bool,
    challenge: Challenge,
    fail_under: float | None,
    has_profile: bool,
    is_quiet: bool,
    as_json: bool,
) -> int:
    """
    Run, score and report a class.

    PATHS are folders of notebooks (one file a learner, or one folder a learner), single notebooks,
    or zip archives of a learning platform.
    """
    workshop = open_workshop(workshop_folder, timeout)
    submissions = find_submissions(paths)
    options = RunOptions(
        workshop=workshop,
        out=out,
        jobs=jobs or default_jobs(),
        is_fresh=is_fresh,
        shortcuts=Shortcuts(is_fast=not is_slow, is_warm=not is_cold),
        kept=kept_controls(),
        challenge=challenge,
        progress=progress(is_quiet),
    )
    controls = control_submissions(workshop)
    count = len(submissions) + len(controls)
    with _where(options, sandbox_name, cluster_address, jobs, count) as options, owned(out):
        _tell_of_earlier(options, submissions)
        results = grade_class(options, submissions, controls)
    _print_class(results, as_json)
    click.echo(f"Class page: {out / 'index.html'}", err=True)
    click.echo(f"Reports:    {out / 'learners'}/*/report.html", err=True)
    _tell_stages(out, has_profile)
    return _exit_code(results, fail_under)


@click.command(short_help="Run notebooks and keep their evidence.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@OUTPUT
@WORKSHOP
@JOBS
@TIMEOUT
@SANDBOX
@CLUSTER
@FRESH
@SLOW_FIT
@COLD
@PROFILE
@QUIET
def run(
    paths: tuple[Path, ...],
    out: Path,
    workshop_folder: Path | None,
    jobs: int | None,
    timeout: int | None,
    sandbox_name: str,
    cluster_address: str | None,
    is_fresh: bool,
    is_slow: bool,
    is_cold: bool,
    has_profile: bool,
    is_quiet: bool,
) -> int:
    """Run notebooks and keep their evidence; `score` and `report` go on from it."""
    workshop = open_workshop(workshop_folder, timeout)
    submissions = find_submissions(paths)
    options = RunOptions(
        workshop=workshop,
        out=out,
        jobs=jobs or default_jobs(),
        is_fresh=is_fresh,
        shortcuts=Shortcuts(is_fast=not is_slow, is_warm=not is_cold),
        kept=kept_controls(),
        progress=progress(is_quiet),
    )
    controls = control_submissions(workshop)
    count = len(submissions) + len(controls)
    with _where(options, sandbox_name, cluster_address, jobs, count) as options, owned(out):
        class_run = run_class(options, submissions, controls)
    _tell_stages(out, has_profile)
    return NOT_RUN if class_run.not_run else DONE


@click.command()
@click.argument("out", type=click.Path(path_type=Path, exists=True, file_okay=False))
@WORKSHOP
@PROCESSES
@PROFILE
@JSON
def score(
    out: Path, workshop_folder: Path | None, jobs: int | None, has_profile: bool, as_json: bool
) -> int:
    """Score the evidence in OUT again; no notebook is run."""
    workshop = open_workshop(workshop_folder)
    with owned(out, must_be_graded=True):
        results = score_class(out, workshop=workshop, jobs=jobs or default_jobs())
    _print_class(results, as_json)
    _tell_stages(out, has_profile)
    return _exit_code(results, None)


@click.command()
@click.argument("out", type=click.Path(path_type=Path, exists=True, file_okay=False))
@WORKSHOP
@PROFILE
def report(out: Path, workshop_folder: Path | None, has_profile: bool) -> int:
    """Render the reports in OUT again from its results.json."""
    with owned(out, must_be_graded=True):
        results = report_class(out, workshop=open_workshop(workshop_folder))
    click.echo(out / "index.html")
    _tell_stages(out, has_profile)
    return _exit_code(results, None)


@click.command(short_help="Check your own notebook.")
@click.argument("notebook", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "-o",
    "--output",
    "out",
    metavar="OUT",
    type=click.Path(path_type=Path),
    default=Path("checked"),
    show_default=True,
    help="Folder for the report.",
)
@WORKSHOP
@TIMEOUT
@SANDBOX
@FRESH
@SLOW_FIT
@QUIET
@JSON_TOO
def check(
    notebook: Path,
    out: Path,
    workshop_folder: Path | None,
    timeout: int | None,
    sandbox_name: str,
    is_fresh: bool,
    is_slow: bool,
    is_quiet: bool,
    as_json: bool,
) -> int:
    """
    Check your own notebook: a short summary here, and a report to open.

    Without a sandbox on this machine your notebook runs with your own rights, as it does in
    Jupyter, and the result says so.
    """
    from nbassay.reporting.terminal import print_check

    workshop = open_workshop(workshop_folder, timeout)
    try:
        sandbox = choose(sandbox_name)
    except SandboxError:
        if sandbox_name != "auto":
            raise
        sandbox = choose("none")
        click.echo("No sandbox on this machine: your notebook runs with your own rights.", err=True)
    submissions = find_submissions([notebook])
    with owned(out):
        options = RunOptions(
            workshop=workshop,
            out=out,
            jobs=default_jobs(),
            sandbox=sandbox,
            is_fresh=is_fresh,
            shortcuts=Shortcuts(is_fast=not is_slow),
            kept=kept_controls(),
            progress=progress(is_quiet),
        )
        controls = control_submissions(workshop, only=workshop.manifest.reference)
        results = grade_class(options, submissions, controls)
    mine = next(one for one in results.submissions if one.learner == submissions[0].learner)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(mine)).decode())
    else:
        print_check(mine, report=out / "learners" / mine.learner / "report.html", console=Console())
    code = _exit_code(results, None)
    return code or (BELOW if mine.score is None or mine.score < mine.max_score else DONE)


def _tell_of_earlier(options: RunOptions, submissions: Sequence[Submission]) -> None:
    """Say who stays in the class from an earlier call: nothing is overwritten silently."""
    stay = set(class_of(options, submissions)) - {item.learner for item in submissions}
    if stay:
        click.echo(
            f"nbassay: {len(stay)} graded into {options.out} before stay in the class "
            f"({', '.join(sorted(stay)[:3])}{', …' if len(stay) > 3 else ''}); "
            "for another class give another folder with -o",
            err=True,
        )


@contextlib.contextmanager
def _where(
    options: RunOptions,
    sandbox_name: str,
    cluster_address: str | None,
    jobs: int | None,
    count: int,
) -> Iterator[RunOptions]:
    """Options with the place where *count* notebooks run, its walls tried, for the block."""
    if cluster_address is None:
        sandbox = choose(sandbox_name)
        # Of a class that was graded before, there may be nothing to run.
        if is_worth_warming(options.shortcuts, count) and not is_graded_class(options.out):
            begin_warm(options.workshop, sandbox)
        yield dataclasses.replace(options, sandbox=sandbox, probes=proven_walls(sandbox))
        return
    from nbassay.cluster import open_cluster

    def tell(message: str) -> None:
        click.echo(f"nbassay: {message}", err=True)

    with open_cluster(cluster_address, options.workshop, sandbox_name, tell=tell) as cluster:
        tell_if_open(cluster.walls)
        yield dataclasses.replace(
            options, cluster=cluster, probes=cluster.probes, jobs=jobs or cluster.jobs
        )


def _print_class(results: Results, as_json: bool) -> None:
    from nbassay.reporting.terminal import print_class

    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(results)).decode())
    else:
        print_class(results, console=Console())


def _tell_stages(out: Path, has_profile: bool) -> None:
    from nbassay.reporting.terminal import print_stages

    if has_profile:
        print_stages(read_stages(out), console=Console(stderr=True))


def _exit_code(results: Results, fail_under: float | None) -> int:
    """The highest that applies."""
    if any(not control.as_expected for control in results.controls):
        return CONTROL_WRONG
    if any(one.status == "not-run" for one in results.submissions):
        return NOT_RUN
    if fail_under is not None and any((one.score or 0) < fail_under for one in results.submissions):
        return BELOW
    return DONE
