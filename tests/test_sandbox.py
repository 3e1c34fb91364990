"""
What a sandbox promises, tried in real boxes: the conformance suite of all providers.

Nothing here waits by the clock: a box ends by itself or at a limit, and what must be gone is looked
for after `run` has returned.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import platform
import struct
import subprocess
import sys
import tracemalloc
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from ordinary import ordinary_user

from nbassay.errors import SandboxError
from nbassay.records import Ending
from nbassay.sandbox import Ahead, Box, Limits, Mount, OnFrame, Sandbox
from nbassay.sandbox.bubblewrap import Bubblewrap, _inner_command
from nbassay.sandbox.choose import choose, trouble_of
from nbassay.sandbox.probes import probe
from nbassay.sandbox.programs import find_programs
from nbassay.sandbox.seccomp import compile_filter
from nbassay.sandbox.slots import private_uid
from nbassay.sandbox.supervise import MAX_FRAME_BYTES
from nbassay.sandbox.unbegun import BWRAP, is_unbegun
from nbassay.sandbox.unboxed import Unboxed

pytestmark = pytest.mark.kernel

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
PROGRAMS: list[Path | None] = [*find_programs()] if sys.platform == "linux" else []
LIMITS = Limits(
    notebook_s=60.0, cpu_s=60.0, memory_mb=256, processes=64, file_mb=4, disk_mb=8, evidence_mb=8
)
MB = 1 << 20

PRELUDE = """
import ctypes, json, mmap, os, signal, sys, time
def send(payload, kind=b"TEST"):
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    put(kind + len(data).to_bytes(8, "big") + data)
def put(data):
    view = memoryview(data)
    while view:
        view = view[os.write(int(os.environ["NBASSAY_FD"]), view):]
"""


NAMED = "ctypes.CDLL(None).prctl(15, MARK[:15].encode(), 0, 0, 0)  # PR_SET_NAME\n"


class Warm:
    """Bubblewrap whose boxes start as forks of a process that had begun before."""

    name = "bubblewrap"
    is_isolated = True

    def __init__(self, program: Path) -> None:
        self.program = program
        self._boxes = Bubblewrap(program)
        self.mode = self._boxes.mode
        self.others: set[int] = set()

    def run(self, box: Box, on_frame: OnFrame, *, should_stop: Callable[[], bool]) -> Ending:
        box = dataclasses.replace(box, ahead=AHEAD)
        ending = self._boxes.run(box, on_frame, should_stop=should_stop)
        assert ending.is_warm or ending.reason == "could-not-start"
        return ending

    def close(self) -> None:
        self._boxes.close()


AHEAD = Ahead(modules=("ctypes", "json", "mmap"), libraries=("jinja2",))


def isolated(program: Path, kind: Callable[[Path], Sandbox] = Bubblewrap) -> Sandbox:
    """A provider that works here, or a skip that says why not."""
    try:
        sandbox = kind(program)
    except SandboxError as error:
        pytest.skip(str(error))
    trouble = trouble_of(sandbox)
    if trouble is not None:
        pytest.skip(trouble)
    return sandbox


EACH = [(program, kind) for kind in (Bubblewrap, Warm) for program in PROGRAMS]


def name_of(param: Any) -> str:
    """A provider, as test ids show it."""
    return f"{param[0]}-{param[1].__name__.lower()}" if isinstance(param, tuple) else str(param)


@pytest.fixture(params=EACH or [None], ids=name_of, scope="session")
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """Each isolated provider of this machine, with fresh processes and with forks."""
    if request.param is None:
        pytest.skip("no bwrap program on this machine")
    with contextlib.closing(isolated(*request.param)) as sandbox:
        yield sandbox


@pytest.fixture(params=[*EACH, "none"], ids=name_of, scope="session")
def any_sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """Each provider: what does not need a wall holds for all."""
    given = request.param
    with contextlib.closing(Unboxed() if given == "none" else isolated(*given)) as sandbox:
        yield sandbox


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What came of one box."""

    ending: Ending
    frames: list[bytes]
    left: list[int]
    """Processes of the box that are still there."""

    @property
    def told(self) -> Any:
        """What the code sent first."""
        return json.loads(self.frames[0])


