"""The words that several reports share: statuses, outcomes, banners of the controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nbassay.records import CheckResult, ControlResult
from nbassay.reporting.text import number, one_line

STATUS_WORDS = {
    "graded": "graded",
    "needs-review": "needs review",
    "unreadable": "unreadable",
    "not-run": "not run",
}
OUTCOME_WORDS = {
    "passed": "passed",
    "failed": "failed",
    "not-reached": "not reached",
    "broken": "broken",
}

NONE = "–"
"""Printed where there is no value."""


def step_name(step: int, titles: Mapping[int, str]) -> str:
    """``Step 5``, or ``Step 5: Preparation`` when the workshop names its steps."""
    title = titles.get(step)
    return f"Step {step}: {one_line(title, limit=120)}" if title else f"Step {step}"


def lost_points(check: CheckResult) -> float:
    """Points that a check cost; a broken check costs nothing until a person has looked."""
    return 0.0 if check.outcome == "broken" else max(0.0, check.points - check.earned)


def first_lost(checks: Sequence[CheckResult]) -> CheckResult | None:
    """The first check, in the workshop's order, that cost points."""
    return next((check for check in checks if lost_points(check) > 0), None)


def failing_controls(controls: Sequence[ControlResult]) -> list[str]:
    """What came out wrong, a sentence a control."""
    return [
        f"{one_line(control.name, limit=120)}: "
        f"{one_line(control.why, limit=500) if control.why else 'not as expected'}"
        + (f" (mark {number(control.score)})" if control.score is not None else "")
        for control in controls
        if not control.as_expected
    ]
