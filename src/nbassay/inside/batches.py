"""Rows and labels that a network is given in batches, told as if they had come whole."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbassay.inside.arrays import PROFILED_ROWS, Reader, as_array_like, number, read_labels
from nbassay.inside.channel import Channel
from nbassay.records import Array, Data, Labels, Rows


class Stream:
    """Rows and labels that pass by in batches; distinct pairs are kept in the order first seen."""

    def __init__(self, reader: Reader, channel: Channel) -> None:
        self._reader = reader
        self._channel = channel
        self._pairs: dict[tuple[int, int], None] = {}
        self._count = 0
        self._shape: tuple[int, ...] = ()
        self._dtype = ""
        self._label_dtype = ""
        self._label_form: str | None = None
        self._classes = 0
        self._low, self._high = math.inf, -math.inf
        self._scale: tuple[float, float] | None = None
        self._residual = 0.0
        self._are_rows = True
        self._width = 0
        self._profile: list[list[int]] = []

    def add(self, x: Any, y: Any = None) -> None:
        """Take one batch: what a data adapter yields, before the network sees it."""
        images = as_array_like(x)
        if images is None or images.ndim == 0 or images.size == 0:
            return
        self._shape, self._dtype = images.shape[1:], images.dtype.name
        self._low = min(self._low, float(images.min()))
        self._high = max(self._high, float(images.max()))
        labels = None
        given = None if y is None else as_array_like(y)
        if given is not None:
            read = read_labels(given)
            if read is not None and len(read[2]) == len(images):
                self._label_form, labels = read[0], read[2]
                self._classes = max(self._classes, read[1])
                self._label_dtype = given.dtype.name
        table = self._reader.as_table(images)
        found = None if table is None else self._reader.digest(table)
        if table is None or found is None:
            self._are_rows = False
            self._count += len(images)
            return
        digests, scale, offset, residual = found
        self._width = table.shape[1]
        if len(self._profile) < PROFILED_ROWS:
            self._profile += self._reader.profile(table, scale, offset)
        self._scale = (scale, offset)
        self._residual = max(self._residual, residual)
        self._count += len(digests)
        classes = [-1] * len(digests) if labels is None else labels.tolist()
        self._pairs.update(dict.fromkeys(zip(digests.tolist(), classes, strict=False)))

    def data(self, kind: str) -> Data:
        """The facts of all batches together."""
        if not self._count:
            return Data(kind=kind, x=None)  # type: ignore[arg-type]
        rows = labels = None
        if self._are_rows and self._scale is not None:
            digests = np.array([pair[0] for pair in self._pairs], np.uint64)
            rows = Rows(
                width=self._width,
                count=self._count,
                scale=self._scale[0],
                offset=self._scale[1],
                residual=self._residual,
                profile=self._profile[:PROFILED_ROWS],
                digests=self._channel.blob(digests),
            )
            if self._label_form is not None:
                values = np.array([pair[1] for pair in self._pairs], np.int64)
                labels = Labels(
                    form=self._label_form,  # type: ignore[arg-type]
                    classes=self._classes,
                    values=self._channel.blob(values),
                )
        shown = len(self._pairs) if rows is not None else self._count
        x = Array(
            shape=[shown, *self._shape],
            dtype=self._dtype,
            low=number(self._low),
            high=number(self._high),
            rows=rows,
        )
        y = None
        if labels is not None:
            y = Array(
                shape=[shown] if labels.form == "integer" else [shown, labels.classes],
                dtype=self._label_dtype,
                low=0.0,
                high=float(max(labels.classes - 1, 0)),
                labels=labels,
            )
        return Data(kind=kind, x=x, y=y)  # type: ignore[arg-type]
