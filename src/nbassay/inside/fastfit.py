"""
Training as the learner wrote it, in fewer calls.

Keras runs one batch a call of the compiled step, and fetches each through a pipeline that costs
more than a small network's step. Here a call runs 200 batches and takes their rows from the whole
arrays itself, in the order that Keras' own pipeline draws. Each batch goes through the very step
that Keras compiled, so what is traced, and when, is Keras' doing, and a later call that is left
alone finds the same step. The arithmetic and its order stay: weights, optimizer state, history
and what a call returns and prints are bit-identical; `tests/test_fastfit.py` proves it case by
case. Where it could make a difference (code that is not Keras' own, a callback that looks at
batches, streams whose length is not known) nothing is changed.

Not the same are: the states of a progress bar that pass by, of which fewer are printed, as on a
fast computer, and the time a step that it tells, which leaves out the first call; the text of an
error inside a step, which names the compiled function; and how many batches an interrupted call
had done. Not looked at are functions put into Keras' own modules.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from nbassay.inside.arrays import as_numpy


class Steps(int):
    """Batches a call, told from a number that a learner chose."""


STEPS = Steps(200)
"""
A notebook of the lab took 9.8 processor seconds with 50, 7.9 with 200. More gains nothing, and an
interrupt is heard between calls.
"""

OURS = "_nbassay_many_steps"
"""Attribute of a function that Keras compiled which keeps ours: they live equally long."""

FUNCTIONS = ("train_function", "test_function")
"""Attributes of a network that Keras calls with an iterator, a step each."""

OF_ITERATOR = ("distribute_strategy", "steps_per_execution")
"""What an iterator of Keras' is told beside the data: how they are called for."""

TRAINER = "keras.src.backend.tensorflow.trainer"
ADAPTERS = "keras.src.trainers.data_adapters"

EPOCH_LEVEL = {
    "CSVLogger",
    "EarlyStopping",
    "History",
    "ModelCheckpoint",
    "ProgbarLogger",
    "ReduceLROnPlateau",
}
"""Keras' own callbacks that look at whole epochs only and call nothing of the learner's."""

END_EARLY = ("steps", "steps_per_epoch", "validation_steps")
"""Arguments that end a call before its data end."""

OPERATIONS = {
    "elu",
    "gelu",
    "leaky_relu",
    "log_softmax",
    "log_softmax_v2",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "softmax",
    "softmax_v2",
    "softplus",
    "softsign",
    "swish",
    "tanh",
}
"""TensorFlow's own activations: functions of what they are given, and of nothing else."""

CALLED = ("__func__", "fget", "fset", "func", "python_function")
"""Attributes of methods, properties, partial and compiled functions: what they call."""

LIBRARIES = {"keras", "nbassay", "tensorflow", *sys.stdlib_module_names}
"""Whose code Keras' classes are made of; nbassay's looks at calls and changes none."""


@contextlib.contextmanager
def many_steps(model: Any, given: Mapping[str, Any]) -> Iterator[bool]:
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
    _take_marked_iterators()
    own, own_steps = {name: getattr(model, name) for name in FUNCTIONS}, model.steps_per_execution
    for name in FUNCTIONS:
        setattr(model, name, _stand_in(model, name, own))
    model.steps_per_execution = STEPS
    try:
        yield True
    finally:
        model.steps_per_execution = own_steps
        for name in FUNCTIONS:
            setattr(model, name, own[name])


def _stand_in(model: Any, name: str, own: dict[str, Any]) -> Callable[[Any], Any]:
    """What Keras calls instead of ``own[name]``, which it makes if Keras would now."""

    def function(iterator: Any) -> Any:
        if own[name] is None:
            getattr(model, f"make_{name}")(force=True)
            own[name] = getattr(model, name)
            setattr(model, name, function)
        if OURS not in vars(own[name]):
            step = inspect.getclosurevars(own[name]).nonlocals["one_step_on_data"]
            vars(own[name])[OURS] = _over_rows(step)
        return vars(own[name])[OURS](iterator)

    return function


