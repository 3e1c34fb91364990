"""
The score stage over a class: a group at a time, side by side in processes.

Memory holds the evidence of as many groups as there are processes, however large the class is.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from nbassay.answers import Answers
from nbassay.pristine import Pristine, data_digest, read_pristine
from nbassay.records import SubmissionResult
from nbassay.scoring import score
from nbassay.stages import Stages
from nbassay.store import LEARNERS, Scorable, read_submissions
from nbassay.workshop import Workshop

GROUP = 50
"""Learners whose evidence is held at once, 1 to 2 MB each; beginning a group takes 0.2 s."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """Some submissions of a class, scored."""

    sheets: list[SubmissionResult]
    used: set[str]
    """Names of the answers that they asked for."""
    seconds: dict[str, float]
    """Stage → what it took (see `nbassay.stages`)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scorer:
    """Scores groups of one class; what does not change from one to the next is read once."""

    out: Path
    workshop: Workshop
    pristine: Pristine
    are_all_challenged: bool
    """Whether everybody is to pass a run with renamed classes, signs or none."""
    measured: Path | None
    """Folder of what was measured before; None keeps it in memory."""

    def learners(self, group: Sequence[str]) -> Scored:
        """
        Score *group*, by name.

        Raises:
            OutputError: A file of the class cannot be read or written.
        """
        stages = Stages()
        with stages.stage("read"):
            data = data_digest(self.workshop)
            found = list(
                read_submissions(self.out / LEARNERS, {}, data=data, only=group, expected=group)
            )
        return self.submissions(found, stages, are_challenged=self.are_all_challenged)

    def submissions(
        self, submissions: Sequence[Scorable], stages: Stages, *, are_challenged: bool
    ) -> Scored:
        """Score *submissions*, by position; what that takes is added to *stages*."""
        answers = Answers(self.measured, stages)
        with stages.stage("check"):
            sheets = score(
                submissions,
                workshop=self.workshop,
                pristine=self.pristine,
                challenged=range(len(submissions)) if are_challenged else (),
                answers=answers,
            )
        return Scored(sheets=sheets, used=answers.used, seconds=stages.seconds)


def score_learners(scorer: Scorer, learners: Sequence[str], *, jobs: int) -> Iterator[Scored]:
    """
    Score *learners*, group after group, in this process and helpers.

    What a helper that died had left is scored in this one.

    Args:
        learners: In the order in which sheets are wanted.
        jobs: Processes, this one among them; a class of one group has no helpers.

    Raises:
        OutputError: A file of the class cannot be read or written.
    """
    groups = [learners[start : start + GROUP] for start in range(0, len(learners), GROUP)]
    helpers = min(jobs, len(groups)) - 1
    if helpers < 1:
        yield from map(scorer.learners, groups)
        return
    with ProcessPoolExecutor(
        helpers,
        # Not a fork: this process may have threads, and locks that they hold.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(scorer.out, scorer.workshop, scorer.are_all_challenged, scorer.measured),
    ) as pool:
        done = 0
        try:
            for scored in _in_turn(scorer, groups, pool, helpers):
                yield scored
                done += 1
        except BrokenProcessPool as error:
            _log.warning("a process that scores died (%s); going on with one", error)
        finally:
            pool.shutdown(cancel_futures=True)
    yield from map(scorer.learners, groups[done:])


def _in_turn(
    scorer: Scorer, groups: Sequence[Sequence[str]], pool: ProcessPoolExecutor, helpers: int
) -> Iterator[Scored]:
    """
    What *groups* came to, in their order; *scorer* takes one when the *pool* has enough.

    That is one for each of its *helpers*, and a second to go on with while many wait.

    Raises:
        BrokenProcessPool: A process of *pool* died.
    """
    waiting = collections.deque(enumerate(groups))
    given: dict[int, Future[Scored]] = {}
    scored: dict[int, Scored] = {}
    turn = 0
    while turn < len(groups):
        while waiting:
            enough = 2 * helpers if len(waiting) > helpers + 1 else helpers
            if sum(not future.done() for future in given.values()) >= enough:
                break
            number, group = waiting.popleft()
            given[number] = pool.submit(_of_group, group)
        if turn in scored:
            yield scored.pop(turn)
            turn += 1
        elif turn in given and (given[turn].done() or not waiting):
            yield given.pop(turn).result()
            turn += 1
        else:
            number, group = waiting.popleft()
            scored[number] = scorer.learners(group)


_scorer: Scorer
"""Of a process that scores groups for another one."""


def _begin(out: Path, workshop: Workshop, are_all_challenged: bool, measured: Path | None) -> None:
    """Make this process ready; Ctrl-C is for the one that started it, whose end is its own."""
    global _scorer
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _scorer = Scorer(
        out=out,
        workshop=workshop,
        pristine=read_pristine(workshop),
        are_all_challenged=are_all_challenged,
        measured=measured,
    )


def _end_with_parent() -> None:
    """End this process when the one that started it was killed; the pool would wait forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _of_group(group: Sequence[str]) -> Scored:
    return _scorer.learners(group)
