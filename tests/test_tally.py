"""The proof's arithmetic: verdicts made up by hand, figures that must come out."""

from __future__ import annotations

from typing import Literal

import pytest
import reporting_samples as samples
from tally import Verdict, Verdicts, tally, told

from nbassay.misconceptions import Misconception, Variant
from nbassay.records import CheckResult

ORIGIN: dict[str, object] = {"command": "c", "date": "2026-01-01", "packages": {}, "made_with": {}}
RIGHT = Variant(title="t")
UNDECIDED = Variant(title="t", status="needs-review")
WRONG = Misconception(title="t", hint="h", must_fail=["a"], may_fail=["b"], shows={"a": "anything"})


def verdict(
    way: Variant | Misconception,
    lost: str = "",
    named: str = "",
    status: Literal["graded", "needs-review"] = "graded",
) -> Verdict:
    """A way called ``own`` that lost these checks of ``a``, ``b`` and ``c``."""
    checks = [
        CheckResult(
            id=check_id,
            step=4,
            outcome="failed" if check_id in lost else "passed",
            points=1,
            earned=0,
            wanted="w",
            saw="s",
            hint=None,
        )
        for check_id in "abc"
    ]
    result = samples.with_learner(
        samples.submission("own", misconceptions=[(one, "h") for one in named.split()]),
        checks=checks,
        status=status,
    )
    return Verdict(id="own", way=way, result=result)


def figures(*verdicts: Verdict) -> Verdicts:
    return tally(verdicts, checks="abc", is_whole=True, origin=ORIGIN)


def test_right_ways_that_lose_are_counted_per_check_and_in_all() -> None:
    """
    Two of four right ways lose points, one of them on two checks.
    """
    found = figures(
        verdict(RIGHT), verdict(RIGHT), verdict(RIGHT, lost="ab"), verdict(RIGHT, lost="b")
    )

    assert (found.right_lost.count, found.right_lost.of) == (2, 4)
    assert {check: one.count for check, one in found.right_lost_by_check.items()} == {
        "a": 1,
        "b": 2,
        "c": 0,
    }
    assert found.right_lost.low == pytest.approx(0.0676, abs=1e-4)
    assert found.unintended == {"right-own": ["b"]}


def test_wrong_ways_are_caught_where_they_should_be() -> None:
    """
    Passing, missing the intended check and failing on another one are three different figures.
    """
    found = figures(
        verdict(WRONG, lost="a", named="own"),
        verdict(WRONG, lost="ab", named="own"),
        verdict(WRONG, lost="b"),
        verdict(WRONG, lost="ac", named="own"),
        verdict(WRONG),
    )

    assert (found.wrong_passed.count, found.wrong_caught.count) == (1, 3)
    assert found.wrong_unintended.count == 1
    assert found.unintended == {"wrong-own": ["c"]}


def test_names_are_counted_and_only_errors_are_listed() -> None:
    """
    The confusion matrix holds what was not called by its own name alone; right work has none.
    """
    found = figures(
        verdict(WRONG, lost="a", named="own"),
        verdict(WRONG, lost="a", named="own more"),
        verdict(WRONG, lost="a", named="more own"),
        verdict(WRONG, lost="a", named="other"),
        verdict(WRONG, lost="a"),
        verdict(RIGHT),
        verdict(RIGHT, lost="a", named="other"),
    )

    assert found.naming == {"first": 2, "among": 1, "other": 1, "unknown": 1}
    assert (found.wrong_named.count, found.wrong_named.of) == (3, 5)
    assert (found.right_named.count, found.right_named.of) == (1, 2)
    assert [(row.way, row.named) for row in found.confusions] == [
        ("wrong-own", ["own", "more"]),
        ("wrong-own", ["more", "own"]),
        ("wrong-own", ["other"]),
        ("wrong-own", []),
        ("right-own", ["other"]),
    ]
    assert "    wrong-own was called nothing" in list(told(found))


@pytest.mark.parametrize(
    ("one", "is_as_it_should_be"),
    [
        (verdict(RIGHT), True),
        (verdict(RIGHT, status="needs-review"), False),
        (verdict(RIGHT, named="other"), False),
        (verdict(UNDECIDED, lost="abc", status="needs-review"), True),
        (verdict(UNDECIDED), False),
        (verdict(WRONG, lost="a", named="own"), True),
        (verdict(WRONG, lost="a"), False),
        (verdict(WRONG, lost="b", named="own"), False),
    ],
)
def test_what_is_wrong_with_a_verdict(one: Verdict, is_as_it_should_be: bool) -> None:
    """
    Points, status and name: each of them can be the one thing that is wrong.
    """
    assert one.is_as_it_should_be == is_as_it_should_be
