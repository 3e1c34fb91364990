"""
What a template may use: one frozen record a page, named ``page``.

Templates only loop and print. Every choice, rounding, order and wording is made where these
records are built (`nbassay.reporting.student`, `nbassay.reporting.classroom`); all text in them
has been through `nbassay.reporting.text.visible` and is escaped by the template.
"""

from __future__ import annotations

import dataclasses

from nbassay.reporting.charts import ConfusionTable, CurveChart, Histogram


@dataclasses.dataclass(frozen=True, kw_only=True)
class Banner:
    """Something that must be read before anything else."""

    kind: str
    """Name of its style: ``warning`` or ``problem``."""
    title: str
    """A few words."""
    text: str
    """What it means for the reader."""
    items: tuple[str, ...]
    """Particulars, one a line."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A label and its value."""

    label: str
    """What."""
    value: str
    """How much or which."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Link:
    """An entry of the page's contents."""

    target: str
    """Id of a section on this page."""
    text: str
    """The section's heading, shortened."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """One step in the bar under the mark."""

    x: float
    """Left edge, percent of the bar."""
    width: float
    """All points of the step, percent of the bar."""
    earned: float
    """Earned points of the step, percent of the bar."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """The mark, large."""

    score: str
    """``71.5``."""
    out_of: str
    """``100 points``."""
    is_provisional: bool
    """Whether a person will look before it counts."""
    summary: str
    """One sentence: what passed and what was lost."""
    segments: tuple[Segment, ...]
    """Steps in the lab's order; empty when the workshop gives no points."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accuracy:
    """A measured accuracy beside the reference's."""

    label: str
    """``Training accuracy``."""
    value: str
    """``96.41 %``."""
    reference: str | None
    """The reference's, if it was measured."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckLine:
    """One check's outcome."""

    anchor: str
    """Id on the page."""
    id: str
    """The check's stable, public id."""
    outcome: str
    """Name of its style and sign: ``passed``, ``failed``, ``not-reached``, ``broken``."""
    word: str
    """The outcome as a word."""
    points: str
    """``7 of 10 points``."""
    wanted: str
    """What was wanted."""
    saw: str
    """What was seen."""
    hint: str | None
    """What to look at next."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """Points that were lost, or cannot be given yet, for one reason."""

    lost: str
    """``−10``; ``?`` when a person has to decide."""
    lost_spoken: str
    """``10 points lost``, ``Undecided``."""
    title: str
    """What was wanted, or how many checks hang on the same cause."""
    target: str | None
    """Id of its check on the page; None of several checks."""
    aside: str | None
    """Its step; None of several checks."""
    text: str | None
    """What to look at next."""
    checks: tuple[CheckLine, ...]
    """The checks that hang on the same cause; empty of a single check."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepGroup:
    """All checks of one step."""

    anchor: str
    """Id on the page."""
    title: str
    """``Step 5: Preparation``."""
    points: str
    """``15 of 25 points``."""
    is_full: bool
    """Whether nothing was lost."""
    chance: str | None
    """What chance costs right work here; None where chance has no part, or it was not measured."""
    checks: tuple[CheckLine, ...]
    """In the workshop's order."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NumberLine:
    """One of the learner's numbers beside the reference's."""

    label: str
    """What."""
    yours: str | None
    """None when there is none."""
    reference: str | None
    """None when there is none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WrongPicture:
    """A test image that the network got wrong."""

    source: str
    """``data:`` address of the picture, made from the workshop's own data."""
    alt: str
    """``test image 115: a 4, read as 9``."""
    caption: str
    """``a 4, read as 9``."""
    number: str
    """``test image 115``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StopLine:
    """A cell that did not end well."""

    title: str
    """``Cell 8 stopped with NameError``."""
    plain: str
    """What it means, and where to look."""
    original: str | None
    """The error as Python printed it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentPage:
    """Everything on one learner's report."""

    document_title: str
    """Title of the window."""
    workshop_title: str
    """Over the heading."""
    learner: str
    """Whose report."""
    file: str
    """Name of the submitted file."""
    banners: tuple[Banner, ...]
    """Most important first."""
    contents: tuple[Link, ...]
    """The sections that this page has."""
    mark: Mark | None
    """None when nothing was graded."""
    accuracies: tuple[Accuracy, ...]
    """Measured by the grader; empty when nothing was measured."""
    stopped_at: str | None
    """``Your notebook stopped at cell 8 (NameError).``"""
    misconceptions: tuple[str, ...]
    """Hints that explain most of the sheet, most telling first."""
    losses: tuple[Loss, ...]
    """Where points went: failed checks in the lab's order, what was never reached, what is open."""
    steps: tuple[StepGroup, ...]
    """All checks."""
    numbers: tuple[NumberLine, ...]
    """The learner's numbers beside the reference's."""
    has_reference: bool
    """Whether there is a reference to compare with."""
    curves: tuple[CurveChart, ...]
    """Training curves."""
    confusion: ConfusionTable | None
    """None when nothing was measured."""
    wrong: tuple[WrongPicture, ...]
    """At most eight."""
    unmeasured: str | None
    """Why there are no accuracies."""
    stops: tuple[StopLine, ...]
    """Cells that stopped, first first."""
    not_run: str | None
    """Which cells were never run, in a sentence."""
    notes: tuple[str, ...]
    """What else is worth knowing; empty when a banner tells them."""
    verified: tuple[str, ...]
    """What the grader knows by itself, in sentences."""
    claimed: tuple[str, ...]
    """What it knows from the notebook only."""
    environment: tuple[Pair, ...]
    """Versions, sandbox, seed."""
    limits: tuple[Pair, ...]
    """What the notebook could use."""
    controls: str | None
    """State of the control samples in a sentence; None when there were none."""
    digest: str
    """Of the submitted file, to quote in an appeal."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeyFigure:
    """A number that says how the class did."""

    value: str
    """``78.5``."""
    label: str
    """``mean mark``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionLine:
    """A submission that a person has to look at."""

    learner: str
    """Whose."""
    href: str
    """Its report, relative to the class page."""
    status: str
    """Status word."""
    status_style: str
    """Name of its style."""
    why: str
    """Its first note."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnerRow:
    """One learner in the table."""

    learner: str
    """Whose."""
    file: str
    """Name of the submitted file."""
    href: str
    """Its report, relative to the class page."""
    status: str
    """Status word."""
    status_style: str
    """Name of its style."""
    mark: str | None
    """``71.5``; None when nothing was graded."""
    mark_order: str
    """What the column is sorted by; empty sorts last."""
    train: str | None
    """Measured training accuracy, ``96.41 %``; None when there is none."""
    train_order: str
    """What the column is sorted by; empty sorts last."""
    test: str | None
    """Measured test accuracy, ``95.29 %``; None when there is none."""
    test_order: str
    """What the column is sorted by; empty sorts last."""
    first_lost: str
    """Id of the first check that cost points; empty when none did."""
    search: str
    """What the filter looks in, lower case."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckRate:
    """How the class did on one check."""

    id: str
    """The check's id."""
    step: str
    """``Step 5`` with its title, if it has one."""
    wanted: str
    """What was wanted."""
    points: str
    """``10 points``."""
    rate: str
    """``75 %``."""
    bar: float
    """Passed, percent of those who were asked."""
    passed: str
    """``18 of 24``."""
    failed: int
    """Learners."""
    not_reached: int
    """Learners."""
    broken: int
    """Learners."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MisconceptionLine:
    """A known wrong way and who took it."""

    id: str
    """Stable id."""
    hint: str
    """What its learners are told."""
    count: int
    """How many learners."""
    count_noun: str
    """``learner`` or ``learners``."""
    learners: tuple[Link, ...]
    """Who; targets are reports, relative to the class page."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ControlLine:
    """One control sample."""

    name: str
    """Which."""
    word: str
    """``as expected`` or ``came out wrong``."""
    style: str
    """Name of its style: ``passed`` or ``failed``."""
    score: str | None
    """``100``; None when nothing was graded."""
    why: str
    """What came out instead; empty when as expected."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassPage:
    """Everything on the class page."""

    document_title: str
    """Title of the window."""
    workshop_title: str
    """The heading."""
    subtitle: str
    """``24 submissions``."""
    banners: tuple[Banner, ...]
    """Most important first."""
    contents: tuple[Link, ...]
    """The sections that this page has."""
    key_figures: tuple[KeyFigure, ...]
    """How the class did."""
    attention: tuple[AttentionLine, ...]
    """Submissions that a person has to look at."""
    rows: tuple[LearnerRow, ...]
    """Learners by name."""
    total: int
    """Learners."""
    statuses: tuple[str, ...]
    """Status words that occur, for the filter."""
    histogram: Histogram | None
    """None when nothing was graded."""
    checks: tuple[CheckRate, ...]
    """Worst pass rate first."""
    misconceptions: tuple[MisconceptionLine, ...]
    """Commonest first."""
    identical: tuple[tuple[Link, ...], ...]
    """Learners whose code is the same; targets are reports, relative to the class page."""
    controls: tuple[ControlLine, ...]
    """In the order they were given."""
    chance: str | None
    """What chance costs right work; None when it was not measured."""
    environment: tuple[Pair, ...]
    """Versions and sandbox of the reference's run; nothing that differs from run to run."""
    digest: str
    """Of the workshop."""