def _over_rows(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """
    A compiled function that takes what `_rows_of` gives and runs *step* on each batch.

    A batch has the shapes that Keras knows of one when it traces *step*: a whole number of rows
    where all batches are whole ones. It returns what the last step does.
    """
    tf: Any = sys.modules["tensorflow"]

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def run(iterator: Any) -> Any:
        numbers, arrays, *counted = iterator.get_next()
        width = tf.shape(numbers)[1]

        def one(turn: Any) -> Any:
            rows = numbers[turn]
            if counted:  # the last batch may be a short one
                rows = rows[: counted[0] - turn * width]
            return step(tf.nest.map_structure(lambda array: tf.gather(array, rows), arrays))

        _, last = tf.while_loop(
            lambda turn, _: turn < tf.shape(numbers)[0],
            lambda turn, _: (turn + 1, one(turn)),
            (tf.constant(1), one(tf.constant(0))),
        )
        return last

    function: Any = tf.function(run, reduce_retracing=True)
    # TensorFlow warns where many functions of one source are called a few times each. Keras' own
    # are called once a batch.
    function._omit_frequent_tracing_warning = True
    return function  # type: ignore[no-any-return]


@functools.cache
def _take_marked_iterators() -> None:
    """
    Let Keras' iterators of a call that is marked by `STEPS` go over rows; others stay theirs.

    It stays for good: put back after a call, it would be missing in one of another thread.
    """
    kind = sys.modules[TRAINER].TFEpochIterator
    own_init, own_calls = kind.__init__, kind._enumerate_iterator

    @functools.wraps(own_init)
    def init(self: Any, *args: Any, **given: Any) -> None:
        if isinstance(given.get("steps_per_execution"), Steps):
            call = {name: given.pop(name) for name in OF_ITERATOR}
            adapter = sys.modules[ADAPTERS].get_data_adapter(**given)
            over_rows = copy.copy(adapter)
            over_rows.get_tf_dataset = functools.partial(_rows_of, adapter)
            own_init(self, x=over_rows, **call)
        else:
            own_init(self, *args, **given)

    @functools.wraps(own_calls)
    def calls(self: Any) -> Iterator[tuple[Any, ...]]:
        if not isinstance(self.steps_per_execution, Steps):
            yield from own_calls(self)
            return
        for begin, *end, steps in own_calls(self):  # older versions of Keras give no end
            # The last call may have fewer batches left, which a progress bar is to show.
            yield begin, *(min(step, self.num_batches - 1) for step in end), steps

    kind.__init__, kind._enumerate_iterator = init, calls


def _rows_of(adapter: Any) -> Any:
    """
    A dataset of (batches, batch size) row numbers beside the arrays they are of.

    Keras' pipeline is asked for the numbers of the rows instead of the rows, so what it draws and
    when is its own doing. Where the last batch is a short one, how many numbers count comes third.
    """
    tf: Any = sys.modules["tensorflow"]
    count = adapter._num_samples
    width = min(adapter._batch_size, count)
    numbers = copy.copy(adapter)
    numbers._inputs = (np.arange(count, dtype=np.int64),)
    numbers._batch_size = width * STEPS
    numbers._partial_batch_size = count % (width * STEPS)
    slicing = sys.modules[f"{ADAPTERS}.array_slicing"]
    arrays = tuple(slicing.convert_to_sliceable(adapter._inputs, target_backend="tensorflow"))

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def in_batches(numbers: Any, arrays: Any) -> Any:
        (numbers,) = numbers
        if not adapter.has_partial_batch:
            return tf.reshape(numbers, (-1, width)), arrays
        filled = tf.pad(numbers, [[0, -tf.size(numbers) % width]])
        return tf.reshape(filled, (-1, width)), arrays, tf.size(numbers)

    data = tf.data.Dataset
    drawn = type(adapter).get_tf_dataset(numbers)
    rows = data.zip((drawn, data.from_tensors(arrays).repeat())).map(in_batches)
    options = tf.data.Options()  # as Keras sets them for its own
    options.experimental_optimization.apply_default_optimizations = False
    options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    return rows.with_options(options)


def is_the_same(model: Any, given: Mapping[str, Any]) -> bool:
    """Whether many batches a call are provably the same for this call."""
    try:
        return _is_the_same(model, given)
    except Exception:  # a learner's object, or a Keras of another kind
        return False


def _is_the_same(model: Any, given: Mapping[str, Any]) -> bool:
    keras, tensorflow = sys.modules.get("keras"), sys.modules.get("tensorflow")
    if keras is None or tensorflow is None or keras.backend.backend() != "tensorflow":
        return False
    return (
        isinstance(given.get("shuffle"), (bool, types.NoneType))
        and getattr(model, "compiled", False)
        and getattr(model, "steps_per_execution", None) == 1
        and not model.run_eagerly
        and not model.jit_compile
        and not tensorflow.config.functions_run_eagerly()
        and getattr(model, "_distribute_strategy", None) is None
        and not tensorflow.distribute.has_strategy()
        and keras.distribution.distribution() is None
        and getattr(keras.config, "max_steps_per_epoch", lambda: None)() is None
        and _has_keras_functions(model)
        and _has_keras_iterators()
        and _has_arrays(given)
        and all(given.get(name) is None for name in END_EARLY)
        and _has_epoch_callbacks(given.get("callbacks"))
        and _is_of_keras([model, given.get("callbacks")])
    )


def _has_keras_functions(model: Any) -> bool:
    """Whether what Keras calls is what it made itself, or not made yet, and has the step in it."""
    trainer = sys.modules.get(TRAINER)
    make = getattr(getattr(trainer, "TensorFlowTrainer", None), "_make_function", None)
    codes = [
        code
        for code in (make.__code__.co_consts if make else ())
        if isinstance(code, types.CodeType) and "one_step_on_data" in code.co_freevars
    ]
    functions = [getattr(model, name) for name in FUNCTIONS]
    return bool(codes) and all(
        function is None or getattr(function, "__code__", None) in codes for function in functions
    )


def _has_keras_iterators() -> bool:
    """Whether Keras' iterators are made of what `_take_marked_iterators` takes."""
    return hasattr(sys.modules[TRAINER].TFEpochIterator, "_enumerate_iterator") and hasattr(
        sys.modules[ADAPTERS], "get_data_adapter"
    )


def _is_of_keras(held: Any) -> bool:
    """
    Whether all that is held is Keras' own or plain data, and all code in it is Keras'.

    Code of the learner's may draw random numbers from a state that a compiled function keeps to
    itself, or train and ask networks in the middle of a call.
    """
    seen: set[int] = set()
    kinds: set[type] = set()
    waiting = [held]
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, (list, tuple, set, frozenset)):
            waiting += item
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, types.MethodType):
            waiting += [item.__self__, item.__func__]
        elif _is_kind_of_keras(type(item)):
            kinds.update(type(item).__mro__)
            waiting += getattr(item, "__dict__", {}).values()
        elif any(map(_is_kind_of_keras, type(item).__mro__)) or (
            callable(item) and not _is_plain(item)
        ):
            return False
    return all(map(_is_as_it_came, kinds))


