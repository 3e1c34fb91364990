"""
Watching a learner's own kernel: the box's hooks, and how cells ended. Nothing is changed by it.

A cell is known by its front end's id for it, or by its text where there is none. When it runs
again, what its earlier run showed no longer counts.
"""

from __future__ import annotations

import ast
import collections
import contextlib
from collections.abc import Iterator
from typing import Any

import wrapt

from nbassay.inside.arrays import Recognition
from nbassay.inside.channel import Channel
from nbassay.inside.observer import Observer
from nbassay.live.client import Facts
from nbassay.live.protocol import Question, Welcome
from nbassay.records import CellFact

MOST_ERROR_NAME = 200
MOST_MESSAGE = 4000
MOST_VALUES = 4
IDLE = (ast.Import, ast.ImportFrom)
IDLE_MAGICS = frozenset({"matplotlib", "load_ext", "config", "pip", "conda"})
"""What cells do that leave nothing to be seen."""
FIGURE = "<Figure size"
"""How Matplotlib's pictures call themselves: what those show is seen by the hooks."""


class Watch:
    """What one kernel does from now on."""

    def __init__(self, shell: Any, welcome: Welcome, nonce: bytes) -> None:
        self.facts = Facts()
        self._shell = shell
        self._cell = max(0, _inputs(shell) - 1)
        """Number of the cell that runs or ran last, 0 first; a front end shows it as ``[1]``."""
        self._running: list[str | None] = []
        """Keys of the cells that run, one inside the other; None of one that is not counted."""
        self._last: dict[str, int] = {}
        """Key of a cell → the number of its last run."""
        self._ended: dict[int, CellFact] = {}
        self._outdated: set[int] = set()
        self._pictures = self._other_pictures = 0
        self._observer = Observer(
            Channel(self.facts.descriptor, welcome.evidence_bytes),
            Recognition(nonce=nonce, widths=welcome.widths, levels=welcome.levels),
            shell,
            lambda: self._cell,
            is_fast=False,
        )
        self._observer.listener.listen(welcome.loaders)
        self._missed = collections.Counter(_sources_that_do_something(shell, self._cell))
        """Cells that ran before, by their text."""
        if self._cell:
            with self._observer.listener.guard("earlier networks"):
                self._observer.note_trained_before()
        shell.events.register("pre_run_cell", self._begin)
        shell.events.register("post_run_cell", self._end)
        with self._observer.listener.guard("pictures"):
            wrapt.wrap_function_wrapper(shell.display_formatter, "format", self._formatted)

    def question(
        self, *, step: int | None = None, check: str | None = None, hint: int | None = None
    ) -> Question:
        """Look at the kernel as it is now, and put what the facts alone do not tell in words."""
        self._observer.look()
        late, unseen = self._before()
        return Question(
            cells=tuple(
                fact for number, fact in self._ended.items() if number not in self._outdated
            ),
            outdated=tuple(sorted(self._outdated)),
            networks=tuple(self._observer.numbers_of_models()),
            step=step,
            check=check,
            hint=hint,
            late=late,
            unseen=unseen,
        )

    def _before(self) -> tuple[str | None, tuple[str, ...]]:
        """What happened before anybody watched: only traces of it are there."""
        late, told = None, []
        missed = self._missed.total()
        if missed:
            late = f"{missed} cell{'s' if missed > 1 else ''} ran before nbassay was loaded"
            told.append(f"{late}, and what was done there was not seen.")
        with self._observer.listener.guard("earlier networks"):
            told += [_trained(name, model) for name, model in self._observer.trained_before()]
        if told:
            told.append(
                "To have all of it checked, load nbassay in the first cell, restart the kernel and "
                "run all cells."
            )
        return late, tuple(told)

    def _begin(self, info: Any = None) -> None:
        if self._running or not getattr(info, "store_history", True):
            self._running.append(None)
            return
        key = _key(info)
        self._running.append(key)
        self._missed -= collections.Counter([str(getattr(info, "raw_cell", ""))])
        self._cell = max(self._cell + 1, _inputs(self._shell))
        self._pictures = self._other_pictures = 0
        earlier = self._last.get(key)
        if earlier is not None:
            self._outdated.add(earlier)
            self._observer.forget({earlier})
        self._last[key] = self._cell

    def _end(self, result: Any = None) -> None:
        # Without a beginning it is the cell that loaded the extension.
        key = self._running.pop() if self._running else _key(getattr(result, "info", None))
        if self._running or key is None:
            return
        self._last[key] = self._cell
        self._observer.look()
        error = getattr(result, "error_before_exec", None) or getattr(result, "error_in_exec", None)
        self._ended[self._cell] = CellFact(
            index=self._cell,
            status="error" if error is not None else "ok",
            seconds=0.0,
            error_name=None if error is None else type(error).__name__[:MOST_ERROR_NAME],
            error_message=None if error is None else _message(error),
            pictures=self._pictures,
            other_pictures=self._other_pictures,
        )

    def _formatted(self, wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        """Count the pictures that are shown."""
        returned = wrapped(*args, **kwargs)
        with self._observer.listener.guard("pictures"):
            data = returned[0]
            if any(kind.startswith("image/") for kind in data):
                self._pictures += 1
                self._other_pictures += not str(data.get("text/plain", "")).startswith(FIGURE)
        return returned


def _inputs(shell: Any) -> int:
    """
    How many cells were taken so far. IPython's execution count is a cell ahead in some versions.
    """
    return len(getattr(shell.history_manager, "input_hist_raw", [""])) - 1


def _sources_that_do_something(shell: Any, count: int) -> Iterator[str]:
    """Texts of the first *count* cells, but for those that only import."""
    history = shell.history_manager
    sources = zip(history.input_hist_raw, history.input_hist_parsed, strict=False)
    for raw, parsed in list(sources)[1 : count + 1]:
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            if all(isinstance(one, IDLE) or _is_idle_magic(one) for one in ast.parse(parsed).body):
                continue
        yield str(raw)


def _is_idle_magic(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(attr="run_line_magic"), args=[ast.Constant(value=name), *_]
            )
        ):
            return name in IDLE_MAGICS
    return False


def _trained(name: str, model: Any) -> str:
    """What a network still knows of a training that nobody watched, in a sentence."""
    told = f"{name} was trained before nbassay was loaded: on what is not known."
    with contextlib.suppress(Exception):
        epochs = len(model.history.epoch)
        values = [(key, float(series[-1])) for key, series in sorted(model.history.history.items())]
        reached = ", ".join(f"{key} {value:.4f}" for key, value in values[:MOST_VALUES])
        told += f" Its history has {epochs} epoch{'s' if epochs != 1 else ''}"
        told += f" and ends with {reached}." if reached else "."
    return told


def _key(info: Any) -> str:
    return str(getattr(info, "cell_id", None) or getattr(info, "raw_cell", ""))


def _message(error: BaseException) -> str:
    try:
        return str(error)[:MOST_MESSAGE]
    except Exception:
        return ""
