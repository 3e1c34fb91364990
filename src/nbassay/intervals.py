"""Shares that were counted, each with how far it can be trusted."""

from __future__ import annotations

from nbassay.records import Record

CONFIDENCE = 0.95


class Share(Record, frozen=True, kw_only=True):
    """So many of so many, and where the true share lies with 95 % confidence."""

    count: int
    of: int
    low: float
    """0..1."""
    high: float

    def __str__(self) -> str:
        """``2 of 200 (95 % confidence: 0.1% to 3.6%)``."""
        return f"{self.count} of {self.of} (95 % confidence: {self.low:.1%} to {self.high:.1%})"


def share(count: int, of: int) -> Share:
    """
    *count* of *of* with the exact (Clopper-Pearson) interval, which never promises too much.

    Source:
        Clopper and Pearson, The use of confidence or fiducial limits (1934).
    """
    if not of:
        return Share(count=0, of=0, low=0.0, high=1.0)  # nothing was counted, nothing is known
    from scipy import stats  # half a second that only those who measure have to wait

    interval = stats.binomtest(count, of).proportion_ci(CONFIDENCE, method="exact")
    return Share(count=count, of=of, low=float(interval.low), high=float(interval.high))
