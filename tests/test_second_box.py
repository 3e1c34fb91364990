"""Networks that NumPy cannot follow: let in or refused at the border, measured by Keras."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from conftest import ROOT, TINY, Nbassay

from nbassay.evidence import Collector, read_evidence, write_evidence
from nbassay.inside.channel import BLOB, FACT, blob_payload
from nbassay.measure import measure
from nbassay.misconceptions import Variant, build_notebook
from nbassay.observed import Observed
from nbassay.pipeline import RunOptions, grade_class
from nbassay.pristine import RowIndex, read_pristine
from nbassay.records import (
    Array,
    Data,
    Ending,
    EvaluateFact,
    Evidence,
    FitFact,
    Graph,
    Measurement,
    ModelFact,
    Node,
    Rows,
    SecondBox,
    SubmissionResult,
)
from nbassay.sandbox import Box, OnFrame
from nbassay.sandbox.choose import choose
from nbassay.secondbox import measure_again
from nbassay.store import evidence_folder, has_evidence, read_results
from nbassay.submissions import Submission
from nbassay.workbench import Workbench
from nbassay.workshop import read_workshop

INDEX = RowIndex(np.zeros(0, np.uint64))
RNG = np.random.default_rng(0)

# ------------------------------------------------------------------ the border


class Sent:
    """A model fact with a graph, as a box would send it, and the blobs that it names."""

    def __init__(self) -> None:
        self.blobs: list[bytes] = []
        self.nodes: list[dict[str, Any]] = [
            {"kind": "Input", "shape": [8, 8, 1]},
            {
                "kind": "Conv2D",
                "inputs": [0],
                "kernel": self.blob((3, 3, 1, 4)),
                "bias": self.blob((4,)),
                "strides": [1, 1],
                "dilation": [1, 1],
                "padding": "same",
            },
            {"kind": "Activation", "inputs": [1], "activation": "relu"},
            {"kind": "Add", "inputs": [1, 2]},
            {"kind": "MaxPooling2D", "inputs": [3], "size": [2, 2], "strides": [2, 2],
             "padding": "valid"},
            {"kind": "Reshape", "inputs": [4], "shape": [64]},
            {"kind": "Dense", "inputs": [5], "kernel": self.blob((64, 10))},
        ]  # fmt: skip
        self.answer = self.blob((8, 10))

    def blob(self, shape: tuple[int, ...], value: float | None = None) -> str:
        array = RNG.normal(size=shape).astype(np.float32)
        if value is not None:
            array.flat[0] = value
        self.blobs.append(blob_payload(array))
        return hashlib.sha256(self.blobs[-1]).hexdigest()

    def decode(self) -> Collector:
        fact = {
            "type": "model", "cell": 0, "model": 0, "state": 0, "kind": "Sequential",
            "name": None, "layers": [], "steps": None, "why_not": "a Conv2D", "gap": None,
            "graph": {"nodes": self.nodes, "answer": self.answer},
            "compiled": None, "weights": None,
        }  # fmt: skip
        collector = Collector()
        for payload in self.blobs:
            collector.on_frame(BLOB, payload)
        collector.on_frame(FACT, msgspec.json.encode(fact))
        return collector


def test_a_graph_that_fits_together_is_let_in() -> None:
    """
    A network with a skip connection becomes a fact, and its weights are kept.
    """
    collector = Sent().decode()
    facts, blobs = collector.finish(INDEX)

    assert collector.refused == []
    assert isinstance(facts[0], ModelFact)
    assert facts[0].graph is not None
    assert sorted(array.shape for array in blobs.values()) == [
        (3, 3, 1, 4),
        (4,),
        (8, 10),
        (64, 10),
    ]


def spoil_class(sent: Sent) -> None:
    sent.nodes[2] = {"kind": "Lambda", "inputs": [1]}


def spoil_code(sent: Sent) -> None:
    sent.nodes[2]["function"] = "print"


def spoil_activation(sent: Sent) -> None:
    sent.nodes[2]["activation"] = "__import__"


def spoil_order(sent: Sent) -> None:
    sent.nodes[3]["inputs"] = [1, 4]


def spoil_loop(sent: Sent) -> None:
    sent.nodes[2]["inputs"] = [2]


def spoil_index(sent: Sent) -> None:
    sent.nodes[3]["inputs"] = [1, -1]


def spoil_count(sent: Sent) -> None:
    sent.nodes[2]["inputs"] = [1, 1]


def spoil_second_input(sent: Sent) -> None:
    sent.nodes[2] = {"kind": "Input", "shape": [8, 8, 4]}


def spoil_setting(sent: Sent) -> None:
    sent.nodes[2]["epsilon"] = 0.1


def spoil_missing(sent: Sent) -> None:
    del sent.nodes[1]["padding"]


def spoil_nan(sent: Sent) -> None:
    sent.nodes[6]["kernel"] = sent.blob((64, 10), np.nan)


def spoil_variance(sent: Sent) -> None:
    sent.nodes[2] = {
        "kind": "BatchNormalization",
        "inputs": [1],
        "epsilon": 1e-3,
        "mean": sent.blob((4,)),
        "variance": sent.blob((4,), -1.0),
    }


def spoil_units(sent: Sent) -> None:
    sent.nodes[6]["kernel"] = sent.blob((63, 10))


def spoil_bias(sent: Sent) -> None:
    sent.nodes[1]["bias"] = sent.blob((5,))


def spoil_axes(sent: Sent) -> None:
    sent.nodes[1]["kernel"] = sent.blob((9, 4))


def spoil_blob(sent: Sent) -> None:
    sent.nodes[6]["kernel"] = "0" * 64


def spoil_reshape(sent: Sent) -> None:
    sent.nodes[5]["shape"] = [65]


def spoil_window(sent: Sent) -> None:
    sent.nodes[4]["size"] = [9, 9]


def spoil_size(sent: Sent) -> None:
    sent.nodes[3] = {"kind": "ZeroPadding2D", "inputs": [2], "margins": [900, 900, 900, 900]}


def spoil_stride(sent: Sent) -> None:
    sent.nodes[4]["strides"] = [0, 1]


def spoil_answer(sent: Sent) -> None:
    sent.answer = sent.blob((8, 11))


def spoil_length(sent: Sent) -> None:
    sent.nodes += [{"kind": "Activation", "inputs": [6], "activation": "relu"}] * 400


SPOILED = {
    spoil_class: "Invalid enum value 'Lambda'",
    spoil_code: "unknown field",
    spoil_activation: "not known",
    spoil_order: "only after it",
    spoil_loop: "only after it",
    spoil_index: ">= 0",
    spoil_count: "takes 2 inputs",
    spoil_second_input: "stands where it cannot",
    spoil_setting: "wrong settings (epsilon)",
    spoil_missing: "wrong settings (padding)",
    spoil_nan: "not finite",
    spoil_variance: "a variance below zero",
    spoil_units: "for 63 inputs and gets 64",
    spoil_bias: "bias of 5 for 4 units",
    spoil_axes: "expected float32 with 4 axes",
    spoil_blob: "were not sent",
    spoil_reshape: "cannot make (65,)",
    spoil_window: "window of 9 for 8 pixels",
    spoil_size: "values of one row",
    spoil_stride: ">= 1",
    spoil_answer: "another shape",
    spoil_length: "<= 400",
}


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: spoil.__name__)
def test_a_graph_that_does_not_is_refused(spoil: Any) -> None:
    """
    Whatever does not fit together is refused whole, with the reason, before any box sees it.
    """
    sent = Sent()
    spoil(sent)
    collector = sent.decode()

    assert collector.finish(INDEX) == ([], {})
    assert len(collector.refused) == 1
    assert SPOILED[spoil] in collector.refused[0]


# ------------------------------------------------------------------ what the second box says

OWN = np.full((8, 2), 0.5, np.float32)
"""What the network itself answered to the probe's sample."""


