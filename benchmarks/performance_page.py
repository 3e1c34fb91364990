"""
Put the tables of figures into ``docs/performance.md``, between their markers.

    python benchmarks/performance_page.py [--check]

It reads ``speed.json``, ``account.json``, ``growth.json`` and ``rescoring.json`` of
``benchmarks/figures/``. With ``--check`` nothing is written; exit code 1 when the page's tables are
not those of the figures.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import account
import growth
import msgspec
import rescoring
import speed
from bench import FIGURES, ROOT, Timings

from nbassay.files import write_whole

PAGE = ROOT / "docs" / "performance.md"
NAMED = ("nbassay", "python", "tensorflow")
"""Versions that the page gives; the figures hold more."""


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


def tables(folder: Path = FIGURES) -> dict[str, str]:
    """Name of a marker → what stands below it."""
    beside, apart = read_speed(folder), read_account(folder)
    running, scoring = read_growth(folder), read_rescoring(folder)
    return {
        "speed": f"{speed.table(beside.timed)}\n{_taken(beside)}",
        "account": f"{account.table(apart)}\n{_taken(apart)}",
        "growth": f"{growth.table(running.grown)}\n{_taken(running)}",
        "rescoring": f"{rescoring.table(scoring.sizes)}\n{_taken(scoring)}",
    }


def _taken(figures: Timings) -> str:
    """Where and when they were taken."""
    packages = {**figures.made_with, **figures.packages}
    told = [f"{name} {packages[name]}" for name in NAMED if name in packages]
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
            raise ValueError(f"{PAGE}: expected a table between {mark.strip()} and {end}")
        text = before + mark + table + end + after
    return text


def main() -> int:
    """Fill the page in, or say whether it is."""
    parser = argparse.ArgumentParser(description="Tables of figures for docs/performance.md.")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    before = PAGE.read_text("utf-8")
    after = filled(before, tables())
    if given.check:
        return int(before != after)
    write_whole(PAGE, after)
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
