"""How many cores and how much memory this process may use, also in a container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

_ROOT = Path("/")


def usable_cores(root: Path = _ROOT) -> int:
    """
    Cores that this process may run on, or whole cores of its control groups' time; at least 1.

    Args:
        root: Below it lie ``proc`` and ``sys``, which tell of control groups.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, min([cores, *map(int, _processors(root))]))


def free_bytes(root: Path = _ROOT) -> int:
    """
    Memory that is free, and that no control group of this process keeps from it.

    What a group holds of files counts as free where it has not been used lately: the kernel gives
    it up for whoever asks.
    """
    return min([int(psutil.virtual_memory().available), *_memory(root)])


def _processors(root: Path) -> Iterator[float]:
    """Processors' time in that of the clock, for each group that is limited."""
    told = [_words(group / "cpu.max") for group in _groups(root, "")]
    told += [
        _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
        for group in _groups(root, "cpu")
    ]
    for words in told:
        if len(words) == 2 and all(word.isdigit() for word in words):  # not "max", not "-1"
            yield int(words[0]) / int(words[1])


def _memory(root: Path) -> Iterator[int]:
    """Bytes that are left, for each group that is limited."""
    for controller, limit, usage, unused in (
        ("", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        for group in _groups(root, controller):
            words = _words(group / limit) + _words(group / usage)
            if len(words) == 2 and all(word.isdigit() for word in words):
                parts = _words(group / "memory.stat")
                stat = dict(zip(parts[::2], parts[1::2], strict=False))
                yield int(words[0]) - int(words[1]) + int(stat.get(unused, 0))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """
    Folders of this process's group and of those that it is in.

    Args:
        controller: Of version 1; "" for version 2, which has one tree for all.
    """
    for line in _lines(root / "proc" / "self" / "cgroup"):
        _number, controllers, name = line.split(":", 2)
        if controller in controllers.split(","):
            # Seen from a container the name may be the host's, or lead out of the container's own
            # root: then that root is all there is to see.
            group = PurePosixPath(name.lstrip("/"))
            if ".." in group.parts:
                group = PurePosixPath()
            mounted = root / "sys" / "fs" / "cgroup" / controller
            yield from (mounted / each for each in (group, *group.parents))


def _words(path: Path) -> list[str]:
    return [word for line in _lines(path) for word in line.split()]


def _lines(path: Path) -> list[str]:
    """None where the file is not there or not ours to read."""
    try:
        return path.read_text("utf-8").splitlines()
    except OSError:
        return []
