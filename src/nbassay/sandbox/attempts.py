"""
Attempts to get out of a box; its source is run inside by `nbassay.sandbox.probes`.

Standard library only. Without a box every attempt stays harmless: it opens and does not change,
or takes back what it made.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_MB = 1 << 20
_CLONE_NEWUSER = 0x10000000


def read_files(job: dict[str, Any]) -> Iterator[str]:
    """Read files of the host that were not laid in."""
    for path in job["secret_files"]:
        with contextlib.suppress(OSError):
            Path(path).read_bytes()
            yield f"could read {path}"


def read_environment(job: dict[str, Any]) -> Iterator[str]:
    """Find a variable of the host, or a path of it, in what /proc shows of any process."""
    for name in ("environ", "cmdline"):
        for path in Path("/proc").glob(f"[0-9]*/{name}"):
            with contextlib.suppress(OSError):
                if job["token"].encode() in path.read_bytes():
                    yield f"found the host's secret in {path}"
    if job["token"] in os.environ.values():
        yield "found the host's secret in the environment"


def connect(job: dict[str, Any]) -> Iterator[str]:
    """Reach a port and an abstract socket of the host that are listening."""
    addresses: list[tuple[int, Any, str]] = [
        (socket.AF_INET, ("127.0.0.1", job["port"]), "a port of the host"),
        (socket.AF_UNIX, "\0" + job["abstract"], "an abstract socket of the host"),
    ]
    for family, address, name in addresses:
        with contextlib.suppress(OSError), socket.socket(family) as client:
            client.settimeout(5)
            client.connect(address)
            yield f"could connect to {name}"


def write(job: dict[str, Any]) -> Iterator[str]:
    """Write beside the installed packages, to the system, and to data that was laid in."""
    for path in job["data_files"]:
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_WRONLY))
            yield f"could open {path} for writing"
    for folder in job["folders"]:
        path = Path(folder) / f"nbassay-probe-{os.getpid()}"
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            path.unlink()
            yield f"could make a file in {folder}"


def reach_processes(job: dict[str, Any]) -> Iterator[str]:
    """See or signal a process of the host."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if job["victim"].encode() not in path.read_bytes():
                continue
            yield f"saw a process of the host ({path.parent.name})"
            os.kill(int(path.parent.name), 0)
            yield "could have signalled it"


def nest(job: dict[str, Any]) -> Iterator[str]:
    """Make a user namespace, in which there would be every capability."""
    child = os.fork()
    if child == 0:
        try:
            status = ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER)
        except BaseException:
            status = -1
        os._exit(0 if status == 0 else 1)
    if os.waitpid(child, 0)[1] == 0:
        yield "could make a user namespace"


def set_kernel(job: dict[str, Any]) -> Iterator[str]:
    """Open the machine's settings for writing."""
    for name in ("core_pattern", "modprobe", "sysrq", "panic", "randomize_va_space"):
        path = f"/proc/sys/kernel/{name}"
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_WRONLY))
            yield f"could open {path} for writing"


def fork(job: dict[str, Any]) -> Iterator[str]:
    """Start more processes than the limit allows."""
    children = []
    gate_out, gate_in = os.pipe()
    try:
        for _ in range(job["processes"] + 1):
            child = os.fork()
            if child == 0:
                os.close(gate_in)
                os.read(gate_out, 1)  # returns at the parent's end, at the latest
                os._exit(0)
            children.append(child)
        yield f"could start {len(children)} processes, with a limit of {job['processes']}"
    except OSError:
        pass
    finally:
        os.close(gate_in)
        os.close(gate_out)
        for child in children:
            os.waitpid(child, 0)


def write_large(job: dict[str, Any]) -> Iterator[str]:
    """Write a file beyond the largest size."""
    written = _fill(Path("large"), job["file_mb"] + 1)
    if written > job["file_mb"]:
        yield f"could write a file of {written} MB, with a limit of {job['file_mb']} MB"


def write_many(job: dict[str, Any]) -> Iterator[str]:
    """Fill a writable folder beyond its size."""
    count = job["disk_mb"] + 1
    written = sum(_fill(Path(f"many-{number}"), 1) for number in range(count))
    if written > job["disk_mb"]:
        yield f"could write {written} MB, with a limit of {job['disk_mb']} MB"


def _fill(path: Path, size_mb: int) -> int:
    """Write a file of *size_mb*; return how many MB that could be written."""
    written = 0
    try:
        with path.open("wb", buffering=0) as file:
            while written < size_mb and file.write(bytes(_MB)) == _MB:
                written += 1
    except OSError as error:
        if error.errno not in (errno.EFBIG, errno.ENOSPC, errno.EDQUOT):
            raise
    return written


ATTEMPTS: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "files": read_files,
    "environment": read_environment,
    "network": connect,
    "writing": write,
    "processes": reach_processes,
    "namespaces": nest,
    "kernel-settings": set_kernel,
    "process-limit": fork,
    "file-limit": write_large,
    "disk-limit": write_many,
}


def take_memory(limit_mb: int) -> None:
    """Take twice the allowed memory, in blocks that no limit of one process counts, and stay."""
    blocks = []
    for _ in range(8):
        blocks.append(mmap.mmap(-1, limit_mb * _MB // 4))
        for offset in range(0, len(blocks[-1]), mmap.PAGESIZE):
            blocks[-1][offset] = 1
    signal.pause()


def ignore_time() -> None:
    """Ignore every polite request to end."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        signal.pause()


def main() -> None:
    """Make the attempts that standard input asks for, and send what succeeded."""
    job = json.loads(sys.stdin.buffer.read())
    if job["what"] == "memory":
        take_memory(job["memory_mb"])
    elif job["what"] == "time":
        ignore_time()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    results: dict[str, list[str]] = {}
    for name, attempt in ATTEMPTS.items():
        try:
            results[name] = list(attempt(job))
        except Exception as error:
            results[name] = [f"the attempt itself failed: {type(error).__name__}: {error}"]
    payload = json.dumps(results).encode()
    with os.fdopen(int(os.environ["NBASSAY_FD"]), "wb") as pipe:
        pipe.write(b"TRYS" + len(payload).to_bytes(8, "big") + payload)


if __name__ == "__main__":
    main()
