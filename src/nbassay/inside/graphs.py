"""
Networks that are no chain, drawn as graphs of operations that we can build again.

Where a layer's input comes from is told by the tensors themselves, which are the same objects, or
hold the same values, as what an earlier layer returned. So a skip connection is found in a
functional and in a subclassed model alike. Layers are known by their exact class, never by name:
what a class of the learner's own does is recognised by its effect, or not at all.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from nbassay.inside.activations import recognise_activation, static_activation
from nbassay.inside.watching import Call, NotFollowed
from nbassay.records import Graph, Node

MOST_NODES = 400
NEAR = 32
"""Nodes back that an operation between layers is looked for."""

_Parts = list[dict[str, Any]]
"""Fields of the nodes that one layer becomes, in order; weights as arrays."""


def draw(
    sample: np.ndarray,
    calls: Sequence[Call],
    answer: np.ndarray,
    send: Callable[[np.ndarray], str],
) -> Graph:
    """
    The graph of a network that was watched.

    Args:
        sample: Rows that it was given, (8, …).
        calls: What its layers did with them.
        answer: What it returned, (8, outputs).
        send: Takes a float32 array and returns the name to call it by.

    Raises:
        NotFollowed: It does something that is not rebuilt; nothing was sent.
    """
    if answer.ndim != 2:
        raise NotFollowed(f"its output has {answer.ndim} axes")
    drawing = _Drawing(sample)
    for call in calls:
        drawing.add(call)
    drawing.end(answer)
    nodes = [
        msgspec.convert(
            {
                name: send(value) if isinstance(value, np.ndarray) else value
                for name, value in fields.items()
            },
            Node,
        )
        for fields in drawing.nodes
    ]
    return Graph(nodes=nodes, answer=send(answer.astype(np.float32)))


@dataclasses.dataclass(frozen=True)
class _Seen:
    """An array, and the node that it comes out of."""

    tensor: Any
    value: np.ndarray
    position: int


class _Drawing:
    """Nodes so far, and what was seen to come out of them."""

    def __init__(self, sample: np.ndarray) -> None:
        self.nodes: _Parts = [{"kind": "Input", "shape": list(sample.shape[1:])}]
        self._seen = [_Seen(sample, sample, 0)]

    def add(self, call: Call) -> None:
        """Draw what one layer did."""
        layer = call.layer
        name = str(layer.name)[:200]
        if isinstance(call.returned, (list, tuple, dict)):
            raise NotFollowed(f"layer {name} is a {type(layer).__name__}, which is not rebuilt")
        returned = np.asarray(call.returned)
        parts = _parts_of(layer, returned)
        if parts is None and list(layer.weights):
            raise NotFollowed(f"layer {name} is a {type(layer).__name__}, which is not rebuilt")
        sources = [self._find(tensor, np.asarray(tensor), before=name) for tensor in call.given]
        if parts is None:
            if len(sources) != 1:
                raise NotFollowed(f"layer {name} is a {type(layer).__name__}, which is not rebuilt")
            given = np.asarray(call.given[0])
            parts = _between(given, returned)
            if parts is None:
                raise NotFollowed(
                    f"layer {name} is a {type(layer).__name__} and changes its input in a way "
                    "that is not known"
                )
        position = self._append(parts, sources, name)
        self._seen.append(_Seen(call.returned, returned, position))

    def end(self, answer: np.ndarray) -> None:
        """Make the node that gives *answer* the last."""
        last = self._find(None, answer, before="the output")
        del self.nodes[last + 1 :]
        if not last:
            raise NotFollowed("its output is its input")

    def _append(self, parts: _Parts, sources: Sequence[int], layer: str | None) -> int:
        """Position of the last of *parts*, the first of which takes *sources*."""
        if not parts:
            return sources[0]
        for fields in parts:
            self.nodes.append({**fields, "layer": layer, "inputs": list(sources)})
            sources = [len(self.nodes) - 1]
        if len(self.nodes) > MOST_NODES:
            raise NotFollowed(f"it has more than {MOST_NODES} operations")
        return sources[0]

    def _find(self, tensor: Any, value: np.ndarray, *, before: str) -> int:
        """Position of the node that *tensor* comes from; drawn now if it was no layer's work."""
        for seen in reversed(self._seen):
            if seen.tensor is tensor:
                return seen.position
        for seen in reversed(self._seen):
            if seen.value.shape == value.shape and np.array_equal(seen.value, value):
                return seen.position
        near = self._seen[-NEAR:]
        for parts, sources in _made_of(near, value):
            position = self._append(parts, sources, None)
            self._seen.append(_Seen(tensor, value, position))
            return position
        raise NotFollowed(f"what reaches {before} is made of the layers before in an unknown way")


def _made_of(seen: Sequence[_Seen], value: np.ndarray) -> Iterator[tuple[_Parts, list[int]]]:
    """Ways in which *value* comes from one or two of the arrays seen, nearest first."""
    for one in reversed(seen):
        parts = _between(one.value, value)
        if parts is not None:
            yield parts, [one.position]
    alike = [one for one in seen if one.value.shape == value.shape]
    for left, right in itertools.combinations_with_replacement(alike, 2):
        together, sources = left.value + right.value, [left.position, right.position]
        if np.array_equal(together, value):
            yield [{"kind": "Add"}], sources
        elif np.array_equal(np.maximum(together, 0), value):
            yield [{"kind": "Add"}, {"kind": "Activation", "activation": "relu"}], sources


