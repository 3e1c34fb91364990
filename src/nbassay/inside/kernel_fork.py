"""
A kernel that is no program of its own but a fork, where the executor itself is one.

The fork is made before the executor has read anything, and waits until it is told to be the
kernel: so it holds none of what the executor knows, and shares nothing with it but standard error.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

_PR_SET_DUMPABLE = 4
KERNEL = "nbassay.inside.kernel"


class KernelFork:
    """The waiting fork, seen from the executor; then a process as jupyter_client knows one."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._line = line

    def launch(self, argv: list[str], env: dict[str, str], cwd: str) -> None:
        """Let it be the kernel."""
        with self._line:
            self._line.sendall(json.dumps({"argv": argv, "env": env, "cwd": cwd}).encode())

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class ForkProvisioner(LocalProvisioner):
    """Launches the kernel by telling a waiting fork."""

    waiting: KernelFork

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        environment = {**kwargs["env"], "JPY_PARENT_PID": str(os.getpid())}
        self.cwd = kwargs.get("cwd") or Path.cwd()
        self.waiting.launch(cmd, environment, str(self.cwd))
        self.process = self.waiting  # type: ignore[assignment]
        self.pid = self.pgid = self.waiting.pid
        return self.connection_info


def fork_kernel(pipe: int) -> KernelFork | None:
    """
    Fork; None in the fork, which then runs `run_kernel`.

    Args:
        pipe: What the fork is not to have.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        theirs.close()
        return KernelFork(pid, ours)
    os.setsid()
    ours.close()
    os.close(pipe)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    # The executor's memory is nobody's business; the kernel's own is that of a usual process.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    global _line
    _line = theirs
    return None


_line: socket.socket


def run_kernel() -> None:
    """In the fork: wait to be told, and be the kernel, as ``python -I -m`` would run it."""
    with _line, _line.makefile("rb") as told:
        request = told.read()
    if not request:
        return  # the executor ended without a kernel
    order = json.loads(request)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    argv = order["argv"]
    sys.argv = [KERNEL, *argv[argv.index(KERNEL) + 1 :]]
    sys.orig_argv = argv
    runpy.run_module(KERNEL, run_name="__main__", alter_sys=True)
