"""Options of the command line that several commands have, and mean the same in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from nbassay.errors import SandboxError, UsageError
from nbassay.sandbox import ProbeResult, Sandbox, Walls
from nbassay.sandbox.choose import PROVIDERS
from nbassay.sandbox.probes import probe
from nbassay.workshop import Workshop, find_workshop, read_workshop

DONE, BELOW, USAGE, NO_SANDBOX, NOT_RUN, CONTROL_WRONG, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

WORKSHOP = click.option(
    "--workshop",
    "workshop_folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder with a workshop.toml.  [default: the nearest one]",
)
OUTPUT = click.option(
    "-o",
    "--output",
    "out",
    metavar="OUT",
    type=click.Path(path_type=Path),
    default=Path("graded"),
    show_default=True,
    help="Folder for reports and evidence.",
)
JOBS = click.option(
    "-j",
    "--jobs",
    metavar="N",
    type=click.IntRange(1, 256),
    help="Boxes at once.  [default: as many as cores and memory allow]",
)
PROCESSES = click.option(
    "-j",
    "--jobs",
    metavar="N",
    type=click.IntRange(1, 256),
    help="Processes at once.  [default: as many as cores and memory allow]",
)
TIMEOUT = click.option(
    "--timeout",
    metavar="S",
    type=click.IntRange(1, 86_400),
    help="Seconds a cell.  [default: workshop.toml's]",
)
SANDBOX = click.option(
    "--sandbox",
    "sandbox_name",
    metavar="NAME",
    type=click.Choice(["auto", *PROVIDERS]),
    default="auto",
    show_default=True,
    help="What keeps notebooks from the machine; none is never chosen by itself.",
)
CLUSTER = click.option(
    "--cluster",
    "cluster_address",
    metavar="ADDRESS",
    help="Run notebooks on the workers of this Dask scheduler, as tcp://HOST:8786.",
)
FRESH = click.option("--fresh", "is_fresh", is_flag=True, help="Run again what was run before.")
SLOW_FIT = click.option(
    "--no-fast-fit",
    "is_slow",
    is_flag=True,
    help="Train one batch a call, as Keras does by itself; the weights are the same.",
)
COLD = click.option(
    "--no-warm",
    "is_cold",
    is_flag=True,
    help="Start each notebook in a fresh process, not as a fork of one that has imported the "
    "libraries; the evidence is the same.",
)
CHALLENGE = click.option(
    "--challenge",
    metavar="WHOSE",
    type=click.Choice(["suspicious", "all", "never"]),
    default="suspicious",
    show_default=True,
    help="Whose notebooks run once more with secretly renamed classes, which tells work done in "
    "the run from work brought along: suspicious, all, never.",
)
PROFILE = click.option(
    "--profile", "has_profile", is_flag=True, help="Tell where the seconds went, stage by stage."
)
QUIET = click.option("-q", "--quiet", "is_quiet", is_flag=True, help="No progress.")
JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print results.json instead of a table."
)
JSON_TOO = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def open_workshop(folder: Path | None, timeout: int | None = None) -> Workshop:
    """
    The workshop in *folder*, or the nearest one, with other seconds a cell if they are given.

    Raises:
        UsageError: *folder* is a file.
        ManifestError: There is none, or it cannot be used.
    """
    if folder is not None and folder.is_file():
        raise UsageError(f"{folder}: --workshop takes the folder, not the file in it")
    workshop = read_workshop(folder or find_workshop(Path.cwd()))
    if timeout is None:
        return workshop
    limits = msgspec.structs.replace(workshop.manifest.limits, cell_s=timeout)
    return Workshop(workshop.folder, msgspec.structs.replace(workshop.manifest, limits=limits))


def tell_if_open(walls: Walls) -> None:
    """Say so if nothing keeps notebooks from the machine they run on."""
    if not walls.is_isolated:
        click.echo("nbassay: running WITHOUT a sandbox, as asked; every result is marked", err=True)


def proven_walls(sandbox: Sandbox) -> Sequence[ProbeResult]:
    """
    Try the sandbox's walls before code runs behind them, and say if there are none.

    Raises:
        SandboxError: One of them does not hold.
    """
    tell_if_open(sandbox)
    if not sandbox.is_isolated:
        return ()
    probes = probe(sandbox)
    open_walls = [result for result in probes if not result.holds]
    if open_walls:
        raise SandboxError(
            f"the sandbox {sandbox.mode} does not hold: "
            + "; ".join(f"{result.name} ({result.detail})" for result in open_walls)
        )
    return probes