@dataclasses.dataclass
class Scripted:
    """A sandbox whose box says what it is told to."""

    sample: np.ndarray = dataclasses.field(default_factory=OWN.copy)
    classes: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(40, np.int64))
    why_not: str | None = None
    reason: str = "finished"
    name: str = "scripted"
    mode: str = "scripted"
    is_isolated: bool = True

    def run(self, box: Box, on_frame: OnFrame, *, should_stop: Callable[[], bool]) -> Ending:
        if self.reason == "finished":
            for array in (self.sample, self.classes):
                on_frame(BLOB, blob_payload(array))
            reply = {
                "state": 0,
                "sample": None if self.why_not else name_of(self.sample),
                "classes": {} if self.why_not else {"tiles": name_of(self.classes)},
                "why_not": self.why_not,
            }
            on_frame(FACT, msgspec.json.encode(reply))
        return Ending(reason=self.reason, message=None, seconds=1.0, peak_memory_bytes=1)  # type: ignore[arg-type]


def name_of(array: np.ndarray) -> str:
    return hashlib.sha256(blob_payload(array)).hexdigest()


def measured_with(sandbox: Scripted, tmp_path: Path) -> Measurement:
    """What is measured of a trained network of the tiny workshop when *sandbox* answers for it."""
    workshop = read_workshop(TINY)
    pristine = read_pristine(workshop)
    kernel = RNG.normal(size=(16, 2)).astype(np.float32)
    nodes = [
        Node(kind="Input", shape=[16]),
        Node(kind="Dense", inputs=[0], kernel=name_of(kernel)),
        Node(kind="Activation", inputs=[1], activation="softmax"),
    ]
    model = ModelFact(
        cell=0, model=0, state=0, kind="Model", name=None, layers=[], steps=None,
        why_not="layer a is a Conv2D", graph=Graph(nodes=nodes, answer=name_of(OWN)),
        gap=None, compiled=None, weights=None,
    )  # fmt: skip
    x = Array(shape=[40, 16], dtype="float32", low=0.0, high=1.0,
              rows=Rows(width=16, count=40, scale=1 / 255, offset=0.0, residual=0.0,
                        digests="0" * 64))  # fmt: skip
    fit = FitFact(
        cell=0, model=0, before=None, state=0, data=Data(kind="arrays", x=x), validation=None,
        validation_split=0.0, epochs_asked=1, epochs_run=1, batch_size=None, history={}, error=None,
    )  # fmt: skip
    evidence = Evidence(
        schema="nbassay/evidence/1", notebook="n", key="k", data="d", sandbox="scripted",
        is_isolated=True, attempt=0, limits={},
        ending=Ending(reason="finished", message=None, seconds=1.0, peak_memory_bytes=1),
        facts=[model, fit], refused=[],
    )  # fmt: skip
    blobs = {name_of(kernel): kernel, name_of(OWN): OWN, "0" * 64: np.arange(40, dtype=np.int32)}
    second, classes = measure_again(
        evidence,
        blobs,
        Workbench(workshop=workshop, pristine=pristine, data_folder=tmp_path, sandbox=sandbox),
        env={},
        workdir="/home/learner",
        should_stop=lambda: False,
    )
    evidence = msgspec.structs.replace(evidence, second=second)
    observed = Observed(evidence, blobs | classes, pristine)
    (candidate,) = observed.candidates()
    return measure(candidate, observed, train="tiles", test="tiles", largest_gap=1e-3)


