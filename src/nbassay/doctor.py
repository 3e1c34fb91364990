"""``nbassay doctor``: what this machine offers, found by trying it."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nbassay.calibrating import versions
from nbassay.calibration import other_versions, read_calibration
from nbassay.classrun import why_not_all_cores
from nbassay.errors import AssayError, SandboxError
from nbassay.pristine import read_pristine
from nbassay.records import Record
from nbassay.running import why_not_warm
from nbassay.sandbox import Sandbox
from nbassay.sandbox.choose import choose
from nbassay.sandbox.probes import probe
from nbassay.workshop import find_workshop, read_workshop

NOT_INSTALLED = "not installed"
PACKAGES = ("nbassay", "tensorflow", "keras", "numpy", "nbclient", "ipykernel", "pytest")


class Wall(Record, frozen=True, kw_only=True):
    """One attempt to get out of the box."""

    name: str
    holds: bool
    detail: str


class Findings(Record, frozen=True, kw_only=True):
    """All that was found."""

    machine: str
    python: str
    packages: dict[str, str]
    """Name → version, ``not installed`` where it is not."""
    sandbox: str
    sandbox_holds: bool
    walls: list[Wall]
    workshop: str
    data: dict[str, str]
    """Set → what it holds."""
    problems: list[str]
    notes: list[str]
    """Worth knowing, and nothing that stops a class from being graded."""


def examine(workshop_folder: Path | None, sandbox_name: str) -> Findings:
    """Try everything; a problem is a finding, never an exception."""
    problems = unmet_requirements()
    notes: list[str] = []
    walls: list[Wall] = []
    sandbox_told, holds = "none usable", False
    sandbox: Sandbox | None = None
    try:
        sandbox = choose(sandbox_name)
        sandbox_told = sandbox.mode
        if sandbox.is_isolated:
            walls = [
                Wall(name=result.name, holds=result.holds, detail=result.detail)
                for result in probe(sandbox)
            ]
            holds = all(wall.holds for wall in walls)
        else:
            problems.append(
                "the provider none has no walls; grade only takes it when asked by name"
            )
    except SandboxError as error:
        problems.append(str(error))
    workshop_told, data = "none found", {}
    try:
        workshop = read_workshop(workshop_folder or find_workshop(Path.cwd()))
        workshop_told = f"{workshop.manifest.title} ({workshop.folder})"
        data = {
            name: f"{part.count:,} rows of {part.width} values, digests match"
            for name, part in read_pristine(workshop).sets.items()
        }
        for package in workshop.manifest.packages:
            if _version(package) == NOT_INSTALLED:
                problems.append(
                    f"{package} is not installed here, and the workshop's notebooks import it: "
                    "pip install 'nbassay[tensorflow]'"
                )
        if sandbox is not None and sandbox.is_isolated:
            told = why_not_warm(workshop, sandbox)
            notes += [] if told is None else [f"notebooks start in fresh processes: {told}"]
        if workshop.manifest.calibration is not None:
            calibration = read_calibration(workshop.path(workshop.manifest.calibration))
            told = other_versions(calibration, versions(workshop))
            notes += [] if told is None else [told]
    except AssayError as error:
        problems.append(str(error))
    fewer = why_not_all_cores()
    notes += [] if fewer is None else [fewer]
    return Findings(
        machine=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        packages={name: _version(name) for name in PACKAGES},
        sandbox=sandbox_told,
        sandbox_holds=holds,
        walls=walls,
        workshop=workshop_told,
        data=data,
        problems=problems,
        notes=notes,
    )


def unmet_requirements(package: str = "nbassay") -> list[str]:
    """Which versions are installed beside *package* that it excludes, a sentence each."""
    try:
        requirements = [Requirement(text) for text in metadata.requires(package) or []]
    except metadata.PackageNotFoundError:  # its sources are used as they lie
        return []
    told = []
    for wanted in requirements:
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        found = _version(wanted.name)
        if found != NOT_INSTALLED and not _fits(found, wanted.specifier):
            told.append(
                f"{wanted.name} {found} is installed, and {package} needs {wanted.specifier}: "
                f"pip install '{wanted.name}{wanted.specifier}'"
            )
    return told


def print_findings(findings: Findings, console: Console) -> None:
    """Print what a person wants to know, problems last."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("machine", Text(f"{findings.machine}, Python {findings.python}"))
    for name, version in findings.packages.items():
        facts.add_row(name, Text(version))
    facts.add_row("workshop", Text(findings.workshop))
    for name, told in findings.data.items():
        facts.add_row(f"data, {name}", Text(told))
    facts.add_row("sandbox", Text(findings.sandbox))
    console.print(facts)
    if findings.walls:
        walls = Table("attempt from inside", "", "what happened", box=None, padding=(0, 2))
        for wall in findings.walls:
            state = Text("holds", "green") if wall.holds else Text("OPEN", "bold red")
            walls.add_row(Text(wall.name), state, Text(wall.detail))
        console.print(walls)
    for note in findings.notes:
        console.print(Text(f"note: {note}"))
    for problem in findings.problems:
        console.print(Text(f"problem: {problem}", "yellow"))
    if not findings.problems and findings.sandbox_holds:
        console.print(Text("Ready to grade.", "green"))


def _fits(version: str, specifier: SpecifierSet) -> bool:
    try:
        return specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _version(package: str) -> str:
    try:
        return metadata.version(package) or "without a version"
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED
