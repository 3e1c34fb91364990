"""
The records that travel between stages: evidence, measurement, sheet.

Facts come out of the box and are hostile until `nbassay.evidence` has decoded them into
these types: frozen, no unknown keys, every length bounded. Bulk numbers (weights, row digests,
labels) travel beside the facts as blobs; a fact names a blob by the SHA-256 of its bytes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

SCHEMA_EVIDENCE: Literal["nbassay/evidence/1"] = "nbassay/evidence/1"
SCHEMA_RESULTS: Literal["nbassay/results/1"] = "nbassay/results/1"
LIVE = "live kernel"
"""Stands for the sandbox where a learner's own kernel was watched, and nothing was run."""

Count = Annotated[int, Meta(ge=0, le=2**53)]
Serial = Annotated[int, Meta(ge=0, le=1_000_000)]
Label = Annotated[str, Meta(max_length=200)]
Text = Annotated[str, Meta(max_length=4000)]
BlobRef = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
Shape = Annotated[list[Count], Meta(max_length=16)]
Number = float | Literal["nan", "inf", "-inf"]
"""A finite float, or the word for what JSON has no number for."""


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all records: frozen, keyword-only, strict."""


# ---------------------------------------------------------------- facts of arrays and data


class BlobHeader(Record, frozen=True, kw_only=True):
    """What the raw little-endian bytes of a blob are."""

    dtype: Literal["float32", "float64", "int32", "int64", "uint64"]
    shape: Shape


class Rows(Record, frozen=True, kw_only=True):
    """What the rows of an array are, each compared as a whole number of levels (0..255)."""

    width: Count
    """Values in one row, 784 for a 28 × 28 image."""
    count: Count
    """Rows seen; more than ``len(digests)`` when a stream showed rows more than once."""
    scale: float
    """One level in the array's own units: 1/255 for pixels scaled to 0..1."""
    offset: float
    """Level 0 in the array's own units: -1 for pixels scaled to -1..1."""
    residual: float
    """Largest distance of a value from its level, as a fraction of a level."""
    profile: Annotated[list[Annotated[list[Count], Meta(max_length=3)]], Meta(max_length=64)] = []
    """
    Of a few rows spread over the array: sums of the levels, of their squares, of their cubes. They
    do not depend on the order of the values within a row.
    """
    digests: BlobRef
    """
    One entry a distinct row, in the order seen. From the box: uint64, the row's digest keyed with
    the run's nonce. After decoding the blob of this name holds int32 positions in the workshop's
    pristine sets (see `nbassay.pristine`), -1 for a row that is none of theirs.
    """


class Labels(Record, frozen=True, kw_only=True):
    """Class labels, aligned with the rows they were given with where there are any."""

    form: Literal["integer", "one-hot"]
    classes: Count
    """Columns of a one-hot array; largest label + 1 otherwise."""
    values: BlobRef
    """int64, one label a row."""


class Array(Record, frozen=True, kw_only=True):
    """What was seen of one array; never the array itself."""

    shape: Shape
    """Axis lengths; ``[60000, 784]`` for flattened images. Of a stream: all rows together."""
    dtype: Label
    low: Number | None
    """Smallest value, in the array's own units; None of an empty or non-numeric array."""
    high: Number | None
    name: Label | None = None
    """Its name in the notebook, if it has one; told to people, never used to decide."""
    rows: Rows | None = None
    labels: Labels | None = None


class Data(Record, frozen=True, kw_only=True):
    """What was handed to ``fit``, ``evaluate``, ``predict`` or a call."""

    kind: Literal["arrays", "tf.data", "generator", "other"]
    x: Array | None
    y: Array | None = None


# ---------------------------------------------------------------- facts of models


class Layer(Record, frozen=True, kw_only=True):
    """One layer as Keras holds it."""

    name: Label
    kind: Label
    """Class name: ``Dense``."""
    units: Count | None
    activation: Label | None
    """Recognised by identity and behaviour: ``relu``; ``other`` when it is none we know."""
    input_shape: Shape | None
    """Without the batch axis."""
    output_shape: Shape | None
    parameters: Count


