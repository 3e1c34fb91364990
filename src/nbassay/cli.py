"""
The command line: arguments in, stages called, exit code out.

Results go to standard output, progress and messages to standard error.
"""

from __future__ import annotations

import io
import signal
import sys
import traceback
from pathlib import Path

import click
import msgspec
from rich.console import Console

from nbassay.classrun import default_jobs
from nbassay.cli_class import check, grade, report, run, score
from nbassay.cli_kit import kit
from nbassay.cli_lab import lab
from nbassay.cli_regress import regress
from nbassay.errors import AssayError, UsageError
from nbassay.options import (
    BELOW,
    DONE,
    INTERRUPTED,
    JOBS,
    JSON_TOO,
    NO_SANDBOX,
    QUIET,
    SANDBOX,
    USAGE,
    WORKSHOP,
    open_workshop,
)
from nbassay.progress import progress
from nbassay.reporting.text import visible
from nbassay.sandbox.choose import choose
from nbassay.store import read_results


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="nbassay")
def cli() -> None:
    """Grade notebook labs by measuring what the learner's notebook did."""
    if not __debug__:
        raise UsageError(
            "python -O switches assertions off, and the checks are assertions: run without -O"
        )


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
        progress=progress(is_quiet),
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


for command in (grade, run, score, report, check, kit, lab, regress):
    cli.add_command(command)


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
