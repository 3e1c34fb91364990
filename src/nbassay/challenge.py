"""What a run with renamed classes proves: whoever did the work there passes the same checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from nbassay.calibration import CalibratedBound
from nbassay.checking.case import Case, cases_of, read_bounds
from nbassay.checking.session import Sheet, score_cases
from nbassay.observed import Observed
from nbassay.pristine import Pristine
from nbassay.store import OUR_FAILURES, Scorable
from nbassay.workshop import Workshop

LENIENCY = 1.5
"""
A challenge may make half as many mistakes again as the calibrated bound allows: other labels are
another training, and it has no repeats. What was brought along makes ten times as many.
"""


def lost_in_challenges(
    submissions: Sequence[Scorable],
    sheets: Mapping[int, Sheet],
    *,
    workshop: Workshop,
    pristine: Pristine,
) -> dict[int, list[str]]:
    """
    Checks that a submission passed, and did not where the classes had other names.

    Args:
        submissions: A class.
        sheets: Position in it → the sheet that counts.

    Returns:
        Position → ids of those checks, in the rubric's order; only of those that ran again.

    Raises:
        ManifestError: Checks, rubric or calibration cannot be used.
    """
    cases: list[Case] = []
    owners: list[int] = []
    for number in sheets:
        observed = _observed(submissions[number], pristine)
        if observed is not None:
            own = cases_of(f"{number}-challenge", observed, workshop)
            cases += own
            owners += [number] * len(own)
    if not cases:
        return {}
    again = score_cases(cases, workshop, _lenient(read_bounds(workshop)))
    lost: dict[int, list[str]] = {}
    for number, sheet in zip(owners, again, strict=True):
        found = sorted(_passed(sheets[number]) - _passed(sheet))
        if number not in lost or len(found) < len(lost[number]):
            lost[number] = found
    return lost


def _observed(submission: Scorable, pristine: Pristine) -> Observed | None:
    challenge = submission.challenge
    if challenge is None or challenge.evidence.ending.reason in OUR_FAILURES:
        return None
    try:
        renamed = pristine.renamed(challenge.evidence.renaming or [])
    except ValueError:  # of a workshop that had other classes
        return None
    return Observed(challenge.evidence, challenge.blobs, renamed)


def _passed(sheet: Sheet) -> set[str]:
    return {check.id for check in sheet.checks if check.outcome == "passed"}


def _lenient(bounds: Mapping[str, CalibratedBound]) -> dict[str, CalibratedBound]:
    return {
        check_id: msgspec.structs.replace(bound, value=1 - LENIENCY * (1 - bound.value))
        for check_id, bound in bounds.items()
    }