class Step(Record, frozen=True, kw_only=True):
    """One link of the chain that turns a row into the network's answer."""

    op: Literal["flatten", "rescale", "dense", "activation", "normalize", "identity"]
    layer: Label | None = None
    activation: Label | None = None
    """Of an ``activation`` step."""
    kernel: BlobRef | None = None
    """Of a ``dense`` step, shape (inputs, units)."""
    bias: BlobRef | None = None
    scale: float | None = None
    """Of a ``rescale`` step: ``x * scale + offset``."""
    offset: float | None = None
    mean: BlobRef | None = None
    """Of a ``normalize`` step: ``(x - mean) / deviation``."""
    deviation: BlobRef | None = None


Pair = Annotated[list[Annotated[int, Meta(ge=1, le=1000)]], Meta(min_length=2, max_length=2)]
RowShape = Annotated[list[Annotated[int, Meta(ge=1, le=1 << 20)]], Meta(min_length=1, max_length=8)]


class Node(Record, frozen=True, kw_only=True):
    """One operation of a network that is no chain; `nbassay.graph` has the rules of each kind."""

    kind: Literal[
        "Input",
        "Dense",
        "Conv2D",
        "DepthwiseConv2D",
        "MaxPooling2D",
        "AveragePooling2D",
        "GlobalMaxPooling2D",
        "GlobalAveragePooling2D",
        "ZeroPadding2D",
        "BatchNormalization",
        "LayerNormalization",
        "Normalization",
        "Rescaling",
        "Activation",
        "LeakyReLU",
        "Reshape",
        "Add",
        "Concatenate",
    ]
    """As Keras calls it. A layer with an activation is two nodes."""
    inputs: Annotated[list[Annotated[int, Meta(ge=0, lt=400)]], Meta(max_length=16)] = []
    """Positions of the nodes that it takes, each before its own; none of ``Input``."""
    layer: Label | None = None
    shape: RowShape | None = None
    """Of ``Input`` and ``Reshape``: of one row, without the batch axis."""
    activation: Label | None = None
    """Of ``Activation``: one that `nbassay.network` knows."""
    slope: float | None = None
    """Of ``LeakyReLU``: factor of what is below zero."""
    size: Pair | None = None
    """Of pooling: height and width of the window."""
    strides: Pair | None = None
    """Of convolutions and pooling."""
    dilation: Pair | None = None
    """Of convolutions."""
    padding: Literal["valid", "same"] | None = None
    """Of convolutions and pooling."""
    margins: (
        Annotated[list[Annotated[int, Meta(ge=0, le=1000)]], Meta(min_length=4, max_length=4)]
        | None
    ) = None
    """Of ``ZeroPadding2D``: rows above and below, columns left and right."""
    axis: Annotated[int, Meta(ge=1, le=8)] | None = None
    """Of ``Concatenate``, the batch axis being 0."""
    scale: float | None = None
    """Of ``Rescaling``: ``x * scale + offset``."""
    offset: float | None = None
    epsilon: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Of batch and layer normalization, both over the last axis."""
    kernel: BlobRef | None = None
    """``Dense``: (inputs, units); convolutions: (height, width, inputs, filters)."""
    bias: BlobRef | None = None
    gamma: BlobRef | None = None
    beta: BlobRef | None = None
    mean: BlobRef | None = None
    """Of ``BatchNormalization`` (the moving one) and ``Normalization``."""
    variance: BlobRef | None = None


class Graph(Record, frozen=True, kw_only=True):
    """A network that NumPy cannot follow, so described that Keras can build it again."""

    nodes: Annotated[list[Node], Meta(min_length=2, max_length=400)]
    """``Input`` first; the last one's output is the network's."""
    answer: BlobRef
    """float32 (8, outputs): the network's own answer to the probe's sample."""


class Compiled(Record, frozen=True, kw_only=True):
    """What ``compile`` was told, recognised by class, not by spelling."""

    optimizer: Label
    """Class name: ``Adam``."""
    learning_rate: Number | None
    loss: Label
    """Canonical name: ``sparse_categorical_crossentropy``; ``other`` when it is none we know."""
    from_logits: bool
    metrics: Annotated[list[Label], Meta(max_length=50)]


class ModelFact(Record, tag="model", frozen=True, kw_only=True):
    """One state of one model: its layers, how it was compiled, its weights."""

    cell: Count
    model: Serial
    """Which network: models that share their variables share this number."""
    state: Serial
    """Which state of any network; fits, evaluations and predictions point here."""
    kind: Label
    """Class name of the model object."""
    name: Label | None
    layers: Annotated[list[Layer], Meta(max_length=400)]
    steps: Annotated[list[Step], Meta(max_length=400)] | None
    """None when the network is no plain chain that NumPy can follow; *why_not* says why."""
    why_not: Text | None
    graph: Graph | None = None
    """Without *steps*: what the second box builds; None when *why_not* speaks of that too."""
    gap: Number | None
    """Largest difference between the chain's answer and the model's own on the probe's sample."""
    compiled: Compiled | None
    weights: BlobRef | None
    """Digest over all weights: equal weights, equal digest."""
    was_trained_before: bool = False
    """Whether it was trained before anybody watched; only a live kernel has such networks."""


