"""
Answers for a network that NumPy cannot follow, in a box of its own, without the learner's code.

Started as ``python -m nbassay.inside.rebuild``. Graphs and weights come on standard input, as
frames; Keras builds each network from the layers named here and nothing else, and what goes back
are its answers: the outputs for the probe's sample and the class of each pristine row.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from nbassay.evidence import decode_blob
from nbassay.graph import plan_of, weights_of
from nbassay.inside.arrays import read_idx
from nbassay.inside.channel import BLOB, FACT, HEAD, blob_payload, frame
from nbassay.inside.watching import sample_rows
from nbassay.measure import Preparation
from nbassay.records import BlobRef, Graph, Label, Node, Record, Serial, Text

CHUNK_ROWS = 10_000
BATCH_ROWS = 1000
BATCH_VALUES = 1 << 25
"""Of the largest array between two nodes: 128 MB; Keras holds a few of them."""

_VARIABLES = {"mean": "moving_mean", "variance": "moving_variance"}


class Question(Record, frozen=True, kw_only=True):
    """One network, and how rows are brought to what it was fitted on."""

    state: Serial
    graph: Graph
    preparation: Preparation


class Job(Record, frozen=True, kw_only=True):
    """What the host sends first."""

    files: dict[str, str]
    """Set → IDX file of its rows, in the working folder."""
    questions: list[Question]


class Reply(Record, frozen=True, kw_only=True):
    """What goes back for one question, after the blobs that it names."""

    state: Serial
    sample: BlobRef | None
    """float32 (8, outputs): outputs for the probe's sample."""
    classes: dict[Label, BlobRef]
    """Set → int64 (n,)."""
    why_not: Text | None


