"""
How right solutions scatter, and what an accuracy must therefore reach.

The bound is the one-sided non-parametric tolerance limit that covers 99 % of right solutions at
95 % confidence, never above the lab's nominal value. No shape of the distribution is assumed: it
is skewed, and a normal limit would be too optimistic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from nbassay.errors import ManifestError
from nbassay.records import Record

COVERAGE = 0.99
CONFIDENCE = 0.95


class CalibrationRun(Record, frozen=True, kw_only=True):
    """One run of the reference."""

    seed: int
    train_accuracy: float
    """Of the final weights on the training set, 0..1."""
    test_accuracy: float


class Calibration(Record, frozen=True, kw_only=True):
    """``reference/calibration.json``."""

    schema: Literal["nbassay/calibration/1"]
    packages: dict[str, str]
    """Name → version that the runs used."""
    made_by: str
    """How the runs were made, for people."""
    reference: str | None = None
    """Digest of the notebook that was run; None in old files."""
    made_with: dict[str, str] = msgspec.field(default_factory=dict)
    """nbassay's and Python's version in the call that added the last run; absent in old files."""
    date: str = ""
    """Day of the last run, UTC: ``2026-11-24``; absent in old files."""
    runs: list[CalibrationRun]


class CalibratedBound(Record, frozen=True, kw_only=True):
    """What an accuracy must reach, and where that comes from."""

    value: float
    nominal: float
    runs: int
    """Runs behind *value*; 0 when there is no calibration and the nominal value holds."""


def tolerance_rank(runs: int) -> int | None:
    """
    Rank of the order statistic that is the tolerance limit: 1 is the smallest of *runs* values.

    Returns:
        The largest k for which at least k of *runs* values lie in the worst 1 % with 95 %
        confidence; None below 299 runs, where even the smallest value is not enough.

    Source:
        Wilks, Determination of sample sizes for setting tolerance limits (1941).
    """
    below, rank = 0.0, None
    for k in range(runs):
        below += math.comb(runs, k) * (1 - COVERAGE) ** k * COVERAGE ** (runs - k)
        if 1 - below < CONFIDENCE:
            break
        rank = k + 1
    return rank


def calibrated_bound(values: list[float], nominal: float) -> CalibratedBound:
    """
    The bound for one accuracy.

    Raises:
        ManifestError: Fewer runs than a tolerance limit needs (299).
    """
    rank = tolerance_rank(len(values))
    if rank is None:
        raise ManifestError(
            f"calibration: expected at least 299 runs, found {len(values)}: "
            "too few for a limit that covers 99 % at 95 % confidence"
        )
    return CalibratedBound(
        value=min(nominal, sorted(values)[rank - 1]), nominal=nominal, runs=len(values)
    )


def other_versions(calibration: Calibration, found: Mapping[str, str]) -> str | None:
    """
    A sentence for an instructor when the bounds were measured with other packages than *found*.

    Patch releases are taken for the same: only major and minor numbers are compared.

    Args:
        found: Name → version of the packages that notebooks run with.
    """
    others = {
        name: version
        for name, version in found.items()
        if name in calibration.packages and _minor(version) != _minor(calibration.packages[name])
    }
    if not others:
        return None
    there = ", ".join(f"{name} {calibration.packages[name]}" for name in others)
    here = ", ".join(f"{name} {version}" for name, version in others.items())
    return (
        f"The accuracy bounds were measured with {there}; notebooks ran with {here}. "
        "Whether the bounds hold there, nbassay calibrate --against tells."
    )


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])


def read_calibration(path: Path) -> Calibration:
    """
    Read a calibration.

    Raises:
        ManifestError: The file is missing or is no calibration.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Calibration)
    except (OSError, msgspec.DecodeError) as error:
        raise ManifestError(f"{path}: no calibration that can be read: {error}") from error
