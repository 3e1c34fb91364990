"""Many batches a call: bit-identical where it is used, untouched where it might not be."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.util
import json
import random
import re
import weakref
import zipfile
from operator import attrgetter

import numpy as np
import pytest

from nbassay.inside import fastfit
from nbassay.inside.fastfit import many_steps

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore"),  # TensorFlow's own deprecations are not what is tested
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
    ),
]

USUAL_STEPS = fastfit.STEPS
ROWS = 1000  # 31.25 batches of 32: never a whole number of calls


@pytest.fixture(autouse=True)
def several_calls(monkeypatch):
    """
    An epoch of these few rows takes several calls, as one of a lab's data does.
    """
    monkeypatch.setattr(fastfit, "STEPS", fastfit.Steps(10))


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


def unbuilt(keras):
    return [keras.layers.BatchNormalization(), keras.layers.Dense(2, activation="softmax")]


def operations(keras):
    tensorflow = pytest.importorskip("tensorflow")
    return [
        keras.layers.Dense(8, activation=tensorflow.nn.relu, kernel_regularizer="l2"),
        keras.layers.GaussianNoise(0.1),
        keras.layers.Dense(2, activation=tensorflow.nn.softmax),
    ]


def network(keras, layers, **compiled):
    """A compiled network of *layers*, the same weights each time."""
    keras.utils.set_random_seed(5)
    start = [] if layers is unbuilt else [keras.Input((12,))]
    model = keras.Sequential([*start, *layers(keras)])
    given = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", **compiled}
    model.compile(**{"metrics": ["accuracy"], **given})
    return model


def pictures(keras):
    return [
        keras.layers.Reshape((3, 4, 1)),
        keras.layers.RandomFlip("horizontal"),
        keras.layers.Conv2D(4, 2, activation="relu"),
        keras.layers.MaxPooling2D(2),
        keras.layers.Flatten(),
        keras.layers.Dense(2, activation="softmax"),
    ]


def recurrent(keras):
    return [
        keras.layers.Reshape((6, 2)),
        keras.layers.LSTM(4, recurrent_dropout=0.1),
        keras.layers.Dense(2, activation="softmax"),
    ]


def half_precision(keras):
    return [
        keras.layers.Dense(8, activation="relu", dtype="mixed_float16"),
        keras.layers.Dense(2, activation="softmax", dtype="float32"),
    ]


def one_output(keras):
    return [keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1, "sigmoid")]


def scaled(keras):
    """
    Its first steps overflow.
    """
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(), initial_scale=2.0**40)


def averaged(keras):
    return keras.optimizers.SGD(use_ema=True, ema_overwrite_frequency=7)


def gathered(keras):
    return keras.optimizers.Adam(gradient_accumulation_steps=3)


def decaying(keras):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.9)
    return keras.optimizers.SGD(schedule, clipnorm=0.5)


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
    "a batch larger than memory": (plain, "adam", {"batch_size": 10**12}),
    "early stopping": (plain, "adam", {"validation_split": 0.2, "callbacks": "EarlyStopping"}),
    "learning rate": (plain, "sgd", {"validation_split": 0.2, "callbacks": "ReduceLROnPlateau"}),
    "history": (plain, "adam", {"callbacks": "History"}),
    "not built before": (unbuilt, "adam", {"validation_split": 0.2}),
    "operations": (operations, "adam", {}),
    "twice": (plain, "adam", {"again": True}),
    "pictures that are turned": (pictures, "adam", {}),
    "recurrent": (recurrent, "adam", {}),
    "scaled loss": (half_precision, scaled, {}),
    "moving average": (plain, averaged, {"rows": 960}),
    "gathered gradients": (plain, gathered, {}),
    "clipped and decaying": (plain, decaying, {}),
    "metrics with a state": (one_output, "adam", {"metrics": ["AUC", "Precision"]}),
    "weighted metrics": (
        one_output,
        "adam",
        {"weighted_metrics": ["AUC", "Recall"], "sample_weight": True},
    ),
    "validated now and then": (
        plain,
        "adam",
        {"validation_split": 0.2, "validation_freq": 2, "validation_batch_size": 13},
    ),
    "from a later epoch": (plain, "adam", {"initial_epoch": 1}),
    "the best weights": (
        plain,
        "sgd",
        {"validation_split": 0.2, "callbacks": "EarlyStopping", "restore_best_weights": True},
    ),
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
        options = {} if given["callbacks"] == "History" else {"patience": 0}
        if given.pop("restore_best_weights", False):
            options["restore_best_weights"] = True
        given["callbacks"] = [getattr(keras.callbacks, given["callbacks"])(**options)]
    compiled = {"optimizer": optimizer if isinstance(optimizer, str) else optimizer(keras)}
    if layers is one_output:
        compiled["loss"] = "binary_crossentropy"
    for name in ("metrics", "weighted_metrics"):
        if name in given:
            compiled[name] = [getattr(keras.metrics, kind)(name=kind) for kind in given.pop(name)]
    model, histories = network(keras, layers, **compiled), []
    for _turn in range(1 + again):
        arguments = {"x": x, "y": y, "epochs": 3, "verbose": 0, **given}
        if is_fast:
            with many_steps(model, arguments) as used:
                assert used
                histories.append(model.fit(**arguments).history)
        else:
            histories.append(model.fit(**arguments).history)
    return {
        **state(model),
        "histories": json.dumps(histories),
        "evaluate": np.array(model.evaluate(x, y, verbose=0)),
        "predict": model.predict(x, verbose=0),
    }


def state(model):
    """All that a network keeps of its training."""
    variables = {"weights": model.weights, "optimizer": model.optimizer.variables}
    return {
        **{name: [value.numpy() for value in values] for name, values in variables.items()},
        "steps": model.steps_per_execution,
    }


def assert_same(slow, quick) -> None:
    """The same bits and types, name by name."""
    assert slow.keys() == quick.keys()
    for name, left in slow.items():
        right = quick[name]
        if isinstance(left, list):
            assert [item.dtype for item in left] == [item.dtype for item in right], name
            assert [item.tobytes() for item in left] == [item.tobytes() for item in right], name
        else:
            assert type(left) is type(right), name
            assert np.array_equal(left, right), name


@pytest.mark.parametrize("case", CASES)
def test_bit_identical(keras, case: str) -> None:
    """
    Weights, optimizer state, histories, evaluation and predictions are the same bits.
    """
    assert_same(train(keras, case, is_fast=False), train(keras, case, is_fast=True))


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
    for _turn in range(2):
        slow = model.evaluate(**given)
        with many_steps(model, given) as used:
            assert used
            quick = model.evaluate(**given)
        assert slow == quick == model.evaluate(**given)
        model.fit(x, y, verbose=0)


def frozen(model):
    model.layers[0].trainable = False


def without_dropout(model):
    model.layers[1].rate = 0.0


def linear(model):
    model.layers[-1].activation = model.layers[0].activation


def recompiled(model):
    frozen(model)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])


FIT_WHOLE = ("fit", {"rows": 960})
FIT_SHORT = ("fit", {"rows": ROWS})
FIT_OTHER = ("fit", {"rows": 500, "validation_split": 0.1})
FIT_SLOW = ("fit", {"rows": 960, "callbacks": "LambdaCallback"})
FIT_SCHEDULE = ("fit", {"rows": 700, "callbacks": "LearningRateScheduler"})
FIT_STREAM = ("fit", {"rows": 500, "stream": True})
ONE_BATCH = ("train_on_batch", {"rows": 32})
EVALUATE = ("evaluate", {"rows": 900})
EVALUATE_OTHER = ("evaluate", {"rows": 330})

CHAINS = {
    "other rows": [FIT_SHORT, FIT_OTHER, FIT_WHOLE, EVALUATE, EVALUATE_OTHER],
    "frozen, other rows": [FIT_SHORT, frozen, FIT_OTHER],
    "frozen, whole batches": [FIT_SHORT, frozen, FIT_WHOLE],
    "frozen, first short batch": [FIT_WHOLE, frozen, FIT_SHORT, FIT_WHOLE],
    "frozen, batches of other sizes": [
        FIT_WHOLE,
        frozen,
        ("fit", {"rows": 370, "batch_size": 37}),
        FIT_WHOLE,
        ("fit", {"rows": 50, "batch_size": 5}),
    ],
    "frozen, doubles": [FIT_SHORT, frozen, ("fit", {"rows": 960, "kind": "float64"}), FIT_OTHER],
    "frozen, a call left alone": [FIT_SHORT, frozen, FIT_SLOW, FIT_STREAM, FIT_SCHEDULE],
    "frozen, a batch by hand": [FIT_WHOLE, frozen, ONE_BATCH, FIT_WHOLE, FIT_OTHER],
    "frozen after a call left alone": [FIT_SLOW, frozen, FIT_WHOLE, FIT_OTHER, FIT_SLOW],
    "frozen after a batch by hand": [ONE_BATCH, frozen, FIT_WHOLE, FIT_OTHER],
    "no dropout, other rows": [FIT_SHORT, without_dropout, FIT_OTHER, FIT_SLOW],
    "other activation, evaluate": [EVALUATE, linear, EVALUATE_OTHER, FIT_OTHER, EVALUATE],
    "other activation, validation": [FIT_OTHER, linear, EVALUATE_OTHER, FIT_SLOW, EVALUATE],
    "compiled anew": [FIT_SHORT, recompiled, FIT_OTHER, FIT_SLOW],
}


def played(keras, chain, *, is_fast: bool):
    """All that can be compared after each link of *chain*, and which calls were fast."""
    tensorflow = pytest.importorskip("tensorflow")
    x, y = data()
    model = network(keras, dropout)
    schedule = keras.callbacks.LearningRateScheduler(lambda _, rate: rate / 2)
    own = {"LambdaCallback": keras.callbacks.LambdaCallback(), "LearningRateScheduler": schedule}
    found, are_fast = [], []
    for link in chain:
        if not isinstance(link, tuple):
            link(model)
            continue
        name, options = link
        given = dict(options)
        rows = given.pop("rows")
        given["x"], given["y"] = made(given.pop("kind", "float32"), x[:rows], y[:rows])
        if name != "train_on_batch":
            given["verbose"] = 0
        if "callbacks" in given:
            given["callbacks"] = [own[given["callbacks"]]]
        if given.pop("stream", False):
            pairs = tensorflow.data.Dataset.from_tensor_slices((given["x"], given.pop("y")))
            given["x"] = pairs.batch(32)
        if is_fast and name != "train_on_batch":
            with many_steps(model, given) as used:
                returned = getattr(model, name)(**given)
            are_fast.append(used)
        else:
            returned = getattr(model, name)(**given)
        found.append({**state(model), "returned": np.array(_values(returned))})
    return found, are_fast


def _values(returned):
    history = getattr(returned, "history", None)
    return returned if history is None else list(history.values())


@pytest.mark.parametrize("chain", CHAINS)
def test_calls_after_each_other_are_the_same(keras, chain: str) -> None:
    """
    What was changed between calls and not compiled is seen exactly where Keras would see it.
    """
    slow, _ = played(keras, CHAINS[chain], is_fast=False)
    quick, are_fast = played(keras, CHAINS[chain], is_fast=True)

    calls = [link[1] for link in CHAINS[chain] if isinstance(link, tuple) and link != ONE_BATCH]
    assert are_fast == ["callbacks" not in given and "stream" not in given for given in calls]
    for left, right in zip(slow, quick, strict=True):
        assert_same(left, right)


def test_a_change_unseen_makes_a_difference(keras) -> None:
    """
    The changes of the chains above do change what Keras computes when it is compiled anew.
    """
    for change in (frozen, without_dropout):
        plainly, _ = played(keras, [FIT_SHORT, FIT_OTHER], is_fast=False)
        changed, _ = played(keras, [change, FIT_SHORT, FIT_OTHER], is_fast=False)
        assert not np.array_equal(plainly[-1]["weights"][0], changed[-1]["weights"][0])


def test_networks_are_let_go(keras) -> None:
    """
    A network that the notebook drops is freed, as it would be without us.
    """
    x, y = data()
    alive = []
    for _turn in range(3):
        model = keras.Sequential([keras.Input((12,)), *plain(keras)])
        model.compile("adam", "sparse_categorical_crossentropy")
        with many_steps(model, {"x": x, "y": y}):
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


def own_layer(keras):
    class Own(keras.layers.Dense):
        pass

    return keras.Sequential([keras.Input((12,)), keras.layers.Dense(8), Own(2, "softmax")])


def lambda_layer(keras):
    layer = keras.layers.Lambda(lambda values: values / 2)
    return keras.Sequential([keras.Input((12,)), layer, *plain(keras)])


def own_activation(keras):
    layer = keras.layers.Dense(2, activation=own_function)
    return keras.Sequential([keras.Input((12,)), layer])


def own_call(keras):
    model = keras.Sequential([keras.Input((12,)), *plain(keras)])
    model.layers[0].call = own_function
    return model


def own_function(first, *_others):
    """As a loss, a metric, an activation or a layer's call: which one does not matter."""
    return first


