"""Networks drawn as graphs and built again: the same answers from layers of ours alone."""

from __future__ import annotations

import hashlib
import importlib.util
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from nbassay.graph import plan_of
from nbassay.inside.graphs import draw
from nbassay.inside.rebuild import build
from nbassay.inside.watching import NotFollowed, watch
from nbassay.records import Graph

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore"),  # TensorFlow's own deprecations are not what is tested
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
    ),
]

IMAGE = (28, 28, 1)


@pytest.fixture(scope="module")
def keras() -> ModuleType:
    return pytest.importorskip("keras")


def shaken(model: Any, row_shape: tuple[int, ...]) -> Any:
    """*model*, built, with weights that no layer begins with."""
    model(np.zeros((1, *row_shape), np.float32))
    generator = np.random.default_rng(0)
    for weight in model.weights:
        value = generator.uniform(0.05, 0.2, weight.shape)
        is_variance = "variance" in weight.path
        sign = 1 if is_variance else generator.choice([-1, 1], weight.shape)
        weight.assign((value * sign).astype(np.float32))
    return model


def drawn(model: Any, row_shape: tuple[int, ...]) -> tuple[Graph, dict[str, np.ndarray]]:
    blobs: dict[str, np.ndarray] = {}

    def send(array: np.ndarray) -> str:
        ref = hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()
        blobs[ref] = array
        return ref

    return draw(*watch(model, row_shape), send), blobs


def convolutions(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential([
        layers.ZeroPadding2D(((1, 2), (3, 0))),
        layers.Conv2D(8, (3, 5), dilation_rate=2, padding="same"),
        layers.ReLU(),
        layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2),
        layers.LeakyReLU(),
        layers.Conv2D(8, 1, groups=2, use_bias=False, activation="elu"),
        layers.MaxPooling2D(2, strides=1),
        layers.AveragePooling2D(3, padding="same"),
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.Flatten(),
        layers.Dense(10),
        layers.Softmax(),
    ])  # fmt: skip


def normalizations(keras: Any) -> Any:
    layers = keras.layers
    norm = layers.Normalization(mean=0.3, variance=0.2)
    inner = keras.Sequential([layers.Conv2D(4, 3, strides=2), layers.BatchNormalization()])
    return keras.Sequential([
        layers.Rescaling(1 / 255), norm, inner, layers.LayerNormalization(center=False),
        layers.Activation("tanh"), layers.BatchNormalization(scale=False),
        layers.GlobalMaxPooling2D(), layers.Dense(10, activation="log_softmax"),
    ])  # fmt: skip


def branches(keras: Any) -> Any:
    layers = keras.layers
    given = keras.Input((784,))
    left = layers.Dense(16, activation="relu")(given)
    right = layers.Dense(16, activation="sigmoid")(given)
    shared = layers.Dense(16)
    both = layers.Concatenate()([shared(left), shared(right), left + right])
    added = layers.Add()([layers.Dense(48)(both), both])
    return keras.Model(given, layers.Dense(10, activation="softmax")(added))


def functions(keras: Any) -> Any:
    """A subclassed model that works with functions between its layers."""

    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first = keras.layers.Conv2D(4, 3, padding="same")
            self.second = keras.layers.Conv2D(4, 3, padding="same")
            self.flat = keras.layers.Flatten()
            self.last = keras.layers.Dense(10)

        def call(self, x: Any) -> Any:
            ops = keras.ops
            one = self.first(ops.expand_dims(x / 255, -1))
            two = ops.relu(self.second(one) + one)
            return ops.softmax(self.last(self.flat(two)))

    return Own()


def harmless(keras: Any) -> Any:
    """Layers of unknown classes whose effect is known."""
    layers = keras.layers
    return keras.Sequential([
        layers.RandomRotation(0.1), layers.Lambda(lambda x: x / 255.0),
        layers.Conv2D(4, 3, activation=lambda x: keras.ops.maximum(x, 0)),
        layers.GaussianNoise(0.1), layers.Flatten(), layers.Dense(10),
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("make", "row_shape"),
    [
        (convolutions, IMAGE),
        (normalizations, IMAGE),
        (branches, (784,)),
        (functions, (28, 28)),
        (harmless, IMAGE),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_built_again_answers_the_same(
    keras: ModuleType, make: Any, row_shape: tuple[int, ...]
) -> None:
    """
    Sequential, functional, nested and subclassed networks come back from their graphs.
    """
    model = shaken(make(keras), row_shape)
    graph, blobs = drawn(model, row_shape)
    rows = np.random.default_rng(1).uniform(0, 255, (20, *row_shape)).astype(np.float32)

    assert plan_of(graph, blobs).outputs == 10
    again = np.asarray(build(graph, blobs)(rows, training=False))
    assert again == pytest.approx(np.asarray(model(rows, training=False)), abs=1e-4, rel=1e-4)


def squared(keras: Any) -> Any:
    return keras.layers.Lambda(lambda x: x**2)


def own_class(keras: Any) -> Any:
    class Conv2D(keras.layers.Conv2D):  # type: ignore[misc, name-defined]
        def call(self, inputs: Any) -> Any:
            return super().call(inputs) * 2

    return Conv2D(4, 3)


def own_activation(keras: Any) -> Any:
    return keras.layers.Conv2D(4, 3, activation=keras.ops.sin)


def diverged(keras: Any) -> Any:
    return keras.layers.Conv2D(4, 3, kernel_initializer=keras.initializers.Constant(np.inf))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (squared, "is a Lambda and changes its input in a way that is not known"),
        (own_class, "is a Conv2D, which is not rebuilt"),
        (own_activation, "has an activation that is not known"),
        (diverged, "not finite"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_not_ours_is_not_drawn(keras: ModuleType, make: Any, words: str) -> None:
    """
    A function or class of the learner's own is named as the reason, and never carried over.
    """
    model = keras.Sequential([make(keras), keras.layers.Flatten(), keras.layers.Dense(10)])

    with pytest.raises(NotFollowed, match=words):
        drawn(model, IMAGE)


def test_watching_leaves_no_trace(keras: ModuleType) -> None:
    """
    Layers of the learner's made after the drawing are named as if there had been none.
    """
    model = shaken(convolutions(keras), IMAGE)
    before = [np.asarray(weight) for weight in model.weights]
    name = keras.layers.Conv2D(1, 1).name
    drawn(model, IMAGE)
    after = keras.layers.Conv2D(1, 1).name

    assert int(after.rpartition("_")[2]) == int(name.rpartition("_")[2]) + 1
    assert all(np.array_equal(b, a) for b, a in zip(before, model.weights, strict=True))
