"""
The command line: arguments in, stages called, exit code out.

Results go to standard output, progress and messages to standard error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from nbassay.classrun import Progress, control_submissions, default_jobs
from nbassay.cli_kit import kit
from nbassay.cli_lab import lab
from nbassay.cli_regress import regress
from nbassay.errors import AssayError, SandboxError, UsageError
from nbassay.files import owned
from nbassay.options import (
    BELOW,
    CHALLENGE,
    CLUSTER,
    COLD,
    CONTROL_WRONG,
    DONE,
    FRESH,
    INTERRUPTED,
    JOBS,
    JSON,
    JSON_TOO,
    NO_SANDBOX,
    NOT_RUN,
    OUTPUT,
    PROCESSES,
    PROFILE,
    QUIET,
    SANDBOX,
    SLOW_FIT,
    TIMEOUT,
    USAGE,
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
from nbassay.records import Results
from nbassay.reporting.text import visible
from nbassay.sandbox.choose import choose
from nbassay.stages import read_stages
from nbassay.store import read_results
from nbassay.submissions import Submission, find_submissions


class BarProgress:
    """A bar with the time left, for a terminal."""

    def __init__(self, console: Console) -> None:
        self._bar = RichProgress(
            TextColumn("running notebooks"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[last]}"),
            console=console,
            transient=True,
        )

    def start(self, total: int) -> None:
        self._bar.start()
        self._task = self._bar.add_task("", total=total, last="")

    def done(self, name: str, how: str) -> None:
        self._bar.update(self._task, advance=1, last=f"{name}: {how}")

    def close(self) -> None:
        self._bar.stop()


class LineProgress:
    """A plain line a notebook, with the time left, for a pipe or a log."""

    def start(self, total: int) -> None:
        self._total, self._done, self._started = total, 0, time.monotonic()

    def done(self, name: str, how: str) -> None:
        self._done += 1
        left = time_left(time.monotonic() - self._started, self._done, self._total)
        click.echo(f"[{self._done}/{self._total}{left}] {name}: {how}", err=True)

    def close(self) -> None: ...


def time_left(seconds: float, done: int, total: int) -> str:
    """How long the rest of *total* takes if it goes on like the *done*: ``, about 12 min left``."""
    left = seconds / done * (total - done)
    if left < 60:
        return ""
    minutes = round(left / 60)
    return f", about {minutes} min left" if minutes < 120 else f", about {minutes / 60:.0f} h left"


class NoProgress:
    """Says nothing."""

    def start(self, total: int) -> None: ...

    def done(self, name: str, how: str) -> None: ...

    def close(self) -> None: ...


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="nbassay")
def cli() -> None:
    """Grade notebook labs by measuring what the learner's notebook did."""
    if not __debug__:
        raise UsageError(
            "python -O switches assertions off, and the checks are assertions: run without -O"
        )


@cli.command()
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
        is_fast=not is_slow,
        is_warm=not is_cold,
        challenge=challenge,
        progress=_progress(is_quiet),
    )
    with _where(options, sandbox_name, cluster_address, jobs) as options, owned(out):
        _tell_of_earlier(options, submissions)
        results = grade_class(options, submissions, control_submissions(workshop))
    _print_class(results, as_json)
    click.echo(f"Class page: {out / 'index.html'}", err=True)
    click.echo(f"Reports:    {out / 'learners'}/*/report.html", err=True)
    _tell_stages(out, has_profile)
    return _exit_code(results, fail_under)


@cli.command(short_help="Run notebooks and keep their evidence.")
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
        is_fast=not is_slow,
        is_warm=not is_cold,
        progress=_progress(is_quiet),
    )
    with _where(options, sandbox_name, cluster_address, jobs) as options, owned(out):
        class_run = run_class(options, submissions, control_submissions(workshop))
    _tell_stages(out, has_profile)
    return NOT_RUN if class_run.not_run else DONE


@cli.command()
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


@cli.command()
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


@cli.command(short_help="Check your own notebook.")
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
            is_fast=not is_slow,
            progress=_progress(is_quiet),
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


@cli.command(short_help="Show what this machine offers.")
@WORKSHOP
@SANDBOX
@JSON_TOO
def doctor(workshop_folder: Path | None, sandbox_name: str, as_json: bool) -> int:
    """Show what this machine offers: sandbox and its walls, versions, lab data."""
    from nbassay.doctor import examine, print_findings

    findings = examine(workshop_folder, sandbox_name)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(findings)).decode())
    else:
        print_findings(findings, Console())
    if not findings.sandbox_holds:
        return NO_SANDBOX
    return 2 if findings.problems else DONE


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@WORKSHOP
def data(folder: Path, workshop_folder: Path | None) -> int:
    """Unpack the lab's data files into FOLDER."""
    from nbassay.pristine import unpack_data

    for path in unpack_data(open_workshop(workshop_folder), folder):
        click.echo(path)
    return DONE


