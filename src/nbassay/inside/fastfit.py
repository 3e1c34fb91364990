"""
Training as the learner wrote it, in fewer calls.

Keras runs one batch a call of the compiled step, and fetches each through a pipeline that costs
more than a small network's step. Here a call runs 50 batches and takes their rows from the whole
arrays itself, in the order that Keras' own pipeline draws. The arithmetic and its order stay, so
weights, optimizer state, history and outputs are bit-identical; `tests/test_fastfit.py` proves it
case by case. Where it could make a difference (a callback that looks at batches, an own train
step, streams whose length is not known) nothing is changed.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from nbassay.inside.arrays import as_numpy

STEPS = 50
"""Batches a call; more gains nothing, and an interrupt is heard between calls."""

KEPT = "_nbassay_many_steps"
"""Attribute of a network that keeps its compiled steps; set past Keras' own bookkeeping."""

ADAPTERS = "keras.src.trainers.data_adapters"

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


COUNTS = ("steps", "steps_per_epoch", "validation_steps")
"""Arguments that end a call before its data end."""

STEP_METHODS = (
    *("train_step", "test_step", "make_train_function", "make_test_function"),
    *("compute_metrics", "get_metrics_result"),
)
"""What makes a step and what it returns."""


class FastFit:
    """Swaps a network's compiled steps while it is fitted, and puts the learner's own back."""

    def forget(self, model: Any) -> None:
        """Drop what was compiled for *model*: it was compiled anew."""
        vars(model).pop(KEPT, None)

    @contextlib.contextmanager
    def many_steps(self, model: Any, given: Mapping[str, Any]) -> Iterator[bool]:
        """
        Let ``fit`` or ``evaluate`` run many batches a call while the block runs.

        Args:
            model: The network.
            given: The arguments of the call by name.

        Yields:
            Whether it does; False where it might not be the same.
        """
        if not is_the_same(model, given):
            yield False
            return
        own = model.train_function, model.test_function
        # Kept with the network itself, which they hold: elsewhere they would keep it alive.
        if KEPT not in vars(model):
            vars(model)[KEPT] = _over_rows(model, "train_step"), _over_rows(model, "test_step")
        model.train_function, model.test_function = vars(model)[KEPT]
        model.steps_per_execution = STEPS
        try:
            with _row_numbers():
                yield True
        finally:
            model.train_function, model.test_function = own
            model.steps_per_execution = 1


def _over_rows(model: Any, step: str) -> Callable[[Any], Any]:
    """
    A compiled function that takes what `_row_numbers` gives and runs *step* on each batch.

    It returns what the last step of Keras would.
    """
    tf: Any = sys.modules["tensorflow"]

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def run(iterator: Any) -> Any:
        numbers, arrays, *counted = iterator.get_next()
        width = numbers.shape[1]

        def one(turn: Any) -> Any:
            rows = numbers[turn]
            if counted:  # the last batch may be a short one
                rows = rows[: counted[0] - turn * width]
            batch = tf.nest.map_structure(lambda array: tf.gather(array, rows, axis=0), arrays)
            getattr(model, step)(batch)
            return turn + 1

        turns = tf.shape(numbers)[0]
        tf.while_loop(lambda turn: turn < turns, one, [tf.constant(0)])
        return model.get_metrics_result()

    return tf.function(run, reduce_retracing=True)  # type: ignore[no-any-return]


@contextlib.contextmanager
def _row_numbers() -> Iterator[None]:
    """Let Keras' pipelines of whole arrays give row numbers for many batches and the arrays."""
    adapter = sys.modules[f"{ADAPTERS}.array_data_adapter"].ArrayDataAdapter
    own = adapter.get_tf_dataset
    adapter.get_tf_dataset = lambda self: _rows_of(self, own)
    try:
        yield
    finally:
        adapter.get_tf_dataset = own


def _rows_of(adapter: Any, own: Callable[[Any], Any]) -> Any:
    """
    A dataset of (batches, batch size) row numbers beside the arrays they are of.

    Keras' pipeline is asked for the numbers of the rows instead of the rows, so what it draws and
    when is its own doing. Where the last batch is a short one, how many numbers count comes third.
    """
    tf: Any = sys.modules["tensorflow"]
    count, width = adapter._num_samples, adapter._batch_size
    numbers = copy.copy(adapter)
    numbers._inputs = (np.arange(count, dtype=np.int64),)
    numbers._batch_size = width * STEPS
    numbers._partial_batch_size = count % (width * STEPS)
    slicing = sys.modules[f"{ADAPTERS}.array_slicing"]
    arrays = tuple(slicing.convert_to_sliceable(adapter._inputs, target_backend="tensorflow"))

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def in_batches(numbers: Any, arrays: Any) -> Any:
        (numbers,) = numbers
        if count % width == 0:
            return tf.reshape(numbers, (-1, width)), arrays
        filled = tf.pad(numbers, [[0, -tf.size(numbers) % width]])
        return tf.reshape(filled, (-1, width)), arrays, tf.size(numbers)

    data = tf.data.Dataset
    rows = data.zip((own(numbers), data.from_tensors(arrays).repeat())).map(in_batches)
    options = tf.data.Options()  # as Keras sets them for its own
    options.experimental_optimization.apply_default_optimizations = False
    options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    return rows.with_options(options)


def is_the_same(model: Any, given: Mapping[str, Any]) -> bool:
    """Whether many batches a call are provably the same for this call."""
    keras, tensorflow = sys.modules.get("keras"), sys.modules.get("tensorflow")
    if keras is None or tensorflow is None or keras.backend.backend() != "tensorflow":
        return False
    return (
        given.get("shuffle") in (None, True, False)
        and getattr(model, "steps_per_execution", None) == 1
        and not model.run_eagerly
        and not model.jit_compile
        and not tensorflow.config.functions_run_eagerly()
        and getattr(model, "_distribute_strategy", None) is None
        and f"{ADAPTERS}.array_data_adapter" in sys.modules
        and _has_keras_steps(model)
        and _has_arrays(given)
        and all(given.get(name) is None for name in COUNTS)
        and _has_epoch_callbacks(given.get("callbacks"))
    )


def _has_keras_steps(model: Any) -> bool:
    """Whether the steps are Keras' own, not a subclass's."""
    for name in STEP_METHODS:
        definer = next(kind for kind in type(model).__mro__ if name in vars(kind))
        if not definer.__module__.startswith("keras.src."):
            return False
    return True


def _has_arrays(given: Mapping[str, Any]) -> bool:
    """Whether training and validation data are whole arrays, whose length is known."""
    held_out = given.get("validation_data")
    if held_out is not None and not (isinstance(held_out, (tuple, list)) and len(held_out) >= 2):
        return False
    weights = given.get("sample_weight")
    arrays = [given.get("x"), given.get("y"), *(held_out or ())]
    arrays += [] if weights is None else [weights]
    return all(as_numpy(array) is not None for array in arrays)


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
