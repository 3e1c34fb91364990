"""
Graphs of networks: what each kind of node needs, and whether a graph fits together.

The same rules hold at the border, where a stranger's graph is let in or refused, and in the second
box, where Keras builds it. No layer is ever named that is not in `RULES`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from nbassay.network import ACTIVATIONS, MOST_WEIGHT_BYTES
from nbassay.records import Graph, Node

MOST_VALUES = 1 << 20
"""Of one row between two nodes: 4 MB; a learner's convolution makes some 50,000."""
SETTINGS = (
    "shape",
    "activation",
    "slope",
    "size",
    "strides",
    "dilation",
    "padding",
    "margins",
    "axis",
    "scale",
    "offset",
    "epsilon",
)
WEIGHTS = ("kernel", "bias", "gamma", "beta", "mean", "variance")

_Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a kind of node has; every other field stays empty."""

    needs: frozenset[str] = frozenset()
    may_have: frozenset[str] = frozenset()
    least_inputs: int = 1
    most_inputs: int = 1


def _rule(needs: str = "", may_have: str = "", least: int = 1, most: int = 1) -> Rule:
    return Rule(frozenset(needs.split()), frozenset(may_have.split()), least, most)


RULES: Mapping[str, Rule] = {
    "Input": _rule("shape", least=0, most=0),
    "Dense": _rule("kernel", "bias"),
    "Conv2D": _rule("kernel strides dilation padding", "bias"),
    "DepthwiseConv2D": _rule("kernel strides dilation padding", "bias"),
    "MaxPooling2D": _rule("size strides padding"),
    "AveragePooling2D": _rule("size strides padding"),
    "GlobalMaxPooling2D": _rule(),
    "GlobalAveragePooling2D": _rule(),
    "ZeroPadding2D": _rule("margins"),
    "BatchNormalization": _rule("epsilon mean variance", "gamma beta"),
    "LayerNormalization": _rule("epsilon", "gamma beta"),
    "Normalization": _rule("mean variance"),
    "Rescaling": _rule("scale offset"),
    "Activation": _rule("activation"),
    "LeakyReLU": _rule("slope"),
    "Reshape": _rule("shape"),
    "Add": _rule(least=2, most=16),
    "Concatenate": _rule("axis", least=2, most=16),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What computing a graph takes, for one row."""

    outputs: int
    """Values of the answer."""
    operations: int
    """Multiplications, roughly."""
    largest: int
    """Values of the largest array between two nodes."""


def weights_of(node: Node) -> Iterator[tuple[str, str, int]]:
    """Name, blob and number of axes of each weight that *node* has."""
    for name in WEIGHTS:
        ref = getattr(node, name)
        if ref is not None:
            is_kernel = name == "kernel"
            yield name, ref, (2 if node.kind == "Dense" else 4) if is_kernel else 1


def plan_of(graph: Graph, weights: Mapping[str, np.ndarray]) -> Plan:
    """
    Check that *graph* is one that we build, and that its shapes and weights fit together.

    Args:
        weights: Every blob that a node names, with the axes that `weights_of` tells.

    Raises:
        ValueError: It is not; the message names the node.
    """
    shapes: list[_Shape] = []
    operations = 0
    for position, node in enumerate(graph.nodes):
        try:
            _check_fields(position, node)
            given = [shapes[index] for index in node.inputs]
            shape = _shape_of(node, given, weights)
            if math.prod(shape) > MOST_VALUES:
                raise ValueError(f"makes {math.prod(shape)} values of one row")
        except ValueError as error:
            raise ValueError(f"node {position} ({node.kind}) {error}") from error
        shapes.append(shape)
        operations += _operations(node, shape, weights)
    used = {ref: weights[ref] for node in graph.nodes for _name, ref, _axes in weights_of(node)}
    if sum(weight.nbytes for weight in used.values()) > MOST_WEIGHT_BYTES:
        raise ValueError("its weights are too many")
    if not all(np.isfinite(weight).all() for weight in used.values()):
        raise ValueError("its weights are not finite")
    if any((weights[ref] < 0).any() for ref in {node.variance for node in graph.nodes} if ref):
        raise ValueError("it has a variance below zero")
    return Plan(
        outputs=math.prod(shapes[-1]),
        operations=operations,
        largest=max(math.prod(shape) for shape in shapes),
    )


def _check_fields(position: int, node: Node) -> None:
    rule = RULES[node.kind]
    if (node.kind == "Input") != (position == 0):
        raise ValueError("stands where it cannot")
    if not rule.least_inputs <= len(node.inputs) <= rule.most_inputs:
        raise ValueError(f"takes {len(node.inputs)} inputs")
    if any(index >= position for index in node.inputs):
        raise ValueError("takes what comes only after it")
    has = {name for name in (*SETTINGS, *WEIGHTS) if getattr(node, name) is not None}
    if not rule.needs <= has <= rule.needs | rule.may_have:
        wrong = sorted((rule.needs - has) | (has - rule.needs - rule.may_have))
        raise ValueError(f"has the wrong settings ({', '.join(wrong)})")
    if node.activation is not None and node.activation not in ACTIVATIONS:
        raise ValueError("has an activation that is not known")


