"""
The lab's data as they should be: the only truth that learners' work is compared with.

Positions number the rows of all sets one after the other, in the manifest's order: 0..59999 the
training set, 60000..69999 the test set. -1 is a row of none.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import idx2numpy
import msgspec
import numpy as np

from nbassay.errors import DataError
from nbassay.files import write_whole
from nbassay.inside.arrays import row_digests
from nbassay.workshop import Workshop, read_pinned

UNKNOWN = -1
CHUNK = 1 << 18


@dataclasses.dataclass(frozen=True, kw_only=True)
class PristineSet:
    """One set of the lab's data."""

    name: str
    features: np.ndarray
    """As the file holds them: (n, 28, 28) uint8."""
    labels: np.ndarray
    """(n,) uint8, aligned with *features*."""
    first: int
    """Position of its row 0."""

    @property
    def count(self) -> int:
        return len(self.features)

    @property
    def width(self) -> int:
        """Values in a row."""
        return int(np.prod(self.features.shape[1:]))

    @cached_property
    def rows(self) -> np.ndarray:
        """(n, width), same dtype as *features*."""
        return self.features.reshape(self.count, self.width)

    @property
    def positions(self) -> range:
        return range(self.first, self.first + self.count)


class Pristine:
    """All sets of a workshop."""

    def __init__(self, sets: Mapping[str, PristineSet], levels: int, classes: int) -> None:
        self.sets = dict(sets)
        self.levels = levels
        self.classes = classes

    def __getitem__(self, name: str) -> PristineSet:
        return self.sets[name]

    @cached_property
    def labels(self) -> np.ndarray:
        """Labels of all sets, by position, int64."""
        return np.concatenate([part.labels.astype(np.int64) for part in self.sets.values()])

    def renamed(self, names: Sequence[int]) -> Pristine:
        """
        The same sets with other names for the classes.

        Args:
            names: Class → its new name, one a class.

        Raises:
            ValueError: *names* are no renaming of these classes.
        """
        if sorted(names) != list(range(self.classes)):
            raise ValueError(f"expected new names for {self.classes} classes, found {names}")
        table = np.asarray(names, np.uint8 if self.classes <= 256 else np.uint16)
        sets = {
            name: dataclasses.replace(part, labels=table[part.labels])
            for name, part in self.sets.items()
        }
        return Pristine(sets, self.levels, self.classes)

    @property
    def widths(self) -> list[int]:
        return sorted({part.width for part in self.sets.values()})

    def keyed(self, nonce: bytes) -> RowIndex:
        """An index of all rows under the digests of one run."""
        kind = np.uint8 if self.levels < 256 else np.uint16
        return RowIndex(
            np.concatenate(
                [row_digests(part.rows.astype(kind), nonce) for part in self.sets.values()]
            )
        )


class RowIndex:
    """Finds the position of a row by its keyed digest."""

    def __init__(self, digests: np.ndarray) -> None:
        self._order = np.argsort(digests)
        self._sorted = digests[self._order]

    def positions(self, digests: np.ndarray) -> np.ndarray:
        """uint64 digests (n,) → int32 positions (n,), `UNKNOWN` for rows of none of the sets."""
        if not len(self._sorted):
            return np.full(len(digests), UNKNOWN, np.int32)
        positions = np.empty(len(digests), np.int32)
        for start in range(0, len(digests), CHUNK):  # a box may send millions
            part = digests[start : start + CHUNK]
            at = np.searchsorted(self._sorted, part)
            at[at == len(self._sorted)] = 0
            found = self._sorted[at] == part
            positions[start : start + CHUNK] = np.where(found, self._order[at], UNKNOWN)
        return positions


def data_digest(workshop: Workshop) -> str:
    """Of the lab's data, their levels and the order of their sets."""
    part = workshop.manifest.data
    files = {name: file.sha256 for name, file in part.files.items()}
    sets = [[name, one.features, one.labels] for name, one in part.sets.items()]
    return hashlib.sha256(msgspec.json.encode([files, sets, part.levels])).hexdigest()


def read_pristine(workshop: Workshop) -> Pristine:
    """
    Read the sets of *workshop*.

    Raises:
        DataError: A file is missing, is not the pinned one, or is no IDX file.
    """
    part = workshop.manifest.data
    arrays = {name: _read_idx(workshop, name) for name in part.files}
    sets = {}
    first = 0
    for name, data_set in part.sets.items():
        features, labels = arrays[data_set.features], arrays[data_set.labels]
        if len(features) != len(labels):
            raise DataError(f"data.sets.{name}: {len(features)} rows but {len(labels)} labels")
        sets[name] = PristineSet(name=name, features=features, labels=labels, first=first)
        first += len(features)
    return Pristine(sets, part.levels, part.classes)


def unpack_data(workshop: Workshop, folder: Path) -> list[Path]:
    """
    Lay the raw files of the lab into *folder* (made if needed); files already there are kept
    if they are right and replaced whole if they are not.

    Raises:
        DataError: A packed file is missing or not the pinned one.
        OutputError: A file cannot be written.
    """
    targets = [folder / name for name in workshop.manifest.data.files]
    for target in targets:
        raw = gzip.decompress(read_pinned(workshop, target.name))
        if not (target.is_file() and target.read_bytes() == raw):
            write_whole(target, raw)
    return targets


def _read_idx(workshop: Workshop, name: str) -> np.ndarray:
    try:
        return _unpacked(read_pinned(workshop, name))
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{name}: not a gzipped IDX file: {error}") from error


@functools.lru_cache(maxsize=8)
def _unpacked(packed: bytes) -> np.ndarray:
    """What a packed IDX file holds; a command asks several times for the same few."""
    array = np.asarray(idx2numpy.convert_from_file(io.BytesIO(gzip.decompress(packed))))
    array.flags.writeable = False
    return array
