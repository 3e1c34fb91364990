"""``nbassay lab``: commands for the lab's page."""

from __future__ import annotations

from pathlib import Path

import click

from nbassay.files import write_whole

PAGE_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
VARIANT = click.option(
    "--type",
    "variant",
    metavar="TYPE",
    help='Which <if type="…"> of the page to read.  [default: the manifest\'s, else the first]',
)
MANIFEST = click.option(
    "--manifest",
    "manifest_file",
    metavar="FILE",
    type=PAGE_FILE,
    help="LiveLabs' manifest.json, for includes and variables.  [default: the one near the page]",
)


@click.group()
def lab() -> None:
    """Work with the lab's page."""


@lab.command("to-notebook")
@click.argument("page", type=PAGE_FILE)
@click.option(
    "-o",
    "--output",
    "target",
    metavar="NOTEBOOK",
    required=True,
    type=click.Path(path_type=Path),
    help="Notebook to write.",
)
@VARIANT
@MANIFEST
def to_notebook(page: Path, target: Path, variant: str | None, manifest_file: Path | None) -> int:
    """Write the cells that a learner would paste from PAGE as a notebook."""
    import nbformat

    from nbassay import labpage

    read = labpage.open_page(page, variant=variant, manifest_file=manifest_file)
    labpage.require_cells(read)
    for flaw in read.flaws:
        click.echo(f"nbassay: {flaw.place}: {flaw.text}", err=True)
    if variant is None and len(read.source.variants) > 1:
        click.echo(
            f"nbassay: {page}: read for {read.source.variant}, one of "
            f"{', '.join(read.source.variants)}; choose with --type",
            err=True,
        )
    write_whole(target, nbformat.writes(labpage.to_notebook(read)) + "\n")
    click.echo(target)
    return 0