def own_schedule(keras):
    class Own(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.1

    return keras.optimizers.SGD(Own())


def own_optimizer(keras):
    class Own(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(gradient, variable, learning_rate)

    return Own()


def own_optimizer_inside(keras):
    return keras.optimizers.LossScaleOptimizer(own_optimizer(keras))


def with_layer(keras, layer):
    return keras.Sequential([keras.Input((12,)), layer, *plain(keras)])


def random_operation(keras):
    operation = pytest.importorskip("tensorflow").nn.dropout
    return with_layer(keras, keras.layers.Lambda(operation, arguments={"rate": 0.3}))


def random_picture_operation(keras):
    tensorflow = pytest.importorskip("tensorflow")
    layers = [
        keras.layers.Reshape((3, 4, 1)),
        keras.layers.Lambda(tensorflow.image.random_flip_left_right),
        keras.layers.Flatten(),
    ]
    return keras.Sequential([keras.Input((12,)), *layers, *plain(keras)])


def old_random_operation(keras):
    operation = pytest.importorskip("tensorflow").keras.backend.dropout
    return with_layer(keras, keras.layers.Lambda(operation, arguments={"level": 0.3}))


def call_of_an_own_layer(keras):
    class Own(keras.layers.Layer):
        def call(self, values):
            return values

    return with_layer(keras, keras.layers.Dense(8, activation=Own().__call__))


def disguised_loss(keras):
    return functools.wraps(keras.losses.mean_squared_error)(own_function)


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
        (own_layer, {}, {}),
        (lambda_layer, {}, {}),
        (own_activation, {}, {}),
        (own_call, {}, {}),
        (None, {"loss": own_function}, {}),
        (None, {"metrics": [own_function]}, {}),
        (None, {"optimizer": own_schedule}, {}),
        (None, {}, {"callbacks": "LearningRateScheduler"}),
        (None, {"optimizer": own_optimizer}, {}),
        (None, {"optimizer": own_optimizer_inside}, {}),
        (random_operation, {}, {}),
        (random_picture_operation, {}, {}),
        (old_random_operation, {}, {}),
        (call_of_an_own_layer, {}, {}),
        (None, {"loss": disguised_loss}, {}),
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
        "own layer",
        "lambda layer",
        "own activation",
        "own call",
        "own loss",
        "own metric",
        "own learning rate",
        "learning rate scheduler",
        "own optimizer",
        "own optimizer inside one of Keras'",
        "random operation",
        "random operation on pictures",
        "random operation of old",
        "call of an own layer",
        "loss that calls itself Keras'",
    ],
)
def test_left_alone_where_it_might_differ(keras, change, compiled, given) -> None:
    """
    Nothing is changed where many batches a call could make a difference.
    """
    x, y = data()
    model = change(keras) if change else keras.Sequential([keras.Input((12,)), *plain(keras)])
    compiled = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", **compiled}
    for name, made_by in (
        ("optimizer", (own_schedule, own_optimizer, own_optimizer_inside)),
        ("loss", (disguised_loss,)),
    ):
        if compiled[name] in made_by:
            compiled[name] = compiled[name](keras)
    model.compile(**compiled)
    arguments = {"x": x, "y": y, **given}
    if isinstance(arguments.get("callbacks"), str):
        kind = getattr(keras.callbacks, arguments["callbacks"])
        takes = [own_function] if kind is keras.callbacks.LearningRateScheduler else []
        arguments["callbacks"] = [kind(*takes)]
    if arguments.pop("stream", False):
        arguments["x"], arguments["y"] = iter([(x, y)]), None

    with many_steps(model, arguments) as used:
        assert not used
    assert model.steps_per_execution == compiled.get("steps_per_execution", 1)


