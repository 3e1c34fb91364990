"""
What networks answered, kept by content: a network that was measured once is not measured again.

A name is the digest of all that answers depend on: the network's steps and weights as they lie
here (not what a notebook says of them), how rows are prepared, the lab's data, and the code and the
library that compute. So nothing that is kept grows old; what a class no longer asks for is removed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

import nbassay
from nbassay.errors import OutputError
from nbassay.files import write_whole
from nbassay.records import Step
from nbassay.stages import Stages

COMPUTED_BY = ("measure.py", "network.py")
"""Modules that decide what an answer is."""
_NAME = re.compile(r"[0-9a-f]{64}")


class Answers:
    """Answers by name, in a folder of files, or without one in memory."""

    def __init__(self, folder: Path | None = None, stages: Stages | None = None) -> None:
        self.stages = stages or Stages()
        self._folder = folder
        self._held: dict[str, bytes] = {}
        self.used: set[str] = set()
        """Names that were asked for."""

    def of(self, name: str, count: int, ask: Callable[[], np.ndarray]) -> np.ndarray:
        """
        Answers to *count* rows, int64 (count,): those that are kept, or what *ask* finds.

        Raises:
            OutputError: They cannot be kept.
        """
        kept = self.get(name, count)
        if kept is not None:
            return kept
        with self.stages.stage("measure"):
            found = ask()
        self.put(name, found)
        return found

    def get(self, name: str, count: int) -> np.ndarray | None:
        """
        Answers to *count* rows, int64 (count,); None when they are not kept, or not as they were
        written.
        """
        self.used.add(name)
        kept = self._read(name)
        head = hashlib.sha256().digest_size
        if kept is None or len(kept) != head + count:
            return None
        if kept[:head] != _seal(name, kept[head:]):
            return None
        return np.frombuffer(kept, np.uint8, offset=head).astype(np.int64)

    def put(self, name: str, classes: np.ndarray) -> None:
        """
        Keep *classes*, int64 (n,), under *name*.

        Those of more than 256 classes are not kept, nor is anything where there is no room for it:
        it only saves time.
        """
        if len(classes) and not 0 <= classes.min() <= classes.max() < 256:
            return
        content = classes.astype(np.uint8).tobytes()
        content = _seal(name, content) + content
        if self._folder is None:
            self._held[name] = content
        else:
            with contextlib.suppress(OutputError):
                write_whole(self._folder / name, content)

    def forget_others(self, used: set[str]) -> None:
        """Remove all but *used*: of earlier weights, or of learners who left the class."""
        if self._folder is None or not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            if _NAME.fullmatch(path.name) and path.name not in used:
                path.unlink(missing_ok=True)

    def _read(self, name: str) -> bytes | None:
        if self._folder is None:
            return self._held.get(name)
        try:
            return (self._folder / name).read_bytes()
        except OSError:
            return None


def name_of(
    steps: Sequence[Step], weights: Mapping[str, np.ndarray], preparation: object, rows: object
) -> str:
    """
    Under which name the answers of a network are kept.

    Args:
        steps: The network.
        weights: Every blob that a step names.
        preparation: How rows are prepared, as msgspec encodes it.
        rows: Which rows of which data they are, as msgspec encodes it.

    Raises:
        KeyError: A step names a blob that is not there.
    """
    network = [
        msgspec.structs.replace(
            step,
            **{
                field: _digest(weights[ref])
                for field in ("kernel", "bias", "mean", "deviation")
                if (ref := getattr(step, field)) is not None
            },
        )
        for step in steps
    ]
    parts = [_computed_by(), network, preparation, rows]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _digest(array: np.ndarray) -> str:
    head = f"{array.dtype} {array.shape} ".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()


def _seal(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + content).digest()


@functools.cache
def _computed_by() -> list[str]:
    """Code and library that answers depend on: the last bit may be another with others."""
    hasher = hashlib.sha256()
    for name in COMPUTED_BY:
        hasher.update((Path(nbassay.__file__).parent / name).read_bytes())
    return [hasher.hexdigest(), np.__version__, platform.machine()]
