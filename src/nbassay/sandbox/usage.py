"""What a tree of processes uses, as the host sees it; nothing is asked of the processes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import psutil

_PROC = Path("/proc")
_MOMENT_S = 0.05
"""How old what `Families` knows may be: half of the time between two looks at one box."""
_SHARED_MEMORY = (b"/dev/zero (deleted)", b"/memfd:", b"/SYSV")
"""How the kernel names shared mappings that have no file in a (bounded) file system."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Usage:
    """One look at a tree of processes."""

    resident_bytes: int
    """Anonymous and shared memory, added up; pages that a fork shares count twice."""
    reachable_bytes: int
    """Address space besides each process's own: an upper bound for what it can hold shared."""
    cpu_s: float
    """Processor seconds of the busiest single process."""


class Families:
    """
    Whose children processes are, found out once for all boxes that look at about the same time.

    To find the children of one process the system is asked for the parent of every process, which
    is dear where there are many of them, and many boxes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: dict[int, list[int]] = {}
        self._until = 0.0

    def trees_of(self, pids: Sequence[int]) -> list[int]:
        """Ids of these processes and all their descendants, as they were a moment ago at most."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._children = _read_children()
                self._until = time.monotonic() + _MOMENT_S
            children = self._children
        found: list[int] = []
        to_come = [pid for pid in pids if pid in children]
        while to_come:
            found += to_come
            to_come = [child for pid in to_come for child in children[pid] if child not in pids]
        return found


OF_ALL = Families()
"""Whom all boxes ask."""


def tree_of(pid: int) -> list[int]:
    """Ids of the process *pid* and of all its descendants now; empty when it is gone."""
    return Families().trees_of([pid])


def _read_children() -> dict[int, list[int]]:
    """Process → its children, of every process."""
    parents = dict(_read_parents())
    children: dict[int, list[int]] = {pid: [] for pid in parents}
    for pid, parent in parents.items():
        if parent in children:
            children[parent].append(pid)
    return children


def _read_parents() -> Iterator[tuple[int, int]]:
    """Each process and its parent."""
    if sys.platform != "linux":
        yield from ((one.pid, one.info["ppid"]) for one in psutil.process_iter(["ppid"]))
        return
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            # 123 (a name) with anything) S 45 …
            yield pid, int(_read_now(f"{_PROC}/{pid}/stat").rpartition(b")")[2].split(None, 2)[1])


def _read_now(path: str) -> bytes:
    """The first bytes of a file in /proc, as cheaply as can be: there is one for each process."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def is_first_process(pid: int) -> bool:
    """Whether *pid* is the first process of a process namespace below ours; False when it ended."""
    try:
        status = _PROC.joinpath(str(pid), "status").read_text(errors="replace")
    except OSError:
        return False
    numbers = status.partition("\nNSpid:")[2].partition("\n")[0].split()  # ours, then its own
    return len(numbers) > 1 and numbers[-1] == "1"


def measure_usage(pids: Sequence[int]) -> Usage:
    """Look at each process once; one that has ended meanwhile counts as nothing."""
    resident = reachable = 0
    cpu_s = 0.0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            times = process.cpu_times()
            fields = _read_fields(pid, "status") if sys.platform == "linux" else {}
            whole = 0 if sys.platform == "linux" else int(process.memory_info().rss)
        except (OSError, psutil.Error):
            continue
        cpu_s = max(cpu_s, times.user + times.system)
        # One that has ended and is not yet reaped has no sizes.
        resident += fields.get("RssAnon", 0) + fields.get("RssShmem", 0) + whole
        own = fields.get("VmData", 0) + fields.get("VmStk", 0)
        reachable += max(0, fields.get("VmSize", 0) - own)
    return Usage(resident_bytes=resident, reachable_bytes=reachable, cpu_s=cpu_s)


def measure_share(pids: Iterable[int]) -> int | None:
    """
    Add up memory with shared pages divided among their owners (PSS), in bytes.

    Slower than `measure_usage`, and never counts a page twice.

    Returns:
        None when no process could be read.
    """
    total: int | None = None
    for pid in pids:
        try:
            fields = _read_fields(pid, "smaps_rollup")
        except OSError:
            continue
        share = fields.get("Pss_Anon", fields.get("Pss", 0)) + fields.get("Pss_Shmem", 0)
        total = share + (total or 0)
    return total


def measure_shared_mappings(pids: Iterable[int]) -> int:
    """
    Add up the extents of shared memory that has no file, each counted once, in bytes.

    A page of such a mapping stays in memory after ``madvise(MADV_DONTNEED)`` or after the end of
    the process that wrote it, and then shows in no process's resident size.
    """
    extents: dict[tuple[bytes, bytes], int] = {}
    for pid in pids:
        try:
            with _PROC.joinpath(str(pid), "maps").open("rb") as lines:
                for line in lines:
                    # 7f12-7f34 rw-s 00000000 00:01 1045   /dev/zero (deleted)
                    span, mode, offset, device, inode, *name = line.split(None, 5)
                    if mode[3:4] != b"s" or not name or not name[0].startswith(_SHARED_MEMORY):
                        continue
                    low, high = span.split(b"-")
                    reach = int(offset, 16) + int(high, 16) - int(low, 16)
                    extents[device, inode] = max(extents.get((device, inode), 0), reach)
        except (OSError, ValueError):
            continue
    return sum(extents.values())


def _read_fields(pid: int, name: str) -> dict[str, int]:
    """Lines ``Name:  123 kB`` of a file in /proc, in bytes."""
    fields: dict[str, int] = {}
    for line in _PROC.joinpath(str(pid), name).read_text(errors="replace").splitlines():
        key, _, value = line.partition(":")
        if value.endswith(" kB"):
            fields[key] = int(value[:-3]) * 1024
    return fields
