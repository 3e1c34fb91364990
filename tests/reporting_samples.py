"""
Results written by hand, for the tests of the reports and for ``reports/samples``.

Fixed data of the MNIST lab: one learner per way to do it right or wrong, and one whose every text
is hostile.
"""

from __future__ import annotations

import gzip
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np

from nbassay.records import (
    SCHEMA_RESULTS,
    CheckResult,
    ControlResult,
    Curve,
    Details,
    FreshRuns,
    Measurement,
    MisconceptionResult,
    NumberRow,
    Results,
    Stop,
    SubmissionResult,
    WorkshopId,
    Wrong,
)

ROOT = Path(__file__).resolve().parents[1]
REPORTS_DIR = ROOT / "reports"
SAMPLES = REPORTS_DIR / "samples"
WORKSHOP_TITLE = "Handwritten digits with Keras"
STEP_TITLES = {
    4: "Load the data",
    5: "Prepare the images",
    6: "Build and train the network",
    7: "Measure its accuracy",
}

# id, step, points, wanted, what is seen of right work, hint
CHECKS: tuple[tuple[str, int, float, str, str, str], ...] = (
    (
        "data.train_images",
        4,
        3,
        "The 60,000 training images are in memory as they come.",
        "x_train: (60000, 28, 28) uint8 (after cell 4)",
        "Read train-images-idx3-ubyte whole.",
    ),
    (
        "data.train_labels",
        4,
        3,
        "The 60,000 training labels are in memory as they come.",
        "y_train: (60000,) uint8 (after cell 4)",
        "Read train-labels-idx1-ubyte whole.",
    ),
    (
        "data.test_images",
        4,
        3,
        "The 10,000 test images are in memory as they come.",
        "x_test: (10000, 28, 28) uint8 (after cell 4)",
        "Read t10k-images-idx3-ubyte whole.",
    ),
    (
        "data.test_labels",
        4,
        3,
        "The 10,000 test labels are in memory as they come.",
        "y_test: (10000,) uint8 (after cell 4)",
        "Read t10k-labels-idx1-ubyte whole.",
    ),
    (
        "data.example_shown",
        4,
        3,
        "A digit of the data is shown as a picture.",
        "training image 0 was drawn in cell 5",
        "Draw one image with plt.imshow.",
    ),
    (
        "prep.train_shape",
        5,
        10,
        "The training images become 60,000 rows of 784 pixels, each row one image.",
        "(60000, 784), every row one training image (after cell 7)",
        "Use reshape(60000, 784); do not transpose first.",
    ),
    (
        "prep.test_shape",
        5,
        5,
        "The test images become 10,000 rows of 784 pixels, each row one image.",
        "(10000, 784), every row one test image (after cell 7)",
        "Do with the test images what you did with the training images.",
    ),
    (
        "prep.scaling",
        5,
        10,
        "Pixel values of both sets lie between 0.0 and 1.0.",
        "training images: 0 to 1 (after cell 8)\ntest images: 0 to 1 (after cell 8)",
        "Convert to float32, then divide by 255 once, both sets.",
    ),
    (
        "model.layers",
        6,
        15,
        "784 inputs, hidden layers of 16 and 16 neurons, an output of 10.",
        "784 → 16 → 16 → 10",
        "Count the neurons of each Dense layer against the lab's picture.",
    ),
    (
        "model.activations",
        6,
        5,
        "The hidden layers use relu, the output softmax.",
        "relu, relu, softmax",
        "Look at the activation argument of each layer.",
    ),
    (
        "model.compiled",
        6,
        5,
        "Compiled with Adam, a cross-entropy that fits the labels, and an accuracy metric.",
        "Adam, sparse_categorical_crossentropy, accuracy",
        "Compare your compile call with the lab's.",
    ),
    (
        "train.data",
        6,
        5,
        "Fitted on all 60,000 training images with their own labels, and on no test image.",
        "60,000 of 60,000 training images with their labels, no test image",
        "Pass the prepared training images and their labels to fit, all of them.",
    ),
    ("train.epochs", 6, 5, "Trained for 10 epochs in all.", "10 epochs", "Set epochs=10 in fit."),
    (
        "accuracy.train",
        7,
        10,
        "The trained network reads about 96 % of the training images correctly.",
        "measured 96.36 %; at least 95.5 % is enough",
        "First mend what the earlier steps report; then train again.",
    ),
    (
        "accuracy.test",
        7,
        10,
        "The trained network reads about 95 % of the test images correctly.",
        "measured 95.21 %; at least 94.5 % is enough",
        "First mend what the earlier steps report; then train again.",
    ),
    (
        "predict.example",
        7,
        3,
        "The network was asked for the class of test image 99.",
        "asked in cell 14; it answered 9",
        "Pass x_test[99:100] to predict.",
    ),
    (
        "evaluate.test",
        7,
        2,
        "The network was evaluated on the 10,000 test images.",
        "evaluate in cell 13: accuracy 0.9521",
        "Pass the test images and labels to evaluate.",
    ),
)
REFERENCE_HISTORY = [0.8713, 0.9273, 0.9390, 0.9455, 0.9498, 0.9533, 0.9560, 0.9585, 0.9604, 0.9622]
REFERENCE_LOSS = [0.4391, 0.2511, 0.2102, 0.1864, 0.1701, 0.1578, 0.1484, 0.1403, 0.1339, 0.1283]
# Test images that small networks often get wrong; truths are the data's own.
OFTEN_WRONG = (
    Wrong(index=115, truth=4, predicted=9),
    Wrong(index=217, truth=6, predicted=5),
    Wrong(index=247, truth=4, predicted=2),
    Wrong(index=259, truth=6, predicted=0),
    Wrong(index=321, truth=2, predicted=7),
    Wrong(index=340, truth=5, predicted=3),
    Wrong(index=445, truth=6, predicted=0),
    Wrong(index=582, truth=8, predicted=2),
    Wrong(index=659, truth=2, predicted=1),
)
TEST_CLASSES = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)


