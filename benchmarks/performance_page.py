"""
Put the tables of figures into ``docs/performance.md`` and ``docs/scale.md``, between their markers.

    python benchmarks/performance_page.py [--check]

It reads ``speed.json``, ``account.json``, ``growth.json``, ``rescoring.json`` and ``cluster.json``
of ``benchmarks/figures/``. With ``--check`` nothing is written; exit code 1 when the tables of a
page are not those of the figures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import account
import growth
import msgspec
import on_a_cluster
import rescoring
import speed
from bench import FIGURES, ROOT, Timings

from nbassay.files import write_whole

DOCS = ROOT / "docs"
PAGES = {
    DOCS / "performance.md": ("speed", "account", "growth", "rescoring"),
    DOCS / "scale.md": ("cluster", "classes"),
}
"""Page → names of its tables."""
NAMED = ("nbassay", "python", "tensorflow")
"""Versions that the pages give; the figures hold more."""
CLASSES = ((300, 4), (3_000, 40), (30_000, 200))
"""Notebooks and cores of the classes whose costs are worked out."""


def read_speed(folder: Path = FIGURES) -> speed.Figures:
    """Beside other tools."""
    return msgspec.json.decode((folder / "speed.json").read_bytes(), type=speed.Figures)


def read_account(folder: Path = FIGURES) -> account.Figures:
    """Beside forks of a warm process."""
    return msgspec.json.decode((folder / "account.json").read_bytes(), type=account.Figures)


def read_growth(folder: Path = FIGURES) -> growth.Figures:
    """Running, by the size of the class."""
    return msgspec.json.decode((folder / "growth.json").read_bytes(), type=growth.Figures)


def read_rescoring(folder: Path = FIGURES) -> rescoring.Figures:
    """Scoring and rendering, by the size of the class."""
    return msgspec.json.decode((folder / "rescoring.json").read_bytes(), type=rescoring.Figures)


def read_cluster(folder: Path = FIGURES) -> on_a_cluster.Figures:
    """Running on the workers of a cluster."""
    return msgspec.json.decode((folder / "cluster.json").read_bytes(), type=on_a_cluster.Figures)


def tables(folder: Path = FIGURES) -> dict[str, str]:
    """Name of a marker → what stands below it."""
    beside, apart = read_speed(folder), read_account(folder)
    running, scoring = read_growth(folder), read_rescoring(folder)
    sent = read_cluster(folder)
    return {
        "speed": f"{speed.table(beside.timed)}\n{_taken(beside, beside.tools)}",
        "account": f"{account.table(apart)}\n{_taken(apart)}",
        "growth": f"{growth.table(running.grown)}\n{_taken(running)}",
        "rescoring": f"{rescoring.table(scoring.sizes)}\n{_taken(scoring)}",
        "cluster": f"{on_a_cluster.table(sent)}\n{_taken(sent)}",
        "classes": classes_table(
            box_s=apart.nbassay.learners / apart.count,
            command_s=sent.command_s,
            score_s=_score_s(scoring),
        ),
    }


def _score_s(figures: rescoring.Figures) -> float:
    """Seconds to score and render a learner, in the largest class."""
    largest = max(figures.sizes, key=lambda one: one.learners)
    return (largest.first.seconds + largest.render.seconds) / largest.learners


def classes_table(*, box_s: float, command_s: float, score_s: float) -> str:
    """
    What classes cost that nobody graded.

    Args:
        box_s: Seconds that a notebook's box takes, on a core that others are busy beside.
        command_s: Processor seconds of a notebook that stay on the machine that grades.
        score_s: Seconds of a learner's score and report.
    """
    lines = [
        f"With *c* = {box_s:.1f}, *h* = {command_s:.2f} and *s* = {score_s:.2f} seconds:",
        "",
        "| notebooks | cores of workers | core hours | running | scoring and reports | all |",
        f"|{' --: |' * 6}",
    ]
    for count, cores in CLASSES:
        running = count * max(box_s / cores, command_s)
        after = count * score_s
        lines.append(
            f"| {count:,} | {cores} | {count * box_s / 3600:.1f} | {_minutes(running)} "
            f"| {_minutes(after)} | {_minutes(running + after)} |"
        )
    return "\n".join(lines) + "\n"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def _taken(figures: Timings, tools: Mapping[str, str] | None = None) -> str:
    """Where and when they were taken, and of which tools."""
    packages = {**figures.made_with, **figures.packages}
    told = [f"{name} {packages[name]}" for name in NAMED if name in packages]
    told += [f"{name} {version}" for name, version in sorted((tools or {}).items())]
    where = f"{figures.machine}, {figures.cores} cores, {', '.join(told)}"
    return f"*{figures.date}, {where}: `{figures.command}`*\n"


def filled(text: str, found: dict[str, str]) -> str:
    """
    The page's *text* with the tables that were *found*.

    Raises:
        ValueError: A marker is missing.
    """
    for name, table in found.items():
        mark, end = f"<!-- {name} -->\n", "<!-- end -->"
        before, has_mark, rest = text.partition(mark)
        _, has_end, after = rest.partition(end)
        if not (has_mark and has_end):
            raise ValueError(f"expected a table between {mark.strip()} and {end}")
        text = before + mark + table + end + after
    return text


def main() -> int:
    """Fill the pages in, or say whether they are."""
    parser = argparse.ArgumentParser(description="Tables of figures for pages of docs/.")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    found = tables()
    is_other = False
    for page, names in PAGES.items():
        before = page.read_text("utf-8")
        after = filled(before, {name: found[name] for name in names})
        is_other |= before != after
        if not given.check:
            write_whole(page, after)
            print(page)
    return int(given.check and is_other)


if __name__ == "__main__":
    sys.exit(main())
