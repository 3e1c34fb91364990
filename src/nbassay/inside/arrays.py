"""
Facts of arrays: shape, range, and what their rows are.

A row is recognised by a keyed digest over its values brought back to whole levels (pixels 0..255),
so float16 to float64, ``/ 255`` and ``* (1/255)``, any order and any batch give the same digests.
The probe does not know which digests are right; the host does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nbassay.inside.channel import Channel
from nbassay.records import Array, Labels, Number, Rows

LARGEST_RESIDUAL = 0.25
"""Fraction of a level: float16 pixels scaled to 0..1 stay below 0.13, other data lie anywhere."""
MOST_BYTES = 2 << 30
"""Larger arrays are told by shape and dtype only."""
MOST_CHUNKS = 4096
"""Of rows, whose digests are remembered: 16 MB."""
MOST_CLASSES = 1000
CHUNK_ROWS = 512
"""Looked at together: what is reckoned with them stays in the processor's cache."""
SAMPLE_ROWS = 64
FEW_ROWS = 100
"""Fewer need not reach both extreme levels."""
SAMPLE_VALUES = 16384
PROFILED_ROWS = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recognition:
    """What the workshop's rows look like; says nothing of which rows there are."""

    nonce: bytes
    """Key of the row digests, 32 bytes, drawn for this run."""
    widths: tuple[int, ...]
    """Values in a row of each of the workshop's sets: (784,)."""
    levels: int
    """Largest level: 255 for 8-bit pixels."""


def number(value: Any) -> Number:
    """A float that JSON can hold."""
    as_float = float(value)
    if math.isfinite(as_float):
        return as_float
    if math.isnan(as_float):
        return "nan"
    return "inf" if as_float > 0 else "-inf"


def as_numpy(value: Any) -> np.ndarray | None:
    """*value* as a NumPy array if it holds numbers, without calling a learner's methods."""
    if type(value) is np.ndarray:
        array = value
    elif isinstance(value, np.ndarray):  # a subclass may lie; look at the memory itself
        array = np.ndarray.view(value, np.ndarray)
    else:
        module = type(value).__module__ or ""
        root = module.partition(".")[0]
        if root in ("tensorflow", "jaxlib", "torch") and hasattr(value, "numpy"):
            array = value.numpy()
        elif root == "pandas" and hasattr(value, "to_numpy"):
            array = value.to_numpy()
        elif root == "keras" and hasattr(value, "numpy"):
            array = value.numpy()
        else:
            return None
    if type(array) is not np.ndarray or array.dtype.kind not in "buif":
        return None
    return array


def as_array_like(value: Any) -> np.ndarray | None:
    """Like `as_numpy`, and lists of numbers too, as ``fit`` takes them."""
    array = as_numpy(value)
    if array is None and isinstance(value, (list, tuple)) and value:
        try:
            converted = np.asarray(value)
        except (ValueError, TypeError):
            return None
        return as_numpy(converted)
    return array


