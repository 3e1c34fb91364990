"""``nbassay kit``: what a learner gets."""

from __future__ import annotations

from pathlib import Path

import click

from nbassay.errors import ManifestError, OutputError
from nbassay.options import DONE, SANDBOX, WORKSHOP, open_workshop, proven_walls
from nbassay.records import SubmissionResult
from nbassay.workshop import Workshop


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "graded",
    metavar="OUT",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Take the reference's numbers from this graded class, and run nothing.",
)
@WORKSHOP
@SANDBOX
def kit(folder: Path, graded: Path | None, workshop_folder: Path | None, sandbox_name: str) -> int:
    """
    Write what a learner gets into FOLDER.

    The starter notebook, instructions, data, checks, bounds and hints, and the numbers of the
    reference, which is run for them; never the solution. With --from it works on Windows, too.
    """
    from nbassay.kit import write_kit

    workshop = open_workshop(workshop_folder)
    if graded is None:
        sheet = _sheet_of_a_run(workshop, sandbox_name)
    else:
        sheet = _sheet_of_a_class(graded, workshop)
    if sheet is None or sheet.score != workshop.max_score:
        found = "was not graded" if sheet is None or sheet.score is None else f"got {sheet.score:g}"
        raise ManifestError(
            f"{workshop.folder}: expected a reference with {workshop.max_score:g} points, but it "
            f"{found}; a kit would compare learners with it"
        )
    for path in write_kit(workshop, folder, sheet):
        click.echo(path)
    return DONE


def _sheet_of_a_run(workshop: Workshop, sandbox_name: str) -> SubmissionResult | None:
    """What the reference gets here and now."""
    from nbassay.classrun import control_submissions
    from nbassay.pipeline import RunOptions, grade_class
    from nbassay.progress import NoProgress
    from nbassay.sandbox.choose import choose
    from nbassay.scratch import scratch

    sandbox = choose(sandbox_name)
    with scratch("kit") as out:
        options = RunOptions(
            workshop=workshop,
            out=out / "graded",
            jobs=1,
            sandbox=sandbox,
            is_fresh=True,
            challenge="never",
            progress=NoProgress(),
            probes=proven_walls(sandbox),
        )
        controls = control_submissions(workshop, only=workshop.manifest.reference)
        return grade_class(options, [], controls).reference


def _sheet_of_a_class(graded: Path, workshop: Workshop) -> SubmissionResult | None:
    """
    What the reference got beside a class.

    Raises:
        OutputError: No class of this workshop, as it is now, was graded there.
    """
    from nbassay.store import read_results

    results = read_results(graded)
    if results.workshop.digest != workshop.digest():
        raise OutputError(
            f"{graded}: graded with another version of the workshop ({results.workshop.title}); "
            f"`nbassay score {graded}` scores it with this one"
        )
    return results.reference
