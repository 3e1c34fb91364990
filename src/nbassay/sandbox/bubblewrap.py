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
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

from nbassay.errors import SandboxError
from nbassay.inside.zygote import CONTROL, can_run
from nbassay.records import Ending
from nbassay.sandbox import Box, Limits, Mount, OnFrame
from nbassay.sandbox.bwrap_running import BwrapRunning
from nbassay.sandbox.descriptors import file_of, new_pipe
from nbassay.sandbox.fonts import font_lists
from nbassay.sandbox.layout import SHM, Options, lay_out
from nbassay.sandbox.programs import find_programs
from nbassay.sandbox.python_paths import python_paths
from nbassay.sandbox.seccomp import compile_filter
from nbassay.sandbox.slots import private_uid
from nbassay.sandbox.supervise import could_not_start, supervise
from nbassay.sandbox.unbegun import end_unbegun
from nbassay.sandbox.warm import Program, Zygote, Zygotes, keep

_UID_INSIDE = 1000  # of an ordinary user's box; the host's own id is nobody's business
_OPEN_FILES = 1024
_LEAST_ADDRESS_SPACE = 16 << 30
_MB = 1 << 20

# The last step before the box's program: say on standard output that the box is up.
_UP = 'command -v "$1" >/dev/null || { echo "no $1 in the box" >&2; exit 127; }; printf . && exec "$@" >/dev/null'  # noqa: E501
# In place of the program, when a fork runs that: end as it ended, or as one that was killed. It is
# the box's first process, so that the others have the numbers that they have in a fresh box
# (warnings show them), and ignores children, which makes the kernel reap those that others left.
_WAIT = """
import os, signal
os.closerange(3, 1 << 20)
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

    def begin(self, box: Box) -> None:
        """Begin to start the process that boxes like *box* are forks of."""
        threading.Thread(
            target=self._zygotes.get, args=(box,), name="begins a zygote", daemon=True
        ).start()

    def close(self) -> None:
        """End the processes that boxes start as forks of."""
        self._zygotes.close()

    def _start_warm(self, box: Box, uid: int | None) -> BwrapRunning | None:
        """Start *box* as a fork; None where a fresh process is to be started instead."""
        if box.ahead is None or not can_run(box.argv):
            return None
        try:
            zygote = self._zygotes.get(box)
            return None if zygote is None else self._start(box, uid, zygote)
        except (OSError, SandboxError) as error:
            self._zygotes.tell(str(error))
            return None

    def _start(self, box: Box, uid: int | None, zygote: Zygote | None = None) -> BwrapRunning:
        """
        Start bwrap and learn the box's first process before anything of *box* runs.

        With a *zygote*, what bwrap runs only waits for the end of a fork that joins the box.

        Raises:
            OSError: A program or a file is not there.
            SandboxError: The box cannot be described to bwrap, or the fork could not join it.
        """
        with contextlib.ExitStack() as stack:
            frames_out, frames_in = new_pipe(stack)
            info_out, info_in = new_pipe(stack)
            go_out, go_in = new_pipe(stack)
            rules = stack.enter_context(file_of(self._filter))
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
            running = BwrapRunning(
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
                name: stack.enter_context(file_of(content))
                for name, content in layout.contents.items()
            }
            all_options = [*options, *_fill_in(layout, files)]
            # By descriptor: on the command line every path of the host would show inside.
            listed = stack.enter_context(file_of(b"".join(map(_encode, all_options))))
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


@functools.cache
def _tool(name: str) -> str:
    """Absolute path of a system program, which has to lie in /usr to be there inside."""
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        raise SandboxError(f"the program {name} (package util-linux) was not found")
    return found


def _encode(option: str) -> bytes:
    """
    One option as ``--args`` takes it.

    Raises:
        SandboxError: It contains a NUL, which would make two of it.
    """
    if "\0" in option:
        raise SandboxError(f"a NUL character cannot be part of a box: {option[:80]!r}")
    return os.fsencode(option) + b"\0"