def answer(
    question: Question, weights: dict[str, np.ndarray], sets: dict[str, np.ndarray], pipe: int
) -> Reply:
    """
    Build one network and ask it everything; blobs are written to *pipe*.

    Raises:
        ValueError: The graph does not fit together, or Keras does not take it.
    """
    graph, preparation = question.graph, question.preparation
    plan = plan_of(graph, weights)
    batch = max(1, min(BATCH_ROWS, BATCH_VALUES // plan.largest))
    shape = tuple(graph.nodes[0].shape or ())
    model = build(graph, weights)
    classes = {}
    for name, rows in sets.items():
        found = []
        for start in range(0, len(rows), CHUNK_ROWS):
            x = preparation.apply(rows[start : start + CHUNK_ROWS])
            outputs = model.predict(x.reshape(len(x), *shape), batch_size=batch, verbose=0)
            found.append(np.asarray(outputs).reshape(len(x), -1).argmax(axis=1))
        classes[name] = _send(pipe, np.concatenate(found).astype(np.int64))
    outputs = np.asarray(model(sample_rows(shape), training=False), np.float32)
    sample = _send(pipe, outputs.reshape(len(outputs), -1))
    return Reply(state=question.state, sample=sample, classes=classes, why_not=None)


def build(graph: Graph, weights: dict[str, np.ndarray]) -> Any:
    """The Keras model of *graph*, which `plan_of` has let pass."""
    import keras

    outputs: list[Any] = []
    for node in graph.nodes:
        if node.kind == "Input":
            outputs.append(keras.Input(shape=tuple(node.shape or ())))
            continue
        given = [outputs[index] for index in node.inputs]
        layer = _layer(keras, node, given, weights)
        outputs.append(layer(given if len(given) > 1 else given[0]))
        if node.kind == "Normalization":
            continue  # it was made with its weights
        for name, ref, _axes in weights_of(node):
            getattr(layer, _VARIABLES.get(name, name)).assign(weights[ref])
    return keras.Model(outputs[0], outputs[-1])


def _layer(keras: Any, node: Node, given: list[Any], weights: dict[str, np.ndarray]) -> Any:
    """The layer of one node, its weights still to be set."""
    layers = keras.layers
    kernel = weights[node.kernel] if node.kernel is not None else np.zeros(0)
    window = {"strides": node.strides, "padding": node.padding}
    if node.kind == "Dense":
        return layers.Dense(kernel.shape[1], use_bias=node.bias is not None)
    if node.kind == "Conv2D":
        return layers.Conv2D(
            kernel.shape[3],
            kernel.shape[:2],
            dilation_rate=node.dilation,
            groups=given[0].shape[-1] // kernel.shape[2],
            use_bias=node.bias is not None,
            **window,
        )
    if node.kind == "DepthwiseConv2D":
        return layers.DepthwiseConv2D(
            kernel.shape[:2],
            depth_multiplier=kernel.shape[3],
            dilation_rate=node.dilation,
            use_bias=node.bias is not None,
            **window,
        )
    if node.kind == "MaxPooling2D":
        return layers.MaxPooling2D(node.size, **window)
    if node.kind == "AveragePooling2D":
        return layers.AveragePooling2D(node.size, **window)
    if node.kind == "GlobalMaxPooling2D":
        return layers.GlobalMaxPooling2D()
    if node.kind == "GlobalAveragePooling2D":
        return layers.GlobalAveragePooling2D()
    if node.kind == "ZeroPadding2D":
        above, below, left, right = node.margins or [0, 0, 0, 0]
        return layers.ZeroPadding2D(((above, below), (left, right)))
    parts = {"scale": node.gamma is not None, "center": node.beta is not None}
    if node.kind == "BatchNormalization":
        return layers.BatchNormalization(epsilon=node.epsilon, **parts)
    if node.kind == "LayerNormalization":
        return layers.LayerNormalization(epsilon=node.epsilon, **parts)
    if node.kind == "Normalization":
        mean, variance = weights[node.mean or ""], weights[node.variance or ""]
        return layers.Normalization(mean=mean, variance=variance)
    if node.kind == "Rescaling":
        return layers.Rescaling(node.scale, node.offset)
    if node.kind == "Activation":
        return _activation(keras, node.activation or "")
    if node.kind == "LeakyReLU":
        return layers.LeakyReLU(node.slope)
    if node.kind == "Reshape":
        return layers.Reshape(node.shape)
    if node.kind == "Add":
        return layers.Add()
    return layers.Concatenate(axis=node.axis)


def _activation(keras: Any, name: str) -> Any:
    if name == "gelu":  # ours is the one by tanh, see nbassay.network
        return lambda x: keras.activations.gelu(x, approximate=True)
    return keras.layers.Activation(name)


def _send(pipe: int, array: np.ndarray) -> str:
    payload = blob_payload(array)
    _write(pipe, BLOB, payload)
    return hashlib.sha256(payload).hexdigest()


def _write(pipe: int, kind: bytes, payload: bytes) -> None:
    view = memoryview(frame(kind, payload))
    while view:
        view = view[os.write(pipe, view) :]


def _read_job(data: bytes) -> tuple[Job, dict[str, np.ndarray]]:
    job: Job | None = None
    weights = {}
    at = 0
    while at < len(data):
        kind, length = HEAD.unpack_from(data, at)
        payload = data[at + HEAD.size : at + HEAD.size + length]
        at += HEAD.size + length
        if kind == BLOB:
            ref, array = decode_blob(payload)
            weights[ref] = array
        else:
            job = msgspec.json.decode(payload, type=Job)
    assert job is not None
    return job, weights


def main() -> None:
    """Read the job and answer question by question: what is answered counts if time runs out."""
    pipe = int(os.environ["NBASSAY_FD"])
    job, weights = _read_job(sys.stdin.buffer.read())
    sets = {}
    for name, file in job.files.items():
        features = read_idx(Path(file))
        sets[name] = features.reshape(len(features), -1)
    for question in job.questions:
        try:
            reply = answer(question, weights, sets, pipe)
        except Exception as error:  # Keras refuses in many ways; the next network may do
            why_not = f"Keras could not build it again: {type(error).__name__}: {error}"[:1000]
            reply = Reply(state=question.state, sample=None, classes={}, why_not=why_not)
        _write(pipe, FACT, msgspec.json.encode(reply))


if __name__ == "__main__":
    main()