def _between(left: np.ndarray, right: np.ndarray) -> _Parts | None:
    """What without weights leads from *left* to *right*; None when it is nothing known."""
    if left.shape != right.shape:
        if left.size != right.size or len(left) != len(right) or right.ndim < 2:
            return None
        then = _between(left.reshape(right.shape), right)
        return None if then is None else [_reshape(right), *then]
    if np.array_equal(left, right):
        return []
    activation = recognise_activation(left, right, None)
    if activation is not None:
        return [{"kind": "Activation", "activation": activation}]
    spread = float(left.max()) - float(left.min())
    if not np.isfinite(spread) or spread <= 0:
        return None
    scale = float(right.flat[left.argmax()] - right.flat[left.argmin()]) / spread
    offset = float(right.flat[left.argmin()]) - scale * float(left.min())
    if np.allclose(left * scale, right, rtol=1e-5, atol=1e-7):
        offset = 0.0  # what is left of it is rounding
    if np.allclose(left * scale + offset, right, rtol=1e-5, atol=1e-5):
        return [{"kind": "Rescaling", "scale": scale, "offset": offset}]
    return None


def _reshape(to: np.ndarray) -> dict[str, Any]:
    return {"kind": "Reshape", "shape": list(to.shape[1:])}


def _parts_of(layer: Any, returned: np.ndarray) -> _Parts | None:
    """What a layer of Keras' own becomes; None when it is another."""
    layers = sys.modules["keras"].layers
    kind = type(layer)
    name = kind.__name__
    if kind is not getattr(layers, name, None):
        return None
    if getattr(layer, "data_format", None) not in (None, "channels_last"):
        return None
    if name == "Dense":
        return [{"kind": name, **_kernel_of(layer)}, *_activation_of(layer)]
    if name in ("Conv2D", "DepthwiseConv2D"):
        window = {
            "strides": _pair(layer.strides),
            "dilation": _pair(layer.dilation_rate),
            "padding": layer.padding,
        }
        return [{"kind": name, **window, **_kernel_of(layer)}, *_activation_of(layer)]
    if name in ("MaxPooling2D", "AveragePooling2D"):
        window = {
            "size": _pair(layer.pool_size),
            "strides": _pair(layer.strides),
            "padding": layer.padding,
        }
        return [{"kind": name, **window}]
    if name in ("GlobalMaxPooling2D", "GlobalAveragePooling2D"):
        return [{"kind": name}, *([_reshape(returned)] if layer.keepdims else [])]
    if name == "ZeroPadding2D":
        return [{"kind": name, "margins": [int(n) for side in layer.padding for n in side]}]
    if name == "Add":
        return [{"kind": name}]
    if name == "Concatenate":
        return [{"kind": name, "axis": int(layer.axis) % returned.ndim}]
    if name == "Activation":
        return _activation_of(layer)
    if name == "Rescaling" and all(type(n) in (int, float) for n in (layer.scale, layer.offset)):
        return [{"kind": name, "scale": float(layer.scale), "offset": float(layer.offset)}]
    return _normalization_of(layer, name, returned) or _rectifier_of(layer, name)


def _normalization_of(layer: Any, name: str, returned: np.ndarray) -> _Parts | None:
    width = returned.shape[-1:]
    if name == "Normalization":
        mean, variance = _weight(layer.mean), _weight(layer.variance)
        if mean.size not in (1, *width):
            return None
        return [
            {
                "kind": name,
                "mean": np.broadcast_to(mean.reshape(-1), width).copy(),
                "variance": np.broadcast_to(variance.reshape(-1), width).copy(),
            }
        ]
    if name not in ("BatchNormalization", "LayerNormalization"):
        return None
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    if [axis % returned.ndim for axis in axes] != [returned.ndim - 1]:
        return None
    fields = {"kind": name, "epsilon": float(layer.epsilon)}
    if layer.gamma is not None:
        fields["gamma"] = _weight(layer.gamma)
    if layer.beta is not None:
        fields["beta"] = _weight(layer.beta)
    if name == "BatchNormalization":
        fields["mean"] = _weight(layer.moving_mean)
        fields["variance"] = _weight(layer.moving_variance)
    return [fields]


def _rectifier_of(layer: Any, name: str) -> _Parts | None:
    """ReLU, LeakyReLU and Softmax layers: their values alone may not tell what they are."""
    if name == "LeakyReLU":
        return [{"kind": name, "slope": float(layer.negative_slope)}]
    if name == "ReLU" and not layer.threshold:
        if not layer.max_value:
            slope = float(layer.negative_slope)
            return [
                {"kind": "LeakyReLU", "slope": slope}
                if slope
                else {"kind": "Activation", "activation": "relu"}
            ]
        if layer.max_value == 6 and not layer.negative_slope:
            return [{"kind": "Activation", "activation": "relu6"}]
    if name == "Softmax" and layer.axis == -1:
        return [{"kind": "Activation", "activation": "softmax"}]
    return None


def _kernel_of(layer: Any) -> dict[str, np.ndarray]:
    weights = {"kernel": _weight(layer.kernel)}
    if layer.use_bias:
        weights["bias"] = _weight(layer.bias)
    return weights


def _activation_of(layer: Any) -> _Parts:
    activation = static_activation(layer.activation)
    if activation == "other":
        raise NotFollowed(f"layer {layer.name} has an activation that is not known")
    if activation in (None, "linear"):
        return []
    return [{"kind": "Activation", "activation": activation}]


def _weight(variable: Any) -> np.ndarray:
    weight = np.asarray(variable, np.float32)
    if not np.isfinite(weight).all():
        raise NotFollowed("its weights are not finite: the training diverged")
    return weight


def _pair(value: Any) -> list[int]:
    pair = list(value) if isinstance(value, (list, tuple)) else [value, value]
    return [int(number) for number in pair]
