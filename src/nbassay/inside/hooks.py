"""
Where the probe listens: thin wrappers around the libraries' public calls.

A wrapper notes what went in and what came out and returns the original's result unchanged. It is
put in place when a library is imported (wrapt's post-import hooks), so that nothing is imported
before the notebook does so, and a failure of ours never becomes the learner's.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import wrapt

from nbassay.inside.answers import Answers
from nbassay.inside.arrays import Reader, as_array_like, as_numpy, number, read_idx
from nbassay.inside.channel import Channel
from nbassay.inside.fastfit import many_steps
from nbassay.inside.models import ModelBook
from nbassay.inside.stand_ins.lab_files import FOLDER as LAB_FOLDER
from nbassay.inside.taps import Tap
from nbassay.records import (
    Array,
    ArrayFact,
    Data,
    EvaluateFact,
    FitFact,
    Number,
    PictureFact,
    RemarkFact,
)

MOST_PICTURES = 200
MOST_LOADS = 100


class Listener:
    """What the wrappers share."""

    def __init__(
        self,
        channel: Channel,
        reader: Reader,
        models: ModelBook,
        cell: Callable[[], int],
        *,
        is_fast: bool,
    ) -> None:
        self._channel = channel
        self._reader = reader
        self._models = models
        self._cell = cell
        self._depth = 0
        self._answers = Answers(channel, reader, models, cell)
        self._remarked: set[tuple[int, str]] = set()
        self._pictures = 0
        self._loads = 0
        self._is_seeding = False
        self._is_fast = is_fast

    def install(
        self, seed: int, attempt: int, loaders: Mapping[str, Sequence[Sequence[str]]]
    ) -> None:
        """
        Listen, and make the run one that can be repeated without a network.

        Args:
            seed: For TensorFlow's generator, until the notebook sets one.
            attempt: Added to every seed that the notebook sets: a repeat is to draw anew.
            loaders: Dotted name of a function that would fetch the lab's data → the data files
                that answer it instead, in groups: one tuple of arrays a group.
        """
        self.seed = seed
        for name, groups in loaders.items():
            module, _, function = name.rpartition(".")
            wrapt.register_post_import_hook(self._answer_loader(function, groups), module)
        wrapt.register_post_import_hook(self._seed_tensorflow, "tensorflow")
        if attempt:
            self._shift_seeds(attempt)
        self.listen(loaders)

    def listen(self, loaders: Iterable[str]) -> None:
        """
        Listen to the libraries as they are imported, and change nothing.

        Args:
            loaders: Dotted names of functions that return the lab's data.
        """
        for name in loaders:
            module, _, function = name.rpartition(".")
            wrapt.register_post_import_hook(self._listen_to_loader(function), module)
        wrapt.register_post_import_hook(self._listen_to_keras, "keras")
        wrapt.register_post_import_hook(self._listen_to_idx2numpy, "idx2numpy")
        wrapt.register_post_import_hook(self._listen_to_matplotlib, "matplotlib.axes")

    def end_of_cell(self) -> None:
        """Send what was gathered over a cell."""
        self._answers.flush()

    @contextlib.contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """Keep an error of the probe out of the learner's cell; a remark tells of it."""
        try:
            yield
        except Exception as error:
            self.remark("probe-error", f"{what}: {type(error).__name__}: {error}")

    def remark(self, topic: Any, text: str) -> None:
        """Tell a person something, once a cell and topic."""
        key = (self._cell(), topic)
        if key not in self._remarked and len(self._remarked) < 100:
            self._remarked.add(key)
            self._channel.fact(RemarkFact(cell=self._cell(), topic=topic, text=text[:4000]))

    # ------------------------------------------------------------ libraries

    def _shift_seeds(self, by: int) -> None:
        """Add *by* to the seeds that the notebook sets."""

        def shifted(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
            if self._is_seeding:  # Keras sets the seeds of others, from one that was shifted
                return wrapped(*args, **kwargs)
            self._is_seeding = True
            try:
                return wrapped(
                    *(value + by if _is_whole(value) else value for value in args),
                    **{
                        name: value + by if _is_whole(value) else value
                        for name, value in kwargs.items()
                    },
                )
            finally:
                self._is_seeding = False

        for module, name in (
            ("random", "seed"),
            ("numpy.random", "seed"),
            ("tensorflow", "random.set_seed"),
            ("keras.utils", "set_random_seed"),
            ("keras._tf_keras.keras.utils", "set_random_seed"),
        ):
            hook = functools.partial(wrapt.wrap_function_wrapper, name=name, wrapper=shifted)
            wrapt.register_post_import_hook(hook, module)

    def _seed_tensorflow(self, module: Any) -> None:
        module.random.set_seed(self.seed)

    def _listen_to_idx2numpy(self, module: Any) -> None:
        for name in ("convert_from_file", "convert_from_string"):
            if hasattr(module, name):
                wrapt.wrap_function_wrapper(module, name, self._loaded)

    def _listen_to_matplotlib(self, module: Any) -> None:
        for name in ("imshow", "pcolormesh", "pcolor"):  # Seaborn's heatmap draws with the second
            wrapt.wrap_function_wrapper(module.Axes, name, self._shown)

    def _listen_to_keras(self, module: Any) -> None:
        model = module.Model
        # Where it is defined: Keras compares a model's compile with its base's when it loads one.
        definer = next(kind for kind in model.__mro__ if "compile" in vars(kind))
        wrapt.wrap_function_wrapper(definer, "compile", self._compile)
        for name, wrapper in (
            ("fit", self._fit),
            ("evaluate", self._evaluate),
            ("predict", self._predict),
            ("predict_on_batch", self._predict),
            ("train_on_batch", self._trained_by_hand),
            ("load_weights", self._weights_loaded),
            ("set_weights", self._weights_loaded),
            ("__call__", self._call),
        ):
            wrapt.wrap_function_wrapper(model, name, wrapper)
        for name in ("apply", "apply_gradients"):
            wrapt.wrap_function_wrapper(module.optimizers.Optimizer, name, self._trained_by_hand)

    # ------------------------------------------------------------ data

    def _loaded(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        returned = wrapped(*args, **kwargs)
        with self.guard("loader"):
            waiting = [returned]
            while waiting and self._loads < MOST_LOADS:
                item = waiting.pop(0)
                if isinstance(item, tuple):
                    waiting += item
                    continue
                array = as_numpy(item)
                if array is not None:
                    self._loads += 1
                    self._channel.fact(
                        ArrayFact(
                            cell=self._cell(), source="loader", array=self._reader.read(array)
                        )
                    )
        return returned

    def _answer_loader(self, function: str, groups: Sequence[Sequence[str]]) -> Any:
        """A hook that makes *function* of a module read *groups* of files, not fetch them."""
        folder = Path(os.environ[LAB_FOLDER])

        def read(_wrapped: Any, _instance: Any, _args: Any, _kwargs: Any) -> Any:
            return tuple(tuple(read_idx(folder / name) for name in group) for group in groups)

        def hook(module: Any) -> None:
            if hasattr(module, function):
                wrapt.wrap_function_wrapper(module, function, read)

        return hook

    def _listen_to_loader(self, function: str) -> Any:
        """A hook that sees what *function* of a module returns."""

        def hook(module: Any) -> None:
            if hasattr(module, function):
                wrapt.wrap_function_wrapper(module, function, self._loaded)

        return hook

    def _shown(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        returned = wrapped(*args, **kwargs)
        name = wrapped.__name__
        with self.guard("picture"):
            # imshow takes the image first; a mesh takes it last, behind its coordinates if any
            image = as_array_like(args[0 if name == "imshow" else -1] if args else kwargs.get("X"))
            if image is not None and self._pictures < MOST_PICTURES:
                self._pictures += 1
                self._channel.fact(PictureFact(cell=self._cell(), array=self._reader.read(image)))
        return returned

    def _array(self, value: Any) -> Array | None:
        array = as_array_like(value)
        return None if array is None or array.ndim == 0 else self._reader.read(array)

    # ------------------------------------------------------------ networks

    def _compile(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        returned = wrapped(*args, **kwargs)
        with self.guard("compile"):
            bound = inspect.signature(wrapped).bind(*args, **kwargs)
            bound.apply_defaults()
            self._models.note_compile(instance, dict(bound.arguments))
            if self._depth == 0:
                self._models.state_of(instance)
        return returned

    def _fit(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        if self._depth:
            return wrapped(*args, **kwargs)
        self._answers.flush()
        signature = inspect.signature(wrapped)
        try:
            given = dict(signature.bind(*args, **kwargs).arguments)
        except TypeError:
            return wrapped(*args, **kwargs)  # the original says what is wrong with the call
        before, tap, split = None, None, 0.0
        history = getattr(instance, "history", None)
        with self.guard("fit"):
            split = float(given.get("validation_split") or 0.0)
            if getattr(instance, "built", False):
                before = self._models.state_of(instance).state
            tap = Tap(self._reader, self._channel, given, split)
        returned, error, is_fast = None, None, False
        self._depth += 1
        try:
            with (
                tap.listening() if tap else contextlib.nullcontext(given) as passed,
                self._many_steps(instance, passed) as is_fast,
            ):
                returned = wrapped(**passed)
        except BaseException as problem:
            error = type(problem).__name__[:200]
            raise
        finally:
            self._depth -= 1
            with self.guard("fit"):
                after = getattr(instance, "history", None)
                self._send_fit(
                    instance,
                    given,
                    before,
                    tap,
                    split,
                    error,
                    after if after is not history else None,
                    is_fast,
                )
        return returned

    def _many_steps(
        self, model: Any, given: dict[str, Any]
    ) -> contextlib.AbstractContextManager[bool]:
        """Many batches a call, where that is the same and was not switched off."""
        return many_steps(model, given) if self._is_fast else contextlib.nullcontext(False)

    def _send_fit(
        self,
        model: Any,
        given: dict[str, Any],
        before: int | None,
        tap: Tap | None,
        split: float,
        error: str | None,
        history: Any,
        is_fast: bool,
    ) -> None:
        assert tap is not None
        data = tap.data()
        if data.x is not None and len(data.x.shape) > 1:
            self._models.note_rows(model, tuple(data.x.shape[1:]))
        validation = tap.held_out()
        held_out = given.get("validation_data")
        if isinstance(held_out, (tuple, list)) and len(held_out) >= 2:
            validation = Data(kind="arrays", x=self._array(held_out[0]), y=self._array(held_out[1]))
        elif held_out is not None:
            validation = Data(kind="other", x=None)
        epochs = list(getattr(history, "epoch", None) or [])
        values = getattr(history, "history", None)
        seen = self._models.state_of(model)
        self._channel.fact(
            FitFact(
                cell=self._cell(),
                model=seen.model,
                before=before,
                state=seen.state,
                data=data,
                validation=validation,
                validation_split=split,
                epochs_asked=max(0, int(given.get("epochs", 1)))
                if _is_whole(given.get("epochs", 1))
                else 0,
                epochs_run=len(epochs),
                batch_size=int(given["batch_size"]) if _is_whole(given.get("batch_size")) else None,
                history=_history(values),
                error=error,
                is_fast=is_fast,
            )
        )

    def _evaluate(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        if self._depth:
            return wrapped(*args, **kwargs)
        self._answers.flush()
        signature = inspect.signature(wrapped)
        try:
            given = dict(signature.bind(*args, **kwargs).arguments)
        except TypeError:
            return wrapped(*args, **kwargs)
        given = {**given.pop("kwargs", {}), **given}
        tap = None
        with self.guard("evaluate"):
            tap = Tap(self._reader, self._channel, given, 0.0)
        self._depth += 1
        try:
            with (
                tap.listening() if tap else contextlib.nullcontext(given) as passed,
                self._many_steps(instance, passed),
            ):
                returned = wrapped(**passed)
        finally:
            self._depth -= 1
        with self.guard("evaluate"):
            assert tap is not None
            seen = self._models.state_of(instance)
            self._channel.fact(
                EvaluateFact(
                    cell=self._cell(),
                    model=seen.model,
                    state=seen.state,
                    data=tap.data(),
                    returned=_returned(instance, returned),
                )
            )
        return returned

    def _predict(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        if self._depth:
            return wrapped(*args, **kwargs)
        try:
            given = dict(inspect.signature(wrapped).bind(*args, **kwargs).arguments)
        except TypeError:
            return wrapped(*args, **kwargs)
        tap = None
        with self.guard("predict"):
            tap = Tap(self._reader, self._channel, given, 0.0)
        self._depth += 1
        try:
            with tap.listening() if tap else contextlib.nullcontext(given) as passed:
                returned = wrapped(**passed)
        finally:
            self._depth -= 1
        with self.guard("predict"):
            assert tap is not None
            via = "predict" if wrapped.__name__ == "predict" else "predict_on_batch"
            self._answers.add(instance, via, given.get("x"), tap, returned)
        return returned

    def _call(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        is_asked = (
            self._depth == 0
            and not self._models.is_watching
            and bool(args)
            and not kwargs.get("training")
            and _is_concrete(args[0])
            and not _is_taped()
        )
        if not is_asked:
            return wrapped(*args, **kwargs)
        self._depth += 1  # a model inside the model is not asked by the learner
        try:
            returned = wrapped(*args, **kwargs)
        finally:
            self._depth -= 1
        with self.guard("call"):
            if _is_concrete(returned):
                self._answers.add(instance, "call", args[0], None, returned)
        return returned

    def _trained_by_hand(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        if self._depth == 0:
            self.remark(
                "hand-training",
                "Weights were changed by a training loop of the notebook's own, not by fit.",
            )
        return wrapped(*args, **kwargs)

    def _weights_loaded(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        if self._depth == 0:
            self.remark(
                "weights-loaded", "Weights were put into a network instead of being trained there."
            )
        return wrapped(*args, **kwargs)


def _is_concrete(value: Any) -> bool:
    return isinstance(value, np.ndarray) or type(value).__name__ == "EagerTensor"


def _is_taped() -> bool:
    """Whether a GradientTape is recording: then the call belongs to a training loop."""
    bridge = sys.modules.get("tensorflow.python.pywrap_tfe")
    is_empty = getattr(bridge, "TFE_Py_TapeSetIsEmpty", None)
    return bool(is_empty is not None and not is_empty())


def _is_whole(value: Any) -> bool:
    is_number = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return bool(is_number and value >= 0)


def _history(values: Any) -> dict[str, list[Number]]:
    if not isinstance(values, dict):
        return {}
    return {
        str(name)[:200]: [number(value) for value in series[:10_000]]
        for name, series in list(values.items())[:50]
        if isinstance(series, list) and all(isinstance(v, (int, float, np.number)) for v in series)
    }


def _metric_names(model: Any) -> list[str]:
    """
    Names of the values that ``evaluate`` returns as a list, in its order.

    That is not always the order of the results: Keras 3.8 sorts those by name. So it is asked of
    what puts the values in order.
    """
    results = {name: name for name in model.get_metrics_result()}
    names = model._flatten_metrics_in_order(results)
    return names if isinstance(names, list) else [names]


def _returned(model: Any, returned: Any) -> dict[str, Number]:
    if isinstance(returned, dict):
        return {str(name)[:200]: number(value) for name, value in list(returned.items())[:50]}
    values = returned if isinstance(returned, (list, tuple)) else [returned]
    names: list[str] = []
    with contextlib.suppress(Exception):
        names = _metric_names(model)
    if len(names) != len(values):
        names = [f"value {position}" for position in range(len(values))]
    return {str(name)[:200]: number(value) for name, value in zip(names, values, strict=True)}
