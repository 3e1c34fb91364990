"""
What a run shows, asked in the words of the lab: which rows, which labels, which network.

Records say what was seen; this says what that means against the pristine data. Nothing here
knows a variable name or a cell number.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np

from nbassay.answers import Answers
from nbassay.evidence import Blobs
from nbassay.inside.arrays import row_profiles
from nbassay.pristine import UNKNOWN, Pristine, PristineSet
from nbassay.records import (
    LIVE,
    Array,
    ArrayFact,
    CellFact,
    CodeFact,
    Data,
    EnvironmentFact,
    EvaluateFact,
    Evidence,
    Fact,
    FitFact,
    Graph,
    ModelFact,
    PictureFact,
    PredictFact,
    Rebuilt,
    RemarkFact,
    Step,
)

MOST_CANDIDATES = 40
MOST_OPERATIONS = 200_000_000_000
"""Multiplications spent on one run's networks: some ten seconds; the lab's takes 9e8 a state."""
PROFILE_CHUNK = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sighting:
    """An array, and where and when it was seen."""

    array: Array
    labels: Array | None
    """The labels it was handed over with."""
    cell: int
    where: str
    """``namespace``, ``loader``, ``fit``, ``validation``, ``evaluate`` or ``predict``."""
    order: int
    """Position among all facts: later is larger."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """One state of one network that could be the learner's answer."""

    state: ModelFact
    fits: tuple[FitFact, ...]
    """All fits of this network up to this state; empty when no epoch of any was finished."""
    order: int
    """Position of the last of them among all facts."""