@pytest.mark.parametrize("name", ["train_function", "test_function", "make_train_function"])
def test_own_functions_stay(keras, name: str) -> None:
    """
    A function that the notebook set on a network is what the network runs.
    """
    x, y = data()
    model, calls = network(keras, plain), []

    def own(*_given):
        calls.append(name)
        return {"loss": 0.0}

    model.evaluate(x, y, verbose=0)  # Keras reads metrics that no step of its own would fill
    setattr(model, name, own)
    if name == "make_train_function":
        model.train_function = own
    given = {"x": x, "y": y, "verbose": 0}
    with many_steps(model, given) as used:
        assert not used
        (model.evaluate if name == "test_function" else model.fit)(**given)
    assert name in calls


def test_no_rows_are_left_alone(keras) -> None:
    """
    Keras is left to say what it says of data without rows.
    """
    x, y = data()
    with many_steps(network(keras, plain), {"x": x[:0], "y": y[:0]}) as used:
        assert not used


def test_an_own_callback_method_is_seen(keras) -> None:
    """
    A callback of Keras' own that was given a function of the notebook's is left alone.
    """
    x, y = data()
    callback = keras.callbacks.EarlyStopping()
    callback.on_train_batch_end = own_function

    with many_steps(network(keras, plain), {"x": x, "y": y, "callbacks": callback}) as used:
        assert not used


