"""From single verdicts to the figures that they add up to."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from nbassay.intervals import Share, share
from nbassay.misconceptions import Misconception, Variant
from nbassay.records import Record, SubmissionResult
from nbassay.trust import Origin


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a way should get beside what it got."""

    id: str
    """Of the way, as its file is called."""
    way: Misconception | Variant
    result: SubmissionResult

    @property
    def name(self) -> str:
        """``right-…`` or ``wrong-…``: ids of the two kinds may be the same."""
        return f"{'wrong' if isinstance(self.way, Misconception) else 'right'}-{self.id}"

    @property
    def lost(self) -> set[str]:
        """Checks that were not passed."""
        return {check.id for check in self.result.checks if check.outcome != "passed"}

    @property
    def missed(self) -> set[str]:
        """Checks that should have failed and passed."""
        return set(self.way.must_fail) - self.lost if isinstance(self.way, Misconception) else set()

    @property
    def unintended(self) -> set[str]:
        """Checks that failed and should have passed."""
        if isinstance(self.way, Misconception):
            return self.lost - {*self.way.must_fail, *self.way.may_fail}
        return self.lost if self.way.status == "graded" else set()

    @property
    def has_wrong_status(self) -> bool:
        """Whether a person was asked to look for nothing, or not asked where none can decide."""
        if isinstance(self.way, Misconception):
            return self.result.status not in ("graded", "needs-review")
        return self.result.status != self.way.status

    @property
    def named(self) -> list[str]:
        """Misconceptions that the sheet was said to show, the first one first."""
        return [one.id for one in self.result.misconceptions]

    @property
    def naming(self) -> Naming:
        """How its name was found, if it has one."""
        if not self.named:
            return "unknown"
        if self.named[0] == self.id:
            return "first"
        return "among" if self.id in self.named else "other"

    @property
    def is_misnamed(self) -> bool:
        """Whether right work was called wrong, or a wrong way is not called what it is."""
        if isinstance(self.way, Misconception):
            return bool(self.way.shows) and self.naming in ("other", "unknown")
        return self.way.status == "graded" and bool(self.named)

    @property
    def is_as_it_should_be(self) -> bool:
        """Whether nothing is wrong with this verdict."""
        return not (self.missed or self.unintended or self.has_wrong_status or self.is_misnamed)


Naming = Literal["first", "among", "other", "unknown"]
NAMINGS: dict[Naming, str] = {
    "first": "own name first",
    "among": "own name among others",
    "other": "other names only",
    "unknown": "not known",
}
"""How the name of a wrong way was found, in words."""


class Confusion(Record, frozen=True, kw_only=True):
    """A row of the confusion matrix that is not on its diagonal alone."""

    way: str
    """What it was: ``wrong-…``, ``right-…``."""
    named: list[str]
    """What it was called; empty when it was not known."""


class Verdicts(Origin, frozen=True, kw_only=True):
    """The figures of all known ways, each share with its 95 % Clopper-Pearson interval."""

    schema: Literal["nbassay/verdicts/1"] = "nbassay/verdicts/1"
    is_whole: bool
    """False when only some of the ways were graded."""
    right_lost: Share
    """Right ways that lost a point."""
    right_lost_by_check: dict[str, Share]
    right_to_a_person: Share
    """Right ways that a person was asked to look at."""
    right_named: Share
    """Right ways that were called some misconception."""
    undecided_kept: Share
    """Ways that no rule decides and that no person was asked to look at."""
    wrong_passed: Share
    """Wrong ways that lost nothing."""
    wrong_caught: Share
    """Wrong ways that failed on every check that they must fail."""
    wrong_unintended: Share
    """Wrong ways that failed on a check that has nothing to do with them."""
    wrong_named: Share
    """Wrong ways among whose names is their own."""
    naming: dict[Naming, int]
    """Of wrong ways: own name first, own name among others, other names only, not known."""
    confusions: list[Confusion]
    """Ways that were called anything but their own name."""
    missed: dict[str, list[str]]
    """Wrong way → checks that it should have failed and passed."""
    unintended: dict[str, list[str]]
    """Any way → checks that it failed and should have passed."""


def tally(
    verdicts: Sequence[Verdict],
    *,
    checks: Iterable[str],
    is_whole: bool,
    origin: Mapping[str, Any],
) -> Verdicts:
    """
    Add up verdicts.

    Args:
        checks: Ids of all checks, in the workshop's order.
        is_whole: Whether *verdicts* are of all known ways.
        origin: The fields of `nbassay.trust.Origin`.
    """
    right = [one for one in verdicts if isinstance(one.way, Variant) and one.way.status == "graded"]
    undecided = [
        one for one in verdicts if isinstance(one.way, Variant) and one.way.status != "graded"
    ]
    wrong = [one for one in verdicts if isinstance(one.way, Misconception)]
    naming = Counter(one.naming for one in wrong)
    return Verdicts(
        **origin,
        is_whole=is_whole,
        right_lost=_share(bool(one.lost) for one in right),
        right_lost_by_check={
            check_id: _share(check_id in one.lost for one in right) for check_id in checks
        },
        right_to_a_person=_share(one.has_wrong_status for one in right),
        right_named=_share(bool(one.named) for one in right),
        undecided_kept=_share(one.has_wrong_status for one in undecided),
        wrong_passed=_share(not one.lost for one in wrong),
        wrong_caught=_share(not one.missed for one in wrong),
        wrong_unintended=_share(bool(one.unintended) for one in wrong),
        wrong_named=_share(one.naming in ("first", "among") for one in wrong),
        naming={key: naming[key] for key in NAMINGS},
        confusions=[
            Confusion(way=one.name, named=one.named)
            for one in (*wrong, *right)
            if (one.named != [one.id] if isinstance(one.way, Misconception) else one.named)
        ],
        missed={one.name: sorted(one.missed) for one in wrong if one.missed},
        unintended={one.name: sorted(one.unintended) for one in verdicts if one.unintended},
    )


def _share(claims: Iterable[bool]) -> Share:
    counted = list(claims)
    return share(sum(counted), len(counted))


def told(figures: Verdicts) -> Iterator[str]:
    """The figures for a terminal, a line each."""
    yield f"right ways that lost a point: {figures.right_lost}"
    for check_id, lost in figures.right_lost_by_check.items():
        yield f"    {check_id:<20} {lost}"
    yield f"right ways sent to a person: {figures.right_to_a_person}"
    yield f"right ways called a misconception: {figures.right_named}"
    yield f"undecided ways not sent to a person: {figures.undecided_kept}"
    yield f"wrong ways that passed: {figures.wrong_passed}"
    yield f"wrong ways caught by every intended check: {figures.wrong_caught}"
    yield f"wrong ways failed by an unintended check: {figures.wrong_unintended}"
    yield f"wrong ways named: {figures.wrong_named}"
    yield "    " + ", ".join(f"{NAMINGS[key]} {count}" for key, count in figures.naming.items())
    for row in figures.confusions:
        yield f"    {row.way} was called {', '.join(row.named) or 'nothing'}"