def run(
    sandbox: Sandbox,
    code: str,
    *,
    limits: Limits = LIMITS,
    stdin: bytes = b"",
    mounts: Sequence[Mount] = (),
    env: Mapping[str, str] | None = None,
    on_frame: OnFrame | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Run:
    """Run Python code in a box with three writable folders."""
    mark = uuid.uuid4().hex
    frames: list[bytes] = []
    box = Box(
        argv=[sys.executable, "-I", "-c", f"{PRELUDE}\nMARK = {mark!r}\n{NAMED}{code}"],
        stdin=stdin,
        mounts=mounts,
        env=env or {},
        limits=limits,
        writable=["/box", "/home/learner", "/tmp"],
        workdir="/box/work",
    )
    ending = sandbox.run(
        box,
        on_frame or (lambda kind, payload: frames.append(payload)),
        should_stop=should_stop,
    )
    return Run(ending=ending, frames=frames, left=[*marked(mark)])


def marked(mark: str) -> Iterator[int]:
    """Processes whose command line or name holds *mark*: ours in a box, and their forks."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(mark in told for told in process.cmdline()) or process.name() == mark[:15]:
                yield process.pid


# ---------------------------------------------------------------- what a box is


def test_every_probe_holds(sandbox: Sandbox) -> None:
    """
    No attempt to get out of an isolated box succeeds.
    """
    assert [result for result in probe(sandbox) if not result.holds] == []


def test_probes_fail_without_a_wall() -> None:
    """
    The same attempts succeed without a box, so they are able to.
    """
    broken = {result.name for result in probe(Unboxed()) if not result.holds}

    assert broken >= {"files", "environment", "network", "writing", "processes", "process-limit"}
    assert broken.isdisjoint({"memory-limit", "time-limit"})


def test_frames_arrive_whole_and_in_order(any_sandbox: Sandbox) -> None:
    """
    Standard input goes in, frames of all sizes come out as they were sent.
    """
    sizes = [0, 1, 65_536, 3_000_000]
    seen: list[tuple[bytes, int]] = []

    result = run(
        any_sandbox,
        "data = sys.stdin.buffer.read()\n"
        f"for size in {sizes}: send(data[:size], kind=b'DATA')\n"
        "send(b'', kind=b'DONE')",
        stdin=b"x" * 4_000_000,
        on_frame=lambda kind, payload: seen.append((kind, len(payload))),
    )

    assert [*((b"DATA", size) for size in sizes), (b"DONE", 0)] == seen
    assert result.ending.reason == "finished"
    assert result.ending.message is None


def test_environment_is_the_boxs_own(sandbox: Sandbox) -> None:
    """
    The environment is the one asked for, and nothing of the host's.
    """
    told = run(sandbox, "send(dict(os.environ))", env={"LANG": "C.UTF-8", "ODD": "{a}=\n b"}).told

    asked_for = {"LANG": "C.UTF-8", "ODD": "{a}=\n b", "NBASSAY_FD": told["NBASSAY_FD"]}
    # bwrap and the shell set PWD, OLDPWD and the like about the working folder only.
    assert asked_for == {name: told[name] for name in told if name not in {"PWD", "OLDPWD"}}


def test_folders(sandbox: Sandbox, tmp_path: Path) -> None:
    """
    Writable folders are fresh, mounts lie in them read-only, and their neighbourhood can be used.
    """
    (tmp_path / "private").mkdir(mode=0o700)
    (tmp_path / "private" / "data.bin").write_bytes(b"kept")
    (tmp_path / "private" / "data.bin").chmod(0o600)
    mounts = [
        Mount(host=tmp_path / "private", inside="/box/work/data"),
        Mount(host=tmp_path / "private" / "data.bin", inside="/home/learner/deep/one.bin"),
        Mount(host=tmp_path / "private", inside="/srv/data"),
    ]

    told = run(
        sandbox,
        """
def attempt(what):
    try: return what()
    except OSError as error: return type(error).__name__
send({
    "cwd": os.getcwd(),
    "data": [open(p).read() for p in ("data/data.bin", "/home/learner/deep/one.bin",
                                     "/srv/data/data.bin")],
    "beside": [attempt(lambda: open(p, "x").write("mine"))
               for p in ("here", "/tmp/here", "/home/learner/deep/here", "/box/here")],
    "refused": [attempt(lambda: open(p, "r+").write("x"))
                for p in ("data/data.bin", "/home/learner/deep/one.bin", "/srv/data/data.bin")],
    "top": attempt(lambda: open("/here", "x").write("x")),
})""",
        mounts=mounts,
    ).told

    assert told["cwd"] == "/box/work"
    assert told["data"] == ["kept"] * 3
    assert told["beside"] == [4] * 4
    assert {"OSError", "PermissionError"} >= set(told["refused"])
    assert told["top"] in {"OSError", "PermissionError"}
    assert (tmp_path / "private" / "data.bin").read_bytes() == b"kept"


def test_identity(sandbox: Sandbox) -> None:
    """
    A box has no capability, cannot gain one, and does not know the host's name.
    """
    told = run(
        sandbox,
        "send({'uid': os.getuid(), 'groups': os.getgroups(), 'host': os.uname().nodename,"
        " 'status': open('/proc/self/status').read()})",
    ).told
    status = dict(line.split(":\t", 1) for line in told["status"].splitlines() if ":\t" in line)

    assert told["uid"] != 0
    assert 0 not in told["groups"]
    assert told["host"] == "lab"
    assert {"0" * 16} == {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="call numbers of x86_64")
def test_refused_calls(sandbox: Sandbox) -> None:
    """
    The filter refuses the calls that could dig, with the error that libraries fall back on.
    """
    calls = {
        "mount": (165, 0, 0, 0, 0, 0),
        "unshare": (272, 0x10000000),
        "setns": (308, -1, 0),
        "clone": (56, 0x10000000 | 17, 0, 0, 0, 0),
        "clone3": (435, 0, 0),
        "ptrace": (101, 0, 0, 0, 0),
        "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
        "keyctl": (250, 0, 0, 0, 0, 0),
        "bpf": (321, 0, 0, 0),
        "io_uring_setup": (425, 1, 0),
        "memfd_create": (319, 0, 0),
        "shmget": (29, 0, 4096, 0o1600),
        "tiocsti": (16, 0, 0x5412, 0),
        "vsock": (41, 40, 1, 0),
        "x32": (0x40000000 + 39,),
        "getpid": (39,),
    }

    told = run(
        sandbox,
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "def call(*numbers):\n"
        "    ctypes.set_errno(0)\n"
        "    libc.syscall(*(ctypes.c_long(number) for number in numbers))\n"
        "    return ctypes.get_errno()\n"
        f"send({{name: call(*numbers) for name, numbers in {calls}.items()}})",
    ).told

    assert {**dict.fromkeys(calls, 1), "clone3": 38, "vsock": 97, "getpid": 0} == told


def test_two_boxes_at_once(sandbox: Sandbox) -> None:
    """
    A box that runs beside another cannot see its processes or files, nor has its user id.
    """
    inner: list[Run] = []
    outer: list[dict[str, Any]] = []
    look = (
        "open('/tmp/mine', 'x').close()\n"
        "pids = [p for p in os.listdir('/proc') if p.isdigit()]\n"
        "send({'uid': os.getuid(), 'pids': len(pids), 'tmp': os.listdir('/tmp')})\n"
    )

    def run_another(kind: bytes, payload: bytes) -> None:
        outer.append(json.loads(payload))
        inner.append(run(sandbox, look))

    result = run(
        sandbox,
        look + "while True: signal.pause()",
        on_frame=run_another,
        should_stop=lambda: bool(inner),
    )

    assert result.ending.reason == "interrupted"
    assert inner[0].ending.reason == "finished"
    assert outer[0]["pids"] == inner[0].told["pids"] <= 3
    assert outer[0]["tmp"] == inner[0].told["tmp"]
    if IS_ROOT:
        assert outer[0]["uid"] != inner[0].told["uid"]


def test_links_in_private_folders_are_not_followed(sandbox: Sandbox, tmp_path: Path) -> None:
    """
    A link among files that root hands over leads nowhere, and not to a file of the host.
    """
    secret = tmp_path / "secret"
    secret.write_text("secret")
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    (folder / "link").symlink_to(secret)
    (folder / "loop").symlink_to(folder)

    told = run(
        sandbox,
        "send([os.path.exists('/srv/data/link'), sorted(os.listdir('/srv/data'))])",
        mounts=[Mount(host=folder, inside="/srv/data")],
    ).told

    assert told == [False, ["link", "loop"]]


# ---------------------------------------------------------------- how a box ends

ENDINGS = {
    "status-0": ("pass", "finished"),
    "status-3": ("sys.exit(3)", "crashed"),
    "exception": ("1 / 0", "crashed"),
    "signal": ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed"),
    "half-a-frame": ("put(b'TEST' + (9).to_bytes(8, 'big') + b'1')", "finished"),
    "wall-time": ("time.sleep(600)", "wall-time"),
    "ignores-signals": (
        "for number in (1, 2, 3, 15): signal.signal(number, signal.SIG_IGN)\nwhile True: pass",
        "wall-time",
    ),
    "stops-itself": ("os.kill(os.getpid(), signal.SIGSTOP)", "wall-time"),
    "errors-flood": ("while True: os.write(2, bytes(65536))", "wall-time"),
    "output-flood": ("while True: os.write(1, bytes(65536))", "wall-time"),
    "deaf": ("os.close(0)", "finished"),
}


@pytest.mark.parametrize(("code", "reason"), ENDINGS.values(), ids=ENDINGS)
def test_ending(any_sandbox: Sandbox, code: str, reason: str) -> None:
    """
    A box ends with the word for what happened, and nothing of it is left.
    """
    limits = dataclasses.replace(LIMITS, notebook_s=1.0 if reason == "wall-time" else 60.0)

    result = run(any_sandbox, code, limits=limits, stdin=bytes(MB))

    assert reason == result.ending.reason
    assert (result.ending.message is None) == (reason == "finished")
    assert result.left == []


def test_processor_time(any_sandbox: Sandbox) -> None:
    """
    A process that computes for too long ends the box.
    """
    limits = dataclasses.replace(LIMITS, cpu_s=0.5)

    result = run(any_sandbox, "while True: pass", limits=limits)

    assert result.ending.reason == "cpu-time"
    assert "0.5 s of processor time" in str(result.ending.message)
    assert result.left == []


def test_interrupted(any_sandbox: Sandbox) -> None:
    """
    The caller's wish to stop ends the box; what it sent before has arrived.
    """
    frames: list[bytes] = []

    result = run(
        any_sandbox,
        "send(b'here')\nwhile True: signal.pause()",
        on_frame=lambda kind, payload: frames.append(payload),
        should_stop=lambda: bool(frames),
    )

    assert result.ending.reason == "interrupted"
    assert frames == [b"here"]
    assert result.left == []


def test_receiver_raises(any_sandbox: Sandbox) -> None:
    """
    An error of ours in taking a frame ends the box and comes out.
    """
    mark = uuid.uuid4().hex

    def refuse(kind: bytes, payload: bytes) -> None:
        raise LookupError("ours")

    with pytest.raises(LookupError, match="ours"):
        run(any_sandbox, f"send(b'')\nname = {mark!r}\nsignal.pause()", on_frame=refuse)

    assert [*marked(mark)] == []


def test_could_not_start(any_sandbox: Sandbox, tmp_path: Path) -> None:
    """
    A box that cannot be made is our failure, not the notebook's.
    """
    gone = tmp_path / "not-there"

    result = run(any_sandbox, "pass", mounts=[Mount(host=gone, inside="/box/gone")])

    assert result.ending.reason == "could-not-start"
    assert str(gone) in str(result.ending.message)


def test_missing_program(any_sandbox: Sandbox) -> None:
    """
    A program that does not exist inside is our failure, too.
    """
    box = Box(
        argv=["/box/no-such-program"],
        stdin=b"",
        mounts=[],
        env={},
        limits=LIMITS,
        writable=["/box"],
        workdir="/box",
    )

    ending = any_sandbox.run(box, lambda kind, payload: None, should_stop=lambda: False)

    assert ending.reason == "could-not-start"
    assert "no-such-program" in str(ending.message)


def test_broken_bwrap(tmp_path: Path) -> None:
    """
    What a bwrap says before it gives up is told, and not more of it than a reader can take.
    """
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\nyes 'setting up uid map: denied' | head -c 20000 >&2\nexit 1\n")
    program.chmod(0o755)

    ending = run(Bubblewrap(program), "pass").ending

    assert ending.reason == "could-not-start"
    assert "setting up uid map: denied" in str(ending.message)
    assert len(str(ending.message)) < 1200


# ---------------------------------------------------------------- floods and bombs

FLOODS = {
    "endless-frames": "while True: send(bytes(1 << 20))",
    "empty-frames": "while True: put((b'TEST' + bytes(8)) * 4096)",
    "one-huge": "put(b'TEST' + (1 << 62).to_bytes(8, 'big'))\nwhile True: put(bytes(65536))",
    "one-too-large": f"put(b'TEST' + ({MAX_FRAME_BYTES} + 1).to_bytes(8, 'big'))\nsignal.pause()",
    "no-frames": "while True: put(b'not a frame at all. ' * 1000)",
}


@pytest.mark.parametrize("code", FLOODS.values(), ids=FLOODS)
def test_flood(any_sandbox: Sandbox, code: str) -> None:
    """
    A flood through the pipe ends the box, and the host keeps none of it.
    """
    tracemalloc.start()
    try:
        result = run(any_sandbox, code, on_frame=lambda kind, payload: None)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert result.ending.reason == "evidence-size"
    assert peak_bytes < 8 * MB
    assert result.left == []


BOMBS = {
    "malloc": "data = []\nwhile True: data.append(b'x' * (8 << 20))",
    "forks-that-allocate": (
        "for _ in range(4):\n"
        "    if os.fork() == 0:\n"
        "        data = b'x' * (100 << 20)\n"
        "        while True: signal.pause()\n"
        "while True: signal.pause()"
    ),
    "shared-mapping": (
        "data = mmap.mmap(-1, 600 << 20)\n"
        "for at in range(0, len(data), 4096): data[at] = 1\n"
        "while True: signal.pause()"
    ),
    # The pages stay, but no process shows them in its resident size.
    "hidden-mapping": (
        "data = []\n"
        "for _ in range(60):\n"
        "    data.append(mmap.mmap(-1, 10 << 20))\n"
        "    data[-1].write(bytes(10 << 20))\n"
        "    data[-1].madvise(mmap.MADV_DONTNEED)\n"
        "while True: signal.pause()"
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_memory_bomb(sandbox: Sandbox, name: str) -> None:
    """
    However a notebook takes memory, it does not get far beyond what it may have.
    """
    result = run(sandbox, BOMBS[name])

    # One process alone meets its own limit first, and ends with a MemoryError.
    assert ("crashed" if name == "malloc" else "memory") == result.ending.reason
    assert result.left == []
    if name != "malloc":
        assert "256 MB" in str(result.ending.message)


def test_shared_pages_count_once(sandbox: Sandbox) -> None:
    """
    Forks that only read what their parent holds do not add up to a bomb.
    """
    result = run(
        sandbox,
        """
data = b"x" * (100 << 20)
out, into = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        os.close(into)
        os.read(out, 1)
        os._exit(0)
send(b"forked")
seen = sum(data[::4096])
end = time.monotonic() + 0.5
while time.monotonic() < end: pass
os.close(into)""",
    )

    assert result.ending.reason == "finished"
    assert 100 * MB < result.ending.peak_memory_bytes < 256 * MB


def test_fork_bomb(sandbox: Sandbox) -> None:
    """
    A fork bomb fills its own box and goes with it.
    """
    limits = dataclasses.replace(LIMITS, notebook_s=1.5)
    code = "while True:\n    try: os.fork()\n    except OSError: pass"

    result = run(sandbox, code, limits=limits)

    assert result.ending.reason == "wall-time"
    assert result.left == []
    assert run(sandbox, "pass").ending.reason == "finished"


def test_disk_bomb(sandbox: Sandbox) -> None:
    """
    Files meet the largest size, folders the size of their tmpfs; other folders stay usable.
    """
    told = run(
        sandbox,
        """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def fill(path, size):
    try:
        with open(path, "wb", buffering=0) as file:
            for done in range(size):
                if file.write(bytes(1 << 20)) < 1 << 20: return done
    except OSError: return done
    return size
send({
    "file": fill("/tmp/large", 100),
    "folder": sum(fill(f"/box/{n}", 1) for n in range(100)),
    "shm": sum(fill(f"/dev/shm/{n}", 1) for n in range(100)),
    "other": fill("/home/learner/small", 1),
})""",
    ).told

    assert told == {"file": 4, "folder": 8, "shm": 64, "other": 1}


def test_empty_files(sandbox: Sandbox) -> None:
    """
    Files without a byte take memory, too; a bomb of them ends the box.
    """
    result = run(sandbox, "for n in range(10**9): os.close(os.open(f'/tmp/{n}', os.O_CREAT))")

    assert result.ending.reason == "memory"
    assert "200000 files" in str(result.ending.message)


DAEMON = """
out, into = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(into, b"up")
        while True: signal.pause()
    os._exit(0)
os.wait()
os.read(out, 2)
"""


def test_daemon(any_sandbox: Sandbox) -> None:
    """
    A process that outlives its parent and leaves its session is gone when the box has ended.
    """
    result = run(any_sandbox, DAEMON)

    assert result.ending.reason == "finished"
    assert result.left == []


# ---------------------------------------------------------------- forks


@pytest.fixture(params=PROGRAMS or [None], ids=str)
def warm(request: pytest.FixtureRequest) -> Iterator[Warm]:
    """A provider that has no process to fork from yet."""
    if request.param is None:
        pytest.skip("no bwrap program on this machine")
    with contextlib.closing(isolated(request.param, Warm)) as sandbox:
        assert isinstance(sandbox, Warm)
        sandbox.others = {process.pid for process in zygotes(sandbox)}
        yield sandbox


def zygotes(sandbox: Warm) -> list[psutil.Process]:
    """Processes that its boxes are forks of; bwrap around them not counted."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            is_one = process.cmdline()[1:4] == ["-I", "-m", "nbassay.inside.zygote"]
            is_first = is_one and process.parent().name() == "bwrap"  # its forks are named alike
            if is_first and process.pid not in sandbox.others:
                found.append(process)
    return found


def test_forks_are_told_from_nothing(warm: Warm) -> None:
    """
    A fork has the streams, numbers, arguments and modules of a fresh process, and no more.
    """
    look = """
import random, tempfile
send({
    "argv": sys.argv, "flags": list(sys.flags), "main": __name__, "path": sys.path,
    "numbers": [os.getpid(), os.umask(0o22)],
    "streams": [os.path.basename(os.readlink(f"/proc/self/fd/{n}"))[:5] for n in range(3)],
    "descriptors": len(os.listdir("/proc/self/fd")), "threads": len(os.listdir("/proc/self/task")),
    "before": [name for name in ("jinja2", "jinja2.runtime", "markupsafe") if name in sys.modules],
    "after": [__import__("jinja2").__spec__.origin, "jinja2.runtime" in sys.modules],
    "signals": [str(signal.getsignal(n)) for n in (2, 13, 17)],
    "temporary": tempfile.gettempdir(),
    "own": os.stat("/proc/self/stat").st_uid == os.getuid(),
})"""
    told = [
        run(kind, look, env={"TMPDIR": "/box"}).told for kind in (Bubblewrap(warm.program), warm)
    ]

    assert told[0]["numbers"][0] == 2
    assert told[0] == told[1]


def test_forks_share_nothing_that_changes(warm: Warm) -> None:
    """
    What a fork does to modules and memory, another that runs beside it or later does not see.
    """
    change = (
        "json.mine = 1; os.environ['MINE'] = '1'; signal.signal(10, signal.SIG_IGN)\n"
        "ctypes.memmove(id(json.__doc__) + 60, b'mine', 4)\n"
    )
    look = "send(['mine' in json.__doc__, hasattr(json, 'mine'), 'MINE' in os.environ])\n"
    beside: list[Any] = []

    result = run(
        warm,
        change + look + "signal.pause()",
        on_frame=lambda kind, payload: beside.append((payload, run(warm, look).told)),
        should_stop=lambda: bool(beside),
    )
    later = run(warm, look).told

    assert result.ending.reason == "interrupted"
    assert json.loads(beside[0][0]) == [True, True, True]
    assert beside[0][1] == later == [False, False, False]


def test_random_numbers_of_forks_differ(warm: Warm) -> None:
    """
    No two forks draw the same numbers, from whatever generator.
    """
    draw = "import random, uuid\nsend([random.random(), os.urandom(8).hex(), str(uuid.uuid4())])"
    drawn = [run(warm, draw).told for _ in range(2)]

    assert not {*drawn[0]} & {*drawn[1]}


def test_a_program_that_forks_cannot_run_is_started(warm: Warm) -> None:
    """
    What is not started as an isolated Python is a fresh process.
    """
    frames: list[bytes] = []
    box = Box(
        argv=[sys.executable, "-c", f"{PRELUDE}\nsend(sys.flags.isolated)"],
        stdin=b"",
        mounts=[],
        env={},
        limits=LIMITS,
        writable=["/box"],
        workdir="/box",
        ahead=AHEAD,
    )

    with contextlib.closing(Bubblewrap(warm.program)) as sandbox:
        ending = sandbox.run(
            box, lambda kind, payload: frames.append(payload), should_stop=lambda: False
        )

    assert (ending.reason, ending.is_warm, frames) == ("finished", False, [b"0"])


def test_a_killed_zygote_is_our_failure(warm: Warm) -> None:
    """
    When the process that boxes are forks of is killed, its boxes end as ours, and another is made.
    """

    def kill(kind: bytes, payload: bytes) -> None:
        (zygote,) = zygotes(warm)
        zygote.kill()

    result = run(warm, "send('up'); signal.pause()", on_frame=kill)
    following = run(warm, "send('next')")

    assert result.ending.reason == "killed-outside"
    assert result.left == []
    assert following.told == "next"
    assert len(zygotes(warm)) == 1


def test_nothing_is_kept_after_the_last_box(warm: Warm) -> None:
    """
    A provider that is closed leaves no process, and can be used again.
    """
    assert run(warm, "send(1)").told == 1
    assert len(zygotes(warm)) == 1

    warm.close()

    assert zygotes(warm) == []
    assert run(warm, "send(2)").told == 2


UNFIT = {
    "starts threads": (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=[60], daemon=True).start()"
    ),
    "forks would share": "import mmap\nkept = mmap.mmap(-1, 4096)",
    "seeds Python's generator": "import random\nrandom.seed(1)",
    "NumPy's generator": "import numpy\nnumpy.random.rand()",
    "warning filters": "import warnings\nwarnings.resetwarnings()",
    "environment variables": "import os\nos.environ['HOME'] = 'other'",
    "unfit cannot be imported: division by zero": "1 / 0",
}
PREPARED = """
import os, sys
import numpy
from nbassay.inside.ahead import UnfitError, import_ahead, why_not_forkable
sys.path.insert(0, sys.argv[1])
try:
    import_ahead(["unfit", "not_installed"], [])
    print(why_not_forkable())
except UnfitError as error:
    print(error)
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.parametrize("why", UNFIT)
def test_libraries_that_cannot_be_imported_ahead(tmp_path: Path, why: str) -> None:
    """
    A library whose import would hang a fork, or show in one, is refused with the reason.
    """
    (tmp_path / "unfit.py").write_text(UNFIT[why])

    said = prepared(tmp_path)

    assert why in said


def test_libraries_that_can_be_imported_ahead(tmp_path: Path) -> None:
    """
    What prints, draws whole numbers of Python's generator and adds filters and variables is fit.
    """
    (tmp_path / "unfit.py").write_text(
        "import os, random, warnings\nprint('hello')\nrandom.getrandbits(24)\n"
        "warnings.filterwarnings('ignore', 'odd')\nos.environ['SET_BY_IT'] = '1'"
    )

    assert prepared(tmp_path) == "None\n"


def prepared(folder: Path) -> str:
    """Why a process that imported ``unfit`` of *folder* cannot be forked, as it says."""
    done = subprocess.run(
        [sys.executable, "-c", PREPARED, str(folder)],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.skipif(os.cpu_count() == 1, reason="NumPy starts threads for more cores than one")
def test_libraries_that_start_threads_are_left_to_fresh_processes(warm: Warm) -> None:
    """
    Where a process with the libraries cannot be forked, the box is fresh, and the reason is told.
    """
    frames: list[bytes] = []
    box = Box(
        argv=[sys.executable, "-I", "-c", f"{PRELUDE}\nsend('ran')"],
        stdin=b"",
        mounts=[],
        env={},
        limits=LIMITS,
        writable=["/box"],
        workdir="/box",
        ahead=Ahead(modules=("numpy",)),
    )

    with contextlib.closing(Bubblewrap(warm.program)) as sandbox:
        ending = sandbox.run(
            box, lambda kind, payload: frames.append(payload), should_stop=lambda: False
        )
        why_not = sandbox.why_not_warm

    assert (ending.reason, ending.is_warm, frames) == ("finished", False, [b'"ran"'])
    assert "threads" in str(why_not)


# ---------------------------------------------------------------- without a wall


def test_none_translates_paths(tmp_path: Path) -> None:
    """
    Without a box, paths in arguments and variables lead to the host's folders and to copies.
    """
    data = tmp_path / "data.txt"
    data.write_text("kept")
    tool = tmp_path / "tool.py"
    tool.write_text(
        PRELUDE + "send({'argv': sys.argv[1:], 'env': {n: os.environ[n] for n in ('HOME', 'ALL')},"
        " 'read': open('data/data.txt').read()})\n"
        "open('data/data.txt', 'w').write('overwritten')"
    )
    frames: list[bytes] = []
    box = Box(
        argv=[sys.executable, "-I", "/opt/lab/tool.py", "/box/work/out", "/opt/lab", "plain"],
        stdin=b"",
        mounts=[
            Mount(host=data, inside="/box/work/data/data.txt"),
            Mount(host=tmp_path, inside="/opt/lab"),
        ],
        env={"HOME": "/home/learner", "ALL": os.pathsep.join(["/opt/lab/a", "/usr", "/tmp/b"])},
        limits=LIMITS,
        writable=["/box", "/home/learner", "/tmp"],
        workdir="/box/work",
    )

    ending = Unboxed().run(
        box, lambda kind, payload: frames.append(payload), should_stop=lambda: False
    )
    told = json.loads(frames[0])
    variables = told["env"]["ALL"].split(os.pathsep)

    assert ending.reason == "finished"
    assert "kept" == told["read"] == data.read_text()
    assert told["argv"][0].endswith("/box/work/out")
    assert [str(tmp_path), "plain"] == told["argv"][1:]
    assert [str(tmp_path / "a"), "/usr"] == variables[:2]
    assert not Path(told["env"]["HOME"]).exists()


# ---------------------------------------------------------------- choosing


class Fake:
    """A provider that starts, or says why not."""

    def __init__(self, name: str, *, is_isolated: bool, trouble: str | None = None) -> None:
        self.name = self.mode = name
        self.is_isolated = is_isolated
        self._trouble = trouble

    def run(self, box: Box, on_frame: OnFrame, *, should_stop: Callable[[], bool]) -> Ending:
        return Ending(
            reason="could-not-start" if self._trouble else "finished",
            message=self._trouble,
            seconds=0.0,
            peak_memory_bytes=0,
        )

    def close(self) -> None:
        pass


def test_auto_takes_the_first_that_starts() -> None:
    """
    A provider that is there but does not start is passed over.
    """
    providers = {
        "first": lambda: [Fake("first", is_isolated=True, trouble="denied")],
        "second": lambda: [Fake("second", is_isolated=True)],
    }

    assert choose("auto", providers=providers).name == "second"


def test_auto_never_takes_none() -> None:
    """
    With nothing but an unisolated provider there is no sandbox, and the message says what to do.
    """
    providers = {
        "walled": lambda: [Fake("walled", is_isolated=True, trouble="uid map: denied")],
        "none": lambda: [Fake("none", is_isolated=False)],
    }

    with pytest.raises(SandboxError) as caught:
        choose("auto", providers=providers)

    for part in ("walled: uid map: denied", "apt install bubblewrap", "dnf", "WSL2", "AppArmor"):
        assert part in str(caught.value)
    assert choose("none", providers=providers).name == "none"


def test_unknown_name() -> None:
    """
    A name that nobody has is refused with the ones that there are.
    """
    with pytest.raises(SandboxError, match="'bublewrap'; known: auto, bubblewrap, none"):
        choose("bublewrap")


def verdict(program: bytes, audit: int, number: int, *arguments: int) -> int:
    """What a filter returns for a call: the kernel's own reading of it, in small."""
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, audit, 0, *padded)
    instructions = [*struct.iter_unpack("=HBBI", program)]
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = instructions[at]
        at += 1
        if code == 0x06:
            return int(value)
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        else:
            holds = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }
            at += if_true if holds[code] else if_false


ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
CALLS = {
    # machine: AUDIT_ARCH_*, then calls and their verdicts
    ("x86_64", 0xC000003E): {
        (0,): ALLOW,  # read
        (165,): REFUSE | 1,  # mount
        (56, 0x003D0F00): ALLOW,  # clone, as for a thread
        (56, 0x10000000): REFUSE | 1,  # clone of a user namespace
        (435,): REFUSE | 38,  # clone3
        (16, 0, 0x5401): ALLOW,  # ioctl TCGETS
        (16, 0, 0x5412): REFUSE | 1,
        (16, 0, 0x1_0000_5412): REFUSE | 1,  # the kernel reads the low half only
        (41, 1): ALLOW,  # socket AF_UNIX
        (41, 40): REFUSE | 97,  # AF_VSOCK
        (0x40000000,): REFUSE | 1,  # x32
    },
    ("aarch64", 0xC00000B7): {
        (63,): ALLOW,  # read
        (40,): REFUSE | 1,  # mount
        (220, 0x003D0F00): ALLOW,
        (220, 0x10000000): REFUSE | 1,
        (435,): REFUSE | 38,
        (29, 0, 0x5401): ALLOW,
        (29, 0, 0x5412): REFUSE | 1,
        (198, 2): ALLOW,
        (198, 40): REFUSE | 97,
    },
}