@cli.command(short_help="Measure how right solutions scatter.")
@click.option(
    "--runs",
    metavar="N",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Runs in all; a bound needs at least 299, and is less a matter of luck with 473.",
)
@click.option(
    "--first-seed", metavar="SEED", type=click.IntRange(min=0), default=0, show_default=True
)
@click.option(
    "-o",
    "--output",
    "target",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Calibration to write or carry on.  [default: the workshop's]",
)
@click.option(
    "--against",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Compare with this calibration; exit 1 if the accuracies drifted.",
)
@WORKSHOP
@JOBS
@SANDBOX
@QUIET
def calibrate(
    runs: int,
    first_seed: int,
    target: Path | None,
    against: Path | None,
    workshop_folder: Path | None,
    jobs: int | None,
    sandbox_name: str,
    is_quiet: bool,
) -> int:
    """
    Run the reference under many seeds and keep how its accuracies scatter.

    What is there is carried on, and every run is kept as soon as it ends.
    """
    from nbassay import calibrating
    from nbassay.calibration import read_calibration
    from nbassay.drift import drift_lines, find_drift

    workshop = open_workshop(workshop_folder)
    calibrated = None if against is None else read_calibration(against)
    if target is None:
        if workshop.manifest.calibration is None:
            raise UsageError("workshop.toml names no calibration; give a file with -o")
        target = workshop.path(workshop.manifest.calibration)
    if against is not None and against.resolve() == target.resolve():
        raise UsageError(f"{against}: a calibration compared with itself; give another with -o")
    found = calibrating.calibrate(
        workshop,
        target,
        sandbox=choose(sandbox_name),
        runs=runs,
        first_seed=first_seed,
        jobs=jobs or default_jobs(),
        progress=_progress(is_quiet),
    )
    for check_id, bound in workshop.manifest.bounds.items():
        values = sorted(getattr(run, bound.measure) for run in found.runs)
        below = sum(value < bound.nominal for value in values)
        click.echo(
            f"{check_id}: {len(values)} runs, {values[0]:.4f} to {values[-1]:.4f}, "
            f"{below} below the nominal {bound.nominal:g}"
        )
    if calibrated is None:
        return DONE
    drift = find_drift(found, calibrated=calibrated, bounds=workshop.manifest.bounds)
    for line in drift_lines(drift):
        click.echo(line)
    return BELOW if drift.drifted else DONE


@cli.command()
@click.argument("before", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("after", type=click.Path(path_type=Path, exists=True, file_okay=False))
@JSON_TOO
def diff(before: Path, after: Path, as_json: bool) -> int:
    """Whose outcomes changed between two graded folders, and why."""
    from nbassay.diff import compare
    from nbassay.reporting.terminal import print_comparison

    found = compare(read_results(before), read_results(after))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        print_comparison(found, console=Console())
    return DONE


cli.add_command(kit)
cli.add_command(lab)
cli.add_command(regress)


def main() -> None:
    """Run the command line; the only place that turns an error into an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without “–” still shows the rest
    signal.signal(signal.SIGTERM, _interrupt)  # how batch systems end a job
    try:
        code = cli.main(prog_name="nbassay", standalone_mode=False)
    except AssayError as error:
        # It may name files of learners, or of an archive.
        click.echo(f"nbassay: {visible(str(error))}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE)
    except (KeyboardInterrupt, click.Abort):
        click.echo(
            "nbassay: interrupted; what is done stays done, the same command goes on from there",
            err=True,
        )
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(BELOW)
    except Exception:
        traceback.print_exc()
        click.echo(
            "nbassay: this is a bug in nbassay; please report it with the lines above", err=True
        )
        sys.exit(USAGE)
    sys.exit(code or DONE)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


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
    options: RunOptions, sandbox_name: str, cluster_address: str | None, jobs: int | None
) -> Iterator[RunOptions]:
    """Options with the place where notebooks run, its walls tried, while the block runs."""
    if cluster_address is None:
        sandbox = choose(sandbox_name)
        yield dataclasses.replace(options, sandbox=sandbox, probes=proven_walls(sandbox))
        return
    from nbassay.cluster import open_cluster

    with open_cluster(cluster_address, options.workshop, sandbox_name) as cluster:
        tell_if_open(cluster.walls)
        yield dataclasses.replace(
            options, cluster=cluster, probes=cluster.probes, jobs=jobs or cluster.jobs
        )


def _progress(is_quiet: bool) -> Progress:
    console = Console(stderr=True)
    if is_quiet:
        return NoProgress()
    return BarProgress(console) if console.is_terminal else LineProgress()


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
