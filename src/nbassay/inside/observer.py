"""
What both probes share, the box's and a live kernel's: the hooks, and a look at all names.

It only looks: nothing is seeded, answered or refused here.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from nbassay.inside.arrays import Reader, Recognition, find_arrays
from nbassay.inside.channel import Channel
from nbassay.inside.hooks import Listener
from nbassay.inside.models import ModelBook
from nbassay.records import ArrayFact

MOST_ARRAYS_A_CELL = 60
MOST_ARRAYS = 600


class Observer:
    """Sends facts of what a kernel's names hold, and of what its libraries are asked to do."""

    def __init__(
        self,
        channel: Channel,
        recognition: Recognition,
        shell: Any,
        cell: Callable[[], int],
        *,
        is_fast: bool,
    ) -> None:
        self._channel = channel
        self._shell = shell
        self._cell = cell
        self._reader = Reader(recognition, channel)
        self._models = ModelBook(channel, cell)
        self.listener = Listener(channel, self._reader, self._models, cell, is_fast=is_fast)
        self._arrays: dict[bytes, int] = {}
        """What was sent → the cell after which it was."""

    def look(self) -> None:
        """Send what was gathered, and what the names hold now and was not sent yet."""
        with self.listener.guard("end of cell"):
            self.listener.end_of_cell()
        with self.listener.guard("arrays"):
            self._look_at_arrays()
        with self.listener.guard("models"):
            self._look_at_models()

    def forget(self, cells: Collection[int]) -> None:
        """Send arrays again that were last sent after one of *cells*, if they are still there."""
        self._arrays = {key: cell for key, cell in self._arrays.items() if cell not in cells}
        self._reader.forget_looks()

    def _names(self) -> list[tuple[str, Any]]:
        hidden = self._shell.user_ns_hidden
        return [
            (name, value)
            for name, value in list(self._shell.user_ns.items())
            if not name.startswith("_") and (name not in hidden or hidden[name] is not value)
        ]

    def _look_at_arrays(self) -> None:
        looked = 0
        for name, array in find_arrays(self._names()):
            if len(self._arrays) >= MOST_ARRAYS or looked >= MOST_ARRAYS_A_CELL:
                break
            if not self._reader.is_new(array):
                continue
            looked += 1
            fact = self._reader.read(array, name)
            key = msgspec.json.encode(msgspec.structs.replace(fact, name=None))
            if key not in self._arrays:
                self._arrays[key] = self._cell()
                self._channel.fact(ArrayFact(cell=self._cell(), source="namespace", array=fact))

    def note_trained_before(self) -> None:
        """Note every Keras network that was trained already, wherever it is held."""
        model_class = getattr(sys.modules.get("keras"), "Model", None)
        if model_class is None:
            return
        for found in gc.get_objects():
            if issubclass(type(found), model_class) and _was_trained(found):
                self._models.note_trained(found)

    def trained_before(self) -> list[tuple[str, Any]]:
        """Name and object of every such network that a name still holds."""
        return [(name, one) for name, one in self.models() if self._models.was_trained_before(one)]

    def models(self) -> list[tuple[str, Any]]:
        """Name and object of every Keras network that a name holds."""
        model_class = getattr(sys.modules.get("keras"), "Model", None)
        if model_class is None:
            return []
        return [(name, value) for name, value in self._names() if isinstance(value, model_class)]

    def numbers_of_models(self) -> list[int]:
        """Numbers of these networks, as facts call them."""
        return sorted({self._models.number_of(model) for _name, model in self.models()})

    def _look_at_models(self) -> None:
        for _name, value in self.models():
            self._models.state_of(value)


def _was_trained(model: Any) -> bool:
    """Whether ``fit`` left a history on a network, or its optimizer has taken a step."""
    if getattr(getattr(model, "history", None), "epoch", None):
        return True
    iterations = getattr(getattr(model, "optimizer", None), "iterations", 0)
    return int(iterations) > 0