class Reader:
    """Turns arrays into facts; remembers what it has read: arrays are seen again and again."""

    def __init__(self, recognition: Recognition, channel: Channel) -> None:
        self._recognition = recognition
        self._channel = channel
        self._scales: list[tuple[float, float]] = []
        self._known: dict[tuple[Any, ...], Array] = {}
        self._digests: dict[tuple[Any, ...], np.ndarray] = {}
        """Of whole chunks of rows: flat or scaled, they have the levels that were read."""
        self._looks: set[tuple[Any, ...]] = set()

    def is_new(self, array: np.ndarray) -> bool:
        """
        Whether *array* was not looked at yet, by where it lies and a sample of its values.

        Cheap enough for every array after every cell; `read` looks at every byte.
        """
        flat = array.ravel() if array.flags.c_contiguous else array.flat
        sample = np.ascontiguousarray(flat[:: max(1, array.size // SAMPLE_VALUES)])
        address = array.__array_interface__["data"][0]
        look = (
            address,
            array.shape,
            array.strides,
            array.dtype.str,
            zlib.crc32(sample.view(np.uint8).data),
        )
        if look in self._looks:
            return False
        self._looks.add(look)
        return True

    def forget_looks(self) -> None:
        """Take every array for a new one once more."""
        self._looks.clear()

    def read(self, array: np.ndarray, name: str | None = None) -> Array:
        """The facts of one array, its rows and labels among them."""
        key = (array.shape, array.dtype.str, _content(array))
        known = self._known.get(key)
        if known is None:
            known = self._read(array)
            self._known[key] = known
        return Array(
            shape=known.shape,
            dtype=known.dtype,
            low=known.low,
            high=known.high,
            name=name[:200] if name else None,
            rows=known.rows,
            labels=known.labels,
        )

    def _read(self, array: np.ndarray) -> Array:
        shape, dtype = list(array.shape), array.dtype.name
        if array.size == 0 or array.nbytes > MOST_BYTES:
            return Array(shape=shape, dtype=dtype, low=None, high=None)
        low, high = _range(array)
        return Array(
            shape=shape,
            dtype=dtype,
            low=low,
            high=high,
            rows=self._rows(array),
            labels=self._labels(array),
        )

    def _rows(self, array: np.ndarray) -> Rows | None:
        table = self.as_table(array)
        if table is None:
            return None
        found = self.digest(table)
        if found is None:
            return None
        digests, scale, offset, residual = found
        return Rows(
            width=table.shape[1],
            count=len(digests),
            scale=scale,
            offset=offset,
            residual=residual,
            profile=self.profile(table, scale, offset),
            digests=self._channel.blob(digests),
        )

    def profile(self, table: np.ndarray, scale: float, offset: float) -> list[list[int]]:
        """What does not depend on the order of values in a row (see `Rows.profile`)."""
        step = max(1, len(table) // PROFILED_ROWS)
        levels = _to_levels(table[::step][:PROFILED_ROWS], scale, offset, self._recognition.levels)
        return [] if levels is None else row_profiles(levels[0]).tolist()

    def _labels(self, array: np.ndarray) -> Labels | None:
        read = read_labels(array)
        if read is None:
            return None
        form, classes, values = read
        return Labels(form=form, classes=classes, values=self._channel.blob(values))  # type: ignore[arg-type]

    def as_table(self, array: np.ndarray) -> np.ndarray | None:
        """Rows × values if *array* may hold rows of the workshop's sets."""
        if array.ndim == 0 or array.size == 0:
            return None
        width = math.prod(array.shape[1:])
        if array.ndim > 1 and width in self._recognition.widths:
            return array.reshape(array.shape[0], width)
        if array.size in self._recognition.widths:
            return array.reshape(1, array.size)
        return None

    def digest(self, table: np.ndarray) -> tuple[np.ndarray, float, float, float] | None:
        """
        Keyed digests of the rows of *table*.

        Returns:
            Digests (uint64, one a row), scale, offset, residual (see `Rows`); None when the
            values are no whole levels under any scale that is tried.
        """
        low, high = float(table.min()), float(table.max())
        for scale, offset in self._fitting(table, low, high):
            digests = np.empty(len(table), np.uint64)
            residual = 0.0
            for start in range(0, len(table), CHUNK_ROWS):
                chunk = _to_levels(
                    table[start : start + CHUNK_ROWS], scale, offset, self._recognition.levels
                )
                if chunk is None:
                    break
                residual = max(residual, chunk[1])
                digests[start : start + CHUNK_ROWS] = self._digests_of(chunk[0])
            else:
                if (scale, offset) not in self._scales and len(self._scales) < 8:
                    self._scales.append((scale, offset))
                return digests, scale, offset, residual
        return None

    def _digests_of(self, levels: np.ndarray) -> np.ndarray:
        if len(levels) < CHUNK_ROWS:  # of a batch, which may be one of very many
            return row_digests(levels, self._recognition.nonce)
        key = (levels.shape, levels.dtype.str, _content(levels))
        digests = self._digests.get(key)
        if digests is None:
            digests = row_digests(levels, self._recognition.nonce)
            if len(self._digests) < MOST_CHUNKS:
                self._digests[key] = digests
        return digests

    def _fitting(self, table: np.ndarray, low: float, high: float) -> list[tuple[float, float]]:
        """
        Scales and offsets that a sample of rows allows: those as close as any, then the others.

        A crisp image on 0..1 has nearly no grey and would roughly do as 0 and 1.
        """
        step = max(1, len(table) // SAMPLE_ROWS)
        sample = table[::step][:SAMPLE_ROWS]
        found = []
        for scale, offset in dict.fromkeys(self._candidates(table, low, high)):
            levels = _to_levels(sample, scale, offset, self._recognition.levels)
            if levels is not None:
                found.append((levels[1], (scale, offset)))
        enough = max(1e-4, 2 * min((residual for residual, _candidate in found), default=0.0))
        fitting = [candidate for _residual, candidate in sorted(found, key=lambda f: f[0] > enough)]
        # Few rows need not reach both extreme levels, and any row of one grey fits its own range.
        guess = self._from_range(low, high)
        return [*fitting, guess] if guess else fitting

    def _candidates(
        self, table: np.ndarray, low: float, high: float
    ) -> Iterator[tuple[float, float]]:
        """Scale and offset to try, likeliest first."""
        levels = self._recognition.levels
        if table.dtype.kind in "bui":
            yield 1.0, 0.0
        if len(table) >= FEW_ROWS and (own := self._from_range(low, high)):
            yield own
        if high <= 1:  # zeros and ones alone: black and white, not the two darkest levels
            yield 1 / levels, 0.0
        yield from self._scales
        yield 1.0, 0.0
        yield 1 / levels, 0.0
        yield 2 / levels, -1.0
        yield -1.0, float(levels)
        yield -1 / levels, 1.0

    def _from_range(self, low: float, high: float) -> tuple[float, float] | None:
        """Scale and offset if the smallest and the largest value are the extreme levels."""
        scale = (high - low) / self._recognition.levels
        return (scale, low) if math.isfinite(scale) and scale > 0 else None


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file of bytes: two zeros, the type, the number of axes, their lengths."""
    raw = path.read_bytes()
    if raw[:3] != b"\0\0\x08":
        raise ValueError(f"{path.name} is no IDX file of unsigned bytes")
    start = 4 + 4 * raw[3]
    shape = np.frombuffer(raw, ">u4", count=raw[3], offset=4).tolist()
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy()


def read_labels(array: np.ndarray) -> tuple[str, int, np.ndarray] | None:
    """Form, classes and values (int64) of *array* if it may hold class labels."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array.reshape(-1)
    if array.ndim == 1 and len(array) and array.dtype.kind in "uif":
        if not np.isfinite(array).all() or (array != np.floor(array)).any():
            return None
        if array.min() < 0 or array.max() >= MOST_CLASSES:
            return None
        values = array.astype(np.int64)
        return "integer", int(values.max()) + 1, values
    if array.ndim == 2 and len(array) and 1 < array.shape[1] <= MOST_CLASSES:
        if not ((array[:SAMPLE_ROWS] == 1).sum(axis=1) == 1).all():
            return None  # pixels, mostly: the rest need not be looked at
        hits = array == 1
        if not (hits.sum(axis=1) == 1).all() or (array[~hits] != 0).any():
            return None
        return "one-hot", int(array.shape[1]), hits.argmax(axis=1).astype(np.int64)
    return None


def row_digests(levels: np.ndarray, nonce: bytes) -> np.ndarray:
    """BLAKE2b of each row, keyed with *nonce*: uint8 or uint16 (n, width) → uint64 (n,)."""
    width = levels.shape[1] * levels.itemsize
    raw = np.ascontiguousarray(levels).tobytes()
    blake2b = hashlib.blake2b
    joined = b"".join(
        blake2b(raw[start : start + width], digest_size=8, key=nonce).digest()
        for start in range(0, len(raw), width)
    )
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)


def row_profiles(levels: np.ndarray) -> np.ndarray:
    """Sums of each row's levels, their squares and cubes, whatever their order: (n, 3) int64."""
    wide = levels.astype(np.int64)
    return np.stack([(wide**power).sum(axis=1) for power in (1, 2, 3)], axis=1)


def find_arrays(namespace: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, np.ndarray]]:
    """Arrays among a notebook's names, inside containers and simple objects too, two deep."""
    for name, value in namespace:
        yield from _find(name, value, depth=0)


def _find(name: str, value: Any, depth: int) -> Iterator[tuple[str, np.ndarray]]:
    array = as_numpy(value)
    if array is not None:
        if array.ndim:
            yield name, array
    elif depth < 2 and type(value) in (list, tuple) and len(value) <= 50:
        for position, item in enumerate(value):
            yield from _find(f"{name}[{position}]", item, depth + 1)
    elif depth < 2 and type(value) is dict and len(value) <= 50:
        for key, item in list(value.items()):
            label = key if type(key) is str else type(key).__name__
            yield from _find(f"{name}[{label[:40]}]", item, depth + 1)
    elif depth < 2 and type(value).__module__ == "__main__" and not isinstance(value, type):
        for attribute, item in list(getattr(value, "__dict__", {}).items())[:50]:
            yield from _find(f"{name}.{attribute}", item, depth + 1)


def _to_levels(
    table: np.ndarray, scale: float, offset: float, levels: int
) -> tuple[np.ndarray, float] | None:
    """Whole levels of *table* and the residual; None when it is too large or out of range."""
    kind = np.uint8 if levels < 256 else np.uint16
    if table.dtype.kind in "bu" and scale == 1.0 and offset == 0.0:
        return (table.astype(kind), 0.0) if int(table.max()) <= levels else None
    exact: np.ndarray = table.astype(np.float32 if table.dtype.itemsize <= 4 else np.float64)
    if offset:
        np.subtract(exact, offset, out=exact)
    np.divide(exact, scale, out=exact)
    rounded = np.rint(exact)
    with np.errstate(invalid="ignore"):
        np.subtract(exact, rounded, out=exact)
        residual = float(np.abs(exact, out=exact).max())
    if not residual <= LARGEST_RESIDUAL or rounded.min() < 0 or rounded.max() > levels:
        return None
    return rounded.astype(kind), residual


def _range(array: np.ndarray) -> tuple[Number, Number]:
    return number(array.min()), number(array.max())


def _content(array: np.ndarray) -> bytes:
    """SHA-256 of all bytes; in chunks, so that a view needs no whole copy."""
    if array.ndim == 0 or array.flags.c_contiguous:
        parts: Iterable[np.ndarray] = [array]
    else:
        rows = max(1, (16 << 20) // max(1, array.nbytes // max(1, len(array))))
        parts = (array[start : start + rows] for start in range(0, len(array), rows))
    hasher = hashlib.sha256()
    for part in parts:
        if part.size:
            hasher.update(np.ascontiguousarray(part).view(np.uint8).data)
    return hasher.digest()