class FitFact(Record, tag="fit", frozen=True, kw_only=True):
    """One call of ``fit``."""

    cell: Count
    model: Serial
    before: Serial | None
    """State at the start; None when the network was not built yet."""
    state: Serial | None
    """State at the end; None when it could not be taken."""
    data: Data
    validation: Data | None
    validation_split: float
    epochs_asked: Count
    epochs_run: Count
    batch_size: Count | None
    history: Annotated[
        dict[Label, Annotated[list[Number], Meta(max_length=10_000)]], Meta(max_length=50)
    ]
    error: Label | None
    """Name of the error that ended it early."""
    is_fast: bool = False
    """Whether many batches were run a call (see `nbassay.inside.fastfit`)."""


class EvaluateFact(Record, tag="evaluate", frozen=True, kw_only=True):
    """One call of ``evaluate``."""

    cell: Count
    model: Serial
    state: Serial | None
    data: Data
    returned: Annotated[dict[Label, Number], Meta(max_length=50)]


class PredictFact(Record, tag="predict", frozen=True, kw_only=True):
    """One call of ``predict`` or of the model itself on concrete data."""

    cell: Count
    model: Serial
    state: Serial | None
    data: Data
    via: Literal["predict", "call", "predict_on_batch"]
    returned_shape: Shape | None
    classes: BlobRef | None
    """int64: the index of the largest output for each row."""


# ---------------------------------------------------------------- facts of the run


class ArrayFact(Record, tag="array", frozen=True, kw_only=True):
    """An array that was in memory after a cell, or that a loader returned."""

    cell: Count
    source: Literal["namespace", "loader"]
    array: Array


class PictureFact(Record, tag="picture", frozen=True, kw_only=True):
    """An image drawn with Matplotlib: ``imshow``, or as a mesh."""

    cell: Count
    array: Array


class CellFact(Record, tag="cell", frozen=True, kw_only=True):
    """How one code cell ended."""

    index: Count
    """Position in the notebook, 0 first, all cell kinds counted."""
    status: Literal["ok", "error", "timeout", "not-run"]
    seconds: float
    error_name: Label | None = None
    error_message: Text | None = None
    pictures: Count = 0
    """Image outputs of the cell."""
    other_pictures: Count = 0
    """Those not drawn by Matplotlib: what they show is not known."""
    warnings: Annotated[list[Text], Meta(max_length=20)] = []


