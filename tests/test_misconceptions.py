"""Naming the known wrong way that a sheet shows: sheets built by hand, and the patterns' form."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from nbassay.errors import ManifestError
from nbassay.misconceptions import Misconception, read_misconceptions, recognise
from nbassay.records import CheckResult
from nbassay.workshop import read_workshop

WORKSHOP = read_workshop(ROOT)
RUBRIC = tuple(WORKSHOP.manifest.rubric)
BY_CHANCE = tuple(WORKSHOP.manifest.bounds)
FOLDER = ROOT / "reference" / "misconceptions"
WRONG = read_misconceptions(FOLDER)

WHY_NONE = re.compile(r"^# No sheet of its own: (.+)$", re.MULTILINE)

PASSED = {
    "data.train_images": "60000 × 28 × 28 uint8 in cell 2, all 60,000 images of the file",
    "data.train_labels": "60,000 labels in cell 2",
    "data.test_images": "10000 × 28 × 28 uint8 in cell 2, all 10,000 images of the file",
    "data.test_labels": "10,000 labels in cell 2",
    "data.example_shown": "an image of the data in cell 4",
    "prep.train_shape": "(60000, 784) in cell 5, each row one image",
    "prep.test_shape": "(10000, 784) in cell 5, each row one image",
    "prep.scaling": "train images: 0 to 1 (given to fit in cell 9); "
    "test images: 0 to 1 (given to evaluate in cell 12)",
    "model.layers": "784-16-16-10",
    "model.activations": "relu, relu, softmax",
    "model.compiled": "optimizer Adam, loss sparse_categorical_crossentropy, metrics accuracy",
    "train.data": "60,000 of 60,000 training images, 0 test images",
    "train.epochs": "10",
    "accuracy.train": "96.31% of the training images, measured; at least 95.72% is asked",
    "accuracy.test": "95.21% of the test images, measured; at least 94.46% is asked",
    "predict.example": "asked in cell 11",
    "evaluate.test": "all 10,000 test images evaluated in cell 12",
}
"""What the checks say of right work."""

SLOW = {
    "accuracy.train": "91.98% of the training images, measured",
    "accuracy.test": "91.57% of the test images, measured",
}


def sheet(
    lost: Mapping[str, str], outcome: Literal["failed", "passed", "broken"] = "failed"
) -> list[CheckResult]:
    """A sheet on which the checks of *lost* failed, with what each saw."""
    return [
        CheckResult(
            id=check_id,
            step=4,
            outcome=outcome if check_id in lost else "passed",
            points=1,
            earned=0 if check_id in lost else 1,
            wanted="w",
            saw=lost.get(check_id, saw),
            hint=None,
        )
        for check_id, saw in PASSED.items()
    ]


def names(lost: Mapping[str, str], known: Mapping[str, Misconception] = WRONG) -> list[str]:
    """Ids of the ways that a sheet shows, in order."""
    return [found.id for found in recognise(sheet(lost), known, by_chance=BY_CHANCE)]


def way(must: list[str], may: list[str] | None = None, **shows: str) -> Misconception:
    """A wrong way of two made-up checks ``a`` and ``b`` and a matter of chance, ``c``."""
    return Misconception(title="t", hint="h", must_fail=must, may_fail=may or [], shows=shows)


def made_up(known: Mapping[str, Misconception], **saw: str) -> list[str]:
    """Ids of the made-up ways that a sheet shows; a check whose text starts with + passed."""
    checks = [
        CheckResult(
            id=check_id,
            step=4,
            outcome="passed" if text.startswith("+") else "failed",
            points=1,
            earned=0,
            wanted="w",
            saw=text,
            hint=None,
        )
        for check_id, text in saw.items()
    ]
    return [found.id for found in recognise(checks, known, by_chance=["c"])]


# ---------------------------------------------------------------- the files


@pytest.mark.parametrize("misconception", WRONG.values(), ids=WRONG)
def test_patterns_are_of_checks_of_the_workshop(misconception: Misconception) -> None:
    """
    Each pattern is of a check of the rubric, and none of them is found on a right sheet.
    """
    assert set(misconception.shows) <= set(RUBRIC)
    assert not misconception.shows or any(
        not re.search(pattern, PASSED[check_id])
        for check_id, pattern in misconception.shows.items()
    )


@pytest.mark.parametrize("misconception", WRONG.values(), ids=WRONG)
def test_patterns_hold_no_cell_and_no_accuracy(misconception: Misconception) -> None:
    """
    A pattern describes an idea: no number of a cell and no percentage of one run.
    """
    for pattern in misconception.shows.values():
        assert not re.search(r"cell (?:\\d\+ )?\d|\d\S*%", pattern)


@pytest.mark.parametrize("way_id", WRONG)
def test_ways_that_are_never_named_say_why(way_id: str) -> None:
    """
    A way has a sheet of its own, or its file says why not, and which way is named instead.
    """
    why = WHY_NONE.search((FOLDER / f"{way_id}.toml").read_text("utf-8"))

    assert bool(WRONG[way_id].shows) == (why is None)


def test_no_two_ways_have_the_same_patterns() -> None:
    """
    Of ways that look the same only one has patterns: which of them is named is no accident.
    """
    same: dict[frozenset[tuple[str, str]], list[str]] = defaultdict(list)
    for way_id, misconception in WRONG.items():
        if misconception.shows:
            same[frozenset(misconception.shows.items())].append(way_id)

    assert [ids for ids in same.values() if len(ids) > 1] == []


def test_a_pattern_that_is_none_is_refused(tmp_path: Path) -> None:
    """
    A file whose pattern is no regular expression is refused by name.
    """
    (tmp_path / "a.toml").write_text(
        'title = "t"\nhint = "h"\nmust_fail = ["a"]\n[shows]\na = "("\n', "utf-8"
    )

    with pytest.raises(ManifestError, match=r"a\.toml.*regular expression"):
        read_misconceptions(tmp_path)


# ---------------------------------------------------------------- sheets of the workshop


@given(st.dictionaries(st.sampled_from(RUBRIC), st.text()))
def test_nothing_is_named_where_nothing_is_lost(seen: dict[str, str]) -> None:
    """
    Whatever the checks saw: a sheet on which all passed shows no wrong way.
    """
    assert recognise(sheet(seen, "passed"), WRONG, by_chance=BY_CHANCE) == []


@given(st.sets(st.sampled_from(RUBRIC)))
def test_a_broken_check_shows_nothing(broken: set[str]) -> None:
    """
    Our own bug is nobody's misconception.
    """
    checks = sheet(dict.fromkeys(broken, "KeyError: 1"), "broken")

    assert recognise(checks, WRONG, by_chance=BY_CHANCE) == []


@given(
    st.dictionaries(
        st.sampled_from(RUBRIC), st.sampled_from(["784-32-32-10", "1", "sigmoid, softmax", ""])
    )
)
def test_what_is_named_was_lost(lost: dict[str, str]) -> None:
    """
    No way is named twice, and none that lost nothing of what it must fail.
    """
    found = names(lost)

    assert len(set(found)) == len(found)
    assert all(set(WRONG[way_id].must_fail) & set(lost) for way_id in found)


SHEETS: dict[str, tuple[dict[str, str], list[str]]] = {
    "bytes": (
        {
            "prep.scaling": "train images: 0 to 255 (given to fit in cell 4); "
            "test images: 0 to 255 (given to evaluate in cell 8); "
            "the train images are whole numbers (uint8)",
            **SLOW,
        },
        ["never-scaled"],
    ),
    "bytes that reached no network": (
        {
            "prep.scaling": "train images: 0 to 255 (after cell 4); test images: 0 to 255 "
            "(after cell 4); the train images are whole numbers (uint8)"
        },
        [],
    ),
    "other sizes": ({"model.layers": "784-64-32-10"}, ["neurons-32"]),
    "larger first layer": ({"model.layers": "784-128-16-10"}, ["first-layer-32"]),
    "inputs as a layer": ({"model.layers": "784-784-784-10"}, ["first-layer-784"]),
    "sizes that nobody knows": ({"model.layers": "784-8-4-10"}, []),
    "layers of another kind": (
        {"model.layers": "784-16-16-10, and layers of kind BatchNormalization"},
        [],
    ),
    "one epoch after another": ({"train.epochs": "1 + 1 + 1 = 3"}, ["three-epochs"]),
    "cell run three times": ({"train.epochs": "10 + 10 + 10 = 30"}, ["trained-twice"]),
    "too long": ({"train.epochs": "100"}, ["fifteen-epochs"]),
    "scaled column by column": (
        {
            "prep.scaling": "train images: 0 to 1 (given to fit in cell 9); "
            "test images: 0 to 24 (given to evaluate in cell 12)",
            "train.data": "60,000 rows that are not the lab's images",
        },
        [],
    ),
    "transposed": (
        {
            "prep.train_shape": "(60000, 784) in cell 9, but its rows are not the images",
            "prep.test_shape": "(10000, 784) in cell 12, but its rows are not the images",
            "train.data": "0 of 60,000 training images, 0 test images; 60,000 rows that are not "
            "the lab's images; 60,000 images with a label that is not theirs",
            "accuracy.train": "not measured: it was fitted on the lab's images with their values "
            "in another order",
            "accuracy.test": "not measured: it was fitted on the lab's images with their values "
            "in another order",
        },
        [],
    ),
    "one neuron and what follows": (
        {
            "model.layers": "784-16-16-1",
            "model.activations": "relu, relu, sigmoid",
            "model.compiled": "optimizer Adam, loss mean_squared_error, metrics accuracy",
            **SLOW,
        },
        ["output-1"],
    ),
    "stopped before it was compiled": (
        dict.fromkeys(
            WRONG["never-compiled"].must_fail,
            "the network was never compiled: cell 10 stopped with NameError",
        ),
        [],
    ),
    "two mistakes": (
        {"model.activations": "sigmoid, sigmoid, softmax", "train.epochs": "9"},
        ["nine-epochs", "sigmoid"],
    ),
    "accuracy alone": (SLOW, []),
}


OWN: dict[str, dict[str, str]] = {
    "batch-of-60000": {
        "train.epochs": "10; 60,000 images in a batch",
    },
    "binary-cross-entropy": {
        "model.compiled": "optimizer Adam, loss binary_crossentropy, metrics accuracy",
    },
    "cast-to-int-after-scaling": {
        "prep.scaling": "train images: 0 to 1 (given to fit in cell 9); test images: 0 to 1 "
        "(given to evaluate in cell 12); the train images are whole numbers "
        "(int64)",
    },
    "convolutions": {
        "model.layers": "144-16-10, and layers of kind Conv2D",
    },
    "divided-by-100": {
        "prep.scaling": "train images: 0 to 2.55 (given to fit in cell 9); test images: 0 to "
        "2.55 (given to evaluate in cell 12)",
    },
    "divided-by-256": {
        "prep.scaling": "train images: 0 to 0.996094 (given to fit in cell 9); test images: 0 to "
        "0.996094 (given to evaluate in cell 12)",
    },
    "divided-by-the-number-of-pixels": {
        "prep.scaling": "train images: 0 to 0.325255 (given to fit in cell 9); test images: 0 to "
        "0.325255 (given to evaluate in cell 12)",
    },
    "empty": {
        "data.train_images": "the train images were never in memory: no cell holds code",
    },
    "evaluated-before-training": {
        "evaluate.test": "the trained network was never evaluated, only before it was trained",
    },
    "evaluated-on-100-images": {
        "evaluate.test": "evaluated on 100 images that are not the 10,000 test images",
    },
    "evaluated-on-training-data": {
        "evaluate.test": "evaluated on 60,000 images that are not the 10,000 test images",
    },
    "fifteen-epochs": {
        "train.epochs": "15",
    },
    "first-6000-images": {
        "train.data": "6,000 of 60,000 training images, 0 test images",
    },
    "first-layer-32": {
        "model.layers": "784-32-16-10",
    },
    "first-layer-784": {
        "model.layers": "784-784-16-16-10",
    },
    "images-shuffled": {
        "train.data": "60,000 of 60,000 training images, 0 test images; 53,926 images with a "
        "label that is not theirs; the labels stand as in the file, the images "
        "do not",
    },
    "labels-of-the-test-set": {
        "train.data": "no network was trained here: fit was given 60,000 images and 10,000 labels",
    },
    "labels-one-higher": {
        "train.data": "60,000 of 60,000 training images, 0 test images; 60,000 images with a "
        "label that is not theirs",
    },
    "labels-shifted": {
        "train.data": "60,000 of 60,000 training images, 0 test images; 54,150 images with a "
        "label that is not theirs",
    },
    "labels-shuffled": {
        "train.data": "60,000 of 60,000 training images, 0 test images; 54,001 images with a "
        "label that is not theirs",
    },
    "layer-missing": {
        "model.layers": "784-16-10",
    },
    "layer-too-many": {
        "model.layers": "784-16-16-16-10",
    },
    "learning-rate-too-high": {
        "model.compiled": "optimizer Adam, learning rate 1, loss sparse_categorical_crossentropy, "
        "metrics accuracy",
    },
    "learning-rate-too-low": {
        "model.compiled": "optimizer Adam, learning rate 1e-05, loss "
        "sparse_categorical_crossentropy, metrics accuracy",
    },
    "linear-output": {
        "model.activations": "relu, relu, linear",
    },
    "loss-for-one-hot-labels": {
        "model.compiled": "optimizer Adam, loss categorical_crossentropy, metrics accuracy",
        "train.data": "no network was trained here: cell 9 stopped with ValueError",
    },
    "mean-squared-error": {
        "model.compiled": "optimizer Adam, loss mean_squared_error, metrics accuracy",
        "train.data": "no network was trained here: cell 9 stopped with ValueError",
    },
    "mean-squared-error-one-hot": {
        "model.compiled": "optimizer Adam, loss mean_squared_error, metrics accuracy",
    },
    "minus-one-to-one": {
        "prep.scaling": "train images: -1 to 1 (given to fit in cell 9); test images: -1 to 1 "
        "(given to evaluate in cell 12)",
    },
    "neurons-32": {
        "model.layers": "784-32-32-10",
    },
    "never-compiled": {
        "model.compiled": "the network was never compiled: cell 8 stopped with ValueError",
    },
    "never-evaluated": {
        "evaluate.test": "the trained network was never evaluated: no cell does this",
    },
    "never-fitted": {
        "train.data": "no network was trained here: fit was never called",
    },
    "never-predicted": {
        "predict.example": "the trained network was not asked for any image: no cell does this",
    },
    "never-scaled": {
        "prep.scaling": "train images: 0 to 255 (given to fit in cell 8); test images: 0 to 255 "
        "(given to evaluate in cell 11); the train images are whole numbers "
        "(uint8)",
    },
    "never-scaled-floats": {
        "prep.scaling": "train images: 0 to 255 (given to fit in cell 9); test images: 0 to 255 "
        "(given to evaluate in cell 12)",
    },
    "never-shown": {
        "data.example_shown": "no picture was drawn: no cell does this",
    },
    "nine-epochs": {
        "train.epochs": "9",
    },
    "no-activation": {
        "model.activations": "linear, linear, softmax",
    },
    "no-hidden-layer": {
        "model.layers": "784-10",
    },
    "no-metric": {
        "model.compiled": "optimizer Adam, loss sparse_categorical_crossentropy, metrics none",
    },
    "not-flattened": {
        "prep.train_shape": "the train images were never rows of 784 pixels",
        "prep.test_shape": "the test images were never rows of 784 pixels",
    },
    "network-in-numpy": {
        "model.layers": "no network was built: no cell does this",
    },
    "numbers-only-printed": {
        "data.train_images": "the train images were never in memory: no cell does this",
        "model.layers": "no network was built: no cell does this",
    },
    "one-epoch": {
        "train.epochs": "1",
    },
    "only-test-scaled": {
        "prep.scaling": "train images: 0 to 255 (given to fit in cell 9); test images: 0 to 1 "
        "(given to evaluate in cell 12); the train images are whole numbers "
        "(uint8)",
    },
    "only-train-flattened": {
        "prep.test_shape": "the test images were never rows of 784 pixels",
    },
    "only-train-scaled": {
        "prep.scaling": "train images: 0 to 1 (given to fit in cell 9); test images: 0 to 255 "
        "(given to evaluate in cell 12); the test images are whole numbers "
        "(uint8)",
    },
    "other-data": {
        "data.train_images": "the train images were never in memory: no cell does this",
        "prep.train_shape": "(60000, 784) in cell 9, but its rows are not the images",
    },
    "other-metric": {
        "model.compiled": "optimizer Adam, loss sparse_categorical_crossentropy, metrics "
        "sparse_top_k_categorical_accuracy",
    },
    "other-picture-shown": {
        "data.example_shown": "1 pictures, none of them an image of the data",
    },
    "output-1": {
        "model.layers": "784-16-16-1",
    },
    "output-11": {
        "model.layers": "784-16-16-11",
    },
    "output-9": {
        "model.layers": "784-16-16-9",
    },
    "outputs-of-somebody-else": {
        "data.train_images": "the train images were never in memory: cell 2 stopped with NameError",
        "model.layers": "no network was built: cell 2 stopped with NameError",
    },
    "predicted-before-training": {
        "predict.example": "the trained network was not asked for any image, only before it was "
        "trained",
    },
    "rmsprop": {
        "model.compiled": "optimizer RMSprop, loss sparse_categorical_crossentropy, metrics "
        "accuracy",
    },
    "scaled-by-layer-too": {
        "prep.scaling": "train images: 0 to 0.00392157 (given to fit in cell 9, by the network's "
        "own layers); test images: 0 to 0.00392157 (given to evaluate in cell "
        "12, by the network's own layers)",
    },
    "scaled-twice": {
        "prep.scaling": "train images: 0 to 0.00392157 (given to fit in cell 10); test images: 0 "
        "to 0.00392157 (given to evaluate in cell 13)",
    },
    "scrambled-reshape": {
        "prep.train_shape": "(60000, 784) in cell 9, but its rows are not the images",
        "accuracy.train": "7.08% of the training images, measured",
    },
    "second-layer-15": {
        "model.layers": "784-16-15-10",
    },
    "sgd": {
        "model.compiled": "optimizer SGD, loss sparse_categorical_crossentropy, metrics accuracy",
    },
    "sigmoid": {
        "model.activations": "sigmoid, sigmoid, softmax",
    },
    "sigmoid-output": {
        "model.activations": "relu, relu, sigmoid",
    },
    "softmax-in-the-middle": {
        "model.activations": "relu, softmax, softmax",
    },
    "standardised": {
        "prep.scaling": "train images: -0.424074 to 2.82154 (given to fit in cell 9); test "
        "images: -0.424074 to 2.82154 (given to evaluate in cell 12)",
    },
    "stopped-at-the-data": {
        "data.train_images": "the train images were never in memory: cell 2 stopped with "
        "FileNotFoundError",
    },
    "stopped-early": {
        "train.epochs": "2; stopped early, 10 were asked for",
    },
    "tanh": {
        "model.activations": "tanh, tanh, softmax",
    },
    "test-image-98": {
        "predict.example": "asked for test image 98, not for test image 99",
    },
    "test-images-mixed-in": {
        "train.data": "59,900 of 60,000 training images, 100 test images",
    },
    "test-set-cut-from-training": {
        "data.test_images": "the test images were never in memory: no cell does this",
        "evaluate.test": "evaluated on 10,000 images that are not the 10,000 test images",
    },
    "three-epochs": {
        "train.epochs": "3",
    },
    "train-test-split": {
        "train.data": "48,000 of 60,000 training images, 0 test images",
    },
    "trained-before-scaling": {
        "prep.scaling": "train images: 0 to 255 (given to fit in cell 8); the train images were "
        "scaled only afterwards, in cell 9; test images: 0 to 1 (given to "
        "evaluate in cell 12); the train images are whole numbers (uint8)",
    },
    "trained-on-both": {
        "train.data": "60,000 of 60,000 training images, 10,000 test images",
    },
    "trained-on-the-test-set": {
        "train.data": "0 of 60,000 training images, 10,000 test images",
    },
    "trained-on-the-test-set-afterwards": {
        "predict.example": "the trained network was not asked for any image before it was trained "
        "further",
        "evaluate.test": "the trained network was never evaluated before it was trained further",
    },
    "trained-twice": {
        "train.epochs": "10 + 10 = 20",
    },
    "training-image-99": {
        "predict.example": "asked for training image 99, not for test image 99",
    },
    "untrained-network-evaluated": {
        "predict.example": "the trained network was not asked for any image, only another one that "
        "was never trained",
        "evaluate.test": "the trained network was never evaluated, only another one that was "
        "never trained",
    },
    "validation-split": {
        "train.data": "54,000 of 60,000 training images, 0 test images",
    },
    "weights-brought-along": {
        "train.data": "no network was trained here: its weights were put there instead",
    },
    "whole-number-division": {
        "prep.scaling": "train images: 0 to 1 (given to fit in cell 9); test images: 0 to 1 "
        "(given to evaluate in cell 12); the train images are whole numbers "
        "(uint8)",
    },
}
"""What the telling checks say of each wrong way that has a sheet of its own."""


@pytest.mark.parametrize("way_id", [way_id for way_id in WRONG if WRONG[way_id].shows])
def test_every_way_is_named_on_its_own_sheet(way_id: str) -> None:
    """
    Each is named, and it alone, whether all or none of what it may fail besides was lost.
    """
    must = dict.fromkeys(WRONG[way_id].must_fail, "lost")
    may = dict.fromkeys(WRONG[way_id].may_fail, "lost")

    assert names({**must, **OWN[way_id]}) == [way_id]
    assert names({**must, **may, **OWN[way_id]}) == [way_id]


@pytest.mark.parametrize(("lost", "named"), SHEETS.values(), ids=SHEETS)
def test_sheets_show_their_way(lost: dict[str, str], named: list[str]) -> None:
    """
    What is known is named, by its idea and not by one number; what is not known is not guessed.
    """
    assert names(lost) == named


# ---------------------------------------------------------------- which one is named


def test_the_one_that_explains_most_comes_first() -> None:
    """
    A way that explains all that was lost is named instead of two that explain a part each.
    """
    known = {"a-part": way(["a"], a="x"), "whole": way(["b"], ["a"], b="y")}

    assert made_up(known, a="x", b="y") == ["whole"]


def test_the_one_that_claims_least_besides_comes_first() -> None:
    """
    Of two that explain the same, the one is named that expects nothing else to be lost.
    """
    known = {"a-lot": way(["a"], ["b"], a="x"), "just-this": way(["a"], a="x")}

    assert made_up(known, a="x", b="+") == ["just-this"]


def test_the_one_that_is_told_by_most_comes_first() -> None:
    """
    Of two that explain the same, the one with more patterns is the more special.
    """
    known = {"any": way(["a"], a="x"), "special": way(["a"], a="x", b="y")}

    assert made_up(known, a="x", b="+y") == ["special"]
    assert made_up(known, a="x", b="+z") == ["any"]


def test_a_second_mistake_is_named_too() -> None:
    """
    What the first does not explain is a mistake of its own.
    """
    known = {"one": way(["a"], ["c"], a="x"), "two": way(["b"], ["c"], b="y")}

    assert made_up(known, a="x", b="y", c="low") == ["one", "two"]


def test_all_that_it_must_fail_was_lost() -> None:
    """
    A pattern alone names nothing; a check that luck decides may have passed.
    """
    known = {"one": way(["a", "b", "c"], a="x")}

    assert made_up(known, a="x", b="+", c="low") == []
    assert made_up(known, a="x", b="y", c="+") == ["one"]


def test_what_only_costs_accuracy_is_named_when_accuracy_is_lost() -> None:
    """
    A way that can only be seen in a check that passed is named when accuracy is lost, and then
    only if no other way explains it.
    """
    known = {"slow": way(["c"], a="large batch"), "wrong": way(["b"], ["c"], b="y")}

    assert made_up(known, a="+large batch", b="+", c="+") == []
    assert made_up(known, a="+large batch", b="+", c="low") == ["slow"]
    assert made_up(known, a="+large batch", b="y", c="low") == ["wrong"]
    assert made_up(known, a="+large batch", b="y", c="+") == ["wrong"]


def test_ways_without_patterns_are_never_named() -> None:
    """
    A way that has no sheet of its own is known, and not named.
    """
    assert made_up({"one": way(["a"])}, a="x") == []


def test_checks_that_a_sheet_does_not_have_show_nothing() -> None:
    """
    A pattern of a check that is not on the sheet is not found.
    """
    assert made_up({"one": way(["a"], d="x")}, a="x") == []