def confusion_of(errors: int) -> list[list[int]]:
    """A confusion matrix of the test set with about *errors* errors in each class, uneven."""
    table = []
    for truth, images in enumerate(TEST_CLASSES):
        row = [
            (truth * 7 + answer * 3 + truth * answer) % 11 * errors // 50 for answer in range(10)
        ]
        if truth == 4:
            row[9] += errors // 2
        if truth == 5:
            row[3] += errors // 3
        row[truth] = 0
        row[truth] = images - sum(row)
        table.append(row)
    return table


def checks(outcomes: dict[str, tuple[str, str]] | None = None) -> list[CheckResult]:
    """
    The sheet of one learner.

    Args:
        outcomes: Check id → outcome and what was seen; checks left out have passed.
    """
    sheet = []
    for check_id, step, points, wanted, saw, hint in CHECKS:
        outcome, seen = (outcomes or {}).get(check_id, ("passed", saw))
        sheet.append(
            CheckResult(
                id=check_id,
                step=step,
                outcome=outcome,  # type: ignore[arg-type]
                points=points,
                earned=points if outcome in ("passed", "broken") else 0,
                wanted=wanted,
                saw=seen,
                hint=None if outcome in ("passed", "broken") else hint,
            )
        )
    return sheet


def details(
    *,
    numbers: list[tuple[str, str]] | None = None,
    accuracy: list[float | None] | None = None,
    measured: bool = True,
    errors: int = 48,
    stops: list[Stop] | None = None,
) -> Details:
    """What a report shows beside the checks."""
    history = REFERENCE_HISTORY if accuracy is None else accuracy
    curves = [Curve(metric="accuracy", values=list(history))] if history else []
    if accuracy is None:
        curves.append(Curve(metric="loss", values=list(REFERENCE_LOSS)))
    elif history:
        values = [None if a is None else round(1.9 * (1 - a) + 0.05, 4) for a in history]
        curves.append(Curve(metric="loss", values=values))
    rows = numbers or [
        ("training images", "(60000, 784) float32"),
        ("test images", "(10000, 784) float32"),
        ("pixel values", "0 to 1"),
        ("layers", "784 → 16 → 16 → 10"),
        ("parameters", "13,002"),
        ("optimizer and loss", "Adam, sparse_categorical_crossentropy"),
        ("epochs", "10"),
    ]
    return Details(
        numbers=[NumberRow(label=label, value=value) for label, value in rows],
        curves=curves,
        measurement=Measurement(
            train_accuracy=0.9636,
            test_accuracy=0.9521,
            confusion=confusion_of(errors),
            wrong=list(OFTEN_WRONG),
            why_not=None,
        )
        if measured
        else None,
        stops=stops or [],
        environment={
            "Python": "3.11.7",
            "tensorflow": "2.21.0",
            "keras": "3.15.1",
            "numpy": "2.4.6",
            "Seed": "1804289383",
            "Threads": "1",
            "Training": "many batches a call, bit-identical",
            "Sandbox": "bubblewrap (user)",
            "Attempt": "1",
        },
        limits={
            "cell_s": 300.0,
            "notebook_s": 900.0,
            "cpu_s": 1200.0,
            "memory_mb": 4096,
            "processes": 256,
        },
    )


