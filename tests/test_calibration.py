"""Bounds that do not fail right work: tolerance limits without a distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from nbassay.calibration import calibrated_bound, read_calibration, tolerance_rank
from nbassay.errors import ManifestError


@pytest.mark.parametrize(("runs", "rank"), [(298, None), (299, 1), (472, 1), (473, 2), (1000, 5)])
def test_rank_is_that_of_the_tables(runs: int, rank: int | None) -> None:
    """
    99 % at 95 % needs 299 runs for the smallest value and 473 for the second smallest (Wilks).
    """
    assert tolerance_rank(runs) == rank


@given(st.lists(st.floats(0.9, 1.0), min_size=299, max_size=320), st.floats(0.9, 1.0))
def test_bound_is_never_above_the_nominal_value(values: list[float], nominal: float) -> None:
    """
    Calibration lowers a bound or leaves it, and never asks for more than the lab's text.
    """
    bound = calibrated_bound(values, nominal)

    assert bound.value <= nominal
    assert bound.value == min(nominal, min(values))


def test_too_few_runs_are_refused() -> None:
    """
    A limit that the runs cannot carry is an error, not a guess.
    """
    with pytest.raises(ManifestError, match="at least 299 runs, found 100"):
        calibrated_bound([0.96] * 100, 0.96)


def test_limit_covers_what_it_promises() -> None:
    """
    In 95 % of simulated calibrations the limit leaves at most 1 % of right solutions below it.
    """
    generator = np.random.default_rng(1)
    rank = tolerance_rank(300)
    assert rank is not None
    limits = np.sort(generator.random((4000, 300)), axis=1)[:, rank - 1]
    share = float((limits <= 0.01).mean())

    assert share == pytest.approx(1 - 0.99**300, abs=4 * math.sqrt(0.05 * 0.95 / 4000))


def test_the_workshops_calibration_carries_its_bounds() -> None:
    """
    The stored runs are enough, of different seeds, and scatter around the lab's figures.
    """
    runs = read_calibration(ROOT / "reference" / "calibration.json").runs
    train = calibrated_bound([run.train_accuracy for run in runs], 0.96)
    test = calibrated_bound([run.test_accuracy for run in runs], 0.95)

    assert len({run.seed for run in runs}) == len(runs) >= 300
    assert 0.95 < train.value < 0.96
    assert 0.94 < test.value < 0.95
