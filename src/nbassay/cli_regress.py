"""``nbassay regress``: the lab against its own text."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from nbassay.cli_lab import MANIFEST, PAGE_FILE, VARIANT
from nbassay.errors import ManifestError
from nbassay.options import (
    BELOW,
    DONE,
    JSON_TOO,
    NOT_RUN,
    SANDBOX,
    TIMEOUT,
    WORKSHOP,
    open_workshop,
    proven_walls,
)
from nbassay.workshop import Workshop, find_workshop


@click.command(short_help="Hold the lab's page against its own text.")
@click.argument("page", required=False, type=PAGE_FILE)
@WORKSHOP
@VARIANT
@MANIFEST
@TIMEOUT
@SANDBOX
@click.option(
    "--against",
    "old",
    metavar="OLD",
    help="Compare with an older page, a revision of git, or a graded class.",
)
@click.option("--strict", "is_strict", is_flag=True, help="Exit 1 for matters of style, too.")
@click.option(
    "--markdown",
    "comment",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a comment for a pull request, too.",
)
@click.option(
    "--save",
    "saved",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write what --json prints, too.",
)
@click.option(
    "--github", "is_github", is_flag=True, help="Print annotations for GitHub Actions, too."
)
@JSON_TOO
def regress(
    page: Path | None,
    workshop_folder: Path | None,
    variant: str | None,
    manifest_file: Path | None,
    timeout: int | None,
    sandbox_name: str,
    old: str | None,
    is_strict: bool,
    comment: Path | None,
    saved: Path | None,
    is_github: bool,
    as_json: bool,
) -> int:
    """
    Run the code of the lab's page, and hold what happens against its text.

    PAGE is a LiveLabs page; without it, the workshop's own. Its cells run in the sandbox. The
    checks for learners are asked, the claims in its comments are tested, and its health is looked
    at: numbering, images, links, fences, names, warnings. Exit 1 if something hurts a learner.

    OLD is a page or a revision of git: the page's code is compared with it, and what the changes
    did. Of a graded class the evidence is scored again with the checks as they are now; nothing is
    run or written, and exit 1 tells that somebody's outcome would change.
    """
    import msgspec
    from rich.console import Console

    from nbassay.files import is_graded_class, write_whole
    from nbassay.labpage import open_page, require_cells
    from nbassay.regress import against, judge, render
    from nbassay.regress.pagerun import open_lab
    from nbassay.sandbox.choose import choose

    if workshop_folder is None and page is not None:
        workshop_folder = _workshop_of(page)
    workshop = open_workshop(workshop_folder, timeout)
    if old is not None and is_graded_class(Path(old)):
        return _rescored(Path(old), workshop, as_json=as_json)
    path = _own_page(workshop.path(workshop.manifest.lab)) if page is None else page
    read = open_page(path, variant=variant, manifest_file=manifest_file)
    require_cells(read)
    judge.require_sound(read, workshop)
    with contextlib.ExitStack() as opened:
        before = None
        if old is not None:
            before = opened.enter_context(against.older_page(old, path, variant=variant))
        sandbox = choose(sandbox_name)
        proven_walls(sandbox)
        lab = opened.enter_context(open_lab(workshop, sandbox))
        report = judge.regress(read, lab)
        if before is not None:
            compared = against.compare(before, read, report, lab, name=str(old))
            report = msgspec.structs.replace(report, against=compared)
    text = msgspec.json.format(msgspec.json.encode(report)).decode()
    if comment is not None:
        write_whole(comment, render.markdown(report))
    if saved is not None:
        write_whole(saved, text + "\n")
    if as_json:
        click.echo(text)
    elif not is_github:
        render.print_report(report, Console())
    if is_github:
        for line in render.github_annotations(report.findings, base=Path.cwd()):
            click.echo(line)
    if report.ending == "could-not-start":
        return NOT_RUN
    return BELOW if report.hurting or (is_strict and report.findings) else DONE


def _rescored(out: Path, workshop: Workshop, *, as_json: bool) -> int:
    """Whose outcome in a graded class would change with the checks as they are now."""
    import msgspec
    from rich.console import Console

    from nbassay.diff import compare
    from nbassay.pipeline import scored_class
    from nbassay.reporting.terminal import print_comparison
    from nbassay.store import read_results

    found = compare(read_results(out), scored_class(out, workshop=workshop))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        print_comparison(found, console=Console())
    return BELOW if found.changes else DONE


def _workshop_of(page: Path) -> Path | None:
    """The workshop that a page lies in; None when it lies in none."""
    try:
        return find_workshop(page.parent)
    except ManifestError:
        return None


def _own_page(path: Path) -> Path:
    """A workshop's page, told from here if that is shorter."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
