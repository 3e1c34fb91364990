"""Where the seconds of a class went, stage by stage; kept in ``run.json``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from nbassay.errors import OutputError
from nbassay.files import MARK, write_whole

STAGES = {
    "wait": "nothing to run, a worker not free, or another run of the same code",
    "start": "sandboxes made, Python and the kernel started",
    "run": "notebooks, cell by cell",
    "collect": "evidence decoded, checked and kept",
    "read": "evidence read from the disk",
    "measure": "networks asked that had not been asked before",
    "check": "checks, and what else makes a sheet of them",
    "render": "pages, gradebook and JUnit file",
}
"""Stage → what is done in it. Seconds of processes that work side by side are added up."""


class Stages:
    """Adds up seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what the block takes, but for what it counts as other stages, as *name*."""
        started, before = time.monotonic(), sum(self.seconds.values())
        try:
            yield
        finally:
            others = sum(self.seconds.values()) - before
            self.add({name: time.monotonic() - started - others})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what was counted elsewhere, by stage."""
        for name, more in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + more

    def keep(self, out: Path) -> None:
        """
        Add these seconds to what ``run.json`` in *out* tells.

        Raises:
            OutputError: It cannot be read or written.
        """
        total = Stages()
        total.add(read_stages(out))
        total.add(self.seconds)
        record = _record(out)
        record["stages"] = {
            name: round(total.seconds[name], 3) for name in STAGES if name in total.seconds
        }
        write_whole(out / MARK, msgspec.json.format(msgspec.json.encode(record)) + b"\n")


def read_stages(out: Path) -> dict[str, float]:
    """
    Stage → seconds since the last `nbassay grade` or `run` began.

    Raises:
        OutputError: ``run.json`` cannot be read.
    """
    try:
        return msgspec.convert(_record(out).get("stages", {}), dict[str, float])
    except msgspec.ValidationError as error:
        raise OutputError(f"{out / MARK}: stages: {error}; grade again") from error


def _record(out: Path) -> dict[str, object]:
    try:
        return msgspec.json.decode((out / MARK).read_bytes(), type=dict[str, object])
    except (OSError, msgspec.DecodeError) as error:
        raise OutputError(f"{out / MARK}: cannot be read ({error}); grade again") from error
