"""
The judge of a live kernel: a process that takes facts and answers ``%assay``.

Started by `nbassay.live.client`; it ends when its standard input does, and so with the kernel. It
scores with the functions that a class is scored with, and no network of the learner's runs here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from nbassay.answers import Answers
from nbassay.errors import AssayError
from nbassay.evidence import Collector
from nbassay.inside.channel import TOLD as EXECUTORS
from nbassay.live.protocol import ASK, TOLD, Answer, Question, Welcome, read_frame, write_frame
from nbassay.misconceptions import Misconception, read_misconceptions
from nbassay.pristine import Pristine, RowIndex, data_digest, read_pristine
from nbassay.records import (
    LIVE,
    SCHEMA_EVIDENCE,
    CheckResult,
    Ending,
    EvaluateFact,
    Evidence,
    Fact,
    FitFact,
    ModelFact,
    PredictFact,
    RemarkFact,
    SubmissionResult,
)
from nbassay.reporting.live import hint_view, live_text, live_view, render_live
from nbassay.scoring import score
from nbassay.store import Attempt, Kept, Scorable
from nbassay.workshop import Workshop, read_workshop

NAME = "you"
"""Stands where a learner's id stands in a class."""


class Judge:
    """One kernel's facts, and what they are worth."""

    def __init__(self, workshop: Workshop, pristine: Pristine, nonce: bytes) -> None:
        self._workshop = workshop
        self._pristine = pristine
        self._answers = Answers()
        self._frames: list[tuple[bytes, bytes]] = []
        self._nonce = nonce
        self._keyed: RowIndex | None = None

    def take(self, kind: bytes, payload: bytes) -> None:
        """Take one frame of the probe."""
        self._frames.append((kind, payload))

    def warm_up(self) -> None:
        """Do what takes long the first time, while the learner is still typing."""
        with contextlib.suppress(AssayError):  # the first answer says the same
            self._sheet(Question())

    def answer(self, question: Question) -> Answer:
        """What is shown to *question*; that the checks cannot be used, if so."""
        try:
            return self._shown(question)
        except AssayError as error:
            return Answer(html=None, text=f"The lab's checks cannot be used: {error}")

    def _shown(self, question: Question) -> Answer:
        result = self._sheet(question)
        reports = self._workshop.path(self._workshop.manifest.reports)
        titles = self._workshop.step_titles
        if question.hint is None or question.check is None:
            wanted = [check for check in result.checks if _is_asked(check, question)]
            view = live_view(result, wanted, question.unseen, titles)
        else:
            view = hint_view(result, question.check, question.hint, self._known(), titles)
        return Answer(html=render_live(view, reports), text=live_text(view))

    def _known(self) -> dict[str, Misconception]:
        folder = self._workshop.manifest.misconceptions
        return {} if folder is None else read_misconceptions(self._workshop.path(folder))

    def _sheet(self, question: Question) -> SubmissionResult:
        if self._keyed is None:
            self._keyed = self._pristine.keyed(self._nonce)
        collector = Collector()
        for cell in question.cells:
            collector.on_frame(EXECUTORS, msgspec.json.encode(cell))
        for kind, payload in self._frames:
            collector.on_frame(kind, payload)
        facts, blobs = collector.finish(self._keyed)
        if question.late is not None:
            facts = [*facts, RemarkFact(cell=0, topic="loaded-late", text=question.late)]
        evidence = Evidence(
            schema=SCHEMA_EVIDENCE,
            notebook=LIVE,
            key=LIVE,
            data=data_digest(self._workshop),
            sandbox=LIVE,
            is_isolated=False,
            attempt=0,
            limits={},
            ending=Ending(reason="finished", message=None, seconds=0.0, peak_memory_bytes=0),
            facts=current(facts, question),
            refused=collector.refused,
        )
        kept = Kept(learner=NAME, file="", digest="", notes=[], unreadable=None)
        scorable = Scorable(kept=kept, attempts=(Attempt(evidence=evidence, blobs=blobs),))
        (result,) = score(
            [scorable], workshop=self._workshop, pristine=self._pristine, answers=self._answers
        )
        return result


def current(facts: Sequence[Fact], question: Question) -> list[Fact]:
    """
    *facts* without those of runs of cells that have run again since.

    Of a network that is still in use all states and fits stay: it did not forget them.
    """
    outdated = set(question.outdated)
    in_use = set(question.networks)
    for fact in facts:
        if isinstance(fact, (FitFact, EvaluateFact, PredictFact)) and fact.cell not in outdated:
            in_use.add(fact.model)
    return [
        fact
        for fact in facts
        if getattr(fact, "cell", None) not in outdated
        or (isinstance(fact, (ModelFact, FitFact)) and fact.model in in_use)
    ]


def _is_asked(check: CheckResult, question: Question) -> bool:
    return question.step in (None, check.step) and question.check in (None, check.id)


def welcome(workshop: Workshop, pristine: Pristine) -> Welcome:
    """What the kernel is told at first."""
    manifest = workshop.manifest
    return Welcome(
        title=manifest.title,
        widths=tuple(pristine.widths),
        levels=pristine.levels,
        evidence_bytes=manifest.limits.evidence_mb << 20,
        loaders=tuple(manifest.data.loaders),
        steps=tuple(step.number for step in manifest.steps),
        checks=tuple(manifest.rubric),
    )


def main() -> None:
    """Serve one kernel: the workshop's folder and the nonce come as arguments."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is meant for the learner's cell
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)  # nothing that a check prints comes between the frames
    folder, nonce = Path(sys.argv[1]), bytes.fromhex(sys.argv[2])
    try:
        workshop = read_workshop(folder)
        pristine = read_pristine(workshop)
    except AssayError as error:
        write_frame(answers, TOLD, msgspec.json.encode(Welcome(problem=str(error))))
        return
    judge = Judge(workshop, pristine, nonce)
    write_frame(answers, TOLD, msgspec.json.encode(welcome(workshop, pristine)))
    judge.warm_up()
    while (read := read_frame(questions)) is not None:
        kind, payload = read
        if kind == ASK:
            answer = judge.answer(msgspec.json.decode(payload, type=Question))
            write_frame(answers, TOLD, msgspec.json.encode(answer))
        else:
            judge.take(kind, payload)
