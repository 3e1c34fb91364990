"""
Whether right solutions scatter elsewhere as they did where the bounds were measured.

Two things are asked of each accuracy. Is it distributed otherwise: the two-sample
Kolmogorov-Smirnov test, which assumes no shape, as the bounds do not. And do more runs than the
bound allows (1 %) lie below it: an exact binomial test, because the first is weak in the tails,
where the bound lies.

It counts as drift when one of these p-values is below 0.01 divided by their number (Bonferroni):
equal distributions are then called drifted at most once in a hundred comparisons. A shift upwards
is drift too: the calibration then describes other networks than those that learners train.

Runs under the calibration's own seeds tell more: some lines of TensorFlow give the same accuracies
to the last digit. Where every run equals the calibration's of the same seed, nothing drifted.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from nbassay.calibration import COVERAGE, Calibration, calibrated_bound
from nbassay.intervals import Share, share
from nbassay.records import Record
from nbassay.workshop import Bound

LEVEL = 0.01
"""Chance of calling equal distributions drifted, over all tests of a comparison."""
TESTS = 2
"""Of each accuracy: shape, and share below the bound."""


class AccuracyDrift(Record, frozen=True, kw_only=True):
    """One accuracy, there and here."""

    check: str
    calibrated_median: float
    """0..1, like all accuracies."""
    median: float
    statistic: float
    """Kolmogorov-Smirnov: the largest distance between the two distributions, 0..1."""
    p_value: float
    bound: float
    """What the calibration asks."""
    below: Share
    """Runs here that lie below *bound*."""
    below_p_value: float
    """Of so many or more below, if the bound still covered 99 %."""

    @property
    def shift(self) -> float:
        """Of the median."""
        return self.median - self.calibrated_median


class Drift(Record, frozen=True, kw_only=True):
    """Runs of a reference held against its calibration."""

    calibrated_packages: dict[str, str]
    packages: dict[str, str]
    runs: int
    shared: int
    """Runs under a seed of the calibration."""
    equal: int
    """Of these, runs with the very accuracies that the calibration has for that seed."""
    accuracies: list[AccuracyDrift]

    @property
    def level(self) -> float:
        """Below which a single p-value tells of drift."""
        return LEVEL / (TESTS * max(1, len(self.accuracies)))

    @property
    def drifted(self) -> list[AccuracyDrift]:
        """Accuracies that drifted."""
        if self.equal == self.runs:
            return []
        return [one for one in self.accuracies if min(one.p_value, one.below_p_value) < self.level]


def find_drift(
    found: Calibration, *, calibrated: Calibration, bounds: Mapping[str, Bound]
) -> Drift:
    """
    Hold the runs of *found* against *calibrated*.

    Args:
        found: Runs made here.
        bounds: Check id → which accuracy, and its nominal value.

    Raises:
        ManifestError: *calibrated* has too few runs to carry a bound.
    """
    from scipy import stats

    accuracies = []
    for check_id, bound in bounds.items():
        there = [getattr(run, bound.measure) for run in calibrated.runs]
        here = [getattr(run, bound.measure) for run in found.runs]
        asked = calibrated_bound(there, bound.nominal).value
        below = sum(value < asked for value in here)
        test = stats.ks_2samp(here, there)
        more = stats.binomtest(below, len(here), 1 - COVERAGE, alternative="greater")
        accuracies.append(
            AccuracyDrift(
                check=check_id,
                calibrated_median=statistics.median(there),
                median=statistics.median(here),
                statistic=float(test.statistic),
                p_value=float(test.pvalue),
                bound=asked,
                below=share(below, len(here)),
                below_p_value=float(more.pvalue),
            )
        )
    known = {run.seed: run for run in calibrated.runs}
    return Drift(
        calibrated_packages=calibrated.packages,
        packages=found.packages,
        runs=len(found.runs),
        shared=sum(run.seed in known for run in found.runs),
        equal=sum(run == known.get(run.seed) for run in found.runs),
        accuracies=accuracies,
    )


def drift_lines(drift: Drift) -> list[str]:
    """What a person should read of it: a line an accuracy, then the verdict in a sentence."""
    lines = [
        f"{one.check}: median {one.median:.4f}, calibrated {one.calibrated_median:.4f} "
        f"({one.shift:+.4f}); Kolmogorov-Smirnov {one.statistic:.3f}, p = {one.p_value:.2g}; "
        f"below the bound {one.bound:.4f}: {one.below}"
        for one in drift.accuracies
    ]
    if drift.shared:
        lines.append(
            f"equal to the calibration's run of the same seed: {drift.equal} of {drift.shared}"
        )
    return [*lines, verdict(drift)]


def verdict(drift: Drift) -> str:
    """Whether it drifted, in a sentence."""
    told = ", ".join(f"{name} {version}" for name, version in drift.packages.items())
    if not drift.drifted:
        return (
            f"No drift found: with {told}, these {drift.runs} runs cannot be told from the "
            "calibration's."
        )
    words = []
    for one in drift.drifted:
        if round(abs(one.shift), 4):
            how = f"is {'lower' if one.shift < 0 else 'higher'} by {abs(one.shift):.4f}"
        else:
            how = "is distributed otherwise about the same median"
        below = ", and more than 1 % lie below its bound" if one.below_p_value < drift.level else ""
        words.append(f"{one.check} {how}{below}")
    return f"Drifted: with {told}, {'; '.join(words)}. Calibrate anew before marks rest on this."
