"""
What scoring and rendering cost, by the size of the class: seconds and the host's memory.

    python benchmarks/rescoring.py GRADED -o OUT [--sizes 1,8,32,128,300,1000] [--figures FILE]

GRADED is a graded class. Classes of other sizes are made of its learners, each with weights of its
own and every second one with rows in an order of its own, so that nothing of one serves another.
No notebook is run. Prints the table of ``docs/performance.md``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from bench import ROOT, Timings, origin, this_machine, write_figures
from costs import Cost, cost_of
from safetensors.numpy import load_file, save_file

from nbassay.evidence import ARRAYS_FILE, EVIDENCE_FILE
from nbassay.files import MARK
from nbassay.records import Record
from nbassay.store import (
    CHALLENGE,
    MOST_ATTEMPTS,
    evidence_folder,
    keep,
    read_kept,
    submission_files,
)
from nbassay.workshop import read_workshop

MOVED_BY = 1e-4
"""Of each weight, at random: other weights, the same network to four digits."""


def grow(graded: Path, out: Path, count: int) -> None:
    """Lay a class of *count* learners, made of those of *graded*, into *out*."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(graded / "controls", out / "controls")
    sources = [file.parent.name for file in submission_files(graded / "learners")]
    learners = [f"{sources[number % len(sources)]}-{number:04}" for number in range(count)]
    for number, learner in enumerate(learners):
        source = graded / "learners" / sources[number % len(sources)]
        folder = out / "learners" / learner
        for attempt in (*range(MOST_ATTEMPTS), CHALLENGE):
            evidence = evidence_folder(source, attempt)
            if evidence.exists():
                _copy_moved(evidence, evidence_folder(folder, attempt), number)
        keep(folder, msgspec.structs.replace(read_kept(source), learner=learner))
    record = msgspec.json.decode((graded / MARK).read_bytes())
    record["learners"] = learners
    (out / MARK).write_bytes(msgspec.json.format(msgspec.json.encode(record)))


def _copy_moved(source: Path, target: Path, number: int) -> None:
    """Copy evidence with other weights and, every second time, rows in another order."""
    target.mkdir(parents=True)
    shutil.copy(source / EVIDENCE_FILE, target)
    random = np.random.default_rng(number)
    arrays = load_file(source / ARRAYS_FILE)
    for name, array in arrays.items():
        if array.dtype == np.float32:
            noise = random.standard_normal(array.shape).astype(np.float32)
            arrays[name] = array * (1 + MOVED_BY * noise)
        elif number % 2:
            order = np.random.default_rng([number, len(array)]).permutation(len(array))
            arrays[name] = array[order]  # rows and their labels alike
    save_file(arrays, target / ARRAYS_FILE)


class Size(Record, frozen=True, kw_only=True):
    """A class of one size."""

    learners: int
    first: Cost
    """``nbassay score`` when nothing was measured yet."""
    again: Cost
    """``nbassay score`` once more."""
    render: Cost
    """``nbassay report``."""


class Figures(Timings, frozen=True, kw_only=True):
    """``benchmarks/figures/rescoring.json``."""

    schema: Literal["nbassay/benchmark-rescoring/1"]
    sizes: list[Size]


def nbassay(*arguments: str) -> Cost:
    """Run ``nbassay`` with *arguments*."""
    return cost_of([sys.executable, "-m", "nbassay", *arguments])


def measure_size(graded: Path, out: Path, size: int, workshop: Path) -> Size:
    """Lay a class of *size* learners into *out*, score it twice and render it."""
    grow(graded, out, size)
    where = [str(out), "--workshop", str(workshop)]
    return Size(
        learners=size,
        first=nbassay("score", *where),
        again=nbassay("score", *where),
        render=nbassay("report", *where),
    )


def table(sizes: Sequence[Size]) -> str:
    """The table of ``docs/performance.md``."""
    lines = [
        "| learners | scored first | scored again | rendered | processor, again and rendered "
        "| memory, scored first | scored again | rendered |",
        f"|{' --: |' * 8}",
    ]
    for size in sizes:
        work = size.again.processor_seconds + size.render.processor_seconds
        lines.append(
            f"| {size.learners:,} | {size.first.seconds:.1f} s | {size.again.seconds:.1f} s "
            f"| {size.render.seconds:.1f} s | {work:.1f} s | {size.first.peak_mb:.0f} MB "
            f"| {size.again.peak_mb:.0f} MB | {size.render.peak_mb:.0f} MB |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Grow classes, score and render each."""
    parser = argparse.ArgumentParser(description="What scoring and rendering cost.")
    parser.add_argument("graded", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--sizes", default="1,8,32,128,300,1000")
    parser.add_argument("--figures", type=Path, help="file to write")
    given = parser.parse_args()
    workshop = read_workshop(ROOT)
    sizes = []
    for size in map(int, given.sizes.split(",")):
        folder = given.output / f"class-{size}"
        sizes.append(measure_size(given.graded, folder, size, workshop.folder))
        shutil.rmtree(folder)
        print(f"{size} learners: {sizes[-1]}", file=sys.stderr)
    print(table(sizes), end="")
    if given.figures is not None:
        figures = Figures(
            schema="nbassay/benchmark-rescoring/1",
            **origin(workshop, "python benchmarks/rescoring.py GRADED -o OUT"),
            **this_machine(),
            sizes=sizes,
        )
        write_figures(given.figures, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
