"""Step 6: the network, how it was compiled, and what it was trained on."""

from __future__ import annotations

import numpy as np
import pytest

from nbassay.authoring import Saw, check
from nbassay.observed import Candidate, Observed
from nbassay.pristine import UNKNOWN
from nbassay.records import ModelFact

UNITS = [16, 16, 10]
INPUTS = 784
EPOCHS = 10
LARGE_BATCH = 1000
"""Images; with more, ten epochs are too few corrections to get there."""
ACCURACIES = {"accuracy", "sparse_categorical_accuracy", "categorical_accuracy"}
LOSS_OF = {
    "integer": "sparse_categorical_crossentropy",
    "one-hot": "categorical_crossentropy",
}


def dense_layers(state: ModelFact, observed: Observed) -> list[tuple[int | None, int]]:
    """Inputs and units of each Dense layer, in order."""
    if state.steps is not None:
        refs = [step.kernel for step in state.steps if step.kernel]
        return [observed.blobs[ref].shape for ref in refs]
    if state.graph is not None:
        refs = [node.kernel for node in state.graph.nodes if node.kind == "Dense" and node.kernel]
        return [observed.blobs[ref].shape for ref in refs]
    return [
        (layer.input_shape[0] if layer.input_shape else None, layer.units)
        for layer in state.layers
        if layer.kind == "Dense" and layer.units is not None
    ]


def activations(state: ModelFact) -> list[str]:
    """What is applied after each Dense layer, whether as argument, layer or function."""
    done: list[tuple[str, str | None]] | None = None
    if state.steps is not None:
        done = [(step.op, step.activation) for step in state.steps]
    elif state.graph is not None:
        done = [
            ("activation", "leaky_relu")
            if node.kind == "LeakyReLU"
            else (node.kind.lower(), node.activation)
            for node in state.graph.nodes
        ]
    after: list[str] = []
    if done is not None:
        for kind, name in done:
            if kind == "dense":
                after.append("linear")
            elif kind == "activation" and name != "linear" and after:
                after[-1] = str(name) if after[-1] == "linear" else f"{after[-1]} then {name}"
        return after
    for layer in state.layers:
        if layer.kind == "Dense":
            after.append(layer.activation or "linear")
        elif layer.activation not in (None, "linear") and after:
            after[-1] = layer.activation or "other"
    return after


@check(
    "model.layers",
    step=6,
    hint="Count the neurons of each layer: two hidden layers of 16, and one output for each digit.",
    is_lasting=True,
)
def test_layers_have_the_right_sizes(network: Candidate, observed: Observed, saw: Saw) -> None:
    """784 inputs, hidden layers of 16 and 16 neurons, an output of 10."""
    layers = dense_layers(network.state, observed)
    graph = network.state.graph
    others = sorted(
        {layer.kind for layer in network.state.layers if layer.parameters and layer.kind != "Dense"}
        - {"Normalization"}
        | {node.kind for node in (graph.nodes if graph else ()) if len(node.inputs) > 1}
    )
    inputs = layers[0][0] if layers else None
    told = "-".join([str(inputs or "?"), *(str(units) for _inputs, units in layers)])
    saw(f"{told}" + (f", and layers of kind {', '.join(others)}" if others else ""))
    saw.number("layers", told)
    assert [units for _inputs, units in layers] == UNITS
    assert inputs in (INPUTS, None)  # None: never built, so no input was named
    assert not others


@check(
    "model.activations",
    step=6,
    hint="Hidden layers use ReLU; the output turns its ten numbers into probabilities.",
    is_lasting=True,
)
def test_activations_are_right(network: Candidate, saw: Saw) -> None:
    """ReLU in the hidden layers, softmax at the output (or logits with a loss told so)."""
    found = activations(network.state)
    compiled = network.state.compiled
    takes_logits = compiled is not None and compiled.from_logits
    saw(", ".join(found) + (" with from_logits=True" if takes_logits else ""))
    saw.number("activations", ", ".join(found))
    assert found
    assert all(name == "relu" for name in found[:-1])
    assert found[-1] == "softmax" or (takes_logits and found[-1] == "linear")


