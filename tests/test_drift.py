"""Whether accuracies scatter elsewhere as they did where the bounds were measured."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from conftest import ROOT, Nbassay

from nbassay.calibrating import MADE_BY, versions
from nbassay.calibration import Calibration, CalibrationRun, other_versions, read_calibration
from nbassay.drift import LEVEL, drift_lines, find_drift
from nbassay.intervals import share
from nbassay.workshop import read_workshop

WORKSHOP = read_workshop(ROOT)
BOUNDS = WORKSHOP.manifest.bounds


def scattered(
    runs: int, *, seed: int, shift: float = 0.0, below: int = 0, first: int = 0
) -> Calibration:
    """Made-up runs that scatter like the lab's; the last *below* of them are hopeless."""
    generator = np.random.default_rng(seed)
    train = generator.normal(0.9636 + shift, 0.0024, runs)
    test = generator.normal(0.9523, 0.0028, runs)
    if below:
        train[-below:] = 0.90
    return Calibration(
        schema="nbassay/calibration/1",
        packages=versions(WORKSHOP),
        made_by=MADE_BY,
        runs=[
            CalibrationRun(
                seed=first + number,
                train_accuracy=round(float(train[number]), 6),
                test_accuracy=round(float(test[number]), 4),
            )
            for number in range(runs)
        ],
    )


CALIBRATED = scattered(300, seed=1, first=5000)


def test_equal_distributions_do_not_drift() -> None:
    """
    Other runs of the same network are called drifted at most as often as the level says.
    """
    found = [
        find_drift(scattered(60, seed=seed), calibrated=CALIBRATED, bounds=BOUNDS)
        for seed in range(100, 160)
    ]

    assert sum(bool(one.drifted) for one in found) <= 3  # 60 × 0.01, and luck
    assert drift_lines(found[0])[-1].startswith("No drift found")


@pytest.mark.parametrize("shift", [-0.003, 0.003])
def test_a_shift_is_drift(shift: float) -> None:
    """
    A distribution that moved by little more than its scatter is reported, and which one moved.
    """
    drift = find_drift(scattered(60, seed=2, shift=shift), calibrated=CALIBRATED, bounds=BOUNDS)

    assert [one.check for one in drift.drifted] == ["accuracy.train"]
    assert drift.drifted[0].shift == pytest.approx(shift, abs=0.0015)
    word = "lower" if shift < 0 else "higher"
    assert f"accuracy.train is {word} by" in drift_lines(drift)[-1]


def test_a_heavy_tail_is_drift() -> None:
    """
    Runs below the bound are reported even where the bulk of the distribution did not move.
    """
    drift = find_drift(scattered(60, seed=3, below=6), calibrated=CALIBRATED, bounds=BOUNDS)
    train = next(one for one in drift.accuracies if one.check == "accuracy.train")

    assert train.p_value > LEVEL
    assert train.below.count >= 6
    assert [one.check for one in drift.drifted] == ["accuracy.train"]
    assert "more than 1 % lie below its bound" in drift_lines(drift)[-1]


def test_equal_runs_of_the_same_seeds_are_no_drift() -> None:
    """
    The same accuracies seed by seed are the same training, however unlucky these seeds are.
    """
    lowest = sorted(CALIBRATED.runs, key=lambda run: run.train_accuracy)[:10]
    same = msgspec.structs.replace(CALIBRATED, runs=lowest, packages={"keras": "3.8.0"})
    other = msgspec.structs.replace(lowest[0], test_accuracy=0.95)
    almost = msgspec.structs.replace(same, runs=[other, *lowest[1:]])
    found, found_almost = (
        find_drift(runs, calibrated=CALIBRATED, bounds=BOUNDS) for runs in (same, almost)
    )

    assert (found.shared, found.equal, found.drifted) == (10, 10, [])
    assert "equal to the calibration's run of the same seed: 10 of 10" in drift_lines(found)
    assert (found_almost.equal, bool(found_almost.drifted)) == (9, True)


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        (0, 200, 0.0, 0.01828),
        (2, 200, 0.00121, 0.03565),
        (200, 200, 0.98172, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_intervals_are_those_of_the_tables(count: int, of: int, low: float, high: float) -> None:
    """
    Clopper-Pearson: none of 200 still leaves 1.8 in 100 possible, and nothing counted all of them.
    """
    found = share(count, of)

    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-5)


@pytest.mark.parametrize(("shift", "code"), [(0.0, 0), (-0.004, 1)])
def test_calibrate_compares(tmp_path: Path, nbassay: Nbassay, shift: float, code: int) -> None:
    """
    `calibrate --against` tells of both accuracies and ends with 1 when they drifted; runs that are
    there are carried on.
    """
    target, against = tmp_path / "found.json", tmp_path / "calibrated.json"
    target.write_bytes(msgspec.json.encode(scattered(40, seed=4, shift=shift)))
    against.write_bytes(msgspec.json.encode(CALIBRATED))

    done = nbassay(
        "calibrate", "--runs", 40, "-o", target, "--against", against, "--sandbox", "none", cwd=ROOT
    )

    assert done.returncode == code, done.stderr
    assert done.stdout.count("Kolmogorov-Smirnov") == 2
    assert ("Drifted: " if code else "No drift found: ") in done.stdout


def test_nothing_is_compared_with_itself(nbassay: Nbassay) -> None:
    """
    Without -o the workshop's own calibration would be held against itself.
    """
    done = nbassay("calibrate", "--against", "reference/calibration.json", cwd=ROOT)

    assert done.returncode == 2
    assert "compared with itself" in done.stderr


def test_old_calibrations_can_be_read(tmp_path: Path) -> None:
    """
    A file from before versions of nbassay and Python were recorded is a calibration still.
    """
    fields = msgspec.to_builtins(CALIBRATED)
    del fields["made_with"], fields["date"]
    (tmp_path / "old.json").write_bytes(msgspec.json.encode(fields))

    assert read_calibration(tmp_path / "old.json").made_with == {}


@pytest.mark.parametrize(
    ("keras", "is_other"), [("3.15.1", False), ("3.15.9", False), ("3.4.1", True), ("4.15.1", True)]
)
def test_other_versions_are_told(keras: str, is_other: bool) -> None:
    """
    Another minor or major version than the calibration's is told with both; a patch is not.
    """
    calibration = msgspec.structs.replace(CALIBRATED, packages={"keras": "3.15.1"})
    told = other_versions(calibration, {"keras": keras, "rich": "1.0"})

    assert (told is not None) == is_other
    assert told is None or ("keras 3.15.1" in told and f"keras {keras}" in told)
