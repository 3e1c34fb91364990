"""What a run with renamed classes proves: whoever did the work there passes the same checks."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from nbassay.answers import Answers
from nbassay.calibration import CalibratedBound
from nbassay.checking.case import Case, cases_of, read_bounds
from nbassay.checking.session import Sheet, score_cases
from nbassay.measure import preparation_for
from nbassay.network import run_steps
from nbassay.observed import Observed
from nbassay.pristine import Pristine
from nbassay.store import Scorable, failed_on_our_side
from nbassay.workshop import Workshop

_log = logging.getLogger(__name__)

LENIENCY = 1.5
"""
A challenge may make half as many mistakes again as the calibrated bound allows: other labels are
another training, and it has no repeats. What was brought along makes ten times as many.
"""
ROWS = 2_000
"""Images that two hidden layers are asked about."""
TINY = 1e-9
"""Keeps a unit that never changes from a division by zero."""
SAME_HIDDEN = 0.9
"""Mean correlation of the best matching units: 0.59 to 0.72 in 91 pairs of trained references."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a challenge came out beside the first run."""

    lost: list[str]
    """Checks that the first run passed and this one did not, by id."""
    is_same_network: bool
    """Whether both runs ended with one hidden layer: then neither trained it."""


def judge_challenges(
    submissions: Sequence[Scorable],
    sheets: Mapping[int, tuple[Case, Sheet]],
    *,
    workshop: Workshop,
    pristine: Pristine,
    answers: Answers | None = None,
) -> dict[int, Outcome]:
    """
    Hold the runs with renamed classes beside the first ones.

    Args:
        submissions: A class.
        sheets: Position in it → the case and the sheet that count.
        answers: What was measured before.

    Returns:
        Position → outcome, of those that ran again and came to an end of their own.

    Raises:
        ManifestError: Checks, rubric or calibration cannot be used.
    """
    cases: list[Case] = []
    owners: list[int] = []
    for number in sheets:
        try:
            observed = _observed(submissions[number], pristine, answers)
            own = [] if observed is None else cases_of(f"{number}-challenge", observed, workshop)
        except Exception:  # a mistake of ours: signs that were not tried send a person to look
            _log.exception("the challenge of %s was not read", submissions[number].kept.learner)
            continue
        cases += own
        owners += [number] * len(own)
    if not cases:
        return {}
    again = score_cases(cases, workshop, _lenient(read_bounds(workshop)))
    found: dict[int, Outcome] = {}
    for number, case, sheet in zip(owners, cases, again, strict=True):
        first, counts = sheets[number]
        lost = sorted(_passed(counts) - _passed(sheet))
        if number not in found or len(lost) < len(found[number].lost):
            found[number] = Outcome(lost=lost, is_same_network=_is_same_network(first, case))
    return found


def _is_same_network(first: Case, again: Case) -> bool:
    """
    Whether the first hidden layers answer alike, unit by unit in any order. Seeds and labels of the
    two runs differ, so trained ones do not.
    """
    answers = [each for each in map(_hidden, (first, again)) if each is not None]
    if len(answers) < 2:
        return False
    one, other = ((each - each.mean(axis=0)) / (each.std(axis=0) + TINY) for each in answers)
    alike = np.abs(one.T @ other) / len(one)
    return bool(alike.max(axis=1).mean() >= SAME_HIDDEN)


def _hidden(case: Case) -> np.ndarray | None:
    """(rows, units) float32: what the first Dense layer answers to some pristine images."""
    candidate, observed = case.candidate, case.observed
    part = next(iter(observed.pristine.sets.values()), None)
    if candidate is None or not candidate.fits or candidate.state.steps is None or part is None:
        return None
    steps = candidate.state.steps
    dense = [number for number, step in enumerate(steps) if step.op == "dense"]
    if len(dense) < 2:  # an output layer alone is not hidden
        return None
    try:
        x = preparation_for(candidate, observed).apply(part.rows[:ROWS])
        with np.errstate(all="ignore"):
            answers = run_steps(steps[: dense[0] + 1], observed.blobs, x)
    except (ValueError, KeyError):
        return None
    return answers if np.isfinite(answers).all() else None


def _observed(submission: Scorable, pristine: Pristine, answers: Answers | None) -> Observed | None:
    challenge = submission.challenge
    if challenge is None or failed_on_our_side(challenge.evidence):
        return None
    first = submission.attempts[0].evidence.ending
    if challenge.evidence.ending.reason not in ("finished", first.reason):
        return None  # a limit that the first run did not meet says nothing of the work
    try:
        renamed = pristine.renamed(challenge.evidence.renaming or [])
    except ValueError:  # of a workshop that had other classes
        return None
    return Observed(challenge.evidence, challenge.blobs, renamed, answers)


def _passed(sheet: Sheet) -> set[str]:
    return {check.id for check in sheet.checks if check.outcome == "passed"}


def _lenient(bounds: Mapping[str, CalibratedBound]) -> dict[str, CalibratedBound]:
    return {
        check_id: msgspec.structs.replace(bound, value=1 - LENIENCY * (1 - bound.value))
        for check_id, bound in bounds.items()
    }