def submission(
    learner: str,
    *,
    outcomes: dict[str, tuple[str, str]] | None = None,
    train: float | None = 0.9636,
    test: float | None = 0.9521,
    status: str = "graded",
    misconceptions: list[tuple[str, str]] | None = None,
    notes: list[str] | None = None,
    more: Details | None = None,
) -> SubmissionResult:
    """One learner's result; its score is the sum of its sheet."""
    has_sheet = status in ("graded", "needs-review")
    sheet = checks(outcomes) if has_sheet else []
    return SubmissionResult(
        learner=learner,
        file=f"{learner}.ipynb",
        digest="sha256:" + f"{abs(hash_of(learner)):064x}",
        status=status,  # type: ignore[arg-type]
        score=sum(check.earned for check in sheet) if has_sheet else None,
        max_score=100.0,
        train_accuracy=train if has_sheet else None,
        test_accuracy=test if has_sheet else None,
        checks=sheet,
        misconceptions=[MisconceptionResult(id=i, hint=hint) for i, hint in misconceptions or []],
        notes=notes or [],
        details=(more or details()) if has_sheet else None,
    )


def hash_of(text: str) -> int:
    """A number that differs between names and is the same in every run."""
    return int.from_bytes(f"{text:0<32.32}".encode()[:32], "big")


NEVER_SCALED_HINT = (
    "The pixels were never brought to 0..1. The network then learns slowly or not at all: divide "
    "both sets by 255 before training, once."
)
ONE_EPOCH_HINT = "Training stopped after one epoch. The lab asks for 10: pass epochs=10 to fit."


def good(learner: str = "ada") -> SubmissionResult:
    """Everything right."""
    return submission(learner, train=0.9641, test=0.9529)


def never_scaled(learner: str = "grace") -> SubmissionResult:
    """Images as bytes: scaling and both accuracies fail, one misconception."""
    return submission(
        learner,
        train=0.8917,
        test=0.8921,
        outcomes={
            "prep.scaling": (
                "failed",
                "training images: 0 to 255 (after cell 7)\ntest images: 0 to 255 (after cell 7)",
            ),
            "accuracy.train": ("failed", "measured 89.17 %; at least 95.5 % is enough"),
            "accuracy.test": ("failed", "measured 89.21 %; at least 94.5 % is enough"),
            "evaluate.test": ("passed", "evaluate in cell 13: accuracy 0.8921"),
        },
        misconceptions=[("never-scaled", NEVER_SCALED_HINT)],
        notes=[
            "run 2 times with fresh seeds, since the first missed an accuracy by chance or by "
            "little; attempt 1 counts"
        ],
        more=details(
            numbers=[
                ("training images", "(60000, 784) uint8"),
                ("test images", "(10000, 784) uint8"),
                ("pixel values", "0 to 255"),
                ("layers", "784 → 16 → 16 → 10"),
                ("parameters", "13,002"),
                ("optimizer and loss", "Adam, sparse_categorical_crossentropy"),
                ("epochs", "10"),
            ],
            accuracy=[0.512, 0.694, 0.758, 0.802, 0.829, 0.851, 0.866, 0.878, 0.886, 0.8915],
            errors=110,
        ),
    )


