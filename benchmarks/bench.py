"""What the benchmark commands share: where things lie, progress, and where figures come from."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from nbassay.calibrating import today, tool_versions, versions
from nbassay.files import write_whole
from nbassay.records import Record
from nbassay.trust import Origin
from nbassay.workshop import Workshop

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "benchmarks" / "figures"


class Progress:
    """One line a notebook that was really run."""

    def start(self, total: int) -> None:
        """Begin."""
        self._total, self._done, self._started = total, 0, time.monotonic()

    def close(self) -> None: ...

    def done(self, name: str, how: str) -> None:
        """Tell of one notebook."""
        self._done += 1
        if not how.startswith("already run"):
            seconds = time.monotonic() - self._started
            print(f"{self._done}/{self._total} {seconds:5.0f} s  {name}: {how}", file=sys.stderr)


class Timings(Origin, frozen=True, kw_only=True):
    """Seconds, and the machine they were taken on: they compare within one run only."""

    machine: str
    cores: int
    """Those that the command was allowed."""


def origin(workshop: Workshop, command: str) -> dict[str, Any]:
    """The fields of `nbassay.trust.Origin` for figures that *command* gives."""
    return {
        "command": command,
        "date": today(),
        "packages": versions(workshop),
        "made_with": tool_versions(),
    }


def this_machine() -> dict[str, Any]:
    """The fields that `Timings` has besides."""
    return {
        "machine": f"{platform.system()} {platform.machine()}, {processor()}",
        "cores": len(os.sched_getaffinity(0)),
    }


def processor() -> str:
    """The model of this machine's processors."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    named = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return named[0] if named else "processor without a name"


def write_figures(path: Path, figures: Record) -> None:
    """Write figures for a page of ``docs/``; the same figures give the same bytes."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")
    print(f"figures: {path}")
