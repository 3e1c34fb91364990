"""
What separates nbassay from scripts in forks of a warm process, cell by cell.

    python benchmarks/account.py -o OUT [--learners 8] [--figures FILE]

Both run the notebooks of ``speed.py``, one after the other, as many at once as there are cores.
Prints the tables of ``docs/performance.md``.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import nbformat
from bench import ROOT, Timings, origin, this_machine, write_figures
from costs import Cost
from speed import by_new_nbassay, by_warm_forks, write_notebooks
from warm_forks import cells_file, whole_file

from nbassay.evidence import read_evidence
from nbassay.pristine import unpack_data
from nbassay.records import CellFact, Record
from nbassay.store import evidence_folder, submission_files
from nbassay.workshop import read_workshop

PARTS = {
    "the network trained": re.compile(r"\.fit\("),
    "predicted and evaluated": re.compile(r"\.(predict|evaluate)\("),
    "the network built and compiled": re.compile(r"Sequential|\.compile\("),
}
"""Part of a notebook → what its cells hold; the first that fits."""
OTHERS = "libraries imported, data read and prepared, pictures"
AROUND = "box, kernel or process, made and ended"


class Account(Record, frozen=True, kw_only=True):
    """What one way of running the class took."""

    cost: Cost
    parts: dict[str, float]
    """Part of a notebook → seconds, the median of the learners."""
    learners: float
    """Seconds of all learners' notebooks together, each from its start to its end."""
    controls: float
    """Of the notebooks that nbassay grades besides."""


class Figures(Timings, frozen=True, kw_only=True):
    """``benchmarks/figures/account.json``."""

    schema: Literal["nbassay/benchmark-account/1"]
    count: int
    """Learners."""
    forks: Account
    nbassay: Account


def part_of(source: str) -> str:
    """The part of a notebook that a cell belongs to."""
    return next((name for name, found in PARTS.items() if found.search(source)), OTHERS)


def code_of(path: Path) -> dict[int, str]:
    """Position → source of the code cells of a notebook."""
    cells = nbformat.read(path, as_version=nbformat.NO_CONVERT).cells
    return {number: cell.source for number, cell in enumerate(cells) if cell.cell_type == "code"}


def in_parts(cells: Iterable[tuple[str, float]], whole: float) -> dict[str, float]:
    """Part → seconds of one notebook, from its cells' and its own."""
    found = dict.fromkeys([OTHERS, *reversed(PARTS), AROUND], 0.0)
    for source, seconds in cells:
        found[part_of(source)] += seconds
    found[AROUND] = whole - sum(found.values())
    return found


def medians(notebooks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Part → the median of some notebooks."""
    first = notebooks[0]
    return {part: round(statistics.median(one[part] for one in notebooks), 3) for part in first}


def boxes(folder: Path) -> Iterator[tuple[dict[int, float], float]]:
    """Of each graded notebook in *folder*: seconds of its cells by position, and of its box."""
    for file in submission_files(folder):
        evidence, _ = read_evidence(evidence_folder(file.parent, 0))
        cells = {one.index: one.seconds for one in evidence.facts if isinstance(one, CellFact)}
        yield cells, evidence.ending.seconds


def of_nbassay(notebooks: Sequence[Path], graded: Path, cost: Cost) -> Account:
    """From the evidence of a class."""
    found, whole = [], 0.0
    for path, (cells, seconds) in zip(notebooks, boxes(graded / "learners"), strict=True):
        code = code_of(path)
        found.append(in_parts([(code[n], taken) for n, taken in cells.items()], seconds))
        whole += seconds
    return Account(
        cost=cost,
        parts=medians(found),
        learners=round(whole, 2),
        controls=round(sum(seconds for _, seconds in boxes(graded / "controls")), 2),
    )


def of_forks(notebooks: Sequence[Path], work: Path, cost: Cost) -> Account:
    """From what ``warm_forks.py`` wrote beside the scripts in *work*."""
    found, whole = [], 0.0
    for path in notebooks:
        script = work / f"{path.stem}.py"
        seconds = json.loads(whole_file(script).read_bytes())
        cells = json.loads(cells_file(script).read_bytes())
        sources = [*code_of(path).values(), ""]  # the last keeps the weights
        found.append(in_parts(zip(sources, cells, strict=True), seconds))
        whole += seconds
    return Account(cost=cost, parts=medians(found), learners=round(whole, 2), controls=0.0)


def table(figures: Figures) -> str:
    """The tables of ``docs/performance.md``."""
    forks, ours, cores = figures.forks, figures.nbassay, figures.cores
    lines = ["| seconds of one notebook, median | forks | nbassay |", "| :-- | --: | --: |"]
    lines += [
        f"| {part} | {seconds:.2f} | {ours.parts[part]:.2f} |"
        for part, seconds in forks.parts.items()
    ]
    rows = {
        f"{figures.count} learners' notebooks, {cores} at once": [
            one.learners / cores for one in (forks, ours)
        ],
        "controls": [one.controls / cores for one in (forks, ours)],
        "before, between and after": [
            one.cost.seconds - (one.learners + one.controls) / cores for one in (forks, ours)
        ],
        "all": [forks.cost.seconds, ours.cost.seconds],
    }
    lines += ["", "| seconds of the class | forks | nbassay |", "| :-- | --: | --: |"]
    lines += [f"| {name} | {one:.1f} | {other:.1f} |" for name, (one, other) in rows.items()]
    lines += [
        f"| processor seconds of all | {forks.cost.processor_seconds:.1f} "
        f"| {ours.cost.processor_seconds:.1f} |"
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run both, and say where the seconds went."""
    parser = argparse.ArgumentParser(description="What separates nbassay from warm forks.")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--learners", type=int, default=8)
    parser.add_argument("--figures", type=Path, help="file to write")
    given = parser.parse_args()
    workshop, work = read_workshop(ROOT), given.output.resolve()
    shutil.rmtree(work, ignore_errors=True)
    notebooks = write_notebooks(work / "class", workshop, given.learners)
    unpack_data(workshop, work / "data")
    forks, weights = by_warm_forks(notebooks, work, Path(sys.prefix))
    ours, same = by_new_nbassay(notebooks, work, Path(sys.prefix))
    if weights != same:
        sys.exit(f"other weights: {weights} by forks, {same} by nbassay")
    figures = Figures(
        schema="nbassay/benchmark-account/1",
        **origin(workshop, "python benchmarks/account.py -o OUT"),
        **this_machine(),
        count=given.learners,
        forks=of_forks(notebooks, work, forks),
        nbassay=of_nbassay(notebooks, work / "graded", ours),
    )
    print(table(figures), end="")
    if given.figures is not None:
        write_figures(given.figures, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