class Callable:
    def __call__(self, *_given):
        return None


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("callbacks.Callback", "on_train_batch_end"),
        ("Model", "train_step"),
        ("layers.Dense", "call"),
        ("optimizers.Optimizer", "apply"),
        ("losses.Loss", "__call__"),
    ],
)
def test_code_put_into_a_class_is_seen(keras, monkeypatch, kind: str, method: str) -> None:
    """
    A class of Keras' own that holds a method of the notebook's is not Keras' own any more.
    """
    x, y = data()
    given = {"x": x, "y": y, "callbacks": [keras.callbacks.EarlyStopping()]}
    model = network(keras, plain, loss=keras.losses.SparseCategoricalCrossentropy())
    tensorflow = pytest.importorskip("tensorflow")
    with many_steps(model, given) as used:
        assert used
    for held in (
        own_function,
        staticmethod(own_function),
        property(own_function),
        functools.partialmethod(own_function),
        tensorflow.function(own_function),
        Callable(),
    ):
        monkeypatch.setattr(attrgetter(kind)(keras), method, held)
        with many_steps(model, given) as used:
            assert not used


def test_a_strategy_around_the_call_is_seen(keras) -> None:
    """
    A network made outside it is spread over devices inside it.
    """
    x, y = data()
    model = network(keras, plain)
    strategy = pytest.importorskip("tensorflow").distribute.OneDeviceStrategy("/cpu:0")

    with strategy.scope(), many_steps(model, {"x": x, "y": y}) as used:
        assert not used


