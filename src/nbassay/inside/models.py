"""
Facts of Keras networks: what they compute, found by watching them compute.

A network is followed by one eager pass over a small fixed sample, noting what each layer was
given and what it returned. So a Sequential, a functional or a subclassed model, an activation as
argument, as layer or as a bare function all give the same chain of steps. What is no chain is drawn
as a graph (`nbassay.inside.graphs`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbassay.inside.activations import recognise_activation, static_activation
from nbassay.inside.arrays import number
from nbassay.inside.channel import Channel
from nbassay.inside.graphs import draw
from nbassay.inside.watching import Call, NotFollowed, watch
from nbassay.network import MOST_WEIGHT_BYTES, Weights, run_steps
from nbassay.records import Compiled, Layer, ModelFact, Step

MOST_STATES = 200
SUM_ERROR = 1e-6
"""Of the size of its terms: what float32 sums in another order differ by, at most."""

KNOWN_LOSSES = {
    "SparseCategoricalCrossentropy": "sparse_categorical_crossentropy",
    "CategoricalCrossentropy": "categorical_crossentropy",
    "BinaryCrossentropy": "binary_crossentropy",
    "MeanSquaredError": "mean_squared_error",
    "MeanAbsoluteError": "mean_absolute_error",
}


@dataclasses.dataclass(frozen=True)
class Seen:
    """A network's number and the number of its present state."""

    model: int
    state: int | None