class CodeFact(Record, tag="code", frozen=True, kw_only=True):
    """What the notebook's code says, read by the executor before any of it ran."""

    names: Annotated[list[Label], Meta(max_length=3000)]
    """Identifiers, short texts that may be some, and paths in any text."""
    replaced: Annotated[list[Label], Meta(max_length=100)]
    """Methods that decide marks and that the code defines or assigns: ``keras.Model.fit``."""
    packed_bytes: Count
    """All code cells together, comments too, as zlib packs them: what they can bring along."""
    unread_cells: Count
    """Code cells that could not be read."""
    was_cut: bool
    """Whether there are more names than these."""


class EnvironmentFact(Record, tag="environment", frozen=True, kw_only=True):
    """Where the notebook ran, told by the kernel at its end."""

    python: Label
    packages: Annotated[dict[Label, Label], Meta(max_length=50)]
    seed: Count
    threads: Count
    cpu_seconds: float
    peak_memory_bytes: Count


class RemarkFact(Record, tag="remark", frozen=True, kw_only=True):
    """Something the probe wants a person to know."""

    cell: Count
    topic: Literal[
        "hand-training", "probe-error", "cut", "weights-loaded", "file-found", "loaded-late"
    ]
    text: Text


Fact = (
    CellFact
    | ArrayFact
    | PictureFact
    | ModelFact
    | FitFact
    | EvaluateFact
    | PredictFact
    | CodeFact
    | EnvironmentFact
    | RemarkFact
)


class Ending(Record, frozen=True, kw_only=True):
    """How a box ended, told by the host."""

    reason: Literal[
        "finished",
        "wall-time",
        "cpu-time",
        "memory",
        "evidence-size",
        "crashed",
        "could-not-start",
        "killed-outside",
        "interrupted",
    ]
    message: Text | None
    """One plain sentence for the report; None after *finished*."""
    seconds: float
    """Wall time of the box."""
    peak_memory_bytes: Count
    is_warm: bool = False
    """Whether it started as a fork of a process that had imported the libraries."""


class Rebuilt(Record, frozen=True, kw_only=True):
    """What one network answered when Keras had built it again from its graph."""

    state: Serial
    scale: float
    """How pristine rows were prepared: one level in the units of the network's input."""
    offset: float
    dtype: Label
    gap: Number | None
    """Largest difference from the network's own answer to the probe's sample."""
    classes: dict[Label, BlobRef]
    """Set → int64 (n,): the index of the largest output for each pristine row."""
    why_not: Text | None
    """Why there are no answers; None when there are."""


class SecondBox(Record, frozen=True, kw_only=True):
    """The box in which Keras answered for networks that NumPy cannot follow."""

    ending: Ending | None
    """None when none was started: no network was small enough."""
    networks: list[Rebuilt]


class Evidence(Record, frozen=True, kw_only=True):
    """All facts of one run of one notebook: ``evidence/evidence.json``."""

    schema: Literal["nbassay/evidence/1"]
    notebook: Label
    """``sha256:…`` of the code cells and their places."""
    key: Label
    """Digest of all that the run depended on; equal keys need no second run."""
    data: Label
    """Digest of the lab's data and their order, which the positions in the blobs refer to."""
    sandbox: Label
    """Provider that ran it: ``bubblewrap (user)``, ``none``."""
    is_isolated: bool
    """False when it ran with no wall around it."""
    attempt: Count
    limits: dict[str, float]
    ending: Ending
    facts: list[Fact]
    refused: Annotated[list[Text], Meta(max_length=100)]
    """What was sent and not believed, and why."""
    second: SecondBox | None = None
    """None when no network needed one."""
    renaming: Annotated[list[Count], Meta(max_length=1000)] | None = None
    """Of a challenge run: class → the name that it had in all label files (`nbassay.renaming`)."""


# ---------------------------------------------------------------- results


class Wrong(Record, frozen=True, kw_only=True):
    """A test row that the network got wrong."""

    index: int
    truth: int
    predicted: int


