"""
Measurement: what a network knows, computed here from its weights and the pristine data.

NumPy only; no TensorFlow, no code of the learner. Of a network that NumPy cannot follow, the
answers are those that Keras gave in a second box (`nbassay.secondbox`); what they are worth is
computed here all the same.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from nbassay.answers import name_of
from nbassay.network import operations, run_steps
from nbassay.observed import Candidate, Observed, steps_before_first_dense
from nbassay.pristine import PristineSet
from nbassay.records import Array, Measurement, ModelFact, Number, Step, Wrong

SHOWN_WRONG = 8
CHUNK_ROWS = 10_000
BLOCK_ROWS = 128
"""Rows prepared at once: so few stay in the processor's cache."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preparation:
    """How pristine rows are brought to what the network was fitted on."""

    scale: float
    """One level in the units of the network's input: 1/255 for 0..1."""
    offset: float
    row_shape: tuple[int, ...]
    """Shape of one row as the network takes it: (784,) or (28, 28)."""
    dtype: str

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """(n, width) levels → (n, …) float32."""
        prepared = np.empty(rows.shape, np.float32)
        for start in range(0, len(rows), BLOCK_ROWS):
            values = rows[start : start + BLOCK_ROWS].astype(np.float64)
            values *= self.scale
            values += self.offset
            if self.dtype == "float16":
                values = values.astype(np.float16)
            prepared[start : start + BLOCK_ROWS] = values
        return prepared.reshape(len(rows), *self.row_shape)


def preparation_of(array: Array, levels: int) -> Preparation | None:
    """How *array* was prepared; None when its values do not tell."""
    if array.rows is not None:
        scale, offset = array.rows.scale, array.rows.offset
    elif isinstance(array.low, float) and isinstance(array.high, float) and array.high > array.low:
        scale, offset = (array.high - array.low) / levels, array.low
    else:
        return None
    if not math.isfinite(scale):  # the largest floats are further apart than a float can say
        return None
    return Preparation(
        scale=scale, offset=offset, row_shape=tuple(array.shape[1:]), dtype=array.dtype
    )


def predicted_classes(
    state: ModelFact, observed: Observed, preparation: Preparation, part: PristineSet
) -> np.ndarray:
    """
    The network's answer for every row of *part*: int64 (n,).

    Raises:
        ValueError: It does not fit the data, is too large, or was never asked.
        KeyError: Numbers that it names are not there.
    """
    if state.steps is None:
        return _kept_classes(state, observed, preparation, part)
    cost = operations(state.steps, observed.blobs, rows=part.count, width=part.width)
    observed.spend(cost)
    rows = [observed.evidence.data, part.name, part.count]
    name = name_of(state.steps, observed.blobs, preparation, rows)
    return observed.answers.of(
        name, part.count, lambda: _asked(state.steps or [], observed, preparation, part)
    )


def _asked(
    steps: Sequence[Step], observed: Observed, preparation: Preparation, part: PristineSet
) -> np.ndarray:
    """The answers of a chain of steps, computed here."""
    answers = []
    for start in range(0, part.count, CHUNK_ROWS):
        x = preparation.apply(part.rows[start : start + CHUNK_ROWS])
        with np.errstate(all="ignore"):
            output = run_steps(steps, observed.blobs, x)
        answers.append(output.reshape(len(x), -1).argmax(axis=1))
    return np.concatenate(answers)


def measure(
    candidate: Candidate,
    observed: Observed,
    *,
    train: str = "train",
    test: str = "test",
    largest_gap: float,
) -> Measurement:
    """
    Measure a network on the pristine sets.

    Args:
        train: Name of the set that the lab trains on.
        test: Name of the set that the lab evaluates on.
        largest_gap: Allowed difference between the chain of steps and the network itself.
    """
    pristine, state = observed.pristine, candidate.state
    if train not in pristine.sets or test not in pristine.sets:
        return _unmeasured("the workshop has no such data")
    if state.steps is None and state.graph is None:
        return _unmeasured(state.why_not or "the network could not be followed")
    gap = _gap(state, observed)
    if not isinstance(gap, float) or gap > largest_gap * _size(state):
        if state.steps is None:
            return _unmeasured(_why_not_rebuilt(state, observed))
        if not (gap == "nan" and _is_broken(state, observed)):
            differ = gap if gap is not None else "nothing"
            return _unmeasured(f"the chain of layers and the network differ by {differ}")
    try:
        preparation = preparation_for(candidate, observed)
    except ValueError as error:
        return _unmeasured(str(error))
    try:
        train_classes = predicted_classes(state, observed, preparation, pristine[train])
        test_classes = predicted_classes(state, observed, preparation, pristine[test])
    except (ValueError, KeyError) as error:
        return _unmeasured(f"the network does not fit the lab's data: {error}")
    truth = pristine[test].labels.astype(np.int64)
    return Measurement(
        train_accuracy=float((train_classes == pristine[train].labels).mean()),
        test_accuracy=float((test_classes == truth).mean()),
        confusion=confusion_matrix(truth, test_classes, pristine.classes),
        wrong=_examples(truth, test_classes),
        why_not=None,
    )


def known_before_training(
    candidate: Candidate, observed: Observed, *, test: str = "test"
) -> float | None:
    """
    Accuracy on the test set, 0..1, of the weights that *candidate*'s first fit began with; None
    when that cannot be measured here.
    """
    first = candidate.fits[0] if candidate.fits else None
    state = observed.states.get(-1 if first is None or first.before is None else first.before)
    if state is None or state.steps is None or test not in observed.pristine.sets:
        return None
    part = observed.pristine[test]
    try:
        preparation = preparation_for(candidate, observed)
        return float((predicted_classes(state, observed, preparation, part) == part.labels).mean())
    except (ValueError, KeyError):
        return None


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> list[list[int]]:
    """Row is the true class, column the answer; answers beyond the classes are left out."""
    counted = np.zeros((classes, classes), np.int64)
    inside = (predicted >= 0) & (predicted < classes)
    np.add.at(counted, (truth[inside], predicted[inside]), 1)
    return [[int(value) for value in row] for row in counted]


