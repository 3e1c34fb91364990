"""Proves a sandbox on this machine: real attempts to get out of a real box, about a second."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbassay.records import Ending
from nbassay.sandbox import Box, Limits, Mount, ProbeResult, Sandbox
from nbassay.sandbox.attempts import ATTEMPTS
from nbassay.scratch import scratch

_LIMITS = Limits(notebook_s=30.0, processes=32, file_mb=1, disk_mb=4, evidence_mb=1)
_DATA = "/data/probe.bin"
_SECRET = "NBASSAY_PROBE_SECRET"  # noqa: S105  # the name of a variable


def probe(sandbox: Sandbox) -> list[ProbeResult]:
    """
    Attempt what a box must not allow.

    Args:
        sandbox: Any provider; without isolation the attempts succeed, and do no harm.

    Returns:
        One result an attempt, in a fixed order. When a box does not start at all, nothing holds.
    """
    return [*_probe_walls(sandbox), _probe_memory(sandbox), _probe_time(sandbox)]


def _probe_walls(sandbox: Sandbox) -> list[ProbeResult]:
    """All attempts that leave the box alive, in one box."""
    frames: list[bytes] = []
    with _bait() as (job, data):
        job = {**job, **_numbers(_LIMITS), "what": "walls"}
        mounts = [Mount(host=data, inside=_DATA)]
        ending = _run(sandbox, job, _LIMITS, mounts, frames)
    try:
        succeeded = json.loads(frames[0])
        return [_wall_result(name, list(map(str, succeeded[name]))) for name in ATTEMPTS]
    except (IndexError, KeyError, TypeError, ValueError):
        why = ending.message or "the box sent no results"
        return [ProbeResult(name=name, holds=False, detail=why) for name in ATTEMPTS]


def _wall_result(name: str, succeeded: list[str]) -> ProbeResult:
    tried = (ATTEMPTS[name].__doc__ or name).rstrip(".")
    happened = "; ".join(succeeded)[:500] or "refused"
    return ProbeResult(name=name, holds=not succeeded, detail=f"{tried}: {happened}.")


def _probe_memory(sandbox: Sandbox) -> ProbeResult:
    limits = Limits(notebook_s=30.0, memory_mb=128)
    ending = _run(sandbox, {"what": "memory", **_numbers(limits)}, limits)
    return ProbeResult(
        name="memory-limit",
        holds=ending.reason == "memory",
        detail=f"Take twice the allowed memory: {_told(ending)}",
    )


def _probe_time(sandbox: Sandbox) -> ProbeResult:
    ending = _run(sandbox, {"what": "time"}, Limits(notebook_s=0.4))
    return ProbeResult(
        name="time-limit",
        holds=ending.reason == "wall-time",
        detail=f"Run on and ignore every polite request to end: {_told(ending)}",
    )


def _told(ending: Ending) -> str:
    return ending.message or "the box ended by itself"


@contextlib.contextmanager
def _bait() -> Iterator[tuple[dict[str, Any], Path]]:
    """Things of the host that are there to be reached: files, a secret, sockets, a process."""
    token, victim, abstract = (secrets.token_hex(16) for _ in range(3))
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch("probe"))
        secret = folder / "secret.txt"
        secret.write_text(token)
        data = folder / "probe.bin"
        data.write_bytes(b"data")
        # Open to all users: a box must hide them, not lean on their permissions.
        for path, mode in ((folder, 0o755), (secret, 0o644), (data, 0o666)):
            path.chmod(mode)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        if sys.platform == "linux":
            hidden = stack.enter_context(socket.socket(socket.AF_UNIX))
            hidden.bind("\0" + abstract)
            hidden.listen()
        stack.enter_context(_variable(_SECRET, token))
        waiting = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "input()", victim],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(waiting.communicate)  # its input ends, and so does it
        job = {
            "token": token,
            "victim": victim,
            "port": listener.getsockname()[1],
            "abstract": abstract,
            "secret_files": [str(secret), "/etc/shadow", "/etc/machine-id"],
            "data_files": [_DATA, str(data)],
            "folders": ["/", "/etc", "/usr", "/usr/bin", "/dev", sysconfig.get_path("purelib")],
        }
        yield job, data


@contextlib.contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable of the host for a while."""
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def _numbers(limits: Limits) -> dict[str, int]:
    return {
        name: getattr(limits, name) for name in ("processes", "file_mb", "disk_mb", "memory_mb")
    }


def _run(
    sandbox: Sandbox,
    job: dict[str, Any],
    limits: Limits,
    mounts: list[Mount] | None = None,
    frames: list[bytes] | None = None,
) -> Ending:
    """Run the attempts' source in a box, by its text: the box needs no file of ours for it."""
    source = Path(__file__).with_name("attempts.py").read_text(encoding="utf-8")
    box = Box(
        argv=[sys.executable, "-I", "-S", "-c", source],
        stdin=json.dumps(job).encode(),
        mounts=mounts or [],
        env={"LANG": "C.UTF-8"},
        limits=limits,
        writable=["/box"],
        workdir="/box",
    )
    kept = [] if frames is None else frames
    return sandbox.run(box, lambda kind, payload: kept.append(payload), should_stop=lambda: False)
