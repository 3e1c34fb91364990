"""From a class's results to what the class page says."""

from __future__ import annotations

import dataclasses
import statistics
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from nbassay.records import CheckResult, ControlResult, Results, SubmissionResult
from nbassay.reporting.charts import Histogram, mark_histogram
from nbassay.reporting.context import (
    AttentionLine,
    Banner,
    CheckRate,
    ClassPage,
    ControlLine,
    KeyFigure,
    LearnerRow,
    Link,
    MisconceptionLine,
)
from nbassay.reporting.student import environment_pairs
from nbassay.reporting.text import number, one_line, percent, plural, visible
from nbassay.reporting.wording import (
    NONE,
    STATUS_WORDS,
    chance_sentence,
    failing_controls,
    first_lost,
    step_name,
)

_OF_ONE_RUN = {"seed", "threads", "training", "attempt"}
"""What an environment tells of one run only, and not of the class."""


def class_page(
    results: Results, *, workshop_title: str, step_titles: Mapping[int, str]
) -> ClassPage:
    """
    Prepare the class page.

    Args:
        results: A graded class.
        workshop_title: The heading.
        step_titles: Step → its title; steps without one are told by number.
    """
    submissions = sorted(results.submissions, key=lambda one: (one.learner.casefold(), one.learner))
    title = one_line(workshop_title, limit=200)
    shares = [
        one.score / one.max_score
        for one in submissions
        if one.score is not None and one.max_score > 0
    ]
    page = ClassPage(
        document_title=f"Class: {title}",
        workshop_title=title,
        subtitle=plural(len(submissions), "submission"),
        banners=_banners(results),
        contents=(),
        key_figures=_key_figures(submissions),
        attention=tuple(_attention(one) for one in submissions if one.status != "graded"),
        rows=tuple(_row(one) for one in submissions),
        total=len(submissions),
        statuses=tuple(
            word
            for status, word in STATUS_WORDS.items()
            if any(one.status == status for one in submissions)
        ),
        histogram=_histogram(shares),
        checks=_check_rates(results, step_titles),
        misconceptions=_misconceptions(submissions),
        identical=tuple(tuple(map(_report_link, group)) for group in results.identical),
        controls=tuple(_control(control) for control in results.controls),
        chance=chance_sentence(results.fresh_runs) if results.fresh_runs else None,
        environment=tuple(
            pair
            for pair in environment_pairs(results.reference.details if results.reference else None)
            if pair.label.casefold() not in _OF_ONE_RUN
        ),
        digest=one_line(results.workshop.digest, limit=200),
    )
    sections = (
        ("attention", "For a person to look at", bool(page.attention)),
        ("learners", "Learners", True),
        ("marks", "Distribution of marks", page.histogram is not None),
        ("checks", "Checks", bool(page.checks)),
        ("misconceptions", "Misconceptions", bool(page.misconceptions)),
        ("identical", "Same code", bool(page.identical)),
        ("controls", "Controls", True),
    )
    contents = tuple(Link(target=key, text=text) for key, text, has in sections if has)
    return dataclasses.replace(page, contents=contents)


def report_href(learner: str) -> str:
    """Where a learner's report lies, relative to the class page."""
    return f"learners/{quote(learner, safe='', errors='replace')}/report.html"


def _banners(results: Results) -> tuple[Banner, ...]:
    wrong = failing_controls(results.controls)
    banners = []
    if wrong:
        banners.append(
            Banner(
                kind="problem",
                title="All marks are provisional: a control came out wrong",
                text="The control samples prove that the grading works. Find out what differs in "
                "this environment before any mark leaves the house.",
                items=tuple(wrong),
            )
        )
    elif not results.controls:
        banners.append(
            Banner(
                kind="warning",
                title="No control samples were graded beside this class",
                text="Nothing shows that the grading worked in this environment.",
                items=(),
            )
        )
    if results.notes:
        banners.append(
            Banner(
                kind="warning",
                title="Before you rely on these marks",
                text=" ".join(visible(note) for note in results.notes),
                items=(),
            )
        )
    return tuple(banners)


def _key_figures(submissions: Sequence[SubmissionResult]) -> tuple[KeyFigure, ...]:
    marks = [one.score for one in submissions if one.score is not None]
    statuses = Counter(one.status for one in submissions)
    figures = [
        KeyFigure(
            value=str(len(submissions)), label="learner" if len(submissions) == 1 else "learners"
        ),
        KeyFigure(
            value=number(statistics.fmean(marks), decimals=1) if marks else NONE, label="mean mark"
        ),
        KeyFigure(
            value=number(statistics.median(marks), decimals=1) if marks else NONE,
            label="median mark",
        ),
    ]
    full = sum(one.score is not None and one.score >= one.max_score for one in submissions)
    figures.append(KeyFigure(value=str(full), label="with full marks"))
    figures.append(KeyFigure(value=str(statuses["needs-review"]), label="need review"))
    figures += [
        KeyFigure(value=str(statuses[status]), label=STATUS_WORDS[status])
        for status in ("unreadable", "not-run")
        if statuses[status]
    ]
    return tuple(figures)


