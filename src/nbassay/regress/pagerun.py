"""A page's cells in the sandbox: what a learner who pastes them sees, and what claims ask about."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from nbassay.checking.case import read_bounds
from nbassay.notebook import Notebook, decode_notebook
from nbassay.records import ArrayFact, CellFact, EnvironmentFact, SubmissionResult
from nbassay.regress.claims import Claim
from nbassay.regress.inkernel import MARK
from nbassay.repeats import may_be_unlucky
from nbassay.reporting.text import visible
from nbassay.running import Run, run_notebook
from nbassay.sandbox import Sandbox
from nbassay.scoring import score
from nbassay.store import MOST_ATTEMPTS, OUR_FAILURES, Attempt, Kept, Scorable
from nbassay.workbench import Workbench, workbench
from nbassay.workshop import Workshop

INKERNEL = '__import__("nbassay.regress.inkernel", fromlist=["ask"])'
"""An expression that leaves no name in the notebook."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What a claim's expression was."""

    has_value: bool
    value: Any
    """As JSON has it; the error's words when there is none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PageRun:
    """What one run of a page's cells showed; cells are numbered as they are pasted, 0 first."""

    cells: dict[int, CellFact]
    shown: dict[int, str]
    """Cell → texts that it showed."""
    answers: dict[Claim, Answer]
    arrays: list[tuple[int, ArrayFact]]
    sheet: SubmissionResult
    environment: dict[str, str]
    seconds: float
    ending: str
    message: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asking:
    """The cells of a run: a page's, and ours between them."""

    sources: list[str]
    page_cell: dict[int, int]
    """Position → which of the page's cells it is, 0 first."""
    asked: dict[int, list[Claim]]
    """Position of a cell of ours → the claims that it answers."""


def asking(cells: Sequence[str], claims: Sequence[Claim]) -> Asking:
    """Lay out a run in which each cell is followed by what its claims ask."""
    sources: list[str] = []
    page_cell: dict[int, int] = {}
    asked: dict[int, list[Claim]] = {}
    for number, source in enumerate(cells):
        page_cell[len(sources)] = number
        sources.append(source)
        own = [one for one in claims if one.cell == number and one.kind in ("shape", "value")]
        if own:
            asked[len(sources)] = own
            sources.append(ask([(one.kind, one.subject) for one in own]))
    return Asking(sources=sources, page_cell=page_cell, asked=asked)


def ask(expressions: Sequence[tuple[str, str]]) -> str:
    """A cell that prints the values of expressions."""
    return f"{INKERNEL}.ask({list(expressions)!r})"


def answers_in(shown: str) -> list[Any]:
    """What a cell of ours printed; empty when it did not come to that."""
    for line in reversed(shown.splitlines()):
        if line.startswith(MARK):
            try:
                found = json.loads(line.removeprefix(MARK))
            except ValueError:
                return []
            return found if isinstance(found, list) else []
    return []


def notebook_of(sources: Sequence[str]) -> Notebook:
    """Cells as a notebook that can be run."""
    cells: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "id": f"cell-{number}",
            "metadata": {},
            "source": source,
            "execution_count": None,
            "outputs": [],
        }
        for number, source in enumerate(sources)
    ]
    raw = json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells})
    return decode_notebook(raw.encode())