def test_answers_of_the_second_box_are_counted_here(tmp_path: Path) -> None:
    """
    From the classes that come back, accuracy and confusion matrix are computed on our side.
    """
    found = measured_with(Scripted(), tmp_path)
    labels = read_pristine(read_workshop(TINY))["tiles"].labels

    assert found.why_not is None
    assert found.test_accuracy == (labels == 0).mean()
    assert found.confusion == [[int((labels == 0).sum()), 0], [int((labels == 1).sum()), 0]]


SILENT = {
    "another network": (Scripted(sample=OWN + 0.1), "of its layers and weights differ by 0.1"),
    "not a number": (Scripted(sample=OWN * np.nan), "differ by not a number"),
    "other outputs": (Scripted(sample=np.zeros((8, 3), np.float32)), "another output"),
    "too few rows": (Scripted(classes=np.zeros(39, np.int64)), "for every row"),
    "floats": (Scripted(classes=np.zeros(40)), "for every row"),
    "no class": (Scripted(classes=np.full(40, 2)), "a class that is none"),
    "below zero": (Scripted(classes=np.full(40, -1)), "a class that is none"),
    "refused by Keras": (Scripted(why_not="Keras could not build it"), "Conv2D, and Keras could"),
    "no box": (Scripted(reason="could-not-start"), "the second sandbox could not start"),
    "no time": (Scripted(reason="wall-time"), "the second sandbox took too long"),
}


@pytest.mark.parametrize(("sandbox", "why_not"), SILENT.values(), ids=SILENT)
def test_what_the_second_box_says_is_checked(
    tmp_path: Path, sandbox: Scripted, why_not: str
) -> None:
    """
    A box that fails, or answers for another network than the learner's, gives no accuracy but the
    reason.
    """
    found = measured_with(sandbox, tmp_path)

    assert found.test_accuracy is None
    assert found.why_not is not None
    assert why_not in found.why_not


@pytest.mark.parametrize(("reason", "is_there"), [("finished", True), ("could-not-start", False)])
def test_a_second_box_that_did_not_start_is_tried_again(
    tmp_path: Path, reason: str, is_there: bool
) -> None:
    """
    Our failure is not kept: the same command runs such a submission again.
    """
    ending = Ending(reason="finished", message=None, seconds=1.0, peak_memory_bytes=1)
    second = SecondBox(ending=msgspec.structs.replace(ending, reason=reason), networks=[])
    evidence = Evidence(
        schema="nbassay/evidence/1", notebook="n", key="k", data="d", sandbox="scripted",
        is_isolated=True, attempt=0, limits={}, ending=ending, facts=[], refused=[], second=second,
    )  # fmt: skip
    write_evidence(tmp_path / "evidence", evidence, {})

    assert has_evidence(evidence_folder(tmp_path, 0), "k") is is_there


