"""Step 7: what the network has learned, measured by the grader, and what it was asked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from nbassay.authoring import Saw, check, not_reached
from nbassay.calibration import CalibratedBound
from nbassay.observed import Candidate, Observed
from nbassay.records import EvaluateFact, Measurement, PredictFact

EXAMPLE = 99
"""The test image that the lab predicts: a 9."""


def see_accuracy(
    name: str,
    accuracy: float | None,
    measurement: Measurement | None,
    bound: CalibratedBound,
    saw: Saw,
) -> None:
    """Note a measured accuracy beside its bound."""
    if accuracy is None:
        not_reached(f"not measured: {measurement.why_not if measurement else 'no network'}")
    assert accuracy is not None
    saw(
        f"{accuracy * 100:.2f} % of the {name} images, measured; "
        f"at least {bound.value * 100:.2f} % is asked "
        f"(the lab's “about {bound.nominal * 100:.0f} %”, as {bound.runs} right solutions scatter)"
    )


@check(
    "accuracy.train",
    step=7,
    hint="Low accuracy has a cause in an earlier step: look at scaling, layers, labels and epochs.",
)
def test_training_accuracy_is_reached(
    training: Candidate,
    measurement: Measurement | None,
    bounds: Mapping[str, CalibratedBound],
    saw: Saw,
) -> None:
    """The network trained here recognises about 96 % of the training images."""
    accuracy = measurement.train_accuracy if measurement else None
    see_accuracy("training", accuracy, measurement, bounds["accuracy.train"], saw)
    assert accuracy is not None
    assert accuracy >= bounds["accuracy.train"].value


@check(
    "accuracy.test",
    step=7,
    hint="Test images must not be trained on; else, low accuracy has a cause in an earlier step.",
)
def test_test_accuracy_is_reached(
    training: Candidate,
    observed: Observed,
    measurement: Measurement | None,
    bounds: Mapping[str, CalibratedBound],
    saw: Saw,
) -> None:
    """The network recognises about 95 % of test images that it was never fitted on."""
    accuracy = measurement.test_accuracy if measurement else None
    see_accuracy("test", accuracy, measurement, bounds["accuracy.test"], saw)
    test = observed.pristine["test"]
    fitted = 0
    for fit in training.fits:
        positions = observed.positions(fit.data.x)
        if positions is not None and fit.epochs_run:
            is_test = (positions >= test.first) & (positions < test.first + test.count)
            fitted += int(is_test.sum())
    if fitted:
        saw(f"it was fitted on {fitted:,} test images, so this says nothing")
    assert not fitted
    assert accuracy is not None
    assert accuracy >= bounds["accuracy.test"].value


def asked_otherwise(
    kind: type[EvaluateFact | PredictFact], observed: Observed, candidate: Candidate
) -> str:
    """When or of which network it was asked instead; else, why it was not."""
    if observed.was_fitted_again(candidate):
        return " before it was trained further"
    own = candidate.state.model
    fitted = {fit.model for fit in observed.fits if fit.epochs_run}
    for order, fact in enumerate(observed.evidence.facts):
        if not isinstance(fact, kind):
            continue
        if fact.model == own and order < candidate.order:
            return ", only before it was trained"
        if fact.model not in fitted and own in fitted:
            return ", only another one that was never trained"
    return f": {observed.why_missing()}"


def name_of(position: int, observed: Observed) -> str:
    """``test image 98``; empty for a row that is no image of the lab."""
    for name, words in (("train", "training image"), ("test", "test image")):
        part = observed.pristine[name]
        if part.first <= position < part.first + part.count:
            return f"{words} {position - part.first}"
    return ""


@check(
    "predict.example",
    step=7,
    hint="Ask the trained network for test image 99, as one row of 784 scaled pixels.",
)
def test_example_was_predicted(compiled_network: Candidate, observed: Observed, saw: Saw) -> None:
    """The network was asked for the class of test image 99."""
    wanted = observed.pristine["test"].first + EXAMPLE
    asked = 0
    told = ""
    for _order, fact in observed.questions(compiled_network):
        if not isinstance(fact, PredictFact):
            continue
        positions = observed.positions(fact.data.x)
        if positions is None:
            asked += 1
            continue
        asked += len(positions)
        told = name_of(int(positions[0]), observed) if asked == 1 else ""
        found = np.flatnonzero(positions == wanted)
        if len(found):
            saw(f"asked in cell {fact.cell + 1}" + (" among others" if len(positions) > 1 else ""))
            return
    if not asked:
        not_reached(
            "the trained network was not asked for any image"
            + asked_otherwise(PredictFact, observed, compiled_network)
        )
    images = told or f"{asked:,} images"
    pytest.fail(f"asked for {images}, not for test image {EXAMPLE}", pytrace=False)


@check(
    "evaluate.test",
    step=7,
    hint="Evaluate on all test images and their labels: images that the network has never seen.",
)
def test_network_was_evaluated(compiled_network: Candidate, observed: Observed, saw: Saw) -> None:
    """The network was evaluated on the 10,000 test images."""
    test = observed.pristine["test"]
    others = []
    for _order, fact in observed.questions(compiled_network):
        if observed.covers(fact.data.x, test) and observed.is_part_of(fact.data.x, test):
            what = "evaluated" if isinstance(fact, EvaluateFact) else "predicted"
            saw(f"all {test.count:,} test images {what} in cell {fact.cell + 1}")
            return
        if isinstance(fact, EvaluateFact) and fact.data.x is not None:
            others.append(fact.data.x.shape[0])
    if not others:
        not_reached(
            "the trained network was never evaluated"
            + asked_otherwise(EvaluateFact, observed, compiled_network)
        )
    pytest.fail(
        f"evaluated on {others[-1]:,} images that are not the 10,000 test images", pytrace=False
    )