def sample_report() -> SubmissionResult:
    """Never scaled, and stopped at a call that Keras no longer has: most of what a report shows."""
    one = never_scaled()
    sheet = [
        msgspec.structs.replace(
            check,
            outcome="not-reached",
            earned=0,
            saw="the network was never asked: cell 14 stopped with AttributeError",
            hint="Pass x_test[99:100] to predict.",
        )
        if check.id == "predict.example"
        else check
        for check in one.checks
    ]
    stop = Stop(
        cell=14,
        status="error",
        error_name="AttributeError",
        error_message="'Sequential' object has no attribute 'predict_classes'",
    )
    assert one.details is not None
    return msgspec.structs.replace(
        one,
        score=67.0,
        checks=sheet,
        details=msgspec.structs.replace(one.details, stops=[stop]),
    )


def one_epoch(learner: str = "linus") -> SubmissionResult:
    """One epoch only."""
    return submission(
        learner,
        train=0.9144,
        test=0.9156,
        outcomes={
            "train.epochs": ("failed", "1 epoch"),
            "accuracy.train": ("failed", "measured 91.44 %; at least 95.5 % is enough"),
            "accuracy.test": ("failed", "measured 91.56 %; at least 94.5 % is enough"),
            "evaluate.test": ("passed", "evaluate in cell 13: accuracy 0.9156"),
        },
        misconceptions=[("too-few-epochs", ONE_EPOCH_HINT)],
        more=details(accuracy=[0.8702], errors=86),
    )


def stopped(learner: str = "edsger") -> SubmissionResult:
    """A notebook that stopped at a misspelt name; nothing was trained."""
    reason = "no network was trained: cell 9 stopped with NameError"
    later = [check for check in CHECKS if check[1] >= 6]
    outcomes = {check[0]: ("not-reached", reason) for check in later}
    outcomes["data.example_shown"] = ("failed", "no picture was shown")
    return submission(
        learner,
        train=None,
        test=None,
        outcomes=outcomes,
        more=details(
            numbers=[("training images", "(60000, 784) float32"), ("pixel values", "0 to 1")],
            accuracy=[],
            measured=False,
            stops=[
                Stop(
                    cell=9,
                    status="error",
                    error_name="NameError",
                    error_message="name 'Sequental' is not defined",
                ),
                Stop(cell=10, status="error", error_name="NameError",
                     error_message="name 'model' is not defined"),
                *(Stop(cell=n, status="not-run", error_name=None, error_message=None)
                  for n in (11, 12, 13, 14)),
            ],
        ),
    )  # fmt: skip


def by_hand(learner: str = "kurt") -> SubmissionResult:
    """Trained with a loop by hand: a person decides."""
    return submission(
        learner,
        status="needs-review",
        outcomes={
            "train.data": ("broken", "KeyError: 'x' in the check itself"),
            "train.epochs": ("not-reached", "fit was never called"),
        },
        notes=["Training by hand (GradientTape) in cell 11: what it was trained on was not seen."],
    )


def unreadable(learner: str = "barbara") -> SubmissionResult:
    """Not a notebook."""
    return submission(
        learner, status="unreadable", notes=["The file is a PDF, not a Jupyter notebook."]
    )


def not_run(learner: str = "alan") -> SubmissionResult:
    """Our failure."""
    return submission(
        learner, status="not-run", notes=["The sandbox could not start: no memory left."]
    )


HOSTILE = (
    "</style></title><script>alert(1)</script><img src=x onerror=alert(2)>\"' onload=alert(3) "
    "{{ 7*7 }} {% raw %} =cmd()|'/C calc'!A0 \u202egnp.exe\u202c \x1b[31mred\x1b]0;title\x07 "
    "nul\x00 bell\x07 \x9b31m [bold red]markup[/] ]]> --> &amp; \ud800 \uffff"
)