def prepared_range(
    array: Array, state: ModelFact | None, observed: Observed, part: PristineSet
) -> tuple[float, float] | None:
    """Smallest and largest value that reaches the first Dense layer; None when not known."""
    steps: list[Step] = steps_before_first_dense(state) if state is not None else []
    scaling = [step for step in steps if step.op != "flatten"]
    if not scaling:
        if isinstance(array.low, float) and isinstance(array.high, float):
            return array.low, array.high
        return None
    preparation = preparation_of(array, observed.pristine.levels)
    if preparation is None:
        return None
    try:
        observed.spend(operations(steps, observed.blobs, rows=part.count, width=part.width))
        reached = run_steps(steps, observed.blobs, preparation.apply(part.rows))
    except (ValueError, KeyError):
        return None
    return float(reached.min()), float(reached.max())


def preparation_for(candidate: Candidate, observed: Observed) -> Preparation:
    """
    How pristine rows are brought to what *candidate* was fitted on.

    Raises:
        ValueError: That is not known; the message says why.
    """
    unclear = _unclear_preparation(candidate, observed)
    if unclear is not None:
        raise ValueError(unclear)
    preparation = _preparation(candidate, observed)
    if preparation is None:
        raise ValueError("it is not known how the network's input was prepared")
    return preparation


def _kept_classes(
    state: ModelFact, observed: Observed, preparation: Preparation, part: PristineSet
) -> np.ndarray:
    """What Keras answered in the second box for the rows of *part*, prepared in the same way."""
    found = observed.rebuilt.get(state.state)
    if found is None or found.why_not is not None:
        raise ValueError("it was not asked in a second box")
    asked = (found.scale, found.offset)
    is_same = np.allclose(asked, (preparation.scale, preparation.offset), rtol=1e-6, atol=1e-12)
    if not is_same or found.dtype != preparation.dtype:
        raise ValueError("it was asked about rows that were prepared in another way")
    classes = observed.blobs[found.classes[part.name]]
    if classes.shape != (part.count,):
        raise ValueError(f"{len(classes)} answers for {part.count} rows")
    return classes


def _preparation(candidate: Candidate, observed: Observed) -> Preparation | None:
    """As for the last fit; of a network never fitted, as for what it was asked."""
    arrays = [fit.data.x for fit in reversed(candidate.fits)]
    if not candidate.fits:
        arrays = [fact.data.x for _order, fact in observed.questions(candidate)]
    for array in arrays:
        if array is not None:
            found = preparation_of(array, observed.pristine.levels)
            if found is not None:
                return found
    return None


def _unclear_preparation(candidate: Candidate, observed: Observed) -> str | None:
    """Why pristine rows cannot be brought to what the network was fitted on."""
    array = candidate.fits[-1].data.x if candidate.fits else None
    if array is None:
        return None
    if observed.is_reordered(array):
        return "it was fitted on the lab's images with their values in another order"
    if array.rows is None and math.prod(array.shape[1:]) in observed.pristine.widths:
        return "what it was fitted on is not on one scale for all values"
    return None


def _examples(truth: np.ndarray, predicted: np.ndarray) -> list[Wrong]:
    """The first wrong rows, one of each class before a second of any."""
    wrong = np.flatnonzero(truth != predicted)
    turn: dict[int, int] = {}
    ranked = []
    for index in wrong.tolist():
        label = int(truth[index])
        turn[label] = turn.get(label, 0) + 1
        ranked.append((turn[label], index))
    return [
        Wrong(index=index, truth=int(truth[index]), predicted=int(predicted[index]))
        for _turn, index in sorted(sorted(ranked)[:SHOWN_WRONG], key=lambda pair: pair[1])
    ]


def _gap(state: ModelFact, observed: Observed) -> Number | None:
    """Largest difference between the network and what we make of it, on the probe's sample."""
    if state.steps is not None:
        return state.gap
    found = observed.rebuilt.get(state.state)
    return None if found is None else found.gap


def _why_not_rebuilt(state: ModelFact, observed: Observed) -> str:
    found = observed.rebuilt.get(state.state)
    why_not = f"{state.why_not or 'NumPy cannot follow the network'}, and "
    if found is None:
        return why_not + "it was not asked in a second box"
    if found.why_not is not None:
        return why_not + found.why_not
    gap = "not a number" if found.gap is None else found.gap
    return f"the network and what Keras built of its layers and weights differ by {gap}"


def _size(state: ModelFact) -> float:
    """Differences grow with the output: a softmax stays below 1, a linear output does not."""
    activation: str | None = None
    if state.steps is None:
        activation = state.graph.nodes[-1].activation if state.graph is not None else None
    else:
        last = next((step for step in reversed(state.steps) if step.op != "identity"), None)
        activation = last.activation if last is not None and last.op == "activation" else None
    return 1.0 if activation in ("softmax", "sigmoid", "tanh") else 100.0


def _is_broken(state: ModelFact, observed: Observed) -> bool:
    """Whether the weights themselves are not finite: the training diverged."""
    return any(
        not np.isfinite(observed.blobs[ref]).all()
        for step in state.steps or []
        for ref in (step.kernel, step.bias)
        if ref is not None and ref in observed.blobs
    )


def _unmeasured(why_not: str) -> Measurement:
    return Measurement(
        train_accuracy=None, test_accuracy=None, confusion=None, wrong=[], why_not=why_not
    )
