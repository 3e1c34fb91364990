"""
Other names for the classes: what a challenge run lays into the box instead of the lab's labels.

The notebook runs once more where every label file calls the classes by other names, drawn in
secret: same shapes, same pixels. What was worked out from the data there answers in the new names;
weights and answers that were brought along answer in the old ones.
"""

from __future__ import annotations

import dataclasses
import gzip
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nbassay.pristine import Pristine
from nbassay.workshop import Workshop, read_pinned

_random = secrets.SystemRandom()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Renaming:
    """New names of the classes, and the label files that use them."""

    names: Sequence[int]
    """Class → its name."""
    folder: Path
    """Each label file, unpacked and as it is kept."""


def draw_names(classes: int) -> list[int]:
    """
    Class → new name; none keeps its own.

    Raises:
        ValueError: There are fewer than two classes.
    """
    if classes < 2:
        raise ValueError(f"{classes} classes cannot be renamed")
    names = list(range(classes))
    while any(name == one for one, name in enumerate(names)):
        _random.shuffle(names)
    return names


def why_not_renamable(pristine: Pristine) -> str | None:
    """Why the classes of these data cannot be renamed; None when they can."""
    others = [name for name, part in pristine.sets.items() if part.labels.dtype != np.uint8]
    return f"labels of {', '.join(others)} are no bytes (uint8)" if others else None


def lay_renamed_labels(workshop: Workshop, pristine: Pristine, folder: Path) -> Renaming:
    """
    Draw new names and write all label files with them into *folder*.

    Raises:
        DataError: A packed file is missing or not the pinned one.
        ValueError: The classes cannot be renamed (see `why_not_renamable`).
    """
    why_not = why_not_renamable(pristine)
    if why_not is not None:
        raise ValueError(why_not)
    names = draw_names(pristine.classes)
    table = np.arange(256, dtype=np.uint8)
    table[: len(names)] = names
    for name, part in workshop.manifest.data.sets.items():
        raw = gzip.decompress(read_pinned(workshop, part.labels))
        head = len(raw) - pristine[name].count  # IDX: one byte a label, behind the header
        renamed = raw[:head] + table[np.frombuffer(raw, np.uint8, offset=head)].tobytes()
        packed = workshop.packed_name(part.labels)
        for file, content in (
            (part.labels, renamed),
            (packed, gzip.compress(renamed, mtime=0)),
        ):
            target = folder / file
            target.write_bytes(content)
            target.chmod(0o644)  # a box that runs as another user reads them
    return Renaming(names=names, folder=folder)
