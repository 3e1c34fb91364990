"""
Watching a learner's own kernel: the box's hooks, and how cells ended. Nothing is changed by it.

A cell is known by its front end's id for it, or by its text where there is none. When it runs
again, what its earlier run showed no longer counts.
"""

from __future__ import annotations

import contextlib
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
        self._unseen = tuple(self._before())
        shell.events.register("pre_run_cell", self._begin)
        shell.events.register("post_run_cell", self._end)
        with self._observer.listener.guard("pictures"):
            wrapt.wrap_function_wrapper(shell.display_formatter, "format", self._formatted)

    def question(
        self, *, step: int | None = None, check: str | None = None, hint: int | None = None
    ) -> Question:
        """Look at the kernel as it is now, and put what the facts alone do not tell in words."""
        self._observer.look()
        return Question(
            cells=tuple(
                fact for number, fact in self._ended.items() if number not in self._outdated
            ),
            outdated=tuple(sorted(self._outdated)),
            networks=tuple(self._observer.numbers_of_models()),
            step=step,
            check=check,
            hint=hint,
            unseen=self._unseen,
        )

    def _before(self) -> list[str]:
        """What happened before anybody watched: only traces of it are there."""
        ran = self._cell
        if not ran:
            return []
        told = [
            f"{ran} {'cell' if ran == 1 else 'cells'} ran before nbassay was loaded, and what they "
            "did was not seen. To have all of it checked, load nbassay in the first cell, restart "
            "the kernel and run all cells."
        ]
        with contextlib.suppress(Exception):
            told += [
                f"{name} was trained before nbassay was loaded: on what and for how long is not "
                "known."
                for name, model in self._observer.models()
                if getattr(getattr(model, "history", None), "epoch", None)
            ]
        return told

    def _begin(self, info: Any = None) -> None:
        if self._running or not getattr(info, "store_history", True):
            self._running.append(None)
            return
        key = _key(info)
        self._running.append(key)
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


def _key(info: Any) -> str:
    return str(getattr(info, "cell_id", None) or getattr(info, "raw_cell", ""))


def _message(error: BaseException) -> str:
    try:
        return str(error)[:MOST_MESSAGE]
    except Exception:
        return ""