def _is_kind_of_keras(kind: type) -> bool:
    return kind.__module__.startswith("keras.src.")


def _is_as_it_came(kind: type) -> bool:
    """Whether the methods of a class are code of the libraries: a notebook may have put in its."""
    return all(map(_is_of_libraries, vars(kind).values()))


def _is_of_libraries(held: Any) -> bool:
    """Whether *held* is code of the libraries, all that it calls too, or no code at all."""
    if isinstance(held, types.FunctionType):
        return _home(held).partition(".")[0] in LIBRARIES
    if isinstance(held, type) or not (callable(held) or hasattr(held, "__get__")):
        return True
    parts = [getattr(held, name, None) for name in CALLED]
    return type(held).__module__.partition(".")[0] in LIBRARIES and all(
        map(_is_of_libraries, parts)
    )


def _home(function: types.FunctionType) -> str:
    """The module that a function's code was written in, whatever it says of itself."""
    return str(function.__globals__.get("__name__", ""))


def _is_plain(called: Any) -> bool:
    """Whether it is a function or class of Keras', or an activation of TensorFlow's."""
    home = getattr(called, "__module__", None) or ""
    if isinstance(called, types.FunctionType):
        if home.startswith("tensorflow.python.ops."):
            return called.__name__ in OPERATIONS and _home(called).startswith("tensorflow.")
        if not _home(called).startswith("keras.src."):
            return False
    if home.startswith("keras.src.legacy."):  # random operations of TensorFlow's are among them
        return False
    return home.startswith("keras.src.") or isinstance(called, np.ufunc)


def _has_arrays(given: Mapping[str, Any]) -> bool:
    """Whether training and validation data are whole arrays with rows in them."""
    held_out = given.get("validation_data")
    if held_out is not None and not (isinstance(held_out, (tuple, list)) and len(held_out) >= 2):
        return False
    weights = given.get("sample_weight")
    arrays = [given.get("x"), given.get("y"), *(held_out or ())]
    arrays += [] if weights is None else [weights]
    return all(array is not None and array.size for array in map(as_numpy, arrays))


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
