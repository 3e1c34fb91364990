"""Which sheets are run again with fresh seeds: chance must cost nobody a point."""

from __future__ import annotations

import pytest

from nbassay.calibration import CalibratedBound
from nbassay.records import CheckResult, SubmissionResult
from nbassay.repeats import may_be_unlucky
from nbassay.workshop import Bound

BOUNDS = {
    "accuracy.train": Bound(nominal=0.96, measure="train_accuracy"),
    "accuracy.test": Bound(nominal=0.95, measure="test_accuracy"),
}
CALIBRATED = {
    "accuracy.train": CalibratedBound(value=0.957, nominal=0.96, runs=300),
    "accuracy.test": CalibratedBound(value=0.946, nominal=0.95, runs=300),
}
CHECKS = ("prep.scaling", *BOUNDS, "predict.example")


def sheet(train: float | None, test: float | None, **lost: str) -> SubmissionResult:
    """A sheet with these accuracies, on which the checks of *lost* had that outcome."""
    outcomes = {name.replace("_", "."): outcome for name, outcome in lost.items()}
    return SubmissionResult(
        learner="ann",
        file="ann.ipynb",
        digest="",
        status="graded",
        score=50.0,
        max_score=100.0,
        train_accuracy=train,
        test_accuracy=test,
        checks=[
            CheckResult(
                id=check_id,
                step=7,
                outcome=outcomes.get(check_id, "passed"),  # type: ignore[arg-type]
                points=10,
                earned=0 if check_id in outcomes else 10,
                wanted="w",
                saw="s",
                hint=None,
            )
            for check_id in CHECKS
        ],
        misconceptions=[],
        notes=[],
        details=None,
    )


AGAIN = {
    "nothing but an accuracy": sheet(0.96, 0.9, accuracy_test="failed"),
    "nothing but both": sheet(0.9, 0.9, accuracy_train="failed", accuracy_test="failed"),
    "narrowly, and something that costs none": sheet(
        0.96, 0.9457, accuracy_test="failed", predict_example="not-reached"
    ),
}
ONCE = {
    "nothing lost": sheet(0.96, 0.95),
    "no accuracy lost": sheet(0.96, 0.95, prep_scaling="failed"),
    "far below, and a cause": sheet(0.9, 0.945, accuracy_train="failed", prep_scaling="failed"),
    "never measured": sheet(None, None, accuracy_test="not-reached"),
    "lost for another reason than its height": sheet(
        0.97, 0.96, accuracy_test="failed", predict_example="failed"
    ),
}


@pytest.mark.parametrize("found", AGAIN.values(), ids=AGAIN)
def test_what_may_be_chance_is_run_again(found: SubmissionResult) -> None:
    """
    An accuracy lost alone, or by little, may be chance, whatever else was lost.
    """
    assert may_be_unlucky(found, BOUNDS, CALIBRATED)


@pytest.mark.parametrize("found", ONCE.values(), ids=ONCE)
def test_what_has_a_cause_is_run_once(found: SubmissionResult) -> None:
    """
    An accuracy far below its bound beside another mistake is no chance, and costs no time.
    """
    assert not may_be_unlucky(found, BOUNDS, CALIBRATED)