def test_what_cannot_be_looked_at_is_left_alone(keras) -> None:
    """
    An object that raises when it is asked raises nothing of ours.
    """

    class Odd:
        @property
        def shape(self):
            raise RuntimeError("not now")

        __array__ = dtype = shape

    _x, y = data()
    with many_steps(network(keras, plain), {"x": Odd(), "y": y}) as used:
        assert not used


def test_nothing_is_told_besides(keras, capfd, caplog, monkeypatch) -> None:
    """
    Several networks of a notebook, each asked a few times, bring no warning of ours.
    """
    monkeypatch.setattr(fastfit, "STEPS", USUAL_STEPS)  # one call each: TensorFlow counts them
    x, y = data()
    for _turn in range(7):
        model, given = network(keras, plain), {"x": x, "y": y, "verbose": 0}
        for call in (model.fit, model.evaluate):
            with many_steps(model, given) as used:
                assert used
                call(**given)

    assert "retracing" not in capfd.readouterr().err + caplog.text


def test_an_error_leaves_what_it_would(keras) -> None:
    """
    A label that there is no class for ends both ways at the same batch, with the same weights, and
    what is trained after it is the same.
    """
    tensorflow = pytest.importorskip("tensorflow")
    x, y = data()
    wrong = y.copy()
    wrong[600] = 7
    found = []
    for is_fast in (False, True):
        model = network(keras, plain)
        for labels in (wrong, y):
            given = {"x": x, "y": labels, "shuffle": False, "verbose": 0}
            way = many_steps(model, given) if is_fast else contextlib.nullcontext(False)
            fails = labels is wrong
            expected = pytest.raises(tensorflow.errors.InvalidArgumentError, match="valid range")
            with way as used, expected if fails else contextlib.nullcontext():
                assert used == is_fast
                model.fit(**given)
            found.append(state(model))

    assert_same(found[0], found[2])
    assert_same(found[1], found[3])