class Observed:
    """One run's evidence beside the pristine data."""

    def __init__(
        self,
        evidence: Evidence,
        blobs: Blobs,
        pristine: Pristine,
        answers: Answers | None = None,
    ) -> None:
        self.answers = answers or Answers()
        self.evidence = evidence
        self.blobs = blobs
        self.pristine = pristine
        self._facts: Sequence[Fact] = evidence.facts
        self._operations_left = MOST_OPERATIONS
        self._covered: dict[tuple[str, str], bool] = {}
        self.states = {fact.state: fact for fact in self._facts if isinstance(fact, ModelFact)}
        second = evidence.second
        self.rebuilt: dict[int, Rebuilt] = (
            {} if second is None else {one.state: one for one in second.networks}
        )

    def spend(self, operations: int) -> None:
        """
        Account for a computation before it is made: evidence must not cost the grader hours.

        Raises:
            ValueError: The run's networks are too large, or too many, to be measured.
        """
        self._operations_left -= operations
        if self._operations_left < 0:
            raise ValueError("too large, or too many of them, to be measured here")

    # ------------------------------------------------------------ facts by kind

    @property
    def cells(self) -> list[CellFact]:
        """How the cells ended, in the order they ran."""
        return [fact for fact in self._facts if isinstance(fact, CellFact)]

    @property
    def pictures(self) -> list[PictureFact]:
        return [fact for fact in self._facts if isinstance(fact, PictureFact)]

    @property
    def remarks(self) -> list[RemarkFact]:
        return [fact for fact in self._facts if isinstance(fact, RemarkFact)]

    @property
    def code(self) -> CodeFact | None:
        """What the code says; None when the box ended before it was read."""
        return next((fact for fact in self._facts if isinstance(fact, CodeFact)), None)

    @property
    def environment(self) -> EnvironmentFact | None:
        told = [fact for fact in self._facts if isinstance(fact, EnvironmentFact)]
        return told[-1] if told else None

    @property
    def fits(self) -> list[FitFact]:
        return [fact for fact in self._facts if isinstance(fact, FitFact)]

    @property
    def unseen(self) -> str | None:
        """What ran before a live kernel was watched, in sentences; None when all was seen."""
        if self.evidence.notebook != LIVE:
            return None
        return next((one.text for one in self.remarks if one.topic == "loaded-late"), None)

    def why_missing(self) -> str:
        """Why something never came to be, as far as the cells tell: for checks not reached."""
        if self.unseen is not None:
            return self.unseen
        for cell in self.cells:
            if cell.status in ("error", "timeout"):
                return f"cell {cell.index + 1} stopped with {cell.error_name}"
        if self.evidence.ending.message:
            return self.evidence.ending.message
        return "no cell does this" if self.cells else "no cell holds code"

    def sightings(self) -> Iterator[Sighting]:
        """Every array that was seen, first sighting first."""
        for order, fact in enumerate(self._facts):
            if isinstance(fact, ArrayFact):
                yield Sighting(
                    array=fact.array, labels=None, cell=fact.cell, where=fact.source, order=order
                )
            elif isinstance(fact, FitFact):
                yield from self._of_data(fact.data, fact.cell, "fit", order)
                if fact.validation is not None:
                    yield from self._of_data(fact.validation, fact.cell, "validation", order)
            elif isinstance(fact, EvaluateFact):
                yield from self._of_data(fact.data, fact.cell, "evaluate", order)
            elif isinstance(fact, PredictFact):
                yield from self._of_data(fact.data, fact.cell, "predict", order)

    @staticmethod
    def _of_data(data: Data, cell: int, where: str, order: int) -> Iterator[Sighting]:
        if data.x is not None:
            yield Sighting(array=data.x, labels=data.y, cell=cell, where=where, order=order)

    def questions(self, candidate: Candidate) -> Iterator[tuple[int, EvaluateFact | PredictFact]]:
        """
        Evaluations and predictions of *candidate*'s network as it was trained: after its last fit
        and before it is fitted again. Of a network never fitted, all.
        """
        for order, fact in enumerate(self._facts):
            if order <= candidate.order and candidate.fits:
                continue
            if candidate.fits and self._fits_again(fact, candidate):
                return
            if isinstance(fact, (EvaluateFact, PredictFact)) and self._is_of(fact, candidate):
                yield order, fact

    def was_fitted_again(self, candidate: Candidate) -> bool:
        """Whether the network went on to another state after *candidate*'s."""
        later = self._facts[candidate.order + 1 :] if candidate.fits else []
        return any(self._fits_again(fact, candidate) for fact in later)

    @staticmethod
    def _fits_again(fact: Fact, candidate: Candidate) -> bool:
        if not isinstance(fact, FitFact):
            return False
        return fact.model == candidate.state.model and fact.epochs_run > 0

    def _is_of(self, fact: EvaluateFact | PredictFact, candidate: Candidate) -> bool:
        if fact.model == candidate.state.model:
            return True
        state = self.states.get(-1 if fact.state is None else fact.state)
        weights = candidate.state.weights
        return state is not None and weights is not None and state.weights == weights

    # ------------------------------------------------------------ rows and labels

    def positions(self, array: Array | None) -> np.ndarray | None:
        """Positions of the array's rows in the pristine sets; None when it has no such rows."""
        if array is None or array.rows is None:
            return None
        return self.blobs.get(array.rows.digests)

    def label_values(self, array: Array | None) -> np.ndarray | None:
        """int64 (n,): class labels that the array holds."""
        if array is None or array.labels is None:
            return None
        return self.blobs.get(array.labels.values)

    def covers(self, array: Array | None, part: PristineSet) -> bool:
        """Whether the array's rows are all rows of *part*, in any order, and no unknown row."""
        if array is None or array.rows is None:
            return False
        asked = (array.rows.digests, part.name)
        if asked not in self._covered:
            self._covered[asked] = self._covers(self.positions(array), part)
        return self._covered[asked]

    @staticmethod
    def _covers(positions: np.ndarray | None, part: PristineSet) -> bool:
        if positions is None or (positions == UNKNOWN).any():
            return False
        found = positions[(positions >= part.first) & (positions < part.first + part.count)]
        is_there = np.zeros(part.count, bool)
        is_there[found - part.first] = True
        return bool(is_there.all())

    def is_part_of(self, array: Array | None, part: PristineSet) -> bool:
        """Whether every row of the array is a row of *part*."""
        positions = self.positions(array)
        return (
            positions is not None
            and len(positions) > 0
            and bool(((positions >= part.first) & (positions < part.first + part.count)).all())
        )

    def labels_agree(self, x: Array | None, y: Array | None) -> np.ndarray | None:
        """bool (n,): whether each known row was given its own label; None when not comparable."""
        positions, labels = self.positions(x), self.label_values(y)
        if positions is None or labels is None or len(positions) != len(labels):
            return None
        known = positions != UNKNOWN
        agree = np.zeros(len(positions), bool)
        agree[known] = self.pristine.labels[positions[known]] == labels[known]
        return agree

    def knows(self, array: Array | None) -> bool:
        """Whether the array holds a row of the pristine sets."""
        positions = self.positions(array)
        return positions is not None and bool((positions != UNKNOWN).any())

    def is_reordered(self, array: Array | None) -> bool:
        """Whether the array's rows are the pristine ones with their values in another order."""
        if array is None or array.rows is None or not array.rows.profile or self.knows(array):
            return False
        pristine = _profiles_of(self.pristine)
        return all(tuple(profile) in pristine for profile in array.rows.profile)

    # ------------------------------------------------------------ networks

    def candidates(self) -> list[Candidate]:
        """
        States that could be the learner's answer: after each fit; without any fit, the last state
        of each compiled network; without that, of each network that was built.
        """
        fitted: list[Candidate] = []
        fits: dict[int, list[FitFact]] = {}
        last: dict[int, tuple[int, ModelFact]] = {}
        for order, fact in enumerate(self._facts):
            if isinstance(fact, ModelFact):
                last[fact.model] = (order, fact)
            elif isinstance(fact, FitFact):
                fits.setdefault(fact.model, []).append(fact)
                state = self.states.get(-1 if fact.state is None else fact.state)
                if state is not None and any(fit.epochs_run for fit in fits[fact.model]):
                    fitted.append(Candidate(state=state, fits=tuple(fits[fact.model]), order=order))
        if fitted:
            return fitted[-MOST_CANDIDATES:]
        compiled = [item for item in last.values() if item[1].compiled is not None]
        return [
            Candidate(state=state, fits=(), order=order)
            for order, state in (compiled or list(last.values()))[-MOST_CANDIDATES:]
        ]


@functools.lru_cache(maxsize=2)
def _profiles_of(pristine: Pristine) -> set[tuple[int, ...]]:
    return {
        tuple(profile)
        for part in pristine.sets.values()
        for start in range(0, part.count, PROFILE_CHUNK)
        for profile in row_profiles(part.rows[start : start + PROFILE_CHUNK]).tolist()
    }


def steps_before_first_dense(state: ModelFact) -> list[Step]:
    """Flattening and scaling that the network does itself."""
    before: list[Step] = []
    if state.steps is None and state.graph is not None:
        return _scaling_at_first(state.graph)
    for step in state.steps or []:
        if step.op == "dense":
            break
        before.append(step)
    return [step for step in before if step.op != "identity"]


def _scaling_at_first(graph: Graph) -> list[Step]:
    """What a network that is no chain does to its input, one layer after the other."""
    steps: list[Step] = []
    for position, node in enumerate(graph.nodes[1:], start=1):
        if node.inputs != [position - 1]:
            break
        if node.kind == "Rescaling":
            steps.append(Step(op="rescale", layer=node.layer, scale=node.scale, offset=node.offset))
        elif node.kind != "Reshape":
            break
    return steps
