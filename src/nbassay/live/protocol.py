"""What a kernel asks the judge, and what comes back: frames on the judge's standard streams."""

from __future__ import annotations

from typing import BinaryIO

from nbassay.inside.channel import HEAD, frame
from nbassay.records import CellFact, Record

ASK = b"ASK!"
"""From the kernel: one `Question`, after all frames of the probe that are new."""
TOLD = b"TELL"
"""From the judge: a `Welcome` first, then one `Answer` a question."""


class Welcome(Record, frozen=True, kw_only=True):
    """What a kernel must know of the lab to watch; holds nothing that is right or wrong."""

    title: str = ""
    widths: tuple[int, ...] = ()
    levels: int = 1
    evidence_bytes: int = 0
    """All frames together."""
    loaders: tuple[str, ...] = ()
    """Functions that return the lab's data."""
    steps: tuple[int, ...] = ()
    checks: tuple[str, ...] = ()
    """Ids, in the order of the rubric."""
    problem: str | None = None
    """Why there can be no checks; then the rest is empty."""


class Question(Record, frozen=True, kw_only=True):
    """One ``%assay``."""

    cells: tuple[CellFact, ...] = ()
    """How the cells ended, each as it ran last."""
    outdated: tuple[int, ...] = ()
    """Numbers of runs of cells that have run again since."""
    networks: tuple[int, ...] = ()
    """Networks that the kernel's names hold now."""
    step: int | None = None
    """Whose checks are asked about; None: all."""
    check: str | None = None
    """Id of the only one that is asked about."""
    hint: int | None = None
    """Which hint is wanted, 1 first; None for the outcomes."""
    late: str | None = None
    """That cells ran before anybody watched; None when all were seen, or have run again since."""
    unseen: tuple[str, ...] = ()
    """What was not watched, and what to do about it, in sentences."""


class Answer(Record, frozen=True, kw_only=True):
    """What the notebook shows."""

    html: str | None
    text: str


def write_frame(stream: BinaryIO, kind: bytes, payload: bytes) -> None:
    """Write one frame and send it off."""
    stream.write(frame(kind, payload))
    stream.flush()


def read_frame(stream: BinaryIO) -> tuple[bytes, bytes] | None:
    """The next frame's kind and payload; None at the end of the stream."""
    head = stream.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    kind, length = HEAD.unpack(head)
    payload = stream.read(length)
    return (kind, payload) if len(payload) == length else None
