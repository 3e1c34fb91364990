"""
What a class costs on a cluster, and what of it stays on the machine that grades.

    python benchmarks/on_a_cluster.py -o OUT [--sizes 2,8] [--workers 2] [--figures FILE]

The notebooks are those of ``speed.py``; scheduler and workers run on this machine, each as a
process of its own, so that all cores are taken by boxes. What is told of the cluster is ``nbassay
run``, and its processor seconds are of that command alone: to send notebooks, to receive, decode
and write evidence. Each class is graded without a cluster, too, and scored with what the workers
sent: ``results.json`` must be the same byte for byte. Prints the table of ``docs/scale.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from bench import ROOT, Timings, origin, this_machine, write_figures
from costs import Cost, cost_of
from speed import write_notebooks

from nbassay.kept_controls import CACHE_VARIABLE
from nbassay.records import Record
from nbassay.workshop import read_workshop

START_S = 60.0
"""Seconds for a scheduler to say where it is."""


class Sent(Record, frozen=True, kw_only=True):
    """A class of one size."""

    learners: int
    here: Cost
    """Graded without a cluster: boxes are in it."""
    there: Cost
    """Run with one: of the command alone."""


class Figures(Timings, frozen=True, kw_only=True):
    """``benchmarks/figures/cluster.json``."""

    schema: Literal["nbassay/benchmark-cluster/1"]
    workers: int
    sent: list[Sent]

    @property
    def command_s(self) -> float:
        """Processor seconds of the command for each further notebook; of two sizes at least."""
        small, large = self.sent[0], self.sent[-1]
        more = large.there.processor_seconds - small.there.processor_seconds
        return more / (large.learners - small.learners)


@contextlib.contextmanager
def cluster(folder: Path, workers: int) -> Iterator[str]:
    """The address of a scheduler with so many *workers*, each for one box at a time."""
    folder.mkdir(parents=True)
    told = folder / "scheduler.json"
    program = [sys.executable, "-m", "distributed.cli.dask_{}", "--scheduler-file", str(told)]

    def start(what: str, *options: str) -> subprocess.Popen[bytes]:
        command = [part.format(what) for part in program] + ["--no-dashboard", *options]
        log = stack.enter_context((folder / f"{what}.log").open("wb"))
        process = stack.enter_context(
            subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        )
        stack.callback(process.terminate)
        return process

    with contextlib.ExitStack() as stack:
        start("scheduler", "--host", "127.0.0.1", "--port", "0")
        ends = time.monotonic() + START_S
        address = None
        while address is None:
            if time.monotonic() > ends:
                sys.exit(f"the scheduler did not start: look at {folder}")
            time.sleep(0.1)
            with contextlib.suppress(OSError, ValueError):
                address = json.loads(told.read_bytes())["address"]
        start("worker", "--host", "127.0.0.1", "--nworkers", str(workers), "--nthreads", "1")
        yield address


def nbassay(*given: str | Path) -> Cost:
    """Run a command of nbassay's on this lab, with nothing kept from earlier classes."""
    command = [sys.executable, "-m", "nbassay", *map(str, given), "--workshop", str(ROOT)]
    return cost_of(command, env={**os.environ, CACHE_VARIABLE: ""})


def table(figures: Figures) -> str:
    """The table of ``docs/scale.md``."""
    lines = [
        f"| learners | graded here, {figures.cores} at once | run on {figures.workers} workers "
        "| processor seconds of that command | its memory |",
        f"|{' --: |' * 5}",
    ]
    lines += [
        f"| {one.learners} | {one.here.seconds:.1f} s | {one.there.seconds:.1f} s "
        f"| {one.there.processor_seconds:.1f} | {one.there.peak_mb:.0f} MB |"
        for one in figures.sent
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Grade classes of every size, here and on a cluster."""
    parser = argparse.ArgumentParser(description="What a class costs on a cluster.")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--sizes", default="2,8")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--figures", type=Path, help="file to write")
    given = parser.parse_args()
    sizes = [int(size) for size in given.sizes.split(",")]
    if len(sizes) < 2 or sizes[0] >= sizes[-1]:
        parser.error(f"--sizes: expected two sizes or more, the smallest first, found {sizes}")
    workshop, work = read_workshop(ROOT), given.output.resolve()
    shutil.rmtree(work, ignore_errors=True)
    sent = []
    for size in sizes:
        notebooks = write_notebooks(work / "class", workshop, size)
        outs = [work / f"{place}-{size}" for place in ("here", "there")]
        here = nbassay("grade", *notebooks, "-o", outs[0], "-q")
        with cluster(work / f"cluster-{size}", given.workers) as address:
            there = nbassay("run", *notebooks, "-o", outs[1], "-q", "--cluster", address)
        nbassay("score", outs[1])
        results = [(out / "results.json").read_bytes() for out in outs]
        if results[0] != results[1]:
            sys.exit(f"{size} learners: other results on a cluster; compare {outs}")
        sent.append(Sent(learners=size, here=here, there=there))
        print(f"{size} learners: here {here}, on a cluster {there}", file=sys.stderr)
    figures = Figures(
        schema="nbassay/benchmark-cluster/1",
        **origin(workshop, "python benchmarks/on_a_cluster.py -o OUT"),
        **this_machine(),
        workers=given.workers,
        sent=sent,
    )
    if figures.command_s <= 0:
        sys.exit(f"more notebooks took no more of the command: {sent}; on a quiet machine, again")
    print(table(figures), end="")
    if given.figures is not None:
        write_figures(given.figures, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
