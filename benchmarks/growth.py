"""
What running a class costs, by its size and by the boxes at once, with a lab of a second.

    python benchmarks/growth.py -o OUT [--sizes 1,8,32,128] [--jobs 1,2] [--figures FILE]

The lab is the tests' tiny one, without TensorFlow: what is left of a notebook is what nbassay adds
to it. Each notebook has code of its own, so none is run for another. Prints the table of
``docs/performance.md``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import nbformat
from bench import ROOT, Timings, origin, this_machine, write_figures
from costs import Cost, cost_and_own_memory

from nbassay.kept_controls import CACHE_VARIABLE
from nbassay.records import Record
from nbassay.workshop import read_workshop

TINY = ROOT / "tests" / "workshops" / "tiny"
RIGHT = TINY / "submissions" / "right.ipynb"


class Grown(Record, frozen=True, kw_only=True):
    """A class of one size, graded with so many boxes at once."""

    learners: int
    jobs: int
    cost: Cost
    own_mb: float
    """Resident memory of nbassay itself, at most, without the boxes."""


class Figures(Timings, frozen=True, kw_only=True):
    """``benchmarks/figures/growth.json``."""

    schema: Literal["nbassay/benchmark-growth/1"]
    grown: list[Grown]


def write_class(folder: Path, count: int) -> None:
    """*count* right notebooks, each with a line of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number in range(count):
        notebook = nbformat.read(RIGHT, as_version=nbformat.NO_CONVERT)
        notebook.cells.insert(0, nbformat.v4.new_code_cell(f"learner = {number}"))
        nbformat.write(notebook, folder / f"learner-{number:04}.ipynb")


def grade(folder: Path, out: Path, jobs: int) -> tuple[Cost, int]:
    """Grade the class in *folder* from nothing, controls too."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "nbassay", "grade", str(folder), "-o", str(out), "-q"]
    command += ["--workshop", str(TINY), "-j", str(jobs)]
    return cost_and_own_memory(command, env={**os.environ, CACHE_VARIABLE: ""})


def table(grown: Sequence[Grown]) -> str:
    """The table of ``docs/performance.md``."""
    lines = [
        "| learners | boxes at once | seconds | seconds a learner | processor seconds a learner "
        "| memory of nbassay itself | with all boxes |",
        f"|{' --: |' * 7}",
    ]
    lines += [
        f"| {one.learners} | {one.jobs} | {one.cost.seconds:.1f} "
        f"| {one.cost.seconds / one.learners:.2f} "
        f"| {one.cost.processor_seconds / one.learners:.2f} "
        f"| {one.own_mb:.0f} MB | {one.cost.peak_mb:.0f} MB |"
        for one in grown
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Grade classes of every size, with every number of boxes at once."""
    parser = argparse.ArgumentParser(description="What running a class costs, by its size.")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--sizes", default="1,8,32,128")
    parser.add_argument("--jobs", default="1,2")
    parser.add_argument("--figures", type=Path, help="file to write")
    given = parser.parse_args()
    grown = []
    for size in map(int, given.sizes.split(",")):
        write_class(given.output / "class", size)
        for jobs in map(int, given.jobs.split(",")):
            cost, own_mb = grade(given.output / "class", given.output / "graded", jobs)
            grown.append(Grown(learners=size, jobs=jobs, cost=cost, own_mb=own_mb))
            print(f"{size} learners, {jobs} at once: {cost}", file=sys.stderr)
    print(table(grown), end="")
    if given.figures is not None:
        figures = Figures(
            schema="nbassay/benchmark-growth/1",
            **origin(read_workshop(TINY), "python benchmarks/growth.py -o OUT"),
            **this_machine(),
            grown=grown,
        )
        write_figures(given.figures, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
