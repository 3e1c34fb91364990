"""
The corpus of hostile notebooks: read from ``tests/attacks``, and what they are to reach.

A family is a TOML file with a title and attacks; ``one_at_a_time`` keeps bombs from falling
together. An attack is a ``script`` (cells divided by ``# %%`` lines, after the cell of
``prelude.py``) or a file's ``content`` (a Python expression), and what must come of it. Whatever
it is, nothing of it may happen outside its box; `tests/test_attacks.py` proves both.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import socket
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote_to_bytes

import msgspec
import psutil
from conftest import RIGHT_CELLS, TINY
from msgspec import Meta, Struct

import nbassay
from nbassay.misconceptions import USUAL, Sentence, _code, _split

FOLDER = Path(__file__).parent / "attacks"
SECRET = "ATTACK_SECRET"
SENT_BY = "nbassay-attack"
"""Every file that an attack makes below /tmp or /dev/shm is named so."""


class Attack(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One hostile notebook, and what must come of it."""

    title: Sentence
    script: str | None = None
    content: str | None = None
    """The whole file instead of a script: a Python expression of bytes, which may use ``json``."""
    right: Literal["before", "after", "loaded"] | None = None
    """The lab is done as well: before the script, after it, or no further than loading."""
    file: str | None = None
    """Name of the file in the class or in the zip, percent-encoded; the attack's own by default."""
    zip: bool = False
    """Handed in by an archive."""
    quick: bool = False
    """Among those that run with every call of the kernel tests."""
    status: Literal["graded", "needs-review", "unreadable"] | None = None
    """Either of the first two where it is not said."""
    least: float = 0
    most: float = 0
    """Points that it may earn: none by default."""
    holds: Annotated[int, Meta(ge=0)] = 0
    """Attempts that must have been made and refused, besides that of the prelude."""
    notes: list[str] = []
    """Each must be in the notes of the sheet."""
    hides: list[str] = []
    """None may be in any file about this learner."""
    bounded: Sentence | None = None
    """Why it earns what it did not do; the threat model says so, too."""

    def __post_init__(self) -> None:
        if (self.script is None) == (self.content is None):
            raise ValueError("expected either a script or a content")