class ModelBook:
    """Numbers networks and their states, and sends a fact for each new state."""

    def __init__(self, channel: Channel, cell: Callable[[], int]) -> None:
        self._channel = channel
        self._cell = cell
        self._by_variable: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._by_object: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._states: dict[tuple[Any, ...], int] = {}
        self._compiled: dict[int, tuple[weakref.ref[Any], dict[str, Any]]] = {}
        self._trained_before: set[int] = set()
        """Numbers of networks whose training was not seen from its start."""
        self._row_shapes: dict[int, tuple[int, ...]] = {}
        self._next_model = 0
        self.is_watching = False

    # ------------------------------------------------------------ identity

    def number_of(self, model: Any) -> int:
        """The number of *model*: shared by all models that share its variables."""
        variables = list(getattr(model, "weights", []) or [])
        found = {
            entry[1]
            for entry in (self._by_variable.get(id(variable)) for variable in variables)
            if entry is not None and entry[0]() is not None
        }
        if found:
            serial = min(found)
        else:
            known = self._by_object.get(id(model))
            if known is not None and known[0]() is model:
                serial = known[1]
            else:
                serial = self._next_model
                self._next_model += 1
        self._by_object[id(model)] = (weakref.ref(model), serial)
        for variable in variables:
            known_variable = self._by_variable.get(id(variable))
            if known_variable is None or known_variable[0]() is not variable:
                self._by_variable[id(variable)] = (weakref.ref(variable), serial)
        return serial

    def note_compile(self, model: Any, arguments: dict[str, Any]) -> None:
        """Remember what ``compile`` was told."""
        self._compiled[id(model)] = (weakref.ref(model), arguments)

    def note_trained(self, model: Any) -> None:
        """Remember that *model* was trained before anybody watched."""
        self._trained_before.add(self.number_of(model))

    def was_trained_before(self, model: Any) -> bool:
        """Whether that is remembered of *model*, or of one that shares its variables."""
        return self.number_of(model) in self._trained_before

    def note_rows(self, model: Any, shape: tuple[int, ...]) -> None:
        """Remember the shape of one row that *model* was given: its input, if it names none."""
        self._row_shapes[self.number_of(model)] = shape

    # ------------------------------------------------------------ states

    def state_of(self, model: Any) -> Seen:
        """Take the present state of *model*; a fact is sent if it is a new one."""
        serial = self.number_of(model)
        weights = _weights(model)
        digest = _digest(weights)
        compiled = self._compiled_of(model)
        leaves = _leaves(model)
        row_shape = _row_shape(model) or self._row_shapes.get(serial)
        key = (serial, digest, repr(compiled), len(leaves), row_shape)
        if key in self._states:
            return Seen(serial, self._states[key])
        if len(self._states) >= MOST_STATES:
            return Seen(serial, None)
        state = self._states[key] = len(self._states)
        steps, graph, gap, why_not = None, None, None, None
        effective = [_layer(layer) for layer in leaves]
        if not weights:
            why_not = "the network was not built: it never saw data and names no input shape"
        elif sum(weight.nbytes for weight in weights) > MOST_WEIGHT_BYTES:
            why_not = "the network is too large to be measured here"
        elif row_shape is None:
            why_not = "the shape of the network's input is not known"
        else:
            try:
                self.is_watching = True
                sample, calls, answer = watch(model, row_shape)
                try:
                    steps, gap, effective = self._follow(sample, calls, answer)
                except NotFollowed as error:
                    why_not = str(error)
                    graph = draw(sample, calls, answer, self._channel.blob)
            except NotFollowed as error:
                why_not = str(error)
            except Exception as error:
                why_not = f"the network could not be followed: {type(error).__name__}"
            finally:
                self.is_watching = False
        self._channel.fact(
            ModelFact(
                cell=self._cell(),
                model=serial,
                state=state,
                kind=_name(type(model)),
                name=str(getattr(model, "name", ""))[:200] or None,
                layers=effective[:400],
                steps=steps,
                why_not=why_not,
                graph=graph,
                gap=gap,
                compiled=compiled,
                weights=digest,
                was_trained_before=serial in self._trained_before,
            )
        )
        return Seen(serial, state)

    def _compiled_of(self, model: Any) -> Compiled | None:
        known = self._compiled.get(id(model))
        is_known = known is not None and known[0]() is model
        arguments = known[1] if known is not None and is_known else _kept_arguments(model)
        if arguments is None:
            return None
        optimizer = getattr(model, "optimizer", None)
        loss, from_logits = _loss(arguments.get("loss"))
        return Compiled(
            optimizer=_name(type(optimizer)) if optimizer is not None else "none",
            learning_rate=_learning_rate(optimizer),
            loss=loss,
            from_logits=from_logits,
            metrics=_metrics(arguments)[:50],
        )

    # ------------------------------------------------------------ following

    def _follow(
        self, sample: np.ndarray, calls: Sequence[Call], answer: np.ndarray
    ) -> tuple[list[Step], float, list[Layer]]:
        steps: list[Step] = []
        layers: list[Layer] = []
        weights: Weights = {}
        current = sample
        for call in calls:
            layer, given, returned = call.layer, call.only(), np.asarray(call.returned)
            steps += self._bridge(current, given, before=layer.name)
            own = self._steps_of(layer, given, returned, weights)
            steps += own
            activation = next((step.activation for step in own if step.op == "activation"), None)
            layers.append(_layer(layer, given, returned, activation))
            current = returned
        steps += self._bridge(current, answer, before="the output")
        replayed = run_steps(steps, weights, sample)
        if replayed.shape != answer.shape:
            raise NotFollowed("the chain of layers has another output than the network")
        gap = float(np.abs(replayed - answer).max())
        return steps, gap, layers

    def _steps_of(
        self, layer: Any, given: np.ndarray, returned: np.ndarray, weights: Weights
    ) -> list[Step]:
        name = str(layer.name)[:200]
        if type(layer).__name__ == "Dense" and given.ndim == 2:
            kernel = np.asarray(layer.kernel, np.float32)
            before = given @ kernel
            blur = SUM_ERROR * (np.abs(given) @ np.abs(kernel))
            kernel_ref = self._channel.blob(kernel)
            weights[kernel_ref] = kernel
            bias_ref = None
            if getattr(layer, "use_bias", False):
                bias = np.asarray(layer.bias, np.float32)
                before = before + bias
                bias_ref = self._channel.blob(bias)
                weights[bias_ref] = bias
            dense = Step(op="dense", layer=name, kernel=kernel_ref, bias=bias_ref)
            told = getattr(layer, "activation", None)
            activation = recognise_activation(before, returned, told, blur)
            if activation is None:
                raise NotFollowed(f"layer {name} has an activation that is not known")
            return [dense, Step(op="activation", layer=name, activation=activation)]
        if type(layer).__name__ == "Normalization" and given.shape == returned.shape:
            mean = np.broadcast_to(np.asarray(layer.mean, np.float32), given.shape[-1:]).copy()
            deviation = np.sqrt(np.asarray(layer.variance, np.float32))
            deviation = np.broadcast_to(deviation, given.shape[-1:]).copy()
            mean_ref, deviation_ref = self._channel.blob(mean), self._channel.blob(deviation)
            weights[mean_ref], weights[deviation_ref] = mean, deviation
            return [Step(op="normalize", layer=name, mean=mean_ref, deviation=deviation_ref)]
        if list(getattr(layer, "weights", [])):
            raise NotFollowed(f"layer {name} is a {type(layer).__name__}")
        return self._bridge(given, returned, before=name) or [Step(op="identity", layer=name)]

    def _bridge(self, left: np.ndarray, right: np.ndarray, *, before: str) -> list[Step]:
        """Steps without weights that lead from *left* to *right*."""
        if left.shape != right.shape:
            if (
                len(left) == len(right)
                and left.size == right.size
                and right.ndim == 2
                and np.array_equal(left.reshape(right.shape), right)
            ):
                return [Step(op="flatten")]
            raise NotFollowed(f"what reaches {before} does not come from the layer before alone")
        if np.array_equal(left, right):
            return []
        activation = recognise_activation(left, right, None)
        if activation is not None:
            return [Step(op="activation", activation=activation)]
        spread = float(left.max() - left.min())
        if spread > 0:
            first = np.unravel_index(left.argmin(), left.shape)
            last = np.unravel_index(left.argmax(), left.shape)
            scale = (float(right[last]) - float(right[first])) / spread
            offset = float(right[first]) - scale * float(left[first])
            if np.allclose(left * scale, right, rtol=1e-5, atol=1e-7):
                offset = 0.0  # what is left of it is rounding
            if np.allclose(left * scale + offset, right, rtol=1e-5, atol=1e-5):
                return [Step(op="rescale", scale=scale, offset=offset)]
        raise NotFollowed(f"what reaches {before} is changed in a way that is not known")