def hostile(learner: str = "mallory") -> SubmissionResult:
    """Every text that a learner or a forged file can reach holds everything that could hurt."""
    text = HOSTILE
    return SubmissionResult(
        learner=learner,
        file=f"{text}.ipynb",
        digest=text,
        status="needs-review",
        score=3.0,
        max_score=100.0,
        train_accuracy=0.1,
        test_accuracy=0.1,
        checks=[
            CheckResult(
                id=f"{outcome} {text}",
                step=4,
                outcome=outcome,
                points=3,
                earned=0,
                wanted=text,
                saw=text,
                hint=text,
            )
            for outcome in ("passed", "failed", "not-reached", "broken")
        ],
        misconceptions=[MisconceptionResult(id=text, hint=text)],
        notes=[text, "=1+1"],
        details=Details(
            numbers=[NumberRow(label=text, value=text)],
            curves=[Curve(metric=text, values=[0.1, None, float("nan"), 1e300])],
            measurement=Measurement(
                train_accuracy=0.1,
                test_accuracy=0.1,
                confusion=[[1, 2], [0, 0]],
                wrong=list(OFTEN_WRONG),
                why_not=text,
            ),
            stops=[
                Stop(cell=1, status="error", error_name=text, error_message=text),
                Stop(cell=2, status="error", error_name="NameError",
                     error_message=f"name '<b>{text}' is not defined"),
            ],
            environment={text: text},
            limits={text: 1.0},
        ),
    )  # fmt: skip


def reference() -> SubmissionResult:
    """The correct solution's own sheet."""
    return submission("reference", train=0.9636, test=0.9521)


CONTROLS = [
    ControlResult(name="reference", as_expected=True, score=100.0, why=None),
    ControlResult(name="known wrong: never scaled", as_expected=True, score=70.0, why=None),
]
WRONG_CONTROLS = [
    ControlResult(
        name="reference",
        as_expected=False,
        score=85.0,
        why="expected full marks; model.layers failed: 784 → 16 → 16 → 10 expected, none seen",
    ),
    CONTROLS[1],
]


FRESH_RUNS = FreshRuns(
    checks=["accuracy.train", "accuracy.test"], runs=200, lost=0, low=0.0, high=0.01828
)
"""What a workshop that measured it knows of chance."""


def results(
    submissions: list[SubmissionResult], controls: list[ControlResult] | None = None
) -> Results:
    """A class of them."""
    return Results(
        schema=SCHEMA_RESULTS,
        workshop=WorkshopId(title=WORKSHOP_TITLE, digest="sha256:" + "5e" * 32),
        controls=CONTROLS if controls is None else controls,
        reference=reference(),
        submissions=submissions,
        fresh_runs=FRESH_RUNS,
    )


def sample_class() -> Results:
    """A class of 24 as it may come in."""
    right = ["ada", "anita", "donald", "frances", "hedy", "john-b", "jose", "katherine", "margaret"]
    people = [good(name) for name in right]
    people += [sample_report(), never_scaled("ken"), never_scaled("mary")]
    people += [one_epoch(name) for name in ("linus", "radia")]
    people += [
        submission(
            name,
            outcomes={"predict.example": ("failed", "asked for training image 99 in cell 14")},
            misconceptions=[
                (
                    "wrong-set",
                    "Image 99 was taken from the training set; the lab asks for a test image.",
                )
            ],
        )
        for name in ("dennis", "edith", "tim", "yukihiro")
    ]
    people += [
        submission(
            "guido",
            train=0.9712,
            test=0.9590,
            outcomes={"model.layers": ("failed", "784 → 32 → 16 → 10")},
        ),
        submission(
            "sophie",
            train=0.9601,
            test=0.9509,
            outcomes={"train.data": ("failed", "48,000 of 60,000 training images")},
        ),
        stopped(),
        by_hand(),
        unreadable(),
        not_run(),
    ]
    return results(people)


@lru_cache(maxsize=1)
def _test_images() -> np.ndarray:
    raw = gzip.decompress((ROOT / "lab/data/t10k-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 784)


def pristine_row(index: int) -> np.ndarray:
    """Pixels of one test image of the lab's data."""
    return _test_images()[index]


def with_learner(one: SubmissionResult, **changes: object) -> SubmissionResult:
    """The same result with some fields changed."""
    return msgspec.structs.replace(one, **changes)
