"""docs/lines.md: rendered from committed reports, one row a line of TensorFlow."""

from __future__ import annotations

import msgspec
from lines_page import PAGE, read_reports, render

from nbassay.regress.report import Finding

COMMITTED = read_reports()


def test_the_page_is_what_the_reports_say() -> None:
    """
    docs/lines.md is fresh.
    """
    assert PAGE.read_text("utf-8") == render(COMMITTED), "run: python benchmarks/lines_page.py"


def test_the_lab_holds_on_every_line_that_was_tried() -> None:
    """
    No committed report has a finding that hurts a learner, a failed check or a false claim.
    """
    assert len(COMMITTED) >= 2
    for report in COMMITTED:
        assert report.hurting == []
        assert {one.outcome for one in report.checks} == {"passed"}
        assert {one.outcome for one in report.claims} == {"holds"}


def test_a_line_on_which_the_lab_does_not_hold_says_why() -> None:
    """
    A finding makes the row say no, and is told below the table.
    """
    (*_, last) = COMMITTED
    found = Finding(
        kind="warning",
        severity="learner",
        file="lab/lab.md",
        line=9,
        cell=1,
        text="cell 1 raises X",
    )

    text = render([msgspec.structs.replace(last, findings=[found])])

    assert f"| {last.environment['python']} | no |" in text
    assert "* `lab/lab.md:9` warning: cell 1 raises X" in text
