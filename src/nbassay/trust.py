"""
The chance that right work fails, as it was measured: fresh graded runs of the reference.

``benchmarks/fresh_reference.py`` measures it and writes the file; ``trust`` in ``workshop.toml``
names it. It decides no mark, so the workshop's digest does not cover it. Figures that were measured
under other bounds than the workshop has now say nothing of it and are left out of reports.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from nbassay.checking.case import read_bounds
from nbassay.errors import ManifestError
from nbassay.intervals import Share
from nbassay.records import FreshRuns, Record
from nbassay.workshop import Workshop


class Origin(Record, frozen=True, kw_only=True):
    """Where measured figures come from; the records that hold some begin with it."""

    command: str
    """What made it."""
    date: str
    """Day, UTC."""
    packages: dict[str, str]
    """Name → version that the runs used."""
    made_with: dict[str, str]
    """nbassay's and Python's version."""


class Trust(Origin, frozen=True, kw_only=True):
    """``reference/trust.json``: graded runs of the reference, seeds of their own."""

    schema: Literal["nbassay/trust/1"] = "nbassay/trust/1"
    bounds: dict[str, float]
    """Check id → the accuracy that was asked."""
    lost: Share
    """Runs that lost a point after their repeats."""
    lost_by_check: dict[str, int]
    """Check id → runs that lost it; checks that none lost are left out."""
    first_below: Share
    """Runs whose first attempt lay below a bound."""
    first_below_by_check: dict[str, Share]
    repeated: int
    """Runs that were made again with fresh seeds."""
    earlier: int = 0
    """
    Runs that another nbassay made, or this one beside other libraries than the lab's packages;
    scored again under these bounds.
    """

    @property
    def chance(self) -> tuple[float, float]:
        """
        Chance that three attempts in a row lie below a bound, if attempts are independent.

        Returns:
            The estimate, and what it is at most with 95 % confidence.
        """
        if not self.first_below.of:
            return 0.0, 1.0
        return (self.first_below.count / self.first_below.of) ** 3, self.first_below.high**3


def asked(workshop: Workshop) -> dict[str, float]:
    """Check id → the accuracy that the workshop asks now."""
    return {check_id: round(bound.value, 6) for check_id, bound in read_bounds(workshop).items()}


def read_trust(workshop: Workshop) -> Trust | None:
    """
    The workshop's figures; None when it names none.

    Raises:
        ManifestError: The file that it names cannot be read.
    """
    if workshop.manifest.trust is None:
        return None
    path = workshop.path(workshop.manifest.trust)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Trust)
    except (OSError, msgspec.DecodeError) as error:
        raise ManifestError(f"{path}: no figures that can be read: {error}") from error


def fresh_runs(workshop: Workshop) -> FreshRuns | None:
    """
    What reports say of chance; None without figures, or with figures of other bounds.

    Raises:
        ManifestError: Figures or calibration cannot be read.
    """
    trust = read_trust(workshop)
    if trust is None or not trust.lost.of or trust.bounds != asked(workshop):
        return None
    return FreshRuns(
        checks=list(trust.bounds),
        runs=trust.lost.of,
        lost=trust.lost.count,
        low=trust.lost.low,
        high=trust.lost.high,
    )
