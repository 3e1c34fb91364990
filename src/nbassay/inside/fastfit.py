"""
Training as the learner wrote it, in fewer calls.

Keras runs one batch a call of the compiled step. Running 50 batches a call does the same
arithmetic in the same order, so weights, optimizer state, history and outputs stay bit-identical;
`tests/test_fastfit.py` proves it case by case. Where it could make a difference (a callback that
looks at batches, an own train step, streams whose length is not known) nothing is changed.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from nbassay.inside.arrays import as_array_like

STEPS = 50
"""Batches a call; more gains nothing, and more than an epoch has blanks the progress bar."""

KEPT = "_nbassay_many_steps"
"""Attribute of a network that keeps its compiled steps; set past Keras' own bookkeeping."""

EPOCH_LEVEL = {
    "CSVLogger",
    "EarlyStopping",
    "History",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgbarLogger",
    "ReduceLROnPlateau",
}
"""Keras' own callbacks that look at whole epochs only."""


class FastFit:
    """Swaps a network's compiled steps while it is fitted, and puts the learner's own back."""

    def forget(self, model: Any) -> None:
        """Drop what was compiled for *model*: it was compiled anew."""
        vars(model).pop(KEPT, None)

    @contextlib.contextmanager
    def many_steps(self, model: Any, given: Mapping[str, Any]) -> Iterator[bool]:
        """
        Let ``fit`` run many batches a call while the block runs.

        Args:
            model: The network.
            given: The arguments of ``fit`` by name.

        Yields:
            Whether it does; False where it might not be the same.
        """
        if not is_the_same(model, given):
            yield False
            return
        own = model.train_function, model.test_function
        # Kept with the network itself, which they hold: elsewhere they would keep it alive.
        model.train_function, model.test_function = vars(model).get(KEPT, (None, None))
        model.steps_per_execution = STEPS
        try:
            yield True
        finally:
            vars(model)[KEPT] = model.train_function, model.test_function
            model.train_function, model.test_function = own
            model.steps_per_execution = 1


def is_the_same(model: Any, given: Mapping[str, Any]) -> bool:
    """Whether many batches a call are provably the same for this call of ``fit``."""
    keras, tensorflow = sys.modules.get("keras"), sys.modules.get("tensorflow")
    if keras is None or tensorflow is None or keras.backend.backend() != "tensorflow":
        return False
    return (
        getattr(model, "steps_per_execution", None) == 1
        and not model.run_eagerly
        and not model.jit_compile
        and not tensorflow.config.functions_run_eagerly()
        and getattr(model, "_distribute_strategy", None) is None
        and _has_keras_steps(model)
        and _has_arrays(given)
        and given.get("steps_per_epoch") is None
        and given.get("validation_steps") is None
        and _has_epoch_callbacks(given.get("callbacks"))
    )


def _has_keras_steps(model: Any) -> bool:
    """Whether the steps are Keras' own, not a subclass's."""
    for name in ("train_step", "test_step", "make_train_function", "make_test_function"):
        definer = next(kind for kind in type(model).__mro__ if name in vars(kind))
        if not definer.__module__.startswith("keras.src."):
            return False
    return True


def _has_arrays(given: Mapping[str, Any]) -> bool:
    """Whether training and validation data are whole arrays, whose length is known."""
    held_out = given.get("validation_data")
    if held_out is not None and not (isinstance(held_out, (tuple, list)) and len(held_out) >= 2):
        return False
    arrays = [given.get("x"), given.get("y"), *(held_out or ())]
    return all(as_array_like(array) is not None for array in arrays)


def _has_epoch_callbacks(callbacks: Any) -> bool:
    if callbacks is None:
        return True
    if not isinstance(callbacks, (list, tuple)):
        callbacks = [callbacks]
    return all(
        type(callback).__module__.startswith("keras.src.callbacks.")
        and type(callback).__name__ in EPOCH_LEVEL
        and getattr(callback, "save_freq", "epoch") == "epoch"
        for callback in callbacks
    )
