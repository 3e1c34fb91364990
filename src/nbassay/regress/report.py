"""What a regression found, as records: everything that is shown is made of these."""

from __future__ import annotations

import dataclasses
from typing import Literal

from nbassay.labpage import Place
from nbassay.records import CheckResult, Record

SCHEMA: Literal["nbassay/regress/1"] = "nbassay/regress/1"
Severity = Literal["learner", "style"]

LEARNER: Severity = "learner"
STYLE: Severity = "style"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of finding."""

    severity: Severity
    title: str


KINDS: dict[str, Kind] = {
    "cell-stopped": Kind(severity=LEARNER, title="a cell stops with an error"),
    "check": Kind(severity=LEARNER, title="the page's own code fails a check"),
    "claim": Kind(severity=LEARNER, title="the text says something else than the run shows"),
    "claim-not-in-text": Kind(
        severity=LEARNER, title="the text beside a claim says another number"
    ),
    "code-syntax": Kind(severity=LEARNER, title="code that does not parse"),
    "copy-tags": Kind(severity=LEARNER, title="a <copy> or </copy> is lost"),
    "if-tags": Kind(severity=LEARNER, title="an <if> or </if> is lost"),
    "image-case": Kind(severity=LEARNER, title="an image is spelt in other case than its file"),
    "image-missing": Kind(severity=LEARNER, title="an image is not there"),
    "include-missing": Kind(severity=LEARNER, title="an include is not there"),
    "link-broken": Kind(severity=LEARNER, title="a link inside the workshop leads nowhere"),
    "name-misspelt": Kind(severity=LEARNER, title="the text nearly names what the code defines"),
    "name-undefined": Kind(severity=LEARNER, title="code uses a name before it is defined"),
    "run-ended": Kind(severity=LEARNER, title="the run ended early"),
    "twice": Kind(severity=LEARNER, title="a cell gives something else when it is run again"),
    "unclosed-fence": Kind(severity=LEARNER, title="a block is never closed"),
    "variable-missing": Kind(severity=LEARNER, title="a variable has no value"),
    "warning": Kind(severity=LEARNER, title="a library warns"),
    "alt-text": Kind(severity=STYLE, title="an image without words for who does not see it"),
    "name-in-text": Kind(severity=STYLE, title="the text names what no code has"),
    "step-numbers": Kind(severity=STYLE, title="steps are not numbered 1, 2, 3, …"),
    "task-numbers": Kind(severity=STYLE, title="tasks are not numbered 1, 2, 3, …"),
}
"""All kinds of findings, by the word for them."""


class Finding(Record, frozen=True, kw_only=True):
    """Something to mend."""

    kind: str
    severity: Severity
    """``learner``: it hurts who does the lab. ``style``: the page is only less tidy for it."""
    file: str
    line: int
    """1 first."""
    cell: int | None = None
    """Which pasted cell, 1 first."""
    text: str
    """A sentence."""
    change: str | None = None
    """The text of the page that is to change, where it is known."""


class ClaimResult(Record, frozen=True, kw_only=True):
    """One claim of the page's author, tested."""

    file: str
    line: int
    cell: int | None
    claim: str
    outcome: Literal["holds", "fails", "not-reached"]
    saw: str


class Unchecked(Record, frozen=True, kw_only=True):
    """Numbers of the text that no claim beside them is about."""

    file: str
    line: int
    numbers: list[str]


class CellReport(Record, frozen=True, kw_only=True):
    """How one pasted cell ran."""

    cell: int
    file: str
    line: int
    status: str
    seconds: float
    warnings: list[str]


class ArrayReport(Record, frozen=True, kw_only=True):
    """An array that a cell left."""

    cell: int
    name: str
    shape: list[int]
    dtype: str
    low: str
    high: str


class CellChange(Record, frozen=True, kw_only=True):
    """A cell that is another one in the new version."""

    before: int | None
    """Which cell of the old page, 1 first; None when it was added."""
    after: int | None
    """Which cell of the new page; None when it was removed."""
    file: str
    line: int
    """Where it stands in the new page; of a removed one, in the old page."""
    diff: list[str]
    """Lines with ``-``, ``+`` or a blank before them."""


class Against(Record, frozen=True, kw_only=True):
    """A page beside an older version of it."""

    old: str
    """What it is compared with, as it was named."""
    summary: str
    """What changed, in a sentence."""
    cells: list[CellChange]
    effects: list[str]
    """What the changes did to arrays, accuracies, checks, warnings and run time."""


class Report(Record, frozen=True, kw_only=True):
    """``nbassay regress --json``."""

    schema: Literal["nbassay/regress/1"]
    page: str
    variant: str | None
    environment: dict[str, str]
    findings: list[Finding]
    claims: list[ClaimResult]
    unchecked: list[Unchecked]
    checks: list[CheckResult]
    """Those whose step the page has."""
    accuracies: dict[str, float]
    """``train_accuracy``, ``test_accuracy``, where they were measured."""
    bands: dict[str, list[float]]
    """Check id → lowest and highest accuracy that right solutions reach."""
    cells: list[CellReport]
    arrays: list[ArrayReport]
    seconds: float
    """Wall time of the box."""
    ending: str
    against: Against | None = None
    """None unless it was compared with another version."""

    @property
    def hurting(self) -> list[Finding]:
        """Findings that hurt a learner."""
        return [one for one in self.findings if one.severity == LEARNER]


def finding(
    kind: str, place: Place, text: str, *, cell: int | None = None, change: str | None = None
) -> Finding:
    """A finding of a known kind."""
    return Finding(
        kind=kind,
        severity=KINDS[kind].severity,
        file=place.file,
        line=place.line,
        cell=cell,
        text=text,
        change=change,
    )
