"""Gathering what a network was asked and what it answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbassay.inside.arrays import Reader, as_array_like, as_numpy
from nbassay.inside.batches import Stream
from nbassay.inside.channel import Channel
from nbassay.inside.models import ModelBook
from nbassay.inside.taps import Tap
from nbassay.records import Data, PredictFact


class Answers:
    """
    Predictions and calls, gathered.

    A loop that asks for one image at a time becomes one fact, as long as it asks the same network
    in the same state within one cell.
    """

    def __init__(
        self, channel: Channel, reader: Reader, models: ModelBook, cell: Callable[[], int]
    ):
        self._channel = channel
        self._reader = reader
        self._models = models
        self._cell = cell
        self._asked: tuple[Any, ...] | None = None
        self._stream: Stream | None = None
        self._single: tuple[Data, tuple[int, ...], np.ndarray | None] | None = None
        self._calls = 0
        self._first: Any = None

    def add(self, model: Any, via: str, x: Any, tap: Tap | None, returned: Any) -> None:
        """Take one question and its answer."""
        seen = self._models.state_of(model)
        asked = (seen.model, seen.state, via, self._cell())
        if asked != self._asked:
            self.flush()
            self._asked = asked
        answer = as_numpy(returned)
        classes = None
        if answer is not None and answer.ndim == 2 and answer.shape[1] > 0:
            classes = answer.argmax(axis=1).astype(np.int64)
        if self._calls == 0:
            data = tap.data() if tap else self._read(x)
            shape = tuple(answer.shape) if answer is not None else ()
            self._single = (data, shape, classes)
        else:
            if self._stream is None:
                self._stream = Stream(self._reader, self._channel)
                self._stream.add(self._first)
            self._stream.add(x)
        if self._calls == 0:
            self._first = x
        self._calls += 1

    def _read(self, x: Any) -> Data:
        array = as_array_like(x)
        if array is None or array.ndim == 0:
            return Data(kind="other", x=None)
        return Data(kind="arrays", x=self._reader.read(array))

    def flush(self) -> None:
        """Send what was gathered."""
        if self._asked is not None and self._single is not None:
            model, state, via, cell = self._asked
            data, shape, classes = self._single
            if self._stream is not None:
                data, classes = self._stream.data("arrays"), None
            self._channel.fact(
                PredictFact(
                    cell=cell,
                    model=model,
                    state=state,
                    data=data,
                    via=via,
                    returned_shape=list(shape),
                    classes=None if classes is None else self._channel.blob(classes),
                )
            )
        self._asked = self._stream = self._single = None
        self._first = None
        self._calls = 0
