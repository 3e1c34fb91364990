"""From checks to the lines, steps and losses of a report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from nbassay.records import CheckResult, FreshRuns, Stop
from nbassay.reporting.context import CheckLine, Loss, StepGroup
from nbassay.reporting.stops import where_stopped
from nbassay.reporting.text import number, one_line, plural, visible
from nbassay.reporting.wording import OUTCOME_WORDS, chance_sentence, lost_points, step_name


def steps_in_order(checks: Sequence[CheckResult]) -> list[int]:
    """Steps of the lab that these checks belong to."""
    return sorted({check.step for check in checks})


def check_lines(checks: Sequence[CheckResult]) -> tuple[CheckLine, ...]:
    """A line a check, each with an anchor of its own."""
    lines: list[CheckLine] = []
    taken: set[str] = set()
    for position, check in enumerate(checks, start=1):
        anchor = "check-" + re.sub(r"[^A-Za-z0-9._-]+", "-", check.id)[:80]
        if anchor in taken:
            anchor = f"{anchor}-{position}"
        taken.add(anchor)
        lines.append(
            CheckLine(
                anchor=anchor,
                id=one_line(check.id, limit=120),
                outcome=check.outcome,
                word=OUTCOME_WORDS[check.outcome],
                points="not decided"
                if check.outcome == "broken"
                else f"{number(check.earned)} of {plural(check.points, 'point')}",
                wanted=visible(check.wanted),
                saw=visible(check.saw),
                hint=visible(check.hint) if check.hint else None,
            )
        )
    return tuple(lines)


def step_groups(
    checks: Sequence[CheckResult],
    lines: Sequence[CheckLine],
    step_titles: Mapping[int, str],
    fresh_runs: FreshRuns | None,
) -> tuple[StepGroup, ...]:
    """The lines by step, with what the step earned."""
    groups = []
    of_chance = set(fresh_runs.checks) if fresh_runs else set()
    for step in steps_in_order(checks):
        of_step = [pair for pair in zip(checks, lines, strict=True) if pair[0].step == step]
        points = sum(check.points for check, _ in of_step)
        earned = sum(check.earned for check, _ in of_step)
        groups.append(
            StepGroup(
                anchor=f"step-{step}",
                title=step_name(step, step_titles),
                points=f"{number(earned)} of {plural(points, 'point')}",
                is_full=earned >= points,
                chance=chance_sentence(fresh_runs)
                if fresh_runs and any(check.id in of_chance for check, _ in of_step)
                else None,
                checks=tuple(line for _, line in of_step),
            )
        )
    return tuple(groups)


def losses(
    checks: Sequence[CheckResult],
    lines: Sequence[CheckLine],
    stops: Sequence[Stop],
    step_titles: Mapping[int, str],
) -> tuple[Loss, ...]:
    """What cost points, in the order in which it is worth mending."""
    pairs = list(zip(checks, lines, strict=True))
    # In the lab's order: an early mistake often explains the later ones.
    failed = [
        Loss(
            lost=f"−{number(lost_points(check))}",
            lost_spoken=f"{plural(lost_points(check), 'point')} lost",
            title=line.wanted,
            target=line.anchor,
            aside=step_name(check.step, step_titles),
            text=line.hint,
            checks=(),
        )
        for check, line in pairs
        if check.outcome == "failed" and lost_points(check) > 0
    ]
    failed_points = sum(lost_points(check) for check in checks if check.outcome == "failed")
    not_reached = _not_reached([pair for pair in pairs if pair[0].outcome == "not-reached"], stops)
    broken = _broken([line for check, line in pairs if check.outcome == "broken"])
    lost_there = sum(lost_points(check) for check in checks if check.outcome == "not-reached")
    if lost_there > failed_points:  # whoever stopped early has one thing to mend before the rest
        return (*not_reached, *failed, *broken)
    return (*failed, *not_reached, *broken)


def _not_reached(
    pairs: Sequence[tuple[CheckResult, CheckLine]], stops: Sequence[Stop]
) -> tuple[Loss, ...]:
    if not pairs:
        return ()
    lost = sum(lost_points(check) for check, _ in pairs)
    text = "What is asked about never came to be in your notebook: there was nothing to look at."
    if stops:
        text += (
            f" Mend the first cell that stopped before anything else: {where_stopped(stops[0])}."
        )
    return (
        Loss(
            lost=f"−{number(lost)}",
            lost_spoken=f"{plural(lost, 'point')} lost",
            title=f"{plural(len(pairs), 'check')} not reached",
            target=None,
            aside=None,
            text=text,
            checks=tuple(line for _, line in pairs),
        ),
    )


def _broken(lines: Sequence[CheckLine]) -> tuple[Loss, ...]:
    if not lines:
        return ()
    return (
        Loss(
            lost="?",
            lost_spoken="Undecided",
            title=f"{plural(len(lines), 'check')} broken",
            target=None,
            aside=None,
            text="The check itself failed, not you. A person will decide, and nobody loses a mark "
            "to our mistake.",
            checks=tuple(lines),
        ),
    )