@check(
    "model.compiled",
    step=6,
    hint=(
        "Compile with Adam, a cross-entropy that fits how the labels are written, "
        "and accuracy as a metric."
    ),
    is_lasting=True,
)
def test_network_is_compiled_right(
    compiled_network: Candidate, observed: Observed, saw: Saw
) -> None:
    """Adam, a categorical cross-entropy that fits the labels, and an accuracy metric."""
    compiled = compiled_network.state.compiled
    assert compiled is not None
    metrics = ", ".join(compiled.metrics) or "none"
    rate = compiled.learning_rate
    at = f", learning rate {rate:g}" if isinstance(rate, float) else ""
    saw(f"optimizer {compiled.optimizer}{at}, loss {compiled.loss}, metrics {metrics}")
    saw.number("optimizer and loss", f"{compiled.optimizer}, {compiled.loss}")
    assert compiled.optimizer == "Adam"
    own = [fit for fit in observed.fits if fit.model == compiled_network.state.model]
    forms = {
        fit.data.y.labels.form
        for fit in compiled_network.fits or own  # a fit that stopped tells what its labels were
        if fit.data.y is not None and fit.data.y.labels is not None
    }
    fitting = {LOSS_OF[form] for form in forms} or set(LOSS_OF.values())
    assert compiled.loss in fitting
    assert ACCURACIES & set(compiled.metrics)


@check(
    "train.data",
    step=6,
    hint=(
        "Give fit all 60,000 training images and their labels, in the same order, "
        "and no test image."
    ),
)
def test_trained_on_the_training_set(training: Candidate, observed: Observed, saw: Saw) -> None:
    """Fitted on all 60,000 training images with their own labels, and on no test image."""
    train, test = observed.pristine["train"], observed.pristine["test"]
    seen = np.zeros(len(observed.pristine.labels), bool)
    moved = False
    unknown = wrong = 0
    for fit in training.fits:
        if fit.epochs_run == 0:
            continue
        positions = observed.positions(fit.data.x)
        if positions is None:
            count = fit.data.x.shape[0] if fit.data.x else 0
            pytest.fail(f"{count:,} rows that are not the lab's images", pytrace=False)
        seen[positions[positions != UNKNOWN]] = True
        unknown += int((positions == UNKNOWN).sum())
        agree = observed.labels_agree(fit.data.x, fit.data.y)
        wrong += len(positions) if agree is None else int((~agree).sum())
        given = observed.label_values(fit.data.y)
        moved |= given is not None and np.array_equal(given, train.labels)
    ours = int(seen[train.first : train.first + train.count].sum())
    theirs = int(seen[test.first : test.first + test.count].sum())
    saw(f"{ours:,} of {train.count:,} training images, {theirs:,} test images")
    saw.number(
        "fitted on", f"{ours:,} training images" + (f", {theirs:,} test images" if theirs else "")
    )
    if unknown:
        saw(f"{unknown:,} rows that are not the lab's images")
    if wrong:
        which = "; the labels stand as in the file, the images do not" if moved else ""
        saw(f"{wrong:,} images with a label that is not theirs{which}")
    assert (ours, theirs, unknown, wrong) == (train.count, 0, 0, 0)


@check(
    "train.epochs", step=6, hint="One epoch is one pass over all images; the lab trains for ten."
)
def test_trained_for_ten_epochs(training: Candidate, saw: Saw) -> None:
    """Trained for 10 epochs in all."""
    runs = [fit.epochs_run for fit in training.fits if fit.epochs_run]
    told = " + ".join(str(epochs) for epochs in runs[:12])
    saw(told + (f" = {sum(runs)}" if len(runs) > 1 else ""))
    saw.number("epochs", str(sum(runs)))
    for fit in training.fits[-1:]:
        if 0 < fit.epochs_run < fit.epochs_asked:
            saw(f"stopped early, {fit.epochs_asked} were asked for")
        if fit.batch_size is not None and fit.batch_size > LARGE_BATCH:
            saw(f"{fit.batch_size:,} images in a batch")
    assert sum(runs) == EPOCHS
