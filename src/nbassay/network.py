"""
A chain of steps computed with NumPy: the same arithmetic inside the box and outside.

Inside it proves that the chain is what the network computes; outside it measures the network
without TensorFlow and without any code of the learner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nbassay.records import Step

Weights = dict[str, np.ndarray]
"""Blob name → float32 array."""
MOST_WEIGHT_BYTES = 16 << 20
"""Larger networks are told by their layers only."""


def _softmax(x: np.ndarray) -> np.ndarray:
    shifted = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def _elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _selu(x: np.ndarray) -> np.ndarray:
    return np.asarray(
        1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
    )


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.logaddexp(x, np.float32(0)))


def _gelu(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))


ACTIVATIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "softmax": _softmax,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "elu": _elu,
    "selu": _selu,
    "softplus": _softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "silu": lambda x: x * _sigmoid(x),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "relu6": lambda x: np.clip(x, 0, 6),
    "exponential": np.exp,
    "log_softmax": lambda x: np.log(_softmax(x)),
    "gelu": _gelu,
}
"""Keras' activations by canonical name, on arrays of shape (n, units)."""


def operations(
    steps: Sequence[Step], weights: Mapping[str, np.ndarray], *, rows: int, width: int
) -> int:
    """Multiplications, roughly, that `run_steps` takes for *rows* rows of *width* values."""
    total = 0
    for step in steps:
        if step.op == "dense":
            kernel = weights[step.kernel or ""]
            total += rows * int(kernel.size)
            width = int(kernel.shape[1])
        else:
            total += rows * width
    return total


def run_steps(
    steps: Sequence[Step], weights: Mapping[str, np.ndarray], x: np.ndarray
) -> np.ndarray:
    """
    Compute the chain.

    Args:
        steps: The chain, first step first.
        weights: Every blob that a step names; kernels (inputs, units), biases (units,).
        x: Rows as the network takes them, shape (n, …), float32.

    Returns:
        The network's answers, shape (n, outputs).

    Raises:
        ValueError: Shapes do not fit together.
        KeyError: A step names a blob or an activation that is not there.
    """
    for step in steps:
        if step.op == "flatten":
            x = x.reshape(len(x), -1)
        elif step.op == "rescale":
            x = x * np.float32(step.scale) + np.float32(step.offset)
        elif step.op == "dense":
            x = x @ weights[step.kernel or ""]
            if step.bias is not None:
                x = x + weights[step.bias]
        elif step.op == "activation":
            with np.errstate(all="ignore"):
                x = ACTIVATIONS[step.activation or ""](x)
        elif step.op == "normalize":
            x = (x - weights[step.mean or ""]) / np.maximum(weights[step.deviation or ""], 1e-7)
    return x
