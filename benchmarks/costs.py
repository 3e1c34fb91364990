"""What a command takes: seconds, processor seconds and memory, of all its processes together."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from nbassay.records import Record

LOOK_S = 0.1
"""
Between two looks at the processes; what one did after the last look at it is not seen. Looking more
often takes from a command that uses all cores, and nothing from one that leaves a core idle.
"""


class Cost(Record, frozen=True, kw_only=True):
    """What one command took."""

    seconds: float
    """By the clock on the wall."""
    processor_seconds: float
    """Of all its processes together: nothing else that the machine does is in it."""
    peak_mb: float
    """Resident memory of all its processes together, at most."""


def cost_of(
    command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Cost:
    """Run *command* and look at what it takes."""
    return cost_and_own_memory(command, cwd=cwd, env=env)[0]


def cost_and_own_memory(
    command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> tuple[Cost, int]:
    """
    Run *command* and look at what it takes.

    Processes of a sandbox are not waited for by the command, so their processor time is read while
    they run instead of from the system's sum.

    Returns:
        The cost, and the resident memory in MB that the first process took at most: of `nbassay`
        itself, without the boxes.
    """
    used: dict[tuple[int, float], float] = {}
    peak = own = 0
    with tempfile.TemporaryFile() as told:
        started = time.monotonic()
        process = psutil.Popen(command, cwd=cwd, env=env, stdout=told, stderr=told)
        while process.poll() is None:
            resident = 0
            with contextlib.suppress(psutil.NoSuchProcess):
                for one in (process, *process.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        times = one.cpu_times()
                        used[one.pid, one.create_time()] = times.user + times.system
                        size = one.memory_info().rss
                        resident += size
                        own = max(own, size) if one.pid == process.pid else own
            peak = max(peak, resident)
            time.sleep(LOOK_S)
        seconds = time.monotonic() - started
        told.seek(0)
        if process.returncode:
            text = told.read().decode(errors="replace")[-4000:]
            sys.exit(f"{' '.join(command)}: ended with {process.returncode}\n{text}")
    cost = Cost(
        seconds=round(seconds, 2),
        processor_seconds=round(sum(used.values()), 2),
        peak_mb=round(peak / 1e6),
    )
    return cost, round(own / 1e6)
