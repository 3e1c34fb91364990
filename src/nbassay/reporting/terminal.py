"""
Short summaries for the terminal.

Text is put together from `rich.text.Text`, never from markup strings, and all of it has been
through `visible`: a learner's text can neither style the terminal nor move its cursor.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nbassay.diff import Comparison
from nbassay.records import CheckResult, ControlResult, Results, SubmissionResult
from nbassay.reporting.plain_errors import plain_stop
from nbassay.reporting.text import number, one_line, percent, plural, visible
from nbassay.reporting.wording import (
    NONE,
    OUTCOME_WORDS,
    STATUS_WORDS,
    failing_controls,
    first_lost,
    lost_points,
)
from nbassay.stages import STAGES

_OUTCOME_STYLES = {
    "passed": "green",
    "failed": "bold red",
    "not-reached": "yellow",
    "broken": "magenta",
}
_STATUS_STYLES = {
    "graded": "",
    "needs-review": "yellow",
    "unreadable": "red",
    "not-run": "magenta",
}


def check_summary(result: SubmissionResult) -> RenderableType:
    """What ``nbassay check`` prints: the mark, what failed and why, where it stopped."""
    parts: list[RenderableType] = [_headline(result)]
    if result.status != "graded":
        parts += [Text(f"  {one_line(note)}") for note in result.notes]
    for found in result.misconceptions:
        parts.append(_indented(Text.assemble(("Most likely: ", "bold"), one_line(found.hint)), 0))
    parts += [_failed(check) for check in result.checks if check.outcome in ("failed", "broken")]
    parts += _not_reached(result)
    parts += _stops(result)
    return Group(*parts)


def class_summary(results: Results) -> RenderableType:
    """What ``nbassay grade`` prints: the controls, then a row a learner."""
    parts: list[RenderableType] = []
    wrong = failing_controls(results.controls)
    if wrong:
        parts.append(Text("All marks are provisional: a control came out wrong.", style="bold red"))
        parts += [Text(f"  {line}") for line in wrong]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Learner", overflow="fold")
    table.add_column("Mark", justify="right")
    table.add_column("Train", justify="right")
    table.add_column("Test", justify="right")
    table.add_column("Status")
    table.add_column("First lost", overflow="fold")
    for one in sorted(results.submissions, key=lambda one: (one.learner.casefold(), one.learner)):
        lost = first_lost(one.checks)
        table.add_row(
            Text(one_line(one.learner, limit=200)),
            Text(NONE if one.score is None else number(one.score)),
            Text(_accuracy(one.train_accuracy)),
            Text(_accuracy(one.test_accuracy)),
            Text(STATUS_WORDS[one.status], style=_STATUS_STYLES[one.status]),
            Text(one_line(lost.id, limit=120) if lost else ""),
        )
    parts.append(table)
    parts += [_control(control) for control in results.controls]
    parts += [Text(f"Note: {one_line(note)}", style="yellow") for note in results.notes]
    return Group(*parts)


def print_check(result: SubmissionResult, *, report: Path | None, console: Console) -> None:
    """
    Print `check_summary`; no highlighting of ours is added to learners' words.

    Args:
        result: The learner's sheet.
        report: Where the full report lies; None when none was written.
        console: Where to print.
    """
    console.print(check_summary(result), highlight=False)
    if report is not None:
        # Neither folded nor trimmed, however narrow the window: a path is there to be copied.
        path = visible(str(report)).translate({ord("\n"): "⟨U+000A⟩", ord("\t"): "⟨U+0009⟩"})
        console.print(Text(f"Report: {path}", style="bold"), highlight=False, soft_wrap=True)


def print_class(results: Results, *, console: Console) -> None:
    """Print `class_summary`."""
    console.print(class_summary(results), highlight=False)


def comparison_summary(found: Comparison) -> RenderableType:
    """What ``nbassay diff`` prints: learner by learner, what changed and why."""
    parts: list[RenderableType] = []
    for change in found.changes:
        head = Text.assemble(
            (one_line(change.learner, limit=200), "bold"),
            f": {one_line(change.before)} → {one_line(change.after)}",
        )
        parts.append(head)
        for outcome in change.outcomes:
            line = Text(f"{one_line(outcome.check)}: {outcome.before} → ")
            line.append(outcome.after, style=_OUTCOME_STYLES.get(outcome.after, ""))
            parts.append(_indented(line, 2))
        for reason in change.reasons:
            parts.append(_indented(Text(f"because: {one_line(reason)}", style="dim"), 2))
    if found.workshop_changed:
        parts.append(Text("The workshop's checks, points, tolerances or calibration changed."))
    parts.append(
        Text(f"{plural(len(found.changes), 'learner')} changed, {found.unchanged} did not.")
    )
    return Group(*parts)


def print_comparison(found: Comparison, *, console: Console) -> None:
    """Print a comparison of two graded classes."""
    console.print(comparison_summary(found))


def _headline(result: SubmissionResult) -> Text:
    learner = one_line(result.learner, limit=200)
    if result.score is None:
        return Text.assemble((f"{learner}: ", "bold"), STATUS_WORDS[result.status])
    passed = sum(check.outcome == "passed" for check in result.checks)
    line = Text.assemble(
        (f"{learner}: {number(result.score)} of {plural(result.max_score, 'point')}", "bold"),
        f"  ({passed} of {plural(len(result.checks), 'check')} passed)",
    )
    if result.status != "graded":
        line.append(f"  {STATUS_WORDS[result.status]}, marks are provisional", style="yellow")
    return line


def _failed(check: CheckResult) -> RenderableType:
    lost = lost_points(check)
    head = Text.assemble(
        (OUTCOME_WORDS[check.outcome], _OUTCOME_STYLES[check.outcome]),
        " ",
        (one_line(check.id, limit=120), "bold"),
        f"  −{plural(lost, 'point')}" if lost else "",
    )
    rows: list[RenderableType] = [head]
    for label, value in (("wanted", check.wanted), ("saw", check.saw), ("next", check.hint)):
        if value:
            rows.append(_indented(Text.assemble((f"{label:<7}", "dim"), one_line(value)), 2))
    return Group(*rows)


def _not_reached(result: SubmissionResult) -> list[RenderableType]:
    checks = [check for check in result.checks if check.outcome == "not-reached"]
    if not checks:
        return []
    lost = sum(lost_points(check) for check in checks)
    ids = ", ".join(one_line(check.id, limit=120) for check in checks)
    head = Text.assemble(
        (OUTCOME_WORDS["not-reached"], _OUTCOME_STYLES["not-reached"]),
        f" {plural(len(checks), 'check')}, −{plural(lost, 'point')}",
    )
    return [head, _indented(Text(ids), 2)]


def _stops(result: SubmissionResult) -> list[RenderableType]:
    stops = result.details.stops if result.details else []
    first = next((stop for stop in stops if stop.status != "not-run"), None)
    if first is None:
        return []
    name = one_line(first.error_name or first.status, limit=80)
    message = one_line(first.error_message or "", limit=300)
    head = Text.assemble(
        (f"Stopped at cell {first.cell}", "bold"), f": {name}", f": {message}" if message else ""
    )
    plain = one_line(plain_stop(first.status, first.error_name, first.error_message))
    return [head, _indented(Text(plain), 2)]


def _control(control: ControlResult) -> Text:
    name = one_line(control.name, limit=120)
    state = ("as expected", "green") if control.as_expected else ("came out wrong", "bold red")
    return Text.assemble(f"Control {name}: ", state)


def _accuracy(value: float | None) -> str:
    return NONE if value is None else percent(value)


def _indented(text: Text, columns: int) -> RenderableType:
    return Padding(text, (0, 0, 0, columns))


def print_stages(seconds: Mapping[str, float], *, console: Console) -> None:
    """Print where the seconds went: a row a stage, in the order in which they come."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    total = sum(seconds.values())
    table.add_column("Stage", footer="all")
    table.add_column("Seconds", justify="right", footer=f"{total:.1f}")
    table.add_column("Share", justify="right")
    table.add_column("What")
    for stage, words in STAGES.items():
        if stage in seconds:
            share = seconds[stage] / total if total else 0.0
            table.add_row(stage, f"{seconds[stage]:.1f}", percent(share, decimals=0), words)
    console.print(table)
