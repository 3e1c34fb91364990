"""``nbassay kit``: what a learner gets."""

from __future__ import annotations

from pathlib import Path

import click

from nbassay.errors import ManifestError
from nbassay.options import DONE, SANDBOX, WORKSHOP, open_workshop, proven_walls


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@WORKSHOP
@SANDBOX
def kit(folder: Path, workshop_folder: Path | None, sandbox_name: str) -> int:
    """
    Write what a learner gets into FOLDER.

    The starter notebook, instructions, data, checks, bounds and hints, and the numbers of the
    reference, which is run for them; never the solution.
    """
    from nbassay.classrun import control_submissions
    from nbassay.cli import NoProgress
    from nbassay.kit import write_kit
    from nbassay.pipeline import RunOptions, grade_class
    from nbassay.sandbox.choose import choose
    from nbassay.scratch import scratch

    workshop = open_workshop(workshop_folder)
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
        sheet = grade_class(options, [], controls).reference
    if sheet is None or sheet.score != workshop.max_score:
        found = "was not graded" if sheet is None or sheet.score is None else f"got {sheet.score:g}"
        raise ManifestError(
            f"{workshop.folder}: expected a reference with {workshop.max_score:g} points, but it "
            f"{found}; a kit would compare learners with it"
        )
    for path in write_kit(workshop, folder, sheet):
        click.echo(path)
    return DONE
