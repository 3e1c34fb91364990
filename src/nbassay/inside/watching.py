"""Watching a network compute: one eager pass over a small sample of our own."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

SAMPLE_ROWS = 8


class NotFollowed(Exception):
    """The network does something that is not known; the message says where."""


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer that holds no other layer."""

    layer: Any
    given: list[Any]
    """Tensors, as they were handed over."""
    returned: Any

    def only(self) -> np.ndarray:
        """
        The one array that the layer was given.

        Raises:
            NotFollowed: They were several.
        """
        if len(self.given) != 1:
            raise NotFollowed(f"layer {self.layer.name} takes several inputs")
        return np.asarray(self.given[0])


def watch(model: Any, row_shape: tuple[int, ...]) -> tuple[np.ndarray, list[Call], np.ndarray]:
    """Sample, calls of layers in order, and the answer of *model* to the sample."""
    sample = sample_rows(row_shape)
    calls: list[Call] = []
    with _noting_calls(calls):
        told = {"training": False} if getattr(model, "_call_has_training_arg", False) else {}
        answer = np.asarray(model(sample, **told))
    return sample, calls, answer


def sample_rows(row_shape: tuple[int, ...]) -> np.ndarray:
    """Eight rows, half of them 0..1 and half 0..255, drawn from a generator of our own."""
    generator = np.random.Generator(np.random.PCG64(0))
    sample = generator.random((SAMPLE_ROWS, *row_shape), dtype=np.float32)
    sample[SAMPLE_ROWS // 2 :] *= 255
    return sample


@contextlib.contextmanager
def _noting_calls(calls: list[Call]) -> Iterator[None]:
    """Note every call of a layer that holds no other layer, while the block runs."""
    layer_class = sys.modules["keras"].layers.Layer
    original = layer_class.__call__

    def noting(self: Any, *args: Any, **kwargs: Any) -> Any:
        returned = original(self, *args, **kwargs)
        is_leaf = not list(self._flatten_layers(include_self=False))
        # While a network builds itself it calls its layers with placeholders that hold no numbers.
        if is_leaf and args and not isinstance(returned, sys.modules["keras"].KerasTensor):
            given = list(args[0]) if isinstance(args[0], (list, tuple)) else [args[0]]
            calls.append(Call(self, given, returned))
        return returned

    layer_class.__call__ = noting
    try:
        yield
    finally:
        layer_class.__call__ = original
