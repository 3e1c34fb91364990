"""Where a notebook stopped, in words."""

from __future__ import annotations

from collections.abc import Sequence

from nbassay.records import Stop
from nbassay.reporting.context import StopLine
from nbassay.reporting.plain_errors import plain_stop
from nbassay.reporting.text import listed, one_line, visible


def where_stopped(stop: Stop) -> str:
    """The cell, and what it stopped with."""
    if stop.status == "timeout":
        return f"cell {stop.cell} (out of time)"
    name = one_line(stop.error_name, limit=80) if stop.error_name else None
    return f"cell {stop.cell} ({name})" if name else f"cell {stop.cell}"


def stopped_at(stops: Sequence[Stop]) -> str | None:
    """A sentence of the first of *stops*; None without one."""
    return f"Your notebook stopped at {where_stopped(stops[0])}." if stops else None


def stop_line(stop: Stop) -> StopLine:
    """One stop: what happened, in plain words and in the original ones."""
    name = one_line(stop.error_name, limit=80) if stop.error_name else None
    message = visible(stop.error_message).strip() if stop.error_message else None
    if stop.status == "timeout":
        title = f"Cell {stop.cell} ran out of time"
    elif name:
        title = f"Cell {stop.cell} stopped with {name}"
    else:
        title = f"Cell {stop.cell} stopped"
    return StopLine(
        title=title,
        plain=visible(plain_stop(stop.status, name, stop.error_message)),
        original=": ".join(part for part in (name, message) if part) or None,
    )


def not_run(stops: Sequence[Stop]) -> str | None:
    """A sentence of the cells that were not run; None when all were."""
    cells = sorted({stop.cell for stop in stops if stop.status == "not-run"})
    if not cells:
        return None
    if len(cells) == 1:
        return f"Cell {cells[0]} was not run."
    if cells == list(range(cells[0], cells[-1] + 1)) and len(cells) > 2:
        return f"Cells {cells[0]} to {cells[-1]} were not run."
    return f"Cells {listed([str(cell) for cell in cells])} were not run."
