"""The words that several reports share: statuses, outcomes, banners of the controls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nbassay.records import CheckResult, ControlResult, FreshRuns
from nbassay.reporting.text import NO_BREAK_SPACE, number, one_line, plural

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


def chance_sentence(fresh: FreshRuns) -> str:
    """What chance costs right work, as it was measured; limits are rounded away from each other."""
    most = number(math.ceil(1000 * fresh.high) / 10, decimals=1)
    least = number(math.floor(1000 * fresh.low) / 10, decimals=1)
    limits = f"{least} to {most} in 100" if fresh.lost else f"fewer than {most} in 100"
    return (
        f"Training is random: of {plural(fresh.runs, 'fresh run')} of the right solution, "
        f"{fresh.lost or 'none'} lost points (95{NO_BREAK_SPACE}% confidence: {limits})."
    )
