"""From a learner's sheet to what their report says."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from nbassay.records import (
    CheckResult,
    ControlResult,
    Curve,
    Details,
    FreshRuns,
    Stop,
    SubmissionResult,
)
from nbassay.reporting.charts import CurveChart, confusion_table, curve_chart
from nbassay.reporting.context import (
    Accuracy,
    Banner,
    CheckLine,
    Link,
    Loss,
    Mark,
    NumberLine,
    Pair,
    Segment,
    StepGroup,
    StopLine,
    StudentPage,
    WrongPicture,
)
from nbassay.reporting.plain_errors import plain_stop
from nbassay.reporting.text import (
    limit_text,
    listed,
    number,
    one_line,
    percent,
    plural,
    visible,
    with_article,
)
from nbassay.reporting.wording import (
    OUTCOME_WORDS,
    chance_sentence,
    failing_controls,
    lost_points,
    step_name,
)

MOST_CURVES = 4
"""Training curves on one report; a history with more metrics shows its first ones."""
MOST_PICTURES = 8
"""Wrong images on one report."""


def student_page(
    result: SubmissionResult,
    *,
    reference: SubmissionResult | None,
    controls: Sequence[ControlResult],
    workshop_title: str,
    pictures: Mapping[int, str],
    step_titles: Mapping[int, str],
    fresh_runs: FreshRuns | None = None,
) -> StudentPage:
    """
    Prepare one report.

    Args:
        result: The learner's sheet.
        reference: The reference's sheet, if it was graded beside the class.
        controls: The class's control samples; empty for a self-check.
        workshop_title: Over the heading.
        pictures: Position in the test set → ``data:`` address.
        step_titles: Step → its title; steps without one are told by number.
        fresh_runs: What is known of chance; None when it was not measured.
    """
    details = result.details
    reference_details = reference.details if reference else None
    lines = check_lines(result.checks)
    measurement = details.measurement if details else None
    provenance = details.provenance if details else None
    confusion = (
        confusion_table(measurement.confusion) if measurement and measurement.confusion else None
    )
    stops = details.stops if details else []
    broken_off = [stop for stop in stops if stop.status != "not-run"]
    is_graded = result.status == "graded"
    learner = one_line(result.learner, limit=200)
    title = one_line(workshop_title, limit=200)
    page = StudentPage(
        document_title=f"{learner}: {title}",
        workshop_title=title,
        learner=learner,
        file=one_line(result.file, limit=300),
        banners=_banners(result, controls),
        contents=(),
        mark=_mark(result, controls),
        accuracies=_accuracies(result, reference),
        stopped_at=_stopped_at(broken_off),
        misconceptions=tuple(visible(found.hint) for found in result.misconceptions),
        losses=_losses(result.checks, lines, broken_off, step_titles),
        steps=step_groups(result.checks, lines, step_titles, fresh_runs),
        numbers=_numbers(result, reference),
        has_reference=reference is not None,
        curves=_curves(details, reference_details),
        confusion=confusion,
        wrong=_wrong_pictures(details, pictures),
        unmeasured=_unmeasured(result),
        stops=tuple(_stop_line(stop) for stop in broken_off),
        not_run=_not_run(stops),
        notes=tuple(visible(note) for note in result.notes) if is_graded else (),
        verified=tuple(visible(text) for text in provenance.verified) if provenance else (),
        claimed=tuple(visible(text) for text in provenance.claimed) if provenance else (),
        environment=environment_pairs(details),
        limits=tuple(
            Pair(label=one_line(label, limit=60), value=value)
            for label, value in (
                limit_text(name, limit)
                for name, limit in (details.limits if details else {}).items()
            )
        ),
        controls=_controls_sentence(controls),
        digest=one_line(result.digest, limit=200),
    )
    return _with_contents(page)


def environment_pairs(details: Details | None) -> tuple[Pair, ...]:
    """Versions, sandbox and the like, in the order in which they were recorded."""
    return tuple(
        Pair(label=one_line(label, limit=100), value=one_line(value, limit=300))
        for label, value in (details.environment if details else {}).items()
    )


def _with_contents(page: StudentPage) -> StudentPage:
    sections = (
        ("mark", "Mark", True),
        ("lost", "What to look at next", bool(page.losses or page.misconceptions)),
        ("checks", "Checks", bool(page.steps)),
        ("numbers", "Numbers", bool(page.numbers)),
        ("training", "Training curve", bool(page.curves)),
        ("confusion", "Confusions", bool(page.confusion or page.wrong)),
        ("stops", "Where it stopped", bool(page.stops)),
        ("circumstances", "Grading", True),
    )
    contents = tuple(Link(target=key, text=text) for key, text, has in sections if has)
    return dataclasses.replace(page, contents=contents)


# ---------------------------------------------------------------- banners and the mark


def _banners(result: SubmissionResult, controls: Sequence[ControlResult]) -> tuple[Banner, ...]:
    banners = []
    wrong_controls = failing_controls(controls)
    if wrong_controls:
        banners.append(
            Banner(
                kind="problem",
                title="Marks are provisional",
                text="A control sample that was graded beside the class came out wrong, so the "
                "grading itself is in doubt. This is not about your work.",
                items=(),
            )
        )
    notes = tuple(visible(note) for note in result.notes)
    if result.status == "needs-review":
        banners.append(
            Banner(
                kind="warning",
                title="Needs review",
                text="Marks are provisional, a person will look. Something in this submission "
                "cannot be decided by measuring alone.",
                items=notes,
            )
        )
    elif result.status == "unreadable":
        banners.append(
            Banner(
                kind="problem",
                title="This file could not be read as a notebook",
                text="Nothing was graded. Open your notebook in Jupyter, run it from the top, save "
                "it, and hand in the .ipynb file again.",
                items=notes,
            )
        )
    elif result.status == "not-run":
        banners.append(
            Banner(
                kind="warning",
                title="This notebook has not been run yet",
                text="The failure is ours, not yours. It will be tried again, and nobody loses a "
                "mark by it.",
                items=notes,
            )
        )
    return tuple(banners)


def _mark(result: SubmissionResult, controls: Sequence[ControlResult]) -> Mark | None:
    if result.score is None:
        return None
    passed = sum(check.outcome == "passed" for check in result.checks)
    lost = sum(lost_points(check) for check in result.checks)
    undecided = sum(check.outcome == "broken" for check in result.checks)
    asked = len(result.checks)
    if passed == asked:
        summary = f"All {asked} checks passed." if asked else "There was nothing to check."
    else:
        summary = f"{passed} of {plural(asked, 'check')} passed."
        summary += f" {plural(lost, 'point')} lost." if lost else " No points lost."
    if undecided:
        summary += f" {plural(undecided, 'check')} could not be decided yet."
    return Mark(
        score=number(result.score),
        out_of=plural(result.max_score, "point"),
        is_provisional=result.status != "graded" or bool(failing_controls(controls)),
        summary=summary,
        segments=_segments(result.checks),
    )


def _segments(checks: Sequence[CheckResult]) -> tuple[Segment, ...]:
    total = sum(check.points for check in checks)
    if total <= 0:
        return ()
    segments, x = [], 0.0
    for step in _steps_in_order(checks):
        of_step = [check for check in checks if check.step == step]
        width = 100 * sum(check.points for check in of_step) / total
        earned = 100 * sum(check.earned for check in of_step) / total
        segments.append(
            Segment(x=round(x, 2), width=round(width, 2), earned=round(min(earned, width), 2))
        )
        x += width
    return tuple(segments)


def _accuracies(
    result: SubmissionResult, reference: SubmissionResult | None
) -> tuple[Accuracy, ...]:
    pairs = (
        (
            "Training accuracy",
            result.train_accuracy,
            reference.train_accuracy if reference else None,
        ),
        ("Test accuracy", result.test_accuracy, reference.test_accuracy if reference else None),
    )
    return tuple(
        Accuracy(
            label=label,
            value=percent(mine),
            reference=None if theirs is None else percent(theirs),
        )
        for label, mine, theirs in pairs
        if mine is not None
    )


# ---------------------------------------------------------------- checks


def _steps_in_order(checks: Sequence[CheckResult]) -> list[int]:
    return sorted({check.step for check in checks})


def check_lines(checks: Sequence[CheckResult]) -> tuple[CheckLine, ...]:
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
    groups = []
    of_chance = set(fresh_runs.checks) if fresh_runs else set()
    for step in _steps_in_order(checks):
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


def _losses(
    checks: Sequence[CheckResult],
    lines: Sequence[CheckLine],
    stops: Sequence[Stop],
    step_titles: Mapping[int, str],
) -> tuple[Loss, ...]:
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
        text += f" Mend the first cell that stopped before anything else: {_where(stops[0])}."
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


# ---------------------------------------------------------------- numbers and the network


def _numbers(
    result: SubmissionResult, reference: SubmissionResult | None
) -> tuple[NumberLine, ...]:
    lines = [
        NumberLine(
            label=label,
            yours=None if mine is None else percent(mine),
            reference=None if theirs is None else percent(theirs),
        )
        for label, mine, theirs in (
            (
                "training accuracy, measured again",
                result.train_accuracy,
                reference.train_accuracy if reference else None,
            ),
            (
                "test accuracy, measured again",
                result.test_accuracy,
                reference.test_accuracy if reference else None,
            ),
        )
        if mine is not None
    ]
    mine = [(row.label, row.value) for row in result.details.numbers] if result.details else []
    if not mine and not lines:
        return ()
    theirs_left = (
        [(row.label, row.value) for row in reference.details.numbers]
        if reference and reference.details
        else []
    )
    for label, value in mine:
        match = next((row for row in theirs_left if row[0] == label), None)
        if match is not None:
            theirs_left.remove(match)
        lines.append(_number_line(label, value, match[1] if match else None))
    lines += [_number_line(label, None, value) for label, value in theirs_left]
    return tuple(lines)


def _number_line(label: str, yours: str | None, reference: str | None) -> NumberLine:
    return NumberLine(
        label=one_line(label, limit=200),
        yours=None if yours is None else one_line(yours, limit=300),
        reference=None if reference is None else one_line(reference, limit=300),
    )


def _curves(details: Details | None, reference: Details | None) -> tuple[CurveChart, ...]:
    theirs: dict[str, Curve] = {}
    for curve in reference.curves if reference else []:
        theirs.setdefault(curve.metric, curve)
    charts: list[CurveChart] = []
    for curve in details.curves if details else []:
        other = theirs.get(curve.metric)
        chart = curve_chart(
            f"curve-{len(charts) + 1}", curve.metric, curve.values, other.values if other else None
        )
        if chart is not None and len(charts) < MOST_CURVES:
            charts.append(chart)
    return tuple(charts)


def _wrong_pictures(
    details: Details | None, pictures: Mapping[int, str]
) -> tuple[WrongPicture, ...]:
    wrong = details.measurement.wrong if details and details.measurement else []
    shown = [row for row in wrong if row.index in pictures][:MOST_PICTURES]
    return tuple(
        WrongPicture(
            source=pictures[row.index],
            alt=f"test image {row.index}: {with_article(row.truth)}, read as {row.predicted}",
            caption=f"{with_article(row.truth)}, read as {row.predicted}",
            number=f"test image {row.index}",
        )
        for row in shown
    )


def _unmeasured(result: SubmissionResult) -> str | None:
    if result.score is None or result.details is None:
        return None
    measurement = result.details.measurement
    if measurement is None:
        return "No trained network was found, so its accuracy could not be measured."
    return visible(measurement.why_not) if measurement.why_not else None


# ---------------------------------------------------------------- where it stopped


def _where(stop: Stop) -> str:
    if stop.status == "timeout":
        return f"cell {stop.cell} (out of time)"
    name = one_line(stop.error_name, limit=80) if stop.error_name else None
    return f"cell {stop.cell} ({name})" if name else f"cell {stop.cell}"


def _stopped_at(stops: Sequence[Stop]) -> str | None:
    return f"Your notebook stopped at {_where(stops[0])}." if stops else None


def _stop_line(stop: Stop) -> StopLine:
    name = one_line(stop.error_name, limit=80) if stop.error_name else None
    message = visible(stop.error_message).strip() if stop.error_message else None
    if stop.status == "timeout":
        title = f"Cell {stop.cell} ran out of time"
    elif name:
        title = f"Cell {stop.cell} stopped with {name}"
    else:
        title = f"Cell {stop.cell} stopped"
    return StopLine(
        title=title,
        plain=visible(plain_stop(stop.status, name, stop.error_message)),
        original=": ".join(part for part in (name, message) if part) or None,
    )


def _not_run(stops: Sequence[Stop]) -> str | None:
    cells = sorted({stop.cell for stop in stops if stop.status == "not-run"})
    if not cells:
        return None
    if len(cells) == 1:
        return f"Cell {cells[0]} was not run."
    if cells == list(range(cells[0], cells[-1] + 1)) and len(cells) > 2:
        return f"Cells {cells[0]} to {cells[-1]} were not run."
    return f"Cells {listed([str(cell) for cell in cells])} were not run."


def _controls_sentence(controls: Sequence[ControlResult]) -> str | None:
    if not controls:
        return None
    wrong = failing_controls(controls)
    if wrong:
        return "Came out wrong: " + "; ".join(wrong)
    names = listed([one_line(control.name, limit=120) for control in controls])
    return f"As expected: {names}"