def _attention(one: SubmissionResult) -> AttentionLine:
    return AttentionLine(
        learner=one_line(one.learner, limit=200),
        href=report_href(one.learner),
        status=STATUS_WORDS[one.status],
        status_style=one.status,
        why=one_line(one.notes[0], limit=300) if one.notes else "",
    )


def _row(one: SubmissionResult) -> LearnerRow:
    learner = one_line(one.learner, limit=200)
    lost = first_lost(one.checks)
    first = one_line(lost.id, limit=120) if lost else ""
    file = one_line(one.file, limit=300)
    return LearnerRow(
        learner=learner,
        file=file,
        href=report_href(one.learner),
        status=STATUS_WORDS[one.status],
        status_style=one.status,
        mark=None if one.score is None else number(one.score),
        mark_order=_order(one.score),
        train=None if one.train_accuracy is None else percent(one.train_accuracy),
        train_order=_order(one.train_accuracy),
        test=None if one.test_accuracy is None else percent(one.test_accuracy),
        test_order=_order(one.test_accuracy),
        first_lost=first,
        # As the page's script folds what is typed: not casefold, which turns ß into ss.
        search=unicodedata.normalize("NFC", f"{learner} {file} {first}".lower()),
    )


def _order(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _histogram(shares: Sequence[float]) -> Histogram | None:
    return mark_histogram(shares) if shares else None


def _check_rates(results: Results, step_titles: Mapping[int, str]) -> tuple[CheckRate, ...]:
    known: dict[str, CheckResult] = {}
    outcomes: dict[str, Counter[str]] = {}
    sheets = ([results.reference] if results.reference else []) + list(results.submissions)
    for sheet in sheets:
        for check in sheet.checks:
            known.setdefault(check.id, check)
    for one in results.submissions:
        for check in one.checks:
            outcomes.setdefault(check.id, Counter())[check.outcome] += 1
    rates = []
    for check_id, check in known.items():
        counts = outcomes.get(check_id, Counter())
        asked = sum(counts.values())
        if asked:
            share = counts["passed"] / asked
            rates.append((share, _check_rate(check, counts, asked, step_titles)))
    # Python sorts stably: checks with the same rate stay in the lab's order.
    return tuple(rate for _, rate in sorted(rates, key=lambda pair: pair[0]))


def _check_rate(
    check: CheckResult, counts: Counter[str], asked: int, step_titles: Mapping[int, str]
) -> CheckRate:
    share = counts["passed"] / asked
    # 99.6 % is not "100 %": only a check that everybody passed may say so.
    # Whole numbers, so that a half is a half and goes up.
    whole = 100 if share == 1 else min(99, (200 * counts["passed"] + asked) // (2 * asked))
    return CheckRate(
        id=one_line(check.id, limit=120),
        step=step_name(check.step, step_titles),
        wanted=visible(check.wanted),
        points=plural(check.points, "point"),
        rate=percent(whole / 100, decimals=0),
        bar=round(100 * share, 1),
        passed=f"{counts['passed']} of {asked}",
        failed=counts["failed"],
        not_reached=counts["not-reached"],
        broken=counts["broken"],
    )


def _report_link(learner: str) -> Link:
    return Link(target=report_href(learner), text=one_line(learner, limit=200))


def _misconceptions(submissions: Sequence[SubmissionResult]) -> tuple[MisconceptionLine, ...]:
    hints: dict[str, str] = {}
    learners: dict[str, list[SubmissionResult]] = {}
    for one in submissions:
        for found in one.misconceptions:
            hints.setdefault(found.id, found.hint)
            learners.setdefault(found.id, []).append(one)
    by_count = sorted(learners.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(
        MisconceptionLine(
            id=one_line(key, limit=120),
            hint=visible(hints[key]),
            count=len(who),
            count_noun="learner" if len(who) == 1 else "learners",
            learners=tuple(_report_link(one.learner) for one in who),
        )
        for key, who in by_count
    )


def _control(control: ControlResult) -> ControlLine:
    return ControlLine(
        name=one_line(control.name, limit=120),
        word="as expected" if control.as_expected else "came out wrong",
        style="passed" if control.as_expected else "failed",
        score=None if control.score is None else number(control.score),
        why=visible(control.why) if control.why else "",
    )
