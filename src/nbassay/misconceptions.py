"""
Known ways to do a lab, right and wrong: small changes to the reference, one file each.

``reference/misconceptions/ID.toml`` holds a wrong way, the checks that it must fail and a hint for
the learner; ``tests/variants/ID.toml`` a right way, which loses nothing. Tables name cells of the
reference by their id: ``[cells]`` replaces a cell ("" leaves it out), ``[before]`` and ``[after]``
insert one, ``[outputs]`` stores what a cell claims to have printed, ``[metadata]`` is the
notebook's own instead of the usual. A notebook that has nothing in
common with the reference is written as ``script``, its cells divided by ``# %%`` lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from nbassay.errors import ManifestError
from nbassay.records import CheckResult, MisconceptionResult

FILE_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
CELL_MARK = re.compile(r"^# %%(.*)\n?", re.MULTILINE)
USUAL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

Sentence = Annotated[str, Meta(min_length=1, max_length=400)]
Sources = dict[str, str]
"""Id of a cell of the reference → source."""


class Way(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to do the lab, told as a change to the reference or as a notebook of its own."""

    title: Sentence
    cells: Sources = {}
    before: Sources = {}
    after: Sources = {}
    outputs: Sources = {}
    metadata: dict[str, Any] | None = None
    """Of the notebook, instead of the usual kernelspec."""
    script: str | None = None
    """Cells divided by ``# %%`` lines; then nothing is taken from the reference."""

    def __post_init__(self) -> None:
        if self.script is not None and (self.cells or self.before or self.after or self.outputs):
            raise ValueError("expected either a script or changes to the reference, found both")


class Misconception(Way, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A wrong way."""

    must_fail: Annotated[list[str], Meta(min_length=1)]
    """Checks that this way fails because of what it does."""
    may_fail: list[str] = []
    """Checks that can fail besides, because the accuracy really is lower or a cell stops."""
    hint: Sentence
    """For the learner: what to look at, never the solution's code."""
    shows: dict[str, str] = {}
    """
    Check id → regular expression found in what that check saw. A sheet on which all of them are
    found, and *must_fail* was lost, shows this way. Empty: it has no sheet of its own.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        for pattern in self.shows.values():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"expected a regular expression, found {pattern!r}") from error
        both = set(self.must_fail) & set(self.may_fail)
        if both:
            raise ValueError(f"expected must_fail and may_fail apart, found {sorted(both)} in both")


class Variant(Way, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A right way, or one that no rule decides."""

    status: Literal["graded", "needs-review"] = "graded"
    """*needs-review*: a person decides; nothing is said of its points."""


AnyWay = TypeVar("AnyWay", Misconception, Variant)


def read_misconceptions(folder: Path) -> dict[str, Misconception]:
    """
    Read every wrong way in *folder*, by id.

    Raises:
        ManifestError: A file is no misconception; the message names it and the key.
    """
    return _read(folder, Misconception)


def read_variants(folder: Path) -> dict[str, Variant]:
    """
    Read every right way in *folder*, by id.

    Raises:
        ManifestError: A file is no variant; the message names it and the key.
    """
    return _read(folder, Variant)


def recognise(
    checks: Sequence[CheckResult], known: Mapping[str, Misconception], *, by_chance: Collection[str]
) -> list[MisconceptionResult]:
    """
    The known wrong ways that a sheet shows, the one that explains most first.

    Another one is named only when something is lost that those before it do not explain: a lack of
    accuracy, or a cell that never ran, follows from the first mistake and is none of its own.

    Args:
        checks: The sheet.
        known: Wrong ways by id.
        by_chance: Checks that a wrong way may also pass by luck: the calibrated accuracies.
    """
    saw = {check.id: check.saw for check in checks}
    lost = {check.id for check in checks if check.outcome in ("failed", "not-reached")}
    shown = {
        way_id: way
        for way_id, way in known.items()
        if way.shows
        and set(way.must_fail) - set(by_chance) <= lost
        and all(
            check_id in saw and re.search(pattern, saw[check_id])
            for check_id, pattern in way.shows.items()
        )
    }
    named: list[MisconceptionResult] = []
    while shown := {
        way_id: way for way_id, way in shown.items() if _signs(way, set(by_chance)) & lost
    }:
        way_id = min(shown, key=lambda way_id: (*_rank(shown[way_id], lost), way_id))
        named.append(MisconceptionResult(id=way_id, hint=shown[way_id].hint))
        lost -= _explains(shown[way_id])
    return named


def _signs(way: Misconception, by_chance: set[str]) -> set[str]:
    """What *way* loses for certain; where that is nothing, what it loses unless by luck."""
    return set(way.must_fail) - by_chance or set(way.must_fail)


def _explains(way: Misconception) -> set[str]:
    return {*way.must_fail, *way.may_fail}


def _rank(way: Misconception, lost: set[str]) -> tuple[int, int, int]:
    """Smallest first: explains most of *lost*, claims least besides, is told by most."""
    explains = _explains(way)
    return (-len(explains & lost), len(explains - lost), -len(way.shows))


def build_notebook(way: Way, reference: bytes) -> bytes:
    """
    The notebook of *way*: nbformat 4.5, the same bytes every time.

    Args:
        reference: The reference notebook's file, whose cells have ids.

    Raises:
        ManifestError: *way* names a cell that the reference does not have.
    """
    if way.script is not None:
        cells = [_code(f"cell-{number}", source) for number, source in _split(way.script)]
    else:
        cells = _changed(way, json.loads(reference)["cells"])
    notebook = {
        "cells": cells,
        "metadata": USUAL if way.metadata is None else way.metadata,
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, ensure_ascii=False, indent=1).encode() + b"\n"


def _read(folder: Path, kind: type[AnyWay]) -> dict[str, AnyWay]:
    found = {}
    for path in sorted(folder.glob("*.toml")):
        if not FILE_ID.fullmatch(path.stem):
            raise ManifestError(
                f"{path}: expected a name of small letters, digits and hyphens, found {path.stem!r}"
            )
        try:
            found[path.stem] = msgspec.toml.decode(path.read_bytes(), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
            raise ManifestError(f"{path}: {error}") from error
    return found


def _changed(way: Way, reference: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Code cells of the reference with the changes of *way*; its texts say nothing here."""
    sources = {
        cell["id"]: "".join(cell["source"]) for cell in reference if cell["cell_type"] == "code"
    }
    named = {*way.cells, *way.before, *way.after, *way.outputs}
    if not named <= set(sources):
        raise ManifestError(
            f"{way.title}: expected cells of the reference ({', '.join(sources)}), "
            f"found {', '.join(sorted(named - set(sources)))}"
        )
    cells = []
    for cell_id, source in sources.items():
        if cell_id in way.before:
            cells.append(_code(f"before-{cell_id}", way.before[cell_id]))
        source = way.cells.get(cell_id, source)
        if source.strip():
            cells.append(_code(cell_id, source, way.outputs.get(cell_id)))
        if cell_id in way.after:
            cells.append(_code(f"after-{cell_id}", way.after[cell_id]))
    return cells


def _split(script: str) -> list[tuple[int, str]]:
    """Number and source of each cell of a script; what stands before the first mark is one too."""
    sources = CELL_MARK.split(script)[::2]
    return [(number, source) for number, source in enumerate(sources) if source.strip()]


def _code(cell_id: str, source: str, printed: str | None = None) -> dict[str, Any]:
    outputs = []
    if printed is not None:
        outputs.append({"name": "stdout", "output_type": "stream", "text": printed})
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": cell_id,
        "metadata": {},
        "outputs": outputs,
        "source": source.strip("\n"),
    }