class Lab:
    """A workshop with its data laid out, in which pages are run."""

    def __init__(self, bench: Workbench) -> None:
        self.workshop = bench.workshop
        self._bench = bench
        self._bounds = read_bounds(bench.workshop)

    def run(self, sources: Sequence[str], *, attempt: int = 0) -> Run:
        """Run cells once."""
        return self._run(notebook_of(sources), attempt)

    def _run(self, notebook: Notebook, attempt: int) -> Run:
        run = run_notebook(notebook, self._bench, attempt=attempt)
        if run.evidence.ending.reason == "interrupted":
            raise KeyboardInterrupt
        return run

    def run_page(self, cells: Sequence[str], claims: Sequence[Claim]) -> PageRun:
        """
        Run a page's cells and ask the checks; again with other seeds if only an accuracy was missed
        as chance may have it.
        """
        laid = asking(cells, claims)
        notebook = notebook_of(laid.sources)
        attempts: list[Attempt] = []
        runs: list[Run] = []
        for attempt in range(MOST_ATTEMPTS):
            run = self._run(notebook, attempt)
            runs.append(run)
            attempts.append(Attempt(evidence=run.evidence, blobs=run.blobs))
            sheet = self._sheet(notebook, attempts)
            if run.evidence.ending.reason in OUR_FAILURES or not may_be_unlucky(
                sheet, self.workshop.manifest.bounds, self._bounds
            ):
                break
        return _page_run(runs[-1], laid, _renumbered(sheet, laid))

    def _sheet(self, notebook: Notebook, attempts: Sequence[Attempt]) -> SubmissionResult:
        kept = Kept(learner="page", file="", digest=notebook.digest, notes=[], unreadable=None)
        scorable = Scorable(kept=kept, attempts=tuple(attempts))
        return score([scorable], workshop=self.workshop, pristine=self._bench.pristine)[0]


@contextlib.contextmanager
def open_lab(workshop: Workshop, sandbox: Sandbox) -> Iterator[Lab]:
    """Lay out a workshop's data while a block runs."""
    with workbench(workshop, sandbox) as bench:
        yield Lab(bench)


def shown_texts(outputs: Sequence[Mapping[str, Any]]) -> str:
    """All that a cell showed as text."""
    parts: list[str] = []
    for output in outputs:
        if output.get("output_type") == "stream":
            parts.append(str(output.get("text", "")))
        elif output.get("output_type") in ("display_data", "execute_result"):
            parts.append(str(output.get("data", {}).get("text/plain", "")) + "\n")
    return visible("".join(parts), limit=1 << 20)


def _page_run(run: Run, laid: Asking, sheet: SubmissionResult) -> PageRun:
    cells: dict[int, CellFact] = {}
    arrays: list[tuple[int, ArrayFact]] = []
    environment: dict[str, str] = {}
    for fact in run.evidence.facts:
        if isinstance(fact, CellFact) and fact.index in laid.page_cell:
            cells[laid.page_cell[fact.index]] = fact
        elif isinstance(fact, ArrayFact) and fact.source == "namespace":
            before = [cell for at, cell in laid.page_cell.items() if at <= fact.cell]
            arrays.append((before[-1] if before else 0, fact))
        elif isinstance(fact, EnvironmentFact):
            environment = {"python": fact.python, **fact.packages}
    shown = {
        cell: shown_texts(run.outputs.get(index, [])) for index, cell in laid.page_cell.items()
    }
    answers: dict[Claim, Answer] = {}
    for index, asked in laid.asked.items():
        found = answers_in(shown_texts(run.outputs.get(index, [])))
        for claim, answer in zip(asked, found, strict=False):
            if isinstance(answer, list) and len(answer) == 2:
                answers[claim] = Answer(has_value=answer[0] is True, value=answer[1])
    return PageRun(
        cells=cells,
        shown=shown,
        answers=answers,
        arrays=arrays,
        sheet=sheet,
        environment=environment,
        seconds=run.evidence.ending.seconds,
        ending=run.evidence.ending.reason,
        message=run.evidence.ending.message,
    )


def _renumbered(sheet: SubmissionResult, laid: Asking) -> SubmissionResult:
    """A sheet whose words name the page's cells, not those of the run with ours between."""

    def number(match: re.Match[str]) -> str:
        before = [cell for at, cell in laid.page_cell.items() if at < int(match[2])]
        return f"{match[1]} {before[-1] + 1 if before else 1}"

    checks = [
        msgspec.structs.replace(check, saw=re.sub(r"\b([Cc]ell) (\d+)\b", number, check.saw))
        for check in sheet.checks
    ]
    return msgspec.structs.replace(sheet, checks=checks)
