"""Many batches a call: bit-identical where it is used, untouched where it might not be."""

from __future__ import annotations

import gc
import importlib.util
import weakref

import numpy as np
import pytest

from nbassay.inside.fastfit import FastFit

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore"),  # TensorFlow's own deprecations are not what is tested
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
    ),
]

ROWS = 1000  # 31.25 batches of 32: never a whole number of calls


@pytest.fixture(scope="module")
def keras():
    return pytest.importorskip("keras")


def data():
    generator = np.random.default_rng(3)
    x = generator.random((ROWS, 12), dtype=np.float32)
    return x, (x.sum(axis=1) > 6).astype(np.int64)


def plain(keras):
    return [keras.layers.Dense(8, activation="relu"), keras.layers.Dense(2, activation="softmax")]


def dropout(keras):
    return [keras.layers.Dense(8), keras.layers.Dropout(0.3), keras.layers.Dense(2, "softmax")]


def convolution(keras):
    return [
        keras.layers.Reshape((12, 1)),
        keras.layers.Conv1D(4, 3, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Flatten(),
        keras.layers.Dense(2, activation="softmax"),
    ]


CASES = {
    "plain": (plain, "adam", {}),
    "validation split": (plain, "adam", {"validation_split": 0.1}),
    "validation data": (plain, "adam", {"validation_data": True, "batch_size": 37}),
    "dropout": (dropout, "adam", {}),
    "convolution and batch normalisation": (convolution, "sgd", {"batch_size": 100}),
    "class weights": (plain, "rmsprop", {"class_weight": {0: 1.0, 1: 3.0}}),
    "not shuffled": (plain, "adam", {"shuffle": False}),
    "whole batches": (plain, "adam", {"rows": 960}),
    "whole calls": (plain, "adam", {"rows": 400, "batch_size": 4}),
    "a row more than whole calls": (plain, "adam", {"rows": 401, "batch_size": 4}),
    "batches of three": (plain, "adam", {"rows": 900, "batch_size": 3}),
    "sample weights": (plain, "adam", {"sample_weight": True}),
    "double precision": (plain, "adam", {"kind": "float64"}),
    "half precision": (plain, "adam", {"kind": "float16"}),
    "tensors": (plain, "adam", {"kind": "tensors"}),
    "data frames": (plain, "adam", {"kind": "data frames"}),
    "few rows": (plain, "adam", {"rows": 20}),
    "batches of one": (plain, "adam", {"rows": 60, "batch_size": 1}),
    "early stopping": (plain, "adam", {"validation_split": 0.2, "callbacks": "EarlyStopping"}),
    "learning rate": (plain, "sgd", {"validation_split": 0.2, "callbacks": "ReduceLROnPlateau"}),
    "twice": (plain, "adam", {"again": True}),
}


def made(kind, x, y):
    """The data as *kind*."""
    if kind == "tensors":
        tensorflow = pytest.importorskip("tensorflow")
        return tensorflow.constant(x), tensorflow.constant(y)
    if kind == "data frames":
        pandas = pytest.importorskip("pandas")
        return pandas.DataFrame(x), pandas.Series(y)
    return x.astype(kind), y


def train(keras, case, *, is_fast: bool):
    """Train a fresh network; all that can be compared."""
    layers, optimizer, options = CASES[case]
    given = dict(options)
    rows, again = given.pop("rows", ROWS), given.pop("again", False)
    x, y = data()
    x, y = x[:rows], y[:rows]
    x, y = made(given.pop("kind", "float32"), x, y)
    if given.get("sample_weight"):
        given["sample_weight"] = np.linspace(0, 2, rows)
    if given.get("validation_data"):
        given["validation_data"] = (x[:100], y[:100])
    if isinstance(given.get("callbacks"), str):
        given["callbacks"] = [getattr(keras.callbacks, given["callbacks"])(patience=0)]
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((12,)), *layers(keras)])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    fast, histories = FastFit(), []
    for _turn in range(1 + again):
        arguments = {"x": x, "y": y, "epochs": 3, "verbose": 0, **given}
        if is_fast:
            with fast.many_steps(model, arguments) as used:
                assert used
                histories.append(model.fit(**arguments).history)
        else:
            histories.append(model.fit(**arguments).history)
    return {
        "weights": [np.asarray(weight) for weight in model.weights],
        "optimizer": [np.asarray(variable) for variable in model.optimizer.variables],
        "histories": [{k: np.array(v) for k, v in history.items()} for history in histories],
        "evaluate": np.array(model.evaluate(x, y, verbose=0)),
        "predict": model.predict(x, verbose=0),
        "steps": model.steps_per_execution,
    }