def test_random_numbers_after_a_call_are_the_same(keras) -> None:
    """
    What the notebook draws itself after a fit and an evaluate is what it would have drawn.
    """
    tensorflow = pytest.importorskip("tensorflow")
    x, y = data()
    drawn = []
    for is_fast in (False, True):
        model = network(keras, dropout)
        for call in (model.fit, model.evaluate):
            given = {"x": x, "y": y, "verbose": 0}
            with many_steps(model, given) if is_fast else contextlib.nullcontext():
                call(**given)
        drawn.append(
            [
                random.random(),
                *np.random.random(3),
                *tensorflow.random.normal((3,)).numpy(),
                *keras.random.normal((3,)).numpy(),
            ]
        )

    assert drawn[0] == drawn[1]


def test_as_many_steps_as_a_notebook_gets(keras, monkeypatch) -> None:
    """
    The number of batches a call that notebooks get is as bit-identical as the tests' smaller one.
    """
    monkeypatch.setattr(fastfit, "STEPS", USUAL_STEPS)
    x, y = (np.concatenate([part] * 7) for part in data())  # more than one call, none whole
    states = []
    for is_fast in (False, True):
        model, given = network(keras, dropout), {"x": x, "y": y, "verbose": 0, "epochs": 2}
        with many_steps(model, given) if is_fast else contextlib.nullcontext():
            model.fit(**given)
        states.append(state(model))

    assert len(x) > 32 * USUAL_STEPS
    assert_same(*states)


def test_networks_not_compiled_say_so(keras) -> None:
    """
    A network that was not compiled raises what Keras raises.
    """
    x, y = data()
    model = keras.Sequential([keras.Input((12,)), *plain(keras)])
    with many_steps(model, {"x": x, "y": y}) as used:
        assert not used
        with pytest.raises(ValueError, match="compile"):
            model.fit(x, y, verbose=0)