class Family(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attacks that want the same."""

    title: Sentence
    one_at_a_time: bool = False
    attacks: dict[str, Attack]


def families() -> dict[str, Family]:
    """All of them, by name."""
    return {
        path.stem: msgspec.toml.decode(path.read_bytes(), type=Family)
        for path in sorted(FOLDER.glob("*.toml"))
    }


@dataclasses.dataclass(kw_only=True)
class Bait:
    """What there is on the host to be reached; open to all users, so that only a wall hides it."""

    base: Path
    token: str
    mark: str
    victim: subprocess.Popen[bytes]
    told: dict[str, object]
    listeners: list[socket.socket]

    @property
    def folder(self) -> Path:
        return self.base / "bait"

    def reached(self) -> list[str]:
        """What happened to it."""
        found = [f"made {path.name}" for path in self.folder.iterdir()]
        found = [one for one in found if one not in ("made secret.txt", "made socket")]
        if (self.folder / "secret.txt").read_text() != self.token:
            found.append("changed the secret")
        if self.victim.poll() is not None:
            found.append("ended a process of the host")
        for listener in self.listeners:
            with contextlib.suppress(BlockingIOError):
                if listener.type == socket.SOCK_DGRAM:
                    found.append(f"sent {listener.recv(100)!r} to the host")
                else:
                    listener.accept()
                    found.append(f"connected to {listener.getsockname()!r}")
        for folder in ("/tmp", "/dev/shm", "/var/tmp"):
            found += [f"made {path}" for path in Path(folder).glob(f"{SENT_BY}*")]
        return found

    def survivors(self) -> list[str]:
        """Processes that an attack left behind."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(self.mark in argument for argument in process.cmdline()):
                    found.append(" ".join(process.cmdline()))
        return found


@contextlib.contextmanager
def bait(base: Path) -> Iterator[Bait]:
    """Lay it out below *base*, a folder of our own."""
    folder = base / "bait"
    folder.mkdir(parents=True)
    token, mark, victim_mark, abstract = (secrets.token_hex(16) for _ in range(4))
    (folder / "secret.txt").write_text(token)
    with contextlib.ExitStack() as stack:
        by_path = socket.socket(socket.AF_UNIX)
        by_path.bind(os.path.relpath(folder / "socket"))  # its whole path may be too long
        hidden = socket.socket(socket.AF_UNIX)
        hidden.bind("\0" + abstract)
        for one in (by_path, hidden):
            one.listen()
        tcp = socket.create_server(("127.0.0.1", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        listeners = [stack.enter_context(one) for one in (by_path, hidden, tcp, udp)]
        for one in listeners:
            one.setblocking(False)
        for path, mode in ((folder, 0o777), (folder / "secret.txt", 0o666), (base, 0o755)):
            path.chmod(mode)
        (folder / "socket").chmod(0o777)
        victim = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "input()", victim_mark],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        stack.callback(victim.communicate)
        told = {
            "base": str(base),
            "folder": str(folder),
            "class": str(base / "class"),
            "out": str(base / "out"),
            "workshop": str(base / "workshop"),
            "tests": str(FOLDER),
            "victim": victim.pid,
            "victim_mark": victim_mark,
            "grader": os.getpid(),
            "mark": mark,
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "abstract": abstract,
        }
        yield Bait(base=base, token=token, mark=mark, victim=victim, told=told, listeners=listeners)


def notebook_of(attack: Attack, name: str, told: dict[str, object]) -> bytes:
    """The attack as a file."""
    if attack.content is not None:
        built = eval(attack.content, {"json": json})
        assert isinstance(built, bytes)
        return built
    prelude = (FOLDER / "prelude.py").read_text().replace('"@BAIT@"', repr(told | {"attack": name}))
    sources = [source for _number, source in _split(attack.script or "")]
    cells = {
        "before": [*RIGHT_CELLS, *sources],
        "after": [*sources, *RIGHT_CELLS],
        "loaded": [RIGHT_CELLS[0], *sources],
        None: sources,
    }[attack.right]
    notebook = {
        "cells": [_code(f"cell-{n}", source) for n, source in enumerate([prelude, *cells])],
        "metadata": USUAL,
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1).encode()


def hand_in(attacks: dict[str, Attack], folder: Path, told: dict[str, object]) -> dict[str, str]:
    """Write a class of these *attacks* into *folder*; return the digest of each file."""
    folder.mkdir(parents=True)
    digests = {}
    with zipfile.ZipFile(folder / "moodle.zip", "w") as archive:
        for name, attack in attacks.items():
            raw = notebook_of(attack, name, told)
            digests[name] = f"sha256:{hashlib.sha256(raw).hexdigest()}"
            named = unquote_to_bytes(attack.file or f"{name.replace('/', '-')}.ipynb")
            if attack.zip:
                archive.writestr(named.decode(), raw)
            else:
                path = Path(os.fsdecode(os.fsencode(folder) + b"/" + named))
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(raw)
    return digests


GRADE = """
import sys
from pathlib import Path
from nbassay import classrun, running
from nbassay.cli import main
peak, mode, sys.argv[1:] = sys.argv[1], sys.argv[2], sys.argv[3:]
if mode == "warm":  # every box is a fork, whatever its code shows, and is not run again in another
    running.could_tell = lambda notebook: False
    running.MOST_CRASHES = classrun.WORTH_WARMING = 1
else:
    sys.argv.append("--no-warm")
try:
    main()
finally:
    status = Path("/proc/self/status").read_text()
    Path(peak).write_text(status.split("VmHWM:")[1].split()[0])
"""
LIMITS = """
[limits]
cell_s = 6
notebook_s = 40
cpu_s = 60
memory_mb = 400
processes = 64
file_mb = 8
disk_mb = 16
output_mb = 1
evidence_mb = 8
"""


def copy_workshop(folder: Path) -> Path:
    """The tiny workshop with limits that are soon reached."""
    for path in TINY.rglob("*"):
        if path.is_file() and "submissions" not in path.parts:
            target = folder / path.relative_to(TINY)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    manifest = folder / "workshop.toml"
    text = manifest.read_text()
    start, end = text.index("[limits]"), text.index("[[controls]]")
    manifest.write_text(text[:start] + LIMITS.lstrip() + "\n" + text[end:])
    return folder


def grade(
    paths: Sequence[Path], *, out: Path, workshop: Path, jobs: int, secret: str, mode: str
) -> tuple[subprocess.CompletedProcess[str], int]:
    """
    Grade a class as an instructor does; return that and the grader's own peak memory, KB.

    *mode* is ``fresh``, or ``warm`` for boxes that are all forks.
    """
    peak = out.with_name(f"{out.name}-peak")
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [
            *(sys.executable, "-c", GRADE, str(peak), mode, "grade", *map(str, paths)),
            *("-o", str(out), "--workshop", str(workshop), "-j", str(jobs)),
        ],
        env={**ours, SECRET: secret},
        cwd=workshop,
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    return done, int(peak.read_text())


def host_state(*folders: Path) -> dict[str, str]:
    """Digests of what an attack might poison: the engine, the workshop, what both stand on."""
    site = Path(sysconfig.get_path("purelib"))
    state = {str(path): "" for path in site.iterdir()}
    for folder in (Path(nbassay.__file__).parent, *folders):
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                state[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    for module in ("numpy", "IPython", "ipykernel", "msgspec", "nbclient", "idx2numpy"):
        origin = sys.modules.get(module) or __import__(module)
        for path in Path(str(origin.__file__)).parent.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                status = path.stat()
                state[str(path)] = f"{status.st_size} {status.st_mtime_ns} {status.st_mode}"
    return state
