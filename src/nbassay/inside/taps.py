"""Seeing the data of one call as they pass by: arrays, `tf.data`, generators."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from nbassay.inside.arrays import Reader, as_array_like
from nbassay.inside.batches import Stream
from nbassay.inside.channel import Channel
from nbassay.records import Data


class Tap:
    """Sees the data of one ``fit``, ``evaluate`` or ``predict`` without changing them."""

    def __init__(self, reader: Reader, channel: Channel, given: dict[str, Any], split: float):
        self._reader = reader
        self._given = given
        self._stream = Stream(reader, channel)
        self._fixed: Data | None = None
        self._held_out: Data | None = None
        x, y = given.get("x"), given.get("y")
        self._kind = _kind(x)
        if self._kind == "arrays":
            images, labels = as_array_like(x), None if y is None else as_array_like(y)
            if images is None or images.ndim == 0:
                self._fixed = Data(kind="other", x=None)
            else:
                if labels is not None and labels.ndim == 0:
                    labels = None
                fitted = int(len(images) * (1.0 - split)) if 0 < split < 1 else len(images)
                self._fixed = self._arrays(images[:fitted], labels, slice(None, fitted))
                if fitted < len(images):
                    self._held_out = self._arrays(images[fitted:], labels, slice(fitted, None))
        elif self._kind == "other":
            self._fixed = Data(kind="other", x=None)

    @contextlib.contextmanager
    def listening(self) -> Iterator[dict[str, Any]]:
        """The arguments to pass on, with a stream among them tapped."""
        x = self._given.get("x")
        if self._kind == "tf.data":
            yield {**self._given, "x": self._tap_dataset(x)}
        elif inspect.isgenerator(x):
            yield {**self._given, "x": self._tap_generator(x)}
        elif self._kind == "generator":
            kind: Any = type(x)
            getitem = kind.__getitem__

            def tapped(sequence: Any, index: Any) -> Any:
                batch = getitem(sequence, index)
                self._take(batch)
                return batch

            x.__class__ = type(
                kind.__name__, (kind,), {"__getitem__": tapped, "__module__": kind.__module__}
            )
            try:
                yield self._given
            finally:
                x.__class__ = kind
        else:
            yield self._given

    def data(self) -> Data:
        """What was seen."""
        return self._fixed or self._stream.data(self._kind)

    def held_out(self) -> Data | None:
        """What ``validation_split`` kept back."""
        return self._held_out

    def _arrays(self, images: np.ndarray, labels: np.ndarray | None, rows: slice) -> Data:
        return Data(
            kind="arrays",
            x=self._reader.read(images),
            y=None if labels is None else self._reader.read(labels[rows]),
        )

    def _take(self, batch: Any) -> None:
        with contextlib.suppress(Exception):
            if isinstance(batch, (tuple, list)):
                self._stream.add(batch[0], batch[1] if len(batch) > 1 else None)
            else:
                self._stream.add(batch)

    def _tap_generator(self, batches: Any) -> Iterator[Any]:
        for batch in batches:
            self._take(batch)
            yield batch

    def _tap_dataset(self, dataset: Any) -> Any:
        tensorflow = sys.modules["tensorflow"]

        def note(*tensors: Any) -> None:
            self._take(tuple(tensors))

        def tapped(*element: Any) -> Any:
            flat = [part for part in element[:2] if hasattr(part, "dtype")]
            noted = tensorflow.numpy_function(note, flat, [])
            with tensorflow.control_dependencies([noted]):
                passed = tensorflow.nest.map_structure(tensorflow.identity, element)
            return passed if len(element) > 1 else passed[0]

        spec = dataset.element_spec
        is_plain = isinstance(spec, (tuple, list)) or hasattr(spec, "dtype")
        return dataset.map(tapped) if is_plain else dataset


def _kind(x: Any) -> str:
    if as_array_like(x) is not None:
        return "arrays"
    module = (type(x).__module__ or "").partition(".")[0]
    if module == "tensorflow" and hasattr(x, "element_spec"):
        return "tf.data"
    if inspect.isgenerator(x):
        return "generator"
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(x, keras.utils.PyDataset):
        return "generator"
    return "other"