def _kept_arguments(model: Any) -> dict[str, Any] | None:
    """What a network that was compiled before anybody listened kept of it; else None."""
    kept = getattr(getattr(model, "_compile_config", None), "config", None)
    return kept if getattr(model, "compiled", False) and isinstance(kept, dict) else None


def _leaves(model: Any) -> list[Any]:
    return [
        layer
        for layer in model._flatten_layers(include_self=False)
        if type(layer).__name__ != "InputLayer"
        and not list(layer._flatten_layers(include_self=False))
    ][:400]


def _layer(
    layer: Any,
    given: np.ndarray | None = None,
    returned: np.ndarray | None = None,
    activation: str | None = None,
) -> Layer:
    units = getattr(layer, "units", None)
    kernel = getattr(layer, "_kernel", None)
    width = kernel.shape[0] if kernel is not None and len(kernel.shape) == 2 else None
    count = sum(int(np.prod(weight.shape)) for weight in layer.weights) if layer.built else 0
    return Layer(
        name=str(layer.name)[:200],
        kind=_name(type(layer)),
        units=units if type(units) is int and units >= 0 else None,
        activation=activation or static_activation(getattr(layer, "activation", None)),
        input_shape=list(given.shape[1:]) if given is not None else [width] if width else None,
        output_shape=list(returned.shape[1:]) if returned is not None else None,
        parameters=count,
    )


def _row_shape(model: Any) -> tuple[int, ...] | None:
    try:
        shape = model.input_shape
    except Exception:
        return None
    if isinstance(shape, tuple) and len(shape) > 1 and all(type(n) is int for n in shape[1:]):
        return tuple(shape[1:])
    return None


def _weights(model: Any) -> list[np.ndarray]:
    if not getattr(model, "built", False):
        return []
    return [np.asarray(variable) for variable in model.weights]


def _digest(weights: list[np.ndarray]) -> str | None:
    if not weights:
        return None
    hasher = hashlib.sha256()
    for weight in weights:
        hasher.update(repr((weight.shape, weight.dtype.str)).encode())
        hasher.update(np.ascontiguousarray(weight).tobytes())
    return hasher.hexdigest()


def _name(kind: type) -> str:
    return str(kind.__name__)[:200]


def _learning_rate(optimizer: Any) -> Any:
    try:
        return number(np.asarray(optimizer.learning_rate))
    except Exception:
        return None


def _loss(loss: Any) -> tuple[str, bool]:
    """Canonical name of a loss, and whether it takes logits."""
    if isinstance(loss, (list, tuple)) and len(loss) == 1:
        loss = loss[0]
    if loss is None:
        return "none", False
    keras = sys.modules["keras"]
    try:
        resolved = keras.losses.get(loss)
    except Exception:
        return "other", False
    kind = type(resolved).__name__ if isinstance(resolved, keras.losses.Loss) else None
    from_logits = False
    if kind is not None:
        with contextlib.suppress(Exception):
            from_logits = bool(resolved.get_config().get("from_logits", False))
        return KNOWN_LOSSES.get(kind, "other"), from_logits
    told = getattr(resolved, "__name__", "other")
    return (told if told in KNOWN_LOSSES.values() else "other"), False


def _metrics(arguments: dict[str, Any]) -> list[str]:
    """Canonical names of metrics: strings, functions, classes and objects alike."""
    flat: list[Any] = []
    waiting = [arguments.get("metrics"), arguments.get("weighted_metrics")]
    while waiting:
        metric = waiting.pop(0)
        if metric is None:
            continue
        if isinstance(metric, dict):
            waiting += list(metric.values())
        elif isinstance(metric, (list, tuple)):
            waiting += list(metric)
        else:
            flat.append(metric)
    names = []
    for metric in flat:
        if isinstance(metric, str):
            name = metric
        elif isinstance(metric, type):
            name = metric.__name__
        else:
            name = type(metric).__name__
            if name == "function":
                name = getattr(metric, "__name__", "other")
        snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
        names.append({"acc": "accuracy"}.get(snake, snake)[:200])
    return names
