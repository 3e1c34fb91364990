"""
Where strangers' code runs: the provider interface.

A provider starts one process in a box, feeds it its job on standard input, and hands what comes
back through one byte-capped pipe to *on_frame*. It never looks into a frame.

Providers are found with `nbassay.sandbox.choose.choose` and proved on this machine with
`nbassay.sandbox.probes.probe`; ``docs/sandbox.md`` says what they promise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from nbassay.records import Ending

OnFrame = Callable[[bytes, bytes], None]
"""Called with a frame's four-byte kind and its payload, in order, from the calling thread."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What one box may use; defaults and their reasons live in ``workshop.toml``."""

    cell_s: float = 300.0
    """Wall seconds of one cell (kept by the executor inside the box)."""
    notebook_s: float = 900.0
    """Wall seconds of the whole box."""
    cpu_s: float = 1200.0
    """CPU seconds of one process (RLIMIT_CPU)."""
    memory_mb: int = 4096
    """Anonymous and shared memory of the process tree, watched; also RLIMIT_DATA a process."""
    processes: int = 256
    """Processes and threads."""
    file_mb: int = 256
    """Largest file."""
    disk_mb: int = 256
    """Each writable folder (a tmpfs)."""
    output_mb: float = 4.0
    """Outputs of the whole notebook (kept by the executor)."""
    evidence_mb: int = 64
    """Bytes through the pipe, all frames together."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mount:
    """
    A file or folder of the host, seen read-only inside the box.

    When root starts boxes they run as another user. What only root may read at *host* itself is
    handed over all the same; files deeper in a folder that is open to all keep their own rights.
    Links in it are not followed.
    """

    host: Path
    inside: str
    """Absolute path inside; parent folders are made. May lie in a writable folder."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ahead:
    """What may be imported before a box begins, by a process that it then starts as a fork of."""

    modules: tuple[str, ...]
    """The program's own, there from the start."""
    programs: tuple[str, ...] = ()
    """Modules that are run with ``-m``."""
    libraries: tuple[str, ...] = ()
    """Out of sight until the program imports them; those that are not installed are left out."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Box:
    """One process to run in a box."""

    argv: Sequence[str]
    stdin: bytes
    mounts: Sequence[Mount]
    """Besides the Python that runs and the system's libraries, which every provider gives."""
    env: Mapping[str, str]
    """The whole environment inside; nothing of the host's is added."""
    limits: Limits
    writable: Sequence[str]
    """Absolute folders inside that can be written, each a fresh tmpfs of ``limits.disk_mb``."""
    workdir: str
    """Working folder inside, in or below one of *writable*; made if it is not there."""
    ahead: Ahead | None = None
    """None starts a fresh process; so does a provider that cannot do otherwise."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """One attempt to get out of the box, and whether it failed as it should."""

    name: str
    holds: bool
    detail: str


class Walls(Protocol):
    """What stands around a box."""

    @property
    def name(self) -> str:
        """As `--sandbox` takes it."""
        ...

    @property
    def mode(self) -> str:
        """As reports show it: ``bubblewrap (user)``."""
        ...

    @property
    def is_isolated(self) -> bool:
        """Whether strangers' code may be run behind them."""
        ...


class Sandbox(Walls, Protocol):
    """One way to run a `Box`."""

    def run(self, box: Box, on_frame: OnFrame, *, should_stop: Callable[[], bool]) -> Ending:
        """
        Run *box* to its end and return how it ended.

        Frames are ``!4sQ`` (kind, payload bytes) and payload, written by the process to the file
        descriptor whose number is in its environment variable ``NBASSAY_FD``. When this returns
        or raises, no process of the box is left.

        Args:
            box: What to run, with its limits.
            on_frame: Receives each whole frame; what it raises ends the box and is raised here.
            should_stop: Asked several times a second; True ends the box as ``interrupted``.

        Returns:
            The ending. ``could-not-start`` and ``killed-outside`` are our failures; ``crashed``
            means that the process ended on its own without status 0.

        Raises:
            SandboxError: A process of the box could not be ended.
        """
        ...

    @property
    def why_not_warm(self) -> str | None:
        """Why a box that may have started as a fork did not, if that happened."""
        ...

    def begin(self, box: Box) -> None:
        """Begin to make ready what boxes like *box* start from, and do not wait for it."""
        ...

    def close(self) -> None:
        """
        End what is kept ready between boxes; the next box makes it again.

        What was begun and is not ready is waited for.
        """
        ...
