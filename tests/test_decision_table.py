"""The decision table of the design page: every row of it is a case that is graded for real."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT

from nbassay.misconceptions import read_misconceptions, read_variants
from nbassay.workshop import read_workshop

PAGE = (ROOT / "docs" / "design" / "0001-overview.md").read_text("utf-8")
RUBRIC = read_workshop(ROOT).manifest.rubric
WRONG = read_misconceptions(ROOT / "reference" / "misconceptions")
RIGHT = read_variants(ROOT / "tests" / "variants")
ACC = {"accuracy.train", "accuracy.test"}

WRONG_ROWS = {
    "never scaled; scaled twice": ["never-scaled", "never-scaled-floats", "scaled-twice"],
    "only train scaled; divided by 256": ["only-train-scaled", "divided-by-256"],
    "scaled to −1..1": ["minus-one-to-one"],
    "scrambled reshape": ["scrambled-reshape"],
    "32 neurons; 15 in the second layer; a layer missing or too many": [
        "neurons-32",
        "second-layer-15",
        "layer-missing",
        "layer-too-many",
    ],
    "output of 1 or 11": ["output-1", "output-11"],
    "sigmoid or tanh": ["sigmoid", "tanh"],
    "no activation in the hidden layers": ["no-activation"],
    "SGD, RMSprop; mean squared error; no accuracy metric": [
        "sgd",
        "rmsprop",
        "mean-squared-error-one-hot",
        "no-metric",
    ],
    "one epoch": ["one-epoch"],
    "3, 9, 15 epochs": ["three-epochs", "nine-epochs", "fifteen-epochs"],
    "first 6,000 images; labels shuffled or shifted": [
        "first-6000-images",
        "labels-shuffled",
        "labels-shifted",
    ],
    "`validation_split`, `train_test_split`": ["validation-split", "train-test-split"],
    "fitted on the test set instead": ["trained-on-the-test-set"],
    "fitted on both": ["trained-on-both"],
    "never fitted; weights brought along": ["never-fitted", "weights-brought-along"],
    "evaluated on training data, or never": ["evaluated-on-training-data", "never-evaluated"],
    "image 99 of the training set, or never": ["training-image-99", "never-predicted"],
    "only printed numbers; empty": ["numbers-only-printed", "empty"],
}
"""Row of the table → misconceptions that stand for it."""

RIGHT_ROWS = [
    ["lab-idioms"],
    [
        "new-names",
        "names-in-another-script",
        "one-cell",
        "functions-and-classes",
        "main-function",
        "reset-at-the-end",
        "deleted-at-the-end",
        "experiments-before",
        "experiments-after",
        "errors-in-unneeded-cells",
    ],
    [
        "float16",
        "float64",
        "one-line-preparation",
        "flatten-and-rescaling-layers",
        "flatten-layer",
        "rescaling-layer",
        "shuffled-together",
    ],
    [
        "reference",
        "frombuffer",
        "gzip",
        "keras-datasets",
        "home-datascience",
        "content-folder",
    ],
    [
        "functional",
        "subclass",
        "tf-keras",
        "activation-layers",
        "named-layers",
        "objects",
        "one-hot",
        "logits",
    ],
    [
        "tf-data",
        "generator",
        "validation-data",
        "ten-times-one-epoch",
        "four-and-six-epochs",
        "accuracy-by-scikit-learn",
        "accuracy-from-predictions",
        "model-called",
    ],
]
"""Variants that stand for each row of right ways, in the order of the table."""

UNDECIDED = ["training-loop-by-hand", "scaled-by-column", "pixels-permuted"]


def rows_below(heading: str) -> list[list[str]]:
    """Cells of the rows of the table whose first heading is *heading*."""
    table = PAGE[PAGE.index(f"| {heading} |") :].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.split("\n")][
        2:
    ]


def checks_in(cell: str) -> set[str]:
    """Check ids that a cell of the table names; ACC stands for both accuracies."""
    if cell == "all 17":
        return set(RUBRIC)
    found = set(re.findall(r"`([a-z.]+_?[a-z]*)`", cell))
    return found | (ACC if "ACC" in cell else set())


def test_every_row_has_cases() -> None:
    """
    Every row of the table is stood for, and nothing stands for a row that is not there.
    """
    assert [row[0] for row in rows_below("wrong way")] == list(WRONG_ROWS)
    assert len(rows_below("right ways: nothing fails")) == len(RIGHT_ROWS)


@pytest.mark.parametrize("row", rows_below("wrong way"), ids=lambda row: row[0])
def test_wrong_ways_follow_the_table(row: list[str]) -> None:
    """
    What a misconception must fail is what its row says, and it may fail nothing that the row bars.
    """
    must = checks_in(row[1])
    may = checks_in(row[2]) if len(row) > 2 else set()

    for name in WRONG_ROWS[row[0]]:
        way = WRONG[name]
        assert must <= set(way.must_fail), name
        assert {*way.must_fail, *way.may_fail} <= must | may, name


def test_right_ways_are_there() -> None:
    """
    Each variant that stands for a row of right ways loses nothing, and nobody has to look at it.
    """
    assert {RIGHT[name].status for row in RIGHT_ROWS for name in row} == {"graded"}
    assert {RIGHT[name].status for name in UNDECIDED} == {"needs-review"}
