"""
Numbers for drawings: coordinates are computed here, the templates hold the markup.

Coordinates are in the drawing's own units (its ``viewBox``), rounded to one decimal so that equal
numbers give equal bytes on every machine.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from nbassay.reporting.text import one_line, plural, with_article

WIDTH = 440.0
HEIGHT = 250.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 424.0, 14.0, 206.0

MOST_POINTS = 400
"""Points drawn of one line; a longer history is thinned, its last value is kept."""
MOST_CLASSES = 20
"""A larger confusion table cannot be read; its commonest confusions still can."""
SMALLEST_DRAWN = 1e-12
"""Values below this are drawn as zero."""
LARGEST_DRAWN = 1e12
"""A loss beyond this is shown in the table and left out of the drawing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tick:
    """One mark of an axis."""

    at: float
    """Coordinate along its axis."""
    text: str
    """Its label."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dot:
    """One value of a line."""

    x: float
    """Coordinate."""
    y: float
    """Coordinate."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One history as it is drawn."""

    path: str
    """SVG path data; broken where a value is missing."""
    dots: tuple[Dot, ...]
    """The values by themselves; empty when there are too many to tell apart."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurveRow:
    """One epoch in the table behind a curve."""

    epoch: int
    """1 first."""
    yours: str
    """The learner's value, ``–`` when there is none."""
    reference: str
    """The reference's value, ``–`` when there is none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurveChart:
    """One metric over the epochs, the reference's beside it."""

    id: str
    """Unique on the page; begins the ids of its title and description."""
    title: str
    """``Accuracy``."""
    description: str
    """The drawing in one or two sentences, for who cannot see it."""
    yours: Line
    """Drawn solid."""
    reference: Line | None
    """Drawn dashed; None when the reference has no such metric."""
    x_ticks: tuple[Tick, ...]
    """Epochs."""
    y_ticks: tuple[Tick, ...]
    """Values."""
    rows: tuple[CurveRow, ...]
    """The numbers themselves."""
    was_thinned: bool
    """Whether *rows* leaves epochs out."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of the histogram of marks."""

    x: float
    """Left edge."""
    y: float
    """Upper edge."""
    width: float
    """In drawing units."""
    height: float
    """In drawing units; 0 of an empty class."""
    middle: float
    """Where its count is written."""
    count: int
    """Learners."""
    label: str
    """``70 to 79``, percent of the full mark."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Histogram:
    """How the marks are distributed, in tenths of the full mark."""

    bars: tuple[Bar, ...]
    """Ten, lowest marks first."""
    x_ticks: tuple[Tick, ...]
    """0 to 100 percent."""
    y_ticks: tuple[Tick, ...]
    """Learners, whole numbers."""
    description: str
    """The drawing in words."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfusionCell:
    """One cell of the confusion table."""

    count: int
    """Images."""
    shade: str
    """Name of its style: ``hit``, ``none``, ``miss-1`` (few) to ``miss-5`` (most)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfusionRow:
    """All images of one true class."""

    label: str
    """The class."""
    cells: tuple[ConfusionCell, ...]
    """What they were read as."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfusionTable:
    """Which classes the network confuses, on the pristine test set."""

    labels: tuple[str, ...]
    """Column heads: what an image was read as."""
    rows: tuple[ConfusionRow, ...]
    """True classes."""
    commonest: tuple[str, ...]
    """Its commonest confusions in words; empty when it made no error."""
    is_shown: bool
    """False when there are too many classes for a table on a page."""


def _rounded(value: float) -> float:
    return round(value, 1) + 0.0


def _nice_step(span: float, most_steps: int) -> float:
    raw = span / most_steps
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999999)


def _value_text(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.3g}"


def _drawable(values: Sequence[float | None]) -> list[float | None]:
    return [
        value if value is not None and math.isfinite(value) and abs(value) < LARGEST_DRAWN else None
        for value in values
    ]


def _thinned(count: int) -> list[int]:
    """Indexes of at most `MOST_POINTS` values, first and last among them."""
    if count <= MOST_POINTS:
        return list(range(count))
    return sorted({round(i * (count - 1) / (MOST_POINTS - 1)) for i in range(MOST_POINTS)})


def metric_title(metric: str) -> str:
    """The name of a metric as a heading: ``val_accuracy`` is ``Accuracy on validation data``."""
    name = one_line(metric, limit=60)
    is_validation = name.startswith("val_")
    words = name.removeprefix("val_").replace("_", " ").strip() or "unnamed metric"
    titled = words[0].upper() + words[1:]
    return f"{titled} on validation data" if is_validation else titled


def _story(who: str, values: Sequence[float | None]) -> str:
    known = [(i + 1, value) for i, value in enumerate(values) if value is not None]
    if not known:
        return f"{who}: no usable values."
    (first, start), (last, end) = known[0], known[-1]
    if first == last:
        return f"{who}: {_value_text(start)} in epoch {first}."
    return f"{who}: from {_value_text(start)} in epoch {first} to {_value_text(end)} in {last}."


