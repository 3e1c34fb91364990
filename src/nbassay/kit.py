"""
A learner's kit: the lab, the checks and what they need, and nothing of any solution.

By an allow-list: only what is named here gets in. Known wrong ways come as their hints, without
their code; the reference as the sheet that it got.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import nbformat
import tomli_w

from nbassay.errors import ManifestError, OutputError
from nbassay.files import UNFINISHED
from nbassay.labpage import open_page, require_cells, to_notebook
from nbassay.misconceptions import read_misconceptions
from nbassay.pristine import unpack_data
from nbassay.records import SubmissionResult
from nbassay.workshop import MANIFEST, Workshop, read_workshop

ALLOWED = {
    "lab": ("*.md", "images/*.png", "images/*.jpg", "images/*.svg", "data/*.md"),
    "checks": ("**/*.py",),
    "reports": ("*.html", "*.css"),
}
"""Folder of the workshop → what of it a learner gets."""
SHEET = "reference/sheet.json"
HINTS = "hints"
HINT_KEYS = ("title", "must_fail", "may_fail", "hint", "shows")
"""What of a known wrong way gets in."""
README = """\
# {title}

What you need to do the lab and to check your own work.

* `{page}`: the instructions
* `{starter}`: the starter notebook, with the data beside it
* `checks/`, `hints/`, `reference/`: what your work is compared with; no solution is among them

Install nbassay beside the packages that the lab asks for, open the starter notebook, and run its
first cell. Then `%assay` shows how you are doing, in any cell, and `%assay hint CHECK` helps you
on. `nbassay check {starter}`, on Linux and macOS, runs the whole notebook as the grader does.
"""


def write_kit(workshop: Workshop, folder: Path, sheet: SubmissionResult) -> list[Path]:
    """
    Write a kit into *folder*, which is made; it appears whole or not at all.

    Args:
        sheet: What the reference got, and the numbers that stand beside a learner's.

    Returns:
        Its files, by name.

    Raises:
        OutputError: *folder* holds something already, or cannot be written.
        ManifestError: The workshop cannot be made a kit of.
        DataError: Lab data are missing or not the pinned ones.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: holds something already; give a folder that is not there yet")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=UNFINISHED) as name:
            beside = Path(name) / "kit"
            _fill(beside, workshop, sheet)
            if folder.exists():
                folder.rmdir()
            beside.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _fill(kit: Path, workshop: Workshop, sheet: SubmissionResult) -> None:
    manifest = workshop.manifest
    for source in _allowed(workshop):
        _copy(workshop, source, kit)
    page = open_page(workshop.path(manifest.lab))
    require_cells(page)
    starter = Path(manifest.lab).with_suffix(".ipynb")
    (kit / starter).write_text(nbformat.writes(to_notebook(page)) + "\n", "utf-8")
    (kit / SHEET).parent.mkdir(parents=True, exist_ok=True)
    (kit / SHEET).write_bytes(msgspec.json.format(msgspec.json.encode(sheet)) + b"\n")
    if manifest.misconceptions is not None:
        _write_hints(kit / HINTS, workshop.path(manifest.misconceptions))
    (kit / MANIFEST).write_text(tomli_w.dumps(_manifest(workshop)), "utf-8")
    text = README.format(title=manifest.title, page=manifest.lab, starter=starter.as_posix())
    (kit / "README.md").write_text(text, "utf-8")
    unpack_data(read_workshop(kit), (kit / starter).parent)


def _allowed(workshop: Workshop) -> Iterator[Path]:
    """Files that go in as they are."""
    manifest = workshop.manifest
    folders = {
        "lab": workshop.path(manifest.lab).parent,
        "checks": workshop.path(manifest.checks),
        "reports": workshop.path(manifest.reports),
    }
    for name, patterns in ALLOWED.items():
        for pattern in patterns:
            yield from (path for path in sorted(folders[name].glob(pattern)) if path.is_file())
    for file in manifest.data.files.values():
        yield workshop.path(file.path)
    for relative in (manifest.calibration, manifest.trust):
        if relative is not None:
            yield workshop.path(relative)


def _copy(workshop: Workshop, source: Path, kit: Path) -> None:
    try:
        inside = source.relative_to(workshop.folder)
    except ValueError:
        inside = None
    if inside is None or ".." in inside.parts:
        raise ManifestError(
            f"{source}: lies outside of the workshop {workshop.folder}; a kit holds a workshop "
            "whose files are all in its folder"
        )
    target = kit / inside
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _manifest(workshop: Workshop) -> dict[str, Any]:
    """``workshop.toml`` without controls, its reference the sheet, its wrong ways the hints."""
    manifest = workshop.manifest
    told = msgspec.structs.replace(
        manifest,
        reference=SHEET,
        misconceptions=None if manifest.misconceptions is None else HINTS,
        controls=[],
    )
    plain = msgspec.to_builtins(told)
    return {name: value for name, value in plain.items() if value is not None}


def _write_hints(folder: Path, misconceptions: Path) -> None:
    """Each wrong way's signs and hint, and none of its code."""
    folder.mkdir(parents=True, exist_ok=True)
    for way_id, way in read_misconceptions(misconceptions).items():
        kept = {name: getattr(way, name) for name in HINT_KEYS}
        (folder / f"{way_id}.toml").write_text(tomli_w.dumps(kept), "utf-8")