@pytest.mark.parametrize(("machine", "audit"), CALLS)
def test_filter(machine: str, audit: int) -> None:
    """
    The filter of each processor decides as it should, and kills calls of another's table.
    """
    program = compile_filter(machine)
    calls = CALLS[machine, audit]

    assert calls == {call: verdict(program, audit, *call) for call in calls}
    assert verdict(program, 0x40000003, 0) == KILL


def test_unknown_processor() -> None:
    """
    There is no box without a filter for the processor.
    """
    with pytest.raises(SandboxError, match="riscv64"):
        compile_filter("riscv64")


@pytest.mark.skipif(not IS_ROOT, reason="slots of user ids are root's")
def test_user_ids_are_taken_once() -> None:
    """
    Two boxes never have one user id, even when two programs of ours run.
    """
    ask = "from nbassay.sandbox.slots import private_uid\nwith private_uid() as uid: print(uid)"

    with private_uid() as first, private_uid() as second:
        third = subprocess.run(
            [sys.executable, "-c", ask],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
        )

    assert len({first, second, int(third.stdout)}) == 3


# ---------------------------------------------------------------- a host that is killed

HOST = """
import sys
from pathlib import Path
from nbassay.sandbox import Ahead, Box, Limits
from nbassay.sandbox.bubblewrap import Bubblewrap
from nbassay.sandbox.unboxed import Unboxed
program, ahead, code = sys.argv[1:]
sandbox = Unboxed() if program == "none" else Bubblewrap(Path(program))
box = Box(argv=[sys.executable, "-I", "-c", code], stdin=b"", mounts=[], env={}, limits=Limits(),
          writable=["/box"], workdir="/box", ahead=Ahead(modules=("json",)) if ahead else None)
sandbox.run(box, lambda kind, payload: print(payload.decode(), flush=True),
            should_stop=lambda: False)
"""
WITH_A_DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        send("up")
signal.pause()
"""


def host(sandbox: Sandbox, code: str) -> subprocess.Popen[str]:
    """A grader of its own, running *code* in a box."""
    program = str(getattr(sandbox, "program", sandbox.name))
    is_warm = isinstance(sandbox, Warm)
    return subprocess.Popen(
        [sys.executable, "-c", HOST, program, "warm" if is_warm else "", PRELUDE + code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


def killed_host(sandbox: Sandbox) -> list[psutil.Process]:
    """Processes of a box, a daemon among them, whose host was killed when all were up."""
    mark = uuid.uuid4().hex
    with host(sandbox, f"MARK = {mark!r}\n{NAMED}{WITH_A_DAEMON}") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == '"up"\n'
        box = [psutil.Process(pid) for pid in marked(mark) if pid != running.pid]
        running.kill()
    assert len(box) >= 3
    return box


def test_a_box_dies_with_its_host(sandbox: Sandbox) -> None:
    """
    When the grader is killed, nothing of its boxes lives on.
    """
    assert psutil.wait_procs(killed_host(sandbox), timeout=60)[1] == []


def unbegun(sandbox: Sandbox) -> psutil.Process:
    """A box's first process whose bwrap ended before it told it to go on, as at a host's death."""
    program = str(getattr(sandbox, "program"))  # noqa: B009  # of whichever provider
    walls = ["--unshare-pid", *([] if IS_ROOT else ["--unshare-user"]), "--ro-bind", "/", "/"]
    box = Box(argv=["true"], stdin=b"", mounts=[], env={}, limits=LIMITS, writable=[], workdir="/")
    nobody, told = os.pipe()
    os.close(nobody)
    before = {process.pid for process in psutil.process_iter()}
    subprocess.run(
        [
            *(program, *walls, "--die-with-parent", "--info-fd", str(told), "--"),
            *_inner_command(box, None),
        ],
        pass_fds=[told],
        stderr=subprocess.DEVNULL,
        check=False,
    )
    os.close(told)
    (left,) = [
        process
        for process in psutil.process_iter()
        if process.pid not in before and process.name() == BWRAP and is_unbegun(process)
    ]
    return left


def test_the_next_run_ends_a_box_that_never_began(sandbox: Sandbox) -> None:
    """
    What a grader leaves that was killed while bwrap started is gone after the next has begun, and a
    box of another run that lives is left alone.
    """
    left = unbegun(sandbox)
    with host(sandbox, "send('up'); signal.pause()") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == '"up"\n'
        living = psutil.Process(first.pid).children(recursive=True)
        with host(sandbox, "send('next')") as second:
            assert second.communicate()[0] == '"next"\n'
        still = [process for process in living if process.is_running()]
        first.kill()

    assert psutil.wait_procs([left], timeout=60)[1] == []
    assert len(living) >= 2
    assert still == living


def test_without_a_box_the_next_run_ends_what_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Without a sandbox, processes and folders of a killed run are gone after the next has begun.
    """
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    processes = killed_host(Unboxed())
    left = [*tmp_path.iterdir()]

    with host(Unboxed(), "send('next')") as following:
        assert following.communicate()[0] == '"next"\n'

    assert [path.name.startswith("nbassay-tmp-box-") for path in left] == [True]
    assert psutil.wait_procs(processes, timeout=60)[1] == []
    assert [*tmp_path.iterdir()] == []


