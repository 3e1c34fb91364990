"""
Provider ``none``: a plain process in temporary folders. A convenience, not a wall.

It keeps wall time, processor time, memory and the amount of evidence, and leaves no process
behind. It does not keep strangers' code from anything that its user may do: for one's own work.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import psutil

from nbassay.errors import SandboxError
from nbassay.records import Ending
from nbassay.sandbox import Box, Mount, OnFrame
from nbassay.sandbox.python_paths import python_paths
from nbassay.sandbox.supervise import could_not_start, supervise
from nbassay.sandbox.usage import tree_of
from nbassay.scratch import is_in_use, scratch

_TOKEN = "NBASSAY_BOX"  # noqa: S105  # an environment variable that marks our processes with their folder
_END_S = 60.0  # for killed processes to be gone


class Unboxed:
    """Runs a box's process on the host itself."""

    name = "none"
    mode = "none"
    is_isolated = False

    def __init__(self) -> None:
        """
        Check that this system can do it at all.

        Raises:
            SandboxError: Windows, where a pipe cannot be handed over by its number.
        """
        if sys.platform == "win32":
            raise SandboxError(
                "notebooks are not run on Windows itself; use WSL2, or %assay in your own notebook"
            )

    def run(self, box: Box, on_frame: OnFrame, *, should_stop: Callable[[], bool]) -> Ending:
        """
        Run *box* to its end; see `nbassay.sandbox.Sandbox.run`.

        Writable folders are temporary ones. A mount in one of them is copied there, so that a
        notebook's slip cannot change the lab's data; others stay where they are on the host. In
        *argv* and *env*, paths of the inside become the host's; in code they do not.
        """
        _end_left_behind()
        with scratch("box") as folder:
            try:
                running = _start(box, folder.resolve())
            except (OSError, subprocess.SubprocessError, SandboxError) as error:
                return could_not_start(str(error))
            return supervise(
                running,
                stdin=box.stdin,
                limits=box.limits,
                on_frame=on_frame,
                should_stop=should_stop,
            )

    @property
    def why_not_warm(self) -> str | None:
        return "without a sandbox every box is a fresh process"

    def begin(self, box: Box) -> None:
        """Nothing is made ready."""

    def close(self) -> None:
        """Nothing is kept ready."""


def _start(box: Box, root: Path) -> _PlainRunning:
    places = _lay_out(box.mounts, box.writable, root)
    workdir = Path(_translate(box.workdir, places))
    if not workdir.is_relative_to(root):
        raise SandboxError(f"the working folder {box.workdir} lies in no writable folder")
    workdir.mkdir(parents=True, exist_ok=True)
    out, into = os.pipe()
    try:
        env = {name: _translate_list(value, places) for name, value in box.env.items()}
        process = subprocess.Popen(
            [_translate(argument, places) for argument in box.argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=workdir,
            env={**env, "NBASSAY_FD": str(into), _TOKEN: str(root)},
            pass_fds=[into],
            start_new_session=True,
        )
    except BaseException:
        os.close(out)
        raise
    finally:
        os.close(into)
    return _PlainRunning(process, out, str(root))


def _lay_out(mounts: Sequence[Mount], writable: Sequence[str], root: Path) -> dict[str, Path]:
    """Make the folders and copies; return where on the host each path of the inside is."""
    # A Python below /tmp stays where it is, although /tmp is elsewhere.
    places: dict[str, Path] = {str(path): path for path in python_paths()}
    for folder in writable:
        places[os.path.normpath(folder)] = root / folder.strip("/")
        (root / folder.strip("/")).mkdir(parents=True, exist_ok=True)
    for mount in sorted(mounts, key=lambda mount: len(mount.inside)):
        inside = os.path.normpath(mount.inside)
        place = Path(_translate(inside, places))
        if not place.is_relative_to(root):
            places[inside] = mount.host.absolute()
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if mount.host.is_dir():
            shutil.copytree(mount.host, place, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copyfile(mount.host, place)
    return places


def _translate(path: str, places: dict[str, Path]) -> str:
    """The host's path for a path of the inside; anything else stays as it is."""
    if not path.startswith("/"):
        return path
    for parent in (PurePosixPath(path), *PurePosixPath(path).parents):
        if str(parent) in places:
            return str(places[str(parent)] / PurePosixPath(path).relative_to(parent))
    return path


def _translate_list(value: str, places: dict[str, Path]) -> str:
    """A variable's value, which may be a list of paths."""
    return os.pathsep.join(_translate(part, places) for part in value.split(os.pathsep))


class _PlainRunning:
    """A started process, and whatever it starts."""

    process: subprocess.Popen[bytes]
    is_out_of_reach = False

    def __init__(self, process: subprocess.Popen[bytes], frames_fd: int, token: str) -> None:
        self.process = process
        self.frames_fd = frames_fd
        self._token = token
        self._seen: set[psutil.Process] = set()  # equal only with the same time of creation

    def pids(self) -> list[int]:
        for pid in tree_of(self.process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                self._seen.add(psutil.Process(pid))
        self._seen = {process for process in self._seen if _is_alive(process)}
        return [process.pid for process in self._seen]

    def files(self) -> int:
        return 0

    def end(self) -> None:
        """
        Kill the tree, what was seen of it before, and whoever carries its mark.

        Raises:
            SandboxError: Some process is still there after a minute.
        """
        deadline = time.monotonic() + _END_S
        while True:
            self.pids()
            left = self._seen | set(self._marked())
            if not left and self.process.poll() is not None:
                return
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=1.0)
            if time.monotonic() > deadline:
                pids = ", ".join(str(process.pid) for process in left)
                raise SandboxError(f"processes of a notebook could not be ended: {pids}")

    def _marked(self) -> list[psutil.Process]:
        """Processes that left the tree, found by a variable that they inherited."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(_TOKEN) == self._token and _is_alive(process):
                    found.append(process)
        return found


@functools.cache
def _end_left_behind() -> None:
    """End processes of runs that were killed, once: without a box they live on."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            folder = process.environ().get(_TOKEN)
            # In a container the folder may be another one of that name.
            namespace = Path(f"/proc/{process.pid}/ns/mnt")
            if (
                folder is not None
                and process.uids().real == os.getuid()
                and namespace.samefile("/proc/self/ns/mnt")
                and not is_in_use(Path(folder))
            ):
                process.kill()


def _is_alive(process: psutil.Process) -> bool:
    """Whether it can still do something; an unreaped one cannot."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
