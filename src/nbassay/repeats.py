"""Which sheets earn a repeat with fresh seeds, because chance may have cost them an accuracy."""

from __future__ import annotations

from collections.abc import Mapping

from nbassay.calibration import CalibratedBound
from nbassay.records import SubmissionResult
from nbassay.workshop import Bound


def may_be_unlucky(
    sheet: SubmissionResult, bounds: Mapping[str, Bound], calibrated: Mapping[str, CalibratedBound]
) -> bool:
    """
    Whether an accuracy that *sheet* lost may be chance, not a mistake.

    It may when nothing else was lost. It may, too, when every accuracy lost was missed by little:
    who forgot to ask about image 99 is as unlucky in training as who did not. Little is the way
    from the lab's nominal value to its bound, which is how far right solutions scatter below it;
    further below lies next to none of them.

    Args:
        bounds: Check id → which accuracy it asks about.
        calibrated: Check id → what that accuracy must reach.
    """
    lost = [check for check in sheet.checks if check.outcome != "passed"]
    missed = [check.id for check in lost if check.id in bounds and check.outcome == "failed"]
    if not missed:
        return False
    return len(missed) == len(lost) or all(
        _is_narrow(getattr(sheet, bounds[check_id].measure), calibrated[check_id])
        for check_id in missed
    )


def _is_narrow(accuracy: float | None, bound: CalibratedBound) -> bool:
    if accuracy is None or accuracy >= bound.value:  # then it was not lost by its height
        return False
    return bound.value - accuracy <= bound.nominal - bound.value