def curve_chart(
    chart_id: str,
    metric: str,
    values: Sequence[float | None],
    reference: Sequence[float | None] | None,
) -> CurveChart | None:
    """
    Prepare one training curve.

    Args:
        chart_id: Unique on its page.
        metric: The metric's name in the history.
        values: The learner's, one an epoch; None where there is no number.
        reference: The same of the reference, if it has this metric.

    Returns:
        None when there is no number to draw.
    """
    mine, theirs = _drawable(values), _drawable(reference or [])
    known = [value for value in (*mine, *theirs) if value is not None]
    if not any(value is not None for value in mine):
        return None
    low, high = min(known), max(known)
    size = max(abs(low), abs(high))
    if size < SMALLEST_DRAWN:
        size = 1.0
    # A span that rounding alone could have made is drawn as a level line.
    step = _nice_step(high - low if high - low > 1e-9 * size else size, 4)
    bottom, top = math.floor(low / step) * step, math.ceil(high / step) * step
    if bottom == top:
        bottom, top = bottom - step, top + step
    epochs = max(len(mine), len(theirs))

    def x_of(index: int) -> float:
        return _rounded(LEFT + (RIGHT - LEFT) * (index / (epochs - 1) if epochs > 1 else 0.5))

    def y_of(value: float) -> float:
        return _rounded(BOTTOM - (BOTTOM - TOP) * (value - bottom) / (top - bottom))

    def line(series: Sequence[float | None]) -> Line:
        path, dots, pen_is_down = [], [], False
        for index in _thinned(len(series)):
            value = series[index]
            if value is not None:
                dot = Dot(x=x_of(index), y=y_of(value))
                path.append(f"{'L' if pen_is_down else 'M'}{dot.x:g} {dot.y:g}")
                dots.append(dot)
            pen_is_down = value is not None
        return Line(path=" ".join(path), dots=tuple(dots) if epochs <= 30 else ())

    x_step = max(1, math.ceil(_nice_step(max(epochs - 1, 1), 9)))
    x_marks = [1, *range(x_step if x_step > 1 else 2, epochs + 1, x_step)] if epochs else [1]
    kept = _thinned(epochs)
    return CurveChart(
        id=chart_id,
        title=metric_title(metric),
        description=" ".join(
            [_story("Yours", values)] + ([_story("Reference", reference)] if reference else [])
        ),
        yours=line(mine),
        reference=line(theirs) if any(value is not None for value in theirs) else None,
        x_ticks=tuple(Tick(at=x_of(epoch - 1), text=str(epoch)) for epoch in x_marks),
        y_ticks=tuple(
            Tick(at=y_of(value), text=f"{value:.6g}")
            for value in (bottom + step * i for i in range(round((top - bottom) / step) + 1))
        ),
        rows=tuple(
            CurveRow(
                epoch=i + 1,
                yours=_value_text(values[i] if i < len(values) else None),
                reference=_value_text(reference[i] if reference and i < len(reference) else None),
            )
            for i in kept
        ),
        was_thinned=len(kept) < epochs,
    )


def mark_histogram(shares: Sequence[float]) -> Histogram:
    """
    Prepare the distribution of marks.

    Args:
        shares: Marks as parts of the full mark, 0..1.
    """
    counts = [0] * 10
    for share in shares:
        # 0.7 * 10 may come out a hair below 7; a mark on the border belongs to the class above.
        counts[min(9, max(0, int(share * 10 + 1e-9)))] += 1
    highest = max(*counts, 1)
    step = max(1, math.ceil(_nice_step(highest, 4)))
    top = math.ceil(highest / step) * step
    slot = (RIGHT - LEFT) / 10

    def y_of(count: float) -> float:
        return _rounded(BOTTOM - (BOTTOM - TOP - 10) * count / top)

    bars = tuple(
        Bar(
            x=_rounded(LEFT + slot * i + 2),
            y=y_of(count),
            width=_rounded(slot - 4),
            height=_rounded(BOTTOM - y_of(count)),
            middle=_rounded(LEFT + slot * (i + 0.5)),
            count=count,
            label=f"{10 * i} to {100 if i == 9 else 10 * i + 9}",
        )
        for i, count in enumerate(counts)
    )
    told = "; ".join(f"{bar.label} %: {plural(bar.count, 'learner')}" for bar in bars if bar.count)
    return Histogram(
        bars=bars,
        x_ticks=tuple(
            Tick(at=_rounded(LEFT + slot * i), text=str(10 * i)) for i in range(0, 11, 2)
        ),
        y_ticks=tuple(Tick(at=y_of(i), text=str(i)) for i in range(0, top + 1, step)),
        description=f"{told}." if told else "Nothing was graded.",
    )


def confusion_table(confusion: Sequence[Sequence[int]]) -> ConfusionTable:
    """
    Prepare the confusion matrix.

    Args:
        confusion: Square; row is the true class, column the network's answer, values are images.
    """
    errors = [
        (count, truth, answer)
        for truth, row in enumerate(confusion)
        for answer, count in enumerate(row)
        if truth != answer and count > 0
    ]
    most = max((count for count, _, _ in errors), default=0)
    by_count = sorted(errors, key=lambda error: (-error[0], error[1], error[2]))

    def cell(truth: int, answer: int, count: int) -> ConfusionCell:
        if truth == answer:
            return ConfusionCell(count=count, shade="hit")
        if count <= 0:
            return ConfusionCell(count=count, shade="none")
        # A table with only a few errors should look calm: 25 images are the least full shade.
        level = min(5, 1 + int(4.999 * count / max(most, 25)))
        return ConfusionCell(count=count, shade=f"miss-{level}")

    is_shown = 0 < len(confusion) <= MOST_CLASSES
    return ConfusionTable(
        labels=tuple(str(i) for i in range(len(confusion))) if is_shown else (),
        rows=tuple(
            ConfusionRow(
                label=str(truth),
                cells=tuple(cell(truth, answer, count) for answer, count in enumerate(row)),
            )
            for truth, row in enumerate(confusion)
        )
        if is_shown
        else (),
        commonest=tuple(
            f"{with_article(truth)} read as {answer} ({plural(count, 'time')})"
            for count, truth, answer in by_count[:3]
        ),
        is_shown=is_shown,
    )