def test_other_networks_are_left_alone_meanwhile(keras) -> None:
    """
    What runs beside a fast call, on another network, gets Keras' own batches.
    """
    x, y = data()
    other, model = network(keras, plain), network(keras, dropout)
    before = other.evaluate(x, y, verbose=0), other.predict(x, verbose=0)

    with many_steps(model, {"x": x, "y": y}) as used:
        assert used
        beside = other.evaluate(x, y, verbose=0), other.predict(x, verbose=0)
        model.fit(x, y, verbose=0)

    assert beside[0] == before[0]
    assert np.array_equal(beside[1], before[1])


def test_only_what_keras_would_make_is_made(keras) -> None:
    """
    A fast evaluate leaves the step of training to be compiled when a fit comes, as Keras does.
    """
    x, y = data()
    model = network(keras, plain)
    given = {"x": x, "y": y, "verbose": 0}
    with many_steps(model, given):
        model.evaluate(**given)
    assert model.train_function is None
    assert model.test_function is not None


@pytest.mark.parametrize("rows", [90, ROWS, 1600, 3000])
@pytest.mark.parametrize("verbose", [1, 2])
def test_what_is_printed_is_the_same(keras, capsys, rows: int, verbose: int) -> None:
    """
    Each line that stays on the screen is the same but for its times, and no bar overruns.
    """
    x, y = (np.concatenate([part] * 3)[:rows] for part in data())
    given = {"x": x, "y": y, "verbose": verbose}
    printed = []
    for is_fast in (False, True):
        model = network(keras, plain)
        fitted = {**given, "epochs": 2, "validation_split": 0.1}
        for call, options in ((model.fit, fitted), (model.evaluate, given)):
            if is_fast:
                with many_steps(model, options) as used:
                    assert used
                    call(**options)
            else:
                call(**options)
        printed.append(capsys.readouterr())

    slow, quick = (on_screen(streams.out) for streams in printed)
    assert slow == quick
    assert len(slow) == 5
    assert "accuracy: " in slow[1]
    assert "val_loss: " in slow[3]
    assert printed[0].err == printed[1].err
    counts = re.findall(r"(\d+)/(\d+)\D", re.sub(r"\x1b\[\d+m|Epoch \d+/\d+", "", printed[1].out))
    assert counts
    assert all(int(done) <= int(of) for done, of in counts)


def on_screen(text: str) -> list[str]:
    """Lines as they stay after what is written over them, without colours and times."""
    lines = [line.rpartition("\r")[2].rstrip() for line in text.rstrip("\n").split("\n")]
    plainly = [re.sub(r"\x1b\[\d+m", "", line) for line in lines]
    return [re.sub(r"\b\d+(s|ms|us|ns)\b", "TIME", line) for line in plainly]


def test_files_of_callbacks_are_the_same(keras, tmp_path) -> None:
    """
    The networks that are saved epoch by epoch and the table of epochs are the same bytes.
    """
    x, y = data()
    found = []
    for is_fast in (False, True):
        folder = tmp_path / str(is_fast)
        folder.mkdir()
        saved = keras.callbacks.ModelCheckpoint(folder / "{epoch}-{val_loss:.6f}.keras")
        table = keras.callbacks.CSVLogger(folder / "epochs.csv")
        given = {"x": x, "y": y, "verbose": 0, "epochs": 3, "validation_split": 0.2}
        given["callbacks"] = [saved, table]
        keras.backend.clear_session()  # names are numbered
        model = network(keras, dropout)
        if is_fast:
            with many_steps(model, given) as used:
                assert used
                model.fit(**given)
        else:
            model.fit(**given)
        names = sorted(path.name for path in folder.iterdir())
        networks = [saved_network(folder / name) for name in names[:-1]]
        found.append((names, networks, (folder / "epochs.csv").read_bytes()))

    assert found[0] == found[1]
    assert len(found[0][1]) == 3


def saved_network(path) -> tuple[bytes, bytes]:
    """Configuration, but for addresses in memory, and weights."""
    with zipfile.ZipFile(path) as archive:
        configuration, weights = archive.read("config.json"), archive.read("model.weights.h5")
    return re.sub(rb', "shared_object_id": \d+', b"", configuration), weights