def flat(found):
    """Every array of what `train` returns."""
    for value in found.values():
        if isinstance(value, list):
            for item in value:
                yield from item.values() if isinstance(item, dict) else [item]
        else:
            yield np.asarray(value)


@pytest.mark.parametrize("case", CASES)
def test_bit_identical(keras, case: str) -> None:
    """
    Weights, optimizer state, histories, evaluation and predictions are the same bits.
    """
    slow, quick = train(keras, case, is_fast=False), train(keras, case, is_fast=True)

    pairs = list(zip(flat(slow), flat(quick), strict=True))
    assert len(pairs) > 10
    assert all(np.array_equal(left, right) for left, right in pairs)


@pytest.mark.parametrize("rows", [20, 96, ROWS])
@pytest.mark.parametrize("options", [{}, {"batch_size": 7}, {"sample_weight": True}])
def test_evaluate_is_the_same(keras, rows: int, options) -> None:
    """
    What ``evaluate`` returns and leaves in the metrics is the same bits, before and after a fit.
    """
    x, y = data()
    model = keras.Sequential([keras.Input((12,)), *convolution(keras)])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    given = {"x": x[:rows], "y": y[:rows], "verbose": 0, **options}
    if options.get("sample_weight"):
        given["sample_weight"] = np.linspace(0, 2, rows)
    fast = FastFit()
    for _turn in range(2):
        slow = model.evaluate(**given)
        with fast.many_steps(model, given) as used:
            assert used
            quick = model.evaluate(**given)
        assert slow == quick == model.evaluate(**given)
        model.fit(x, y, verbose=0)


def test_networks_are_let_go(keras) -> None:
    """
    A network that the notebook drops is freed, as it would be without us.
    """
    x, y = data()
    fast, alive = FastFit(), []
    for _turn in range(3):
        model = keras.Sequential([keras.Input((12,)), *plain(keras)])
        model.compile("adam", "sparse_categorical_crossentropy")
        with fast.many_steps(model, {"x": x, "y": y}):
            model.fit(x, y, verbose=0)
        alive.append(weakref.ref(model))
        del model
    keras.backend.clear_session()
    gc.collect()

    assert [reference() for reference in alive] == [None] * 3


def own_metrics(keras):
    class Own(keras.Sequential):
        def compute_metrics(self, *given, **named):
            return super().compute_metrics(*given, **named)

    return Own([keras.Input((12,)), *plain(keras)])


def own_step(keras):
    class Own(keras.Sequential):
        def train_step(self, batch):
            return super().train_step(batch)

    return Own([keras.Input((12,)), *plain(keras)])


@pytest.mark.parametrize(
    ("change", "compiled", "given"),
    [
        (None, {"steps_per_execution": 4}, {}),
        (None, {"run_eagerly": True}, {}),
        (None, {"jit_compile": True}, {}),
        (None, {}, {"steps_per_epoch": 5}),
        (None, {}, {"steps": 5}),
        (None, {}, {"shuffle": "batch"}),
        (own_metrics, {}, {}),
        (None, {}, {"callbacks": "LambdaCallback"}),
        (None, {}, {"callbacks": "TerminateOnNaN"}),
        (None, {}, {"stream": True}),
        (own_step, {}, {}),
    ],
    ids=[
        "own steps",
        "eager",
        "jit",
        "steps an epoch",
        "steps of evaluate",
        "shuffled in batches",
        "own metrics",
        "batches seen",
        "NaN",
        "stream",
        "own step",
    ],
)
def test_left_alone_where_it_might_differ(keras, change, compiled, given) -> None:
    """
    Nothing is changed where many batches a call could make a difference.
    """
    x, y = data()
    model = change(keras) if change else keras.Sequential([keras.Input((12,)), *plain(keras)])
    model.compile("adam", "sparse_categorical_crossentropy", **compiled)
    arguments = {"x": x, "y": y, **given}
    if isinstance(arguments.get("callbacks"), str):
        arguments["callbacks"] = [getattr(keras.callbacks, arguments["callbacks"])()]
    if arguments.pop("stream", False):
        arguments["x"], arguments["y"] = iter([(x, y)]), None

    with FastFit().many_steps(model, arguments) as used:
        assert not used
    assert model.steps_per_execution == compiled.get("steps_per_execution", 1)