def _shape_of(node: Node, given: Sequence[_Shape], weights: Mapping[str, np.ndarray]) -> _Shape:
    """Shape of one row of what *node* makes of rows of shapes *given*."""
    if node.kind == "Input":
        return tuple(node.shape or ())
    first = given[0]
    kernel = weights[node.kernel] if node.kernel is not None else None
    if node.kind == "Reshape":
        shape = tuple(node.shape or ())
        if math.prod(shape) != math.prod(first):
            raise ValueError(f"cannot make {shape} of {first}")
        return shape
    if node.kind == "Add":
        if any(shape != first for shape in given):
            raise ValueError("takes arrays of different shapes")
        return first
    if node.kind == "Concatenate":
        return _joined(node, given)
    if node.kind == "Dense":
        assert kernel is not None
        if first[-1] != kernel.shape[0]:
            raise ValueError(f"has a kernel for {kernel.shape[0]} inputs and gets {first[-1]}")
        return (*first[:-1], _with_bias(node, int(kernel.shape[1]), weights))
    if node.kind in ("BatchNormalization", "LayerNormalization", "Normalization"):
        for name, ref, _axes in weights_of(node):
            if weights[ref].shape != first[-1:]:
                raise ValueError(f"has a {name} for {len(weights[ref])} inputs")
        return first
    if node.kind in ("Rescaling", "Activation", "LeakyReLU"):
        return first
    return _image_of(node, first, kernel, weights)


def _image_of(
    node: Node, first: _Shape, kernel: np.ndarray | None, weights: Mapping[str, np.ndarray]
) -> _Shape:
    """As `_shape_of`, of what takes images: (height, width, channels)."""
    if len(first) != 3:
        raise ValueError(f"takes images and gets {first}")
    height, width, channels = first
    if node.kind in ("GlobalMaxPooling2D", "GlobalAveragePooling2D"):
        return (channels,)
    if node.kind == "ZeroPadding2D":
        above, below, left, right = node.margins or [0, 0, 0, 0]
        return (height + above + below, width + left + right, channels)
    window = kernel.shape[:2] if kernel is not None else node.size or [1, 1]
    sides = [
        _side(length, int(covered), stride, dilation, node.padding == "same")
        for length, covered, stride, dilation in zip(
            (height, width), window, node.strides or [1, 1], node.dilation or [1, 1], strict=True
        )
    ]
    if kernel is None:
        return (*sides, channels)
    inputs, filters = (int(n) for n in kernel.shape[2:])
    if node.kind == "DepthwiseConv2D":
        if inputs != channels:
            raise ValueError(f"has a kernel for {inputs} channels and gets {channels}")
        filters *= channels
    elif not inputs or channels % inputs or filters % (channels // inputs):
        raise ValueError(f"has a kernel for {inputs} channels and gets {channels}")
    return (*sides, _with_bias(node, filters, weights))


def _side(length: int, window: int, stride: int, dilation: int, is_same: bool) -> int:
    """Positions of a window along one axis."""
    covered = 1 if is_same else dilation * (window - 1) + 1
    count = -((covered - 1 - length) // stride)
    if window < 1 or count < 1:
        raise ValueError(f"has a window of {window} for {length} pixels")
    return count


def _joined(node: Node, given: Sequence[_Shape]) -> _Shape:
    axis = (node.axis or 0) - 1  # the batch axis is not in the shapes
    first = given[0]
    if axis >= len(first) or any(
        len(shape) != len(first)
        or shape[:axis] != first[:axis]
        or shape[axis + 1 :] != first[axis + 1 :]
        for shape in given
    ):
        raise ValueError("takes arrays that cannot be joined")
    return (*first[:axis], sum(shape[axis] for shape in given), *first[axis + 1 :])


def _with_bias(node: Node, units: int, weights: Mapping[str, np.ndarray]) -> int:
    """*units*, if a bias fits them."""
    if units < 1:
        raise ValueError("has no units")
    if node.bias is not None and weights[node.bias].shape != (units,):
        raise ValueError(f"has a bias of {len(weights[node.bias])} for {units} units")
    return units


def _operations(node: Node, shape: _Shape, weights: Mapping[str, np.ndarray]) -> int:
    """Multiplications for one row, roughly."""
    if node.kernel is None:
        return math.prod(shape) * math.prod(node.size or [1])
    return math.prod(shape[:-1]) * int(weights[node.kernel].size)
