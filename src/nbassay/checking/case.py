"""What one run of the checks is about: a submission and one of its candidate networks."""

from __future__ import annotations

import dataclasses
from functools import cached_property

from nbassay.calibration import CalibratedBound, calibrated_bound, read_calibration
from nbassay.measure import measure
from nbassay.observed import Candidate, Observed
from nbassay.records import Measurement
from nbassay.workshop import Workshop


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One sheet to be filled in."""

    name: str
    """Test id: ``ada-0``."""
    learner: str
    workshop: Workshop
    observed: Observed
    candidate: Candidate | None
    """None when no network was ever seen."""

    @cached_property
    def measurement(self) -> Measurement | None:
        """Computed when first asked for; None without a network."""
        if self.candidate is None:
            return None
        tolerance = self.workshop.manifest.tolerances.get("chain")
        return measure(
            self.candidate, self.observed, largest_gap=tolerance.value if tolerance else 1e-3
        )


def cases_of(learner: str, observed: Observed, workshop: Workshop) -> list[Case]:
    """One case a candidate network, at least one."""
    candidates: list[Candidate | None] = [*observed.candidates()] or [None]
    return [
        Case(
            name=f"{learner}-{number}",
            learner=learner,
            workshop=workshop,
            observed=observed,
            candidate=candidate,
        )
        for number, candidate in enumerate(candidates)
    ]


def read_bounds(workshop: Workshop) -> dict[str, CalibratedBound]:
    """Check id → what its accuracy must reach."""
    manifest = workshop.manifest
    if manifest.calibration is None:
        return {
            check_id: CalibratedBound(value=bound.nominal, nominal=bound.nominal, runs=0)
            for check_id, bound in manifest.bounds.items()
        }
    calibration = read_calibration(workshop.path(manifest.calibration))
    return {
        check_id: calibrated_bound(
            [getattr(run, bound.measure) for run in calibration.runs], bound.nominal
        )
        for check_id, bound in manifest.bounds.items()
    }
