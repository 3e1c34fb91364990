"""A box that bwrap made, as supervision sees it: its processes, its files, its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence

from nbassay.errors import SandboxError
from nbassay.sandbox.descriptors import is_readable, new_pipe, read_now
from nbassay.sandbox.usage import OF_ALL, is_first_process, tree_of
from nbassay.sandbox.warm import Guest, Program, Zygote

_START_S = 30.0  # for bwrap to tell the box's first process
_END_S = 60.0  # for the kernel to take down a killed box


class BwrapRunning:
    """A started bwrap; its first process inside is the lifeline of all others."""

    is_out_of_reach = True

    def __init__(
        self, process: subprocess.Popen[bytes], frames_fd: int, writable: Sequence[str]
    ) -> None:
        self.process = process
        self.frames_fd = frames_fd
        self._writable = writable
        self._first_pid: int | None = None
        self._first_fd: int | None = None  # a pidfd
        self._guest: Guest | None = None

    @property
    def is_warm(self) -> bool:
        return self._guest is not None

    def learn_first_process(self, info_fd: int) -> None:
        """
        Get hold of the box's first process, which bwrap names while it waits for our go.

        Raises:
            SandboxError: bwrap neither named it nor ended.
        """
        told = b""
        deadline = time.monotonic() + _START_S
        while not _is_json(told):
            if not is_readable(info_fd, deadline - time.monotonic()):
                raise SandboxError(f"bwrap said nothing for {_START_S:g} s")
            data = os.read(info_fd, 4096)
            if not data:
                return  # it gave up; supervision reports what it says
            told += data
        self._hold(int(json.loads(told)["child-pid"]))

    def _hold(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            first_fd = os.pidfd_open(pid)
            # If it ended at once its number may be somebody else's by now.
            if pid in tree_of(self.process.pid):
                self._first_pid = pid
                self._first_fd = first_fd
            else:
                os.close(first_fd)

    def let_join(self, zygote: Zygote, program: Program, frames: int, rules: int) -> None:
        """
        Let a fork of *zygote* run *program* in this box, once bwrap has made it.

        Raises:
            SandboxError: bwrap did not make it, or the fork could not join.
            OSError: The zygote is gone.
        """
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        if not is_readable(process.stdout.fileno(), _START_S) or process.stdout.read(1) != b".":
            process.kill()
            raise SandboxError(read_now(process.stderr.fileno()).decode(errors="replace"))
        for pid in filter(is_first_process, tree_of(process.pid)):
            self._hold(pid)
        if self._first_fd is None:
            raise SandboxError("the box ended before its program began")
        with contextlib.ExitStack() as stack:
            theirs_in, ours_in = new_pipe(stack)
            ours_out, theirs_out = new_pipe(stack)
            ours_error, theirs_error = new_pipe(stack)
            streams = [file.fileno() for file in (theirs_in, theirs_out, theirs_error)]
            self._guest = zygote.fork(
                program, [self._first_fd, *streams, frames, rules, process.stdin.fileno()]
            )
            for stream in (process.stdin, process.stdout, process.stderr):
                stream.close()
            process.stdin = os.fdopen(os.dup(ours_in.fileno()), "wb", 0)
            process.stdout = os.fdopen(os.dup(ours_out.fileno()), "rb", 0)
            process.stderr = os.fdopen(os.dup(ours_error.fileno()), "rb", 0)

    def close(self) -> None:
        """Let go of what supervision would have closed."""
        os.close(self.frames_fd)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def pids(self) -> list[int]:
        guest = None if self._guest is None else self._guest.pid
        return OF_ALL.trees_of([self.process.pid] if guest is None else [self.process.pid, guest])

    def files(self) -> int:
        # bwrap cannot bound how many files a tmpfs takes, so they are counted, from outside.
        count = 0
        for folder in self._writable:
            with contextlib.suppress(OSError):
                found = os.statvfs(f"/proc/{self._first_pid}/root{folder}")
                count += found.f_files - found.f_ffree
        return count

    def end(self) -> None:
        """
        Kill the box and wait for the kernel to have taken down every process in it.

        Raises:
            SandboxError: The kernel did not manage.
        """
        deadline = time.monotonic() + _END_S
        if self._first_fd is not None:
            # The end of a pid namespace's first process ends all others, and its pidfd becomes
            # readable only after that. bwrap's own end would do the same, but asynchronously.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self._first_fd, signal.SIGKILL)  # type: ignore[attr-defined, unused-ignore]
        with contextlib.suppress(ProcessLookupError):
            if self._first_fd is None:
                self.process.kill()
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self._first_fd is not None:
            is_gone = is_readable(self._first_fd, deadline - time.monotonic())
            os.close(self._first_fd)
            self._first_fd = None
            if self._guest is not None:
                is_gone &= self._guest.wait(deadline - time.monotonic())
            if not is_gone:
                raise SandboxError(f"a box was killed and still there {_END_S:g} s later")


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True
