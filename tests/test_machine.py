"""How many boxes fit: what control groups leave of the machine's cores and memory."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from nbassay import classrun
from nbassay.machine import free_bytes, usable_cores

GB = 1 << 30
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
NO_LIMIT = "9223372036854771712"
"""What version 1 says of a group without one."""


def lay(root: Path, cgroup: str, **groups: dict[str, str]) -> Path:
    """*root* with what this process is told of its group, and files of the groups by folder."""
    told = {"proc/self": {"cgroup": cgroup}}
    told |= {f"sys/fs/cgroup/{group}": files for group, files in groups.items()}
    for folder, files in told.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (root / folder / name).write_text(f"{text}\n" if text else "")
    return root


CONTAINERS = {
    "version 2, its own root": (
        "0::/",
        {"": {"cpu.max": "50000 50000", "memory.max": "4096", "memory.current": "1024"}},
    ),
    "version 2, outside of its namespace": (
        "0::/../../other",
        {"": {"cpu.max": "150000 100000", "memory.max": "4096", "memory.current": "1024"}},
    ),
    "version 2, the smallest of all": (
        "0::/batch/job/step",
        {
            "batch": {"cpu.max": "100000 100000", "memory.max": "9999", "memory.current": "6000"},
            "batch/job": {"cpu.max": "max 100000", "memory.max": "4096", "memory.current": "1024"},
            "batch/job/step": {"cpu.max": "900000 100000", "memory.max": "max"},
        },
    ),
    "version 2, files in memory": (
        "0::/",
        {
            "": {
                "cpu.max": "1000 100000",
                "memory.max": "4096",
                "memory.current": "4000",
                "memory.stat": "anon 1\ninactive_file 2976\nactive_file 7",
            }
        },
    ),
    "version 1, seen by the host's names": (
        "12:memory:/docker/abc\n4:cpuacct,cpu:/docker/abc\n1:name=systemd:/docker/abc\n0::/",
        {
            "memory": {
                "memory.limit_in_bytes": "4096",
                "memory.usage_in_bytes": "3000",
                "memory.stat": "inactive_file 1\ntotal_inactive_file 1976",
            },
            "cpu": {"cpu.cfs_quota_us": "199999", "cpu.cfs_period_us": "100000"},
        },
    ),
    "version 1, a group in a group": (
        "4:memory:/job/step\n1:cpu:/job",
        {
            "memory": {"memory.limit_in_bytes": NO_LIMIT, "memory.usage_in_bytes": "5"},
            "memory/job": {"memory.limit_in_bytes": "4096", "memory.usage_in_bytes": "1024"},
            "memory/job/step": {"memory.limit_in_bytes": NO_LIMIT, "memory.usage_in_bytes": "5"},
            "cpu": {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"},
            "cpu/job": {"cpu.cfs_quota_us": "100000", "cpu.cfs_period_us": "100000"},
        },
    ),
}


@pytest.mark.parametrize(("cgroup", "groups"), CONTAINERS.values(), ids=CONTAINERS)
def test_the_smallest_limit_holds(
    cgroup: str, groups: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    """
    Of the group of a process and all that it is in, the one that leaves least says how much.
    """
    root = lay(tmp_path, cgroup, **groups)

    assert (usable_cores(root), free_bytes(root)) == (1, 3072)


UNLIMITED = {
    "no control groups": ("", {}),
    "version 2 without limits": (
        "0::/user.slice",
        {"user.slice": {"cpu.max": "max 100000", "memory.max": "max", "memory.current": "7"}},
    ),
    "more than there is": (
        "0::/a",
        {"a": {"cpu.max": "99999900000 100000", "memory.max": NO_LIMIT, "memory.current": "7"}},
    ),
    "another tree's limits": (
        "0::/a",
        {"b": {"cpu.max": "1000 100000", "memory.max": "4096", "memory.current": "7"}},
    ),
}


@pytest.mark.parametrize(("cgroup", "groups"), UNLIMITED.values(), ids=UNLIMITED)
def test_without_limits_the_machine_is_there(
    cgroup: str, groups: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    """
    No group, none with a limit, or limits beyond the machine: its cores and free memory count.
    """
    root = lay(tmp_path, cgroup, **groups)

    assert usable_cores(root) == CORES
    assert 4096 < free_bytes(root) < psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("cores", "free", "jobs"), [(8, 64 * GB, 8), (8, 7 * GB, 3), (2, 64 * GB, 2), (8, -GB, 1)]
)
def test_boxes_fit_cores_and_memory(
    cores: int, free: int, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    One box a core, two gigabytes each, one in any case; `doctor` says why where cores are left.
    """
    monkeypatch.setattr(classrun, "usable_cores", lambda: cores)
    monkeypatch.setattr(classrun, "free_bytes", lambda: free)
    monkeypatch.setattr("os.cpu_count", lambda: 8)

    told = classrun.why_not_all_cores()

    assert classrun.default_jobs() == jobs
    assert (told is None) == (jobs == 8)
    if told is not None:
        assert told.startswith(f"{jobs} at once by default on 8 cores: ")
        assert f"may use {cores} of them and {max(0, free) / GB:.1f} GB more memory" in told