# ------------------------------------------------------------------ real networks

CONVOLUTIONS = """
model = keras.Sequential(
    [
        keras.Input(shape=(784,)),
        keras.layers.Reshape((28, 28, 1)),
        keras.layers.Conv2D(8, 5, strides=2, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Dropout(0.1),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
"""

SKIPPING = """
class Skipping(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = keras.layers.Dense(32)
        self.norm = keras.layers.BatchNormalization()
        self.second = keras.layers.Dense(32, activation="relu")
        self.last = keras.layers.Dense(10)

    def call(self, x, training=False):
        one = keras.ops.relu(self.norm(self.first(x), training=training))
        return keras.ops.softmax(self.last(self.second(one) + one))


model = Skipping()
"""

LAMBDA = """
model = keras.Sequential(
    [
        keras.Input(shape=(784,)),
        keras.layers.Lambda(lambda x: x**2 - x**3),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
"""


class Quiet:
    """Hears how far the class is, and keeps it to itself."""

    def start(self, total: int) -> None: ...

    def done(self, name: str, how: str) -> None: ...

    def close(self) -> None: ...


NETWORKS = {"convolutions": CONVOLUTIONS, "skipping": SKIPPING, "lambda": LAMBDA}


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three networks, each trained for two epochs and graded."""
    workshop = read_workshop(ROOT)
    reference = workshop.path(workshop.manifest.reference).read_bytes()
    ways = {
        name: Variant(
            title=name,
            cells={
                "build": source,
                "train": "history = model.fit(x_train, y_train, epochs=2)",
            },
        )
        for name, source in NETWORKS.items()
    }
    out = tmp_path_factory.mktemp("second") / "graded"
    out.mkdir()
    options = RunOptions(
        workshop=workshop,
        out=out,
        jobs=2,
        sandbox=choose("auto"),
        progress=Quiet(),
        is_fresh=False,
    )
    submissions = [
        Submission(
            learner=name,
            file=f"{name}.ipynb",
            read=functools.partial(build_notebook, way, reference),
        )
        for name, way in ways.items()
    ]
    grade_class(options, submissions, controls=[])
    return out


@pytest.fixture(scope="module")
def sheets(graded: Path) -> dict[str, SubmissionResult]:
    return {one.learner: one for one in read_results(graded).submissions}


@pytest.mark.kernel
@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["convolutions", "skipping"])
def test_what_numpy_cannot_follow_is_measured_by_keras(
    graded: Path, sheets: dict[str, SubmissionResult], name: str
) -> None:
    """
    It gets a mark like any other: the accuracy is that of its own evaluation and passes, its layers
    are wrong, and the report says where it was measured.
    """
    sheet = sheets[name]
    evidence, _blobs = read_evidence(graded / "learners" / name / "evidence")
    told = [fact for fact in evidence.facts if isinstance(fact, EvaluateFact)][-1].returned
    outcomes = {check.id: check.outcome for check in sheet.checks}

    assert (sheet.status, sheet.notes) == ("graded", [])
    assert sheet.test_accuracy == pytest.approx(told["accuracy"], abs=1e-3)
    assert sheet.train_accuracy == pytest.approx(sheet.test_accuracy, abs=0.05)
    assert outcomes["model.layers"] == "failed"
    assert outcomes["prep.scaling"] == outcomes["model.activations"] == "passed"
    assert outcomes["accuracy.train"] == outcomes["accuracy.test"] == "passed"
    assert sheet.details is not None
    assert "Keras in a second sandbox" in sheet.details.environment["Accuracy"]


@pytest.mark.kernel
@pytest.mark.tensorflow
def test_what_cannot_be_built_again_is_for_a_person(sheets: dict[str, SubmissionResult]) -> None:
    """
    A function of the learner's own is never carried over: the sheet says where it sits.
    """
    sheet = sheets["lambda"]
    outcomes = {check.id: check.outcome for check in sheet.checks}

    assert sheet.status == "needs-review"
    assert "is a Lambda and changes its input in a way that is not known" in sheet.notes[0]
    assert outcomes["accuracy.test"] == "not-reached"


@pytest.mark.kernel
@pytest.mark.tensorflow
def test_scoring_again_starts_no_box(graded: Path, nbassay: Nbassay, tmp_path: Path) -> None:
    """
    The answers of the second box lie with the evidence; results come out the same without it.
    """
    copied = Path(shutil.copytree(graded, tmp_path / "graded"))
    before = (copied / "results.json").read_bytes()
    (copied / "results.json").unlink()

    done = nbassay("score", copied, cwd=ROOT, PATH="")

    assert done.returncode == 0, done.stderr
    assert (copied / "results.json").read_bytes() == before