def test_without_a_box_another_run_that_lives_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Without a sandbox, a run that begins ends nothing of one that goes on.
    """
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with host(Unboxed(), "send('up'); signal.pause()") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == '"up"\n'
        before = [psutil.Process(first.pid), *psutil.Process(first.pid).children(recursive=True)]
        with host(Unboxed(), "send('next')") as second:
            second.communicate()
        after = [process for process in before if process.is_running()]
        folders = [*tmp_path.iterdir()]
        first.kill()
    with host(Unboxed(), "pass") as third:  # ends what the first left
        third.communicate()

    assert after == before
    assert len(before) == 2
    assert len(folders) == 1


# ---------------------------------------------------------------- as somebody else, and for real


@pytest.mark.skipif(not IS_ROOT, reason="an ordinary user runs these tests already")
def test_all_of_it_as_an_ordinary_user() -> None:
    """
    Every promise holds for boxes that an ordinary user starts.
    """
    command = ordinary_user()
    if command is None:
        pytest.skip("no interpreter with our packages that other users may read")

    result = subprocess.run(
        [*command, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__))],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]


@pytest.mark.tensorflow
def test_tensorflow_trains(sandbox: Sandbox) -> None:
    """
    A network trains in a box with the limits that a class gets.
    """
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        pytest.skip("no TensorFlow")
    packages = Path(spec.origin).parents[1]
    result = run(
        sandbox,
        f"sys.path.append({str(packages)!r})"
        """
import keras, numpy as np
x, y = np.random.rand(2000, 28, 28), np.random.randint(0, 10, 2000)
model = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)])
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(x, y, epochs=2, verbose=0)
model.save("model.keras")
send(os.listdir())""",
        limits=Limits(),
        mounts=[Mount(host=packages, inside=str(packages))],
        env={"HOME": "/home/learner", "MPLCONFIGDIR": "/tmp/mpl", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )

    assert result.ending.reason == "finished", result.ending
    assert result.told == ["model.keras"]