class Measurement(Record, frozen=True, kw_only=True):
    """What the grader computed from weights and pristine data."""

    train_accuracy: float | None
    test_accuracy: float | None
    confusion: list[list[int]] | None
    """Test set: row is the true class, column the network's answer."""
    wrong: list[Wrong]
    """The first few test rows that it got wrong, spread over the classes."""
    why_not: str | None
    """Why there are no accuracies, in words for the report."""


class CheckResult(Record, frozen=True, kw_only=True):
    """One check's outcome for one submission."""

    id: str
    step: int
    outcome: Literal["passed", "failed", "not-reached", "broken"]
    points: float
    earned: float
    wanted: str
    saw: str
    hint: str | None
    """What to look at next; None when passed."""


class MisconceptionResult(Record, frozen=True, kw_only=True):
    """A known wrong way that explains this sheet."""

    id: str
    hint: str


class NumberRow(Record, frozen=True, kw_only=True):
    """One row of 'your numbers beside the reference's'."""

    label: str
    value: str


class Stop(Record, frozen=True, kw_only=True):
    """A cell that did not end well."""

    cell: int
    """1-based position among all cells, as a person counts."""
    status: str
    error_name: str | None
    error_message: str | None


class Curve(Record, frozen=True, kw_only=True):
    """One metric of the training history, one value an epoch."""

    metric: str
    values: list[float | None]


class Provenance(Record, frozen=True, kw_only=True):
    """What the grader knows by itself of a sheet, and what it knows from the notebook only."""

    signs: list[str]
    """Why the work may have been brought along instead of done (`nbassay.provenance`)."""
    challenge: Literal["passed", "failed", "not-run"]
    """How the run with renamed classes came out (`nbassay.renaming`)."""
    verified: list[str]
    claimed: list[str]


class Details(Record, frozen=True, kw_only=True):
    """What a report shows beside the checks."""

    numbers: list[NumberRow]
    curves: list[Curve]
    measurement: Measurement | None
    stops: list[Stop]
    environment: dict[str, str]
    """Label → value: versions, sandbox, seed, threads."""
    limits: dict[str, float]
    provenance: Provenance | None = None


class SubmissionResult(Record, frozen=True, kw_only=True):
    """One learner's sheet."""

    learner: str
    file: str
    digest: str
    status: Literal["graded", "needs-review", "unreadable", "not-run"]
    score: float | None
    """None when nothing was graded (unreadable, not-run)."""
    max_score: float
    train_accuracy: float | None
    test_accuracy: float | None
    checks: list[CheckResult]
    misconceptions: list[MisconceptionResult]
    notes: list[str]
    details: Details | None


class ControlResult(Record, frozen=True, kw_only=True):
    """One control sample, graded beside the class."""

    name: str
    as_expected: bool
    score: float | None
    why: str | None
    """What came out instead; None when as expected."""


class WorkshopId(Record, frozen=True, kw_only=True):
    title: str
    digest: str


class FreshRuns(Record, frozen=True, kw_only=True):
    """How often right work lost points by chance: graded runs of the reference, for the reports."""

    checks: list[str]
    """The calibrated accuracies: what chance can cost."""
    runs: int
    lost: int
    """Runs that lost points after their repeats."""
    low: float
    """Chance with 95 % confidence, 0..1."""
    high: float


class Results(Record, frozen=True, kw_only=True):
    """``results.json``: everything that the reports are made of."""

    schema: Literal["nbassay/results/1"]
    workshop: WorkshopId
    controls: list[ControlResult]
    reference: SubmissionResult | None
    """The reference's own sheet, whose numbers stand beside every learner's."""
    submissions: list[SubmissionResult]
    notes: list[str] = []
    """What an instructor must know of the class as a whole."""
    identical: list[list[str]] = []
    """Learners whose code is the same, by name; one run may serve for all of them."""
    fresh_runs: FreshRuns | None = None
    """None when the workshop names no such figures, or they were measured under other bounds."""
