"""``gradebook.csv``: one row a learner, one column a check."""

from __future__ import annotations

import csv
import io

from nbassay.records import Results, SubmissionResult
from nbassay.reporting.text import number, one_line
from nbassay.reporting.wording import first_lost

_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def formula_safe(text: str) -> str:
    """
    Text that no spreadsheet takes for a formula.

    Args:
        text: Any text, learners' included.

    Returns:
        One line; with a leading ``'`` where the text, or what is left of it without blanks and
        control characters, begins like a formula.
    """
    line = one_line(text)
    is_risky = text.startswith(_STARTS_FORMULA) or line.startswith(_STARTS_FORMULA)
    return f"'{line}" if is_risky else line


def check_ids(results: Results) -> list[str]:
    """All check ids in the workshop's order, the reference's sheet first."""
    sheets = ([results.reference] if results.reference else []) + list(results.submissions)
    return list(dict.fromkeys(check.id for sheet in sheets for check in sheet.checks))


def render_gradebook(results: Results) -> str:
    """
    Write the gradebook as text, everything quoted.

    A check's column holds the points earned, empty where nothing was graded. Accuracies are
    fractions 0..1.
    """
    ids = check_ids(results)
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=csv.QUOTE_ALL)
    heads = ["learner", "file", "status", "score", "max_score", "train_accuracy", "test_accuracy"]
    writer.writerow(heads + [formula_safe(check_id) for check_id in ids] + ["first_lost"])
    for one in sorted(results.submissions, key=lambda one: (one.learner.casefold(), one.learner)):
        writer.writerow(_row(one, ids))
    return file.getvalue()


def _row(one: SubmissionResult, ids: list[str]) -> list[str]:
    earned = {check.id: check.earned for check in one.checks}
    lost = first_lost(one.checks)
    return [
        formula_safe(one.learner),
        formula_safe(one.file),
        one.status,
        _number(one.score),
        _number(one.max_score),
        _number(one.train_accuracy, decimals=6),
        _number(one.test_accuracy, decimals=6),
        *(_number(earned.get(check_id)) for check_id in ids),
        formula_safe(lost.id) if lost else "",
    ]


def _number(value: float | None, *, decimals: int = 4) -> str:
    return "" if value is None else number(value, decimals=decimals)
