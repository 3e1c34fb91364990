"""Whose outcomes changed between two graded classes, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nbassay.records import Record, Results, SubmissionResult

HOW_IT_RAN = ("Attempt", "Seed", "Threads", "Training", "Sandbox")
"""Of the environment a sheet tells: how the run was made. All else are versions."""


class OutcomeChange(Record, frozen=True, kw_only=True):
    """One check whose outcome is another one."""

    check: str
    before: str
    """Outcome; ``absent`` when the check was not on the sheet."""
    after: str


class LearnerChange(Record, frozen=True, kw_only=True):
    """One learner whose sheet is another one."""

    learner: str
    before: str
    """Mark, or the status when there is none; ``absent`` when the learner was not in the class."""
    after: str
    outcomes: list[OutcomeChange]
    reasons: list[str]


class Comparison(Record, frozen=True, kw_only=True):
    """Two graded classes beside each other."""

    workshop_changed: bool
    """Whether checks, points, tolerances or calibration are others."""
    unchanged: int
    changes: list[LearnerChange]


def compare(before: Results, after: Results) -> Comparison:
    """
    Compare two graded classes, learner by learner.

    Marks, statuses and outcomes count as changes; wording does not.
    """
    old = {one.learner: one for one in before.submissions}
    new = {one.learner: one for one in after.submissions}
    workshop_changed = before.workshop.digest != after.workshop.digest
    changes = []
    for learner in sorted({*old, *new}):
        outcomes = list(_outcomes(old.get(learner), new.get(learner)))
        marks = _mark(old.get(learner)), _mark(new.get(learner))
        if outcomes or marks[0] != marks[1]:
            reasons = list(_reasons(old.get(learner), new.get(learner), workshop_changed))
            changes.append(
                LearnerChange(
                    learner=learner,
                    before=marks[0],
                    after=marks[1],
                    outcomes=outcomes,
                    reasons=reasons,
                )
            )
    return Comparison(
        workshop_changed=workshop_changed,
        unchanged=len({*old, *new}) - len(changes),
        changes=changes,
    )


def _mark(one: SubmissionResult | None) -> str:
    if one is None:
        return "absent"
    if one.score is None:
        return one.status
    return f"{one.score:g}" + ("" if one.status == "graded" else f" ({one.status})")


def _outcomes(
    before: SubmissionResult | None, after: SubmissionResult | None
) -> Iterator[OutcomeChange]:
    old = {check.id: check.outcome for check in before.checks} if before else {}
    new = {check.id: check.outcome for check in after.checks} if after else {}
    for check_id in dict.fromkeys([*old, *new]):
        pair = old.get(check_id, "absent"), new.get(check_id, "absent")
        if pair[0] != pair[1] and old and new:
            yield OutcomeChange(check=check_id, before=pair[0], after=pair[1])


def _reasons(
    before: SubmissionResult | None, after: SubmissionResult | None, workshop_changed: bool
) -> Iterator[str]:
    """Why, each beginning with what changed: check, evidence or library."""
    if before is None or after is None:
        yield "not in both classes"
        return
    told = False
    for reason in _differences(before, after, workshop_changed):
        told = True
        yield reason
    if not told:
        yield (
            "evidence changed: the same notebook showed other facts, though nothing that is "
            "recorded of its run differs; or nbassay itself changed"
        )


def _differences(
    before: SubmissionResult, after: SubmissionResult, workshop_changed: bool
) -> Iterator[str]:
    if workshop_changed:
        yield "check changed: checks, points, tolerances or calibration are others"
    old, new = _environment(before), _environment(after)
    if before.status == "not-run" or after.status == "not-run":
        yield "evidence changed: one of the runs failed on our side"
    elif before.digest != after.digest:
        yield "evidence changed: another notebook was handed in"
    else:
        for name in HOW_IT_RAN:
            if old.get(name) != new.get(name):
                yield f"evidence changed: {_pair(name, old, new)}"
        yield from _other_limits(before, after)
    for name in sorted({*old, *new} - set(HOW_IT_RAN)):
        if old and new and old.get(name) != new.get(name):
            yield f"library changed: {_pair(name, old, new)}"


def _environment(one: SubmissionResult) -> dict[str, str]:
    return one.details.environment if one.details else {}


def _other_limits(before: SubmissionResult, after: SubmissionResult) -> Iterator[str]:
    if before.details is None or after.details is None:
        return
    old, new = before.details.limits, after.details.limits
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield f"evidence changed: limit {_pair(name, old, new)}"


def _pair(name: str, old: Mapping[str, object], new: Mapping[str, object]) -> str:
    return f"{name} {old.get(name, 'none')} before, {new.get(name, 'none')} now"
