"""What ``%assay`` shows in a notebook: the report's fragments and words, and hints by and by."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from nbassay.misconceptions import Misconception
from nbassay.records import CheckResult, SubmissionResult
from nbassay.reporting.check_lines import check_lines, step_groups
from nbassay.reporting.context import StepGroup
from nbassay.reporting.html import environment
from nbassay.reporting.text import listed, one_line, plural, visible
from nbassay.reporting.wording import OUTCOME_WORDS, lost_points

_serial = itertools.count(1)
"""Of an answer: a notebook shows several, and an id may stand on a page once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiveView:
    """One answer to ``%assay``."""

    summary: str
    """One sentence."""
    steps: tuple[StepGroup, ...] = ()
    """Checks that were reached, without their hints."""
    hints: tuple[str, ...] = ()
    """The least concrete first; those that were asked for."""
    asides: tuple[str, ...] = ()
    """What is not reached yet, what was not seen, how to go on; in sentences."""


def live_view(
    result: SubmissionResult,
    checks: Sequence[CheckResult],
    unseen: Sequence[str],
    step_titles: Mapping[int, str],
) -> LiveView:
    """
    The outcomes of the checks that were reached.

    Args:
        result: The sheet of what the kernel showed.
        checks: Those of its checks that are asked about.
        unseen: What was not watched, in sentences.
        step_titles: Step → its title.
    """
    reached = [check for check in checks if check.outcome != "not-reached"]
    waiting = [check for check in checks if check.outcome == "not-reached"]
    asides = []
    if waiting:
        told = listed([one_line(check.id, limit=120) for check in waiting])
        asides.append(f"Not reached yet: {told}.")
        if waiting[0].saw:
            asides.append(f"{one_line(waiting[0].id, limit=120)}: {visible(waiting[0].saw)}.")
    failed = [check for check in reached if check.outcome == "failed"]
    if failed:
        asides.append(f"For a hint: %assay hint {one_line(failed[0].id, limit=120)}")
    if result.status == "needs-review":
        asides += [f"Not decided here: {visible(note)}" for note in result.notes[:1]]
    if waiting or failed:
        asides += [visible(sentence) for sentence in unseen]
    return LiveView(
        summary=_summary(reached, waiting), steps=_steps(reached, step_titles), asides=tuple(asides)
    )


def hint_view(
    result: SubmissionResult,
    check_id: str,
    asked: int,
    known: Mapping[str, Misconception],
    step_titles: Mapping[int, str],
) -> LiveView:
    """
    Hints for one check, one more each time it is asked about, never the solution.

    Args:
        result: The sheet of what the kernel showed.
        check_id: One of its checks.
        asked: Which time this is, 1 first.
        known: Wrong ways by id.
        step_titles: Step → its title.
    """
    check = next(check for check in result.checks if check.id == check_id)
    name = one_line(check.id, limit=120)
    if check.outcome in ("passed", "broken"):
        summary = f"{name}: {OUTCOME_WORDS[check.outcome]}, there is nothing to look for."
        return LiveView(summary=summary, steps=_steps([check], step_titles))
    hints = _hints(check, result, known)
    shown = hints[:asked]
    more = "%assay hint " + name
    aside = f"More concrete: {more}" if len(shown) < len(hints) else "That is the last hint."
    return LiveView(
        summary=f"{name}: {OUTCOME_WORDS[check.outcome]}. Hint {len(shown)} of {len(hints)}:",
        hints=tuple(shown),
        asides=(aside,),
    )


def _hints(
    check: CheckResult, result: SubmissionResult, known: Mapping[str, Misconception]
) -> list[str]:
    """From what is wanted to what is most likely wrong."""
    hints = [f"Wanted: {visible(check.wanted)}"]
    if check.saw:
        hints[0] += f"\nSeen: {visible(check.saw)}"
    if check.hint:
        hints.append(visible(check.hint))
    for found in result.misconceptions:
        way = known.get(found.id)
        if way is not None and check.id in (*way.must_fail, *way.may_fail):
            hints.append(f"Most likely: {visible(found.hint)}")
    return list(dict.fromkeys(hints))


def _summary(reached: Sequence[CheckResult], waiting: Sequence[CheckResult]) -> str:
    if not reached:
        return "No check is reached yet."
    passed = sum(check.outcome == "passed" for check in reached)
    words = f"{passed} of {plural(len(reached), 'check')} reached so far passed"
    if not waiting:
        words = f"{passed} of {plural(len(reached), 'check')} passed"
    lost = sum(lost_points(check) for check in reached)
    return f"{words}, {plural(lost, 'point')} lost." if lost else f"{words}."


def _steps(checks: Sequence[CheckResult], titles: Mapping[int, str]) -> tuple[StepGroup, ...]:
    bare = [msgspec.structs.replace(check, hint=None) for check in checks]
    groups = step_groups(bare, check_lines(bare), titles, None)
    serial = next(_serial)
    return tuple(
        dataclasses.replace(
            group,
            checks=tuple(
                dataclasses.replace(line, anchor=f"assay-{serial}-{line.anchor}")
                for line in group.checks
            ),
        )
        for group in groups
    )


def render_live(view: LiveView, reports_dir: Path) -> str:
    """
    The answer as a piece of HTML for a notebook's output.

    Args:
        reports_dir: The workshop's templates; the engine's where it has none.
    """
    templates = environment(reports_dir)
    chosen = templates.select_template(["lab/live.html", "engine/live.html"])
    return chosen.render(page=view)


def live_text(view: LiveView) -> str:
    """The same as plain text, for front ends that show no HTML."""
    lines = [view.summary]
    for step in view.steps:
        lines += ["", step.title]
        for check in step.checks:
            lines.append(f"  {check.word:<7} {check.id}  {check.wanted}")
            if check.outcome != "passed" and check.saw:
                lines.append(f"          seen: {check.saw}")
    lines += [f"  {position}. {hint}" for position, hint in enumerate(view.hints, start=1)]
    if view.asides:
        lines += ["", *view.asides]
    return "\n".join(lines)
