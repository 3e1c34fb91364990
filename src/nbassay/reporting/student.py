"""From a learner's sheet to what their report says."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from nbassay.records import (
    CheckResult,
    ControlResult,
    Curve,
    Details,
    FreshRuns,
    SubmissionResult,
)
from nbassay.reporting.charts import CurveChart, confusion_table, curve_chart
from nbassay.reporting.check_lines import check_lines, losses, step_groups, steps_in_order
from nbassay.reporting.context import (
    Accuracy,
    Banner,
    Link,
    Mark,
    NumberLine,
    Pair,
    Segment,
    StudentPage,
    WrongPicture,
)
from nbassay.reporting.stops import not_run, stop_line, stopped_at
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
    failing_controls,
    lost_points,
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
        stopped_at=stopped_at(broken_off),
        misconceptions=tuple(visible(found.hint) for found in result.misconceptions),
        losses=losses(result.checks, lines, broken_off, step_titles),
        steps=step_groups(result.checks, lines, step_titles, fresh_runs),
        numbers=_numbers(result, reference),
        has_reference=reference is not None,
        curves=_curves(details, reference_details),
        confusion=confusion,
        wrong=_wrong_pictures(details, pictures),
        unmeasured=_unmeasured(result),
        stops=tuple(stop_line(stop) for stop in broken_off),
        not_run=not_run(stops),
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
    for step in steps_in_order(checks):
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


def _controls_sentence(controls: Sequence[ControlResult]) -> str | None:
    if not controls:
        return None
    wrong = failing_controls(controls)
    if wrong:
        return "Came out wrong: " + "; ".join(wrong)
    names = listed([one_line(control.name, limit=120) for control in controls])
    return f"As expected: {names}"
