"""The score stage: evidence in, sheets out. No kernel, no notebook, no learner code."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

import msgspec

from nbassay.answers import Answers
from nbassay.calibration import other_versions, read_calibration
from nbassay.challenge import Outcome, judge_challenges
from nbassay.checking.case import Case, cases_of, read_bounds
from nbassay.checking.session import Sheet, score_cases
from nbassay.errors import AssayError, our_failure
from nbassay.misconceptions import Misconception, read_misconceptions, recognise
from nbassay.observed import Observed
from nbassay.pristine import Pristine
from nbassay.provenance import contradictions, doubts_of, provenance_of, signs
from nbassay.records import (
    LIVE,
    ControlResult,
    Curve,
    Details,
    EnvironmentFact,
    Evidence,
    NumberRow,
    Stop,
    SubmissionResult,
)
from nbassay.store import OUR_FAILURES, Scorable
from nbassay.workshop import Control, Workshop

_log = logging.getLogger(__name__)

UNEXPLAINED = "checks failed in a way that no known misconception explains"


def score(
    submissions: Sequence[Scorable],
    *,
    workshop: Workshop,
    pristine: Pristine,
    challenged: Collection[int] = (),
    answers: Answers | None = None,
) -> list[SubmissionResult]:
    """
    Score a class, or a group of it, in one pytest session; results are in the order given.

    A mistake of ours with one submission's evidence costs nobody else the mark: that one is
    ``not-run``, or ``needs-review`` with what its checks gave.

    Args:
        challenged: Positions of those who are to pass a run with renamed classes, signs or none.
        answers: What was measured before; what is new is put there, too.

    Raises:
        ManifestError: Checks, rubric or calibration cannot be used.
    """
    cases: list[Case] = []
    owners: list[int] = []
    failures: dict[int, str] = {}
    for number, submission in enumerate(submissions):
        try:
            own = _cases(number, submission, workshop, pristine, answers)
        except AssayError:
            raise
        except Exception as error:
            _log.exception("the evidence of %s could not be read", submission.kept.learner)
            failures[number] = our_failure(error, "this evidence")
            continue
        cases += own
        owners += [number] * len(own)
    best = _best(cases, owners, workshop)
    folder = workshop.manifest.misconceptions
    known = {} if folder is None else read_misconceptions(workshop.path(folder))
    challenges = judge_challenges(
        submissions, best, workshop=workshop, pristine=pristine, answers=answers
    )
    results: list[SubmissionResult] = []
    for number, submission in enumerate(submissions):
        if number not in best:
            results.append(_not_graded(submission, workshop, failures.get(number)))
            continue
        case, sheet = best[number]
        try:
            result = _graded(
                submission,
                case,
                sheet,
                workshop,
                known,
                challenges.get(number),
                is_challenged=number in challenged,
            )
        except AssayError:
            raise
        except Exception as error:
            _log.exception("the sheet of %s could not be filled in", submission.kept.learner)
            result = _bare(submission, sheet, workshop, our_failure(error, "this evidence"))
        results.append(result)
    return results


def _cases(
    number: int,
    submission: Scorable,
    workshop: Workshop,
    pristine: Pristine,
    answers: Answers | None,
) -> list[Case]:
    """Everything of one submission that a sheet can be filled in for."""
    cases: list[Case] = []
    for attempt in submission.attempts:
        if attempt.evidence.ending.reason not in OUR_FAILURES:
            observed = Observed(attempt.evidence, attempt.blobs, pristine, answers)
            name = f"{number}-{submission.kept.learner}-{attempt.evidence.attempt}"
            cases += cases_of(name, observed, workshop)
    return cases


def _best(
    cases: Sequence[Case], owners: Sequence[int], workshop: Workshop
) -> dict[int, tuple[Case, Sheet]]:
    """
    Of each owner the case with the highest score, the last of several.

    Most have one network that counts, the last: where it lost nothing the others are not asked.
    """
    bounds = read_bounds(workshop)
    best: dict[int, tuple[Case, Sheet]] = {}

    def ask(numbers: Sequence[int]) -> None:
        asked = [cases[number] for number in numbers]
        sheets = score_cases(asked, workshop, bounds) if asked else []
        for number, case, sheet in reversed(list(zip(numbers, asked, sheets, strict=True))):
            owner = owners[number]
            if owner not in best or sheet.score > best[owner][1].score:
                best[owner] = (case, sheet)

    last = {owner: number for number, owner in enumerate(owners)}
    ask(list(last.values()))
    others = sorted(set(range(len(cases))) - set(last.values()))
    ask([number for number in others if not best[owners[number]][1].is_full])
    return best


def judge_control(control: Control, result: SubmissionResult) -> ControlResult:
    """Whether a control came out as it must."""
    failed = {check.id for check in result.checks if check.outcome != "passed"}
    why = None
    if result.score is None:
        why = f"it was not graded: {result.status}"
        if result.notes:
            why += f" ({result.notes[0]})"
    elif control.score is not None and result.score != control.score:
        lost = ", ".join(sorted(failed))
        why = f"expected {control.score:g} points, found {result.score:g}: lost {lost}"
    elif not set(control.fails) <= failed:
        why = f"expected to fail {', '.join(sorted(set(control.fails) - failed))}, but passed"
    return ControlResult(name=control.name, as_expected=why is None, score=result.score, why=why)


def class_notes(controls: Sequence[Scorable], workshop: Workshop) -> list[str]:
    """
    What an instructor must know of the class as a whole.

    Args:
        controls: They ran where the class ran, and no learner wrote what their evidence says.

    Raises:
        ManifestError: The calibration cannot be read.
    """
    if workshop.manifest.calibration is None:
        return []
    calibration = read_calibration(workshop.path(workshop.manifest.calibration))
    told = {
        other_versions(calibration, fact.packages)
        for control in controls
        for attempt in control.attempts
        for fact in attempt.evidence.facts
        if isinstance(fact, EnvironmentFact)
    }
    return sorted(sentence for sentence in told if sentence is not None)


def _bare(submission: Scorable, sheet: Sheet, workshop: Workshop, why: str) -> SubmissionResult:
    """What the checks gave where the rest of the sheet could not be filled in."""
    return msgspec.structs.replace(
        _not_graded(submission, workshop, why),
        status="needs-review",
        score=sheet.score,
        checks=sheet.checks,
    )


def _not_graded(
    submission: Scorable, workshop: Workshop, failure: str | None = None
) -> SubmissionResult:
    """A sheet without a mark; *failure* is a bug of ours, in words."""
    kept = submission.kept
    notes = list(kept.notes)
    if kept.unreadable is not None:
        notes.insert(0, kept.unreadable)
    if submission.trouble is not None:
        notes.insert(0, submission.trouble)
    for attempt in submission.attempts:
        if attempt.evidence.ending.message:
            notes.insert(0, attempt.evidence.ending.message)
    if failure is not None:
        notes.insert(0, failure)
    return SubmissionResult(
        learner=kept.learner,
        file=kept.file,
        digest=kept.digest,
        status="unreadable" if kept.unreadable is not None else "not-run",
        score=None,
        max_score=workshop.max_score,
        train_accuracy=None,
        test_accuracy=None,
        checks=[],
        misconceptions=[],
        notes=notes,
        details=None,
    )


def _graded(
    submission: Scorable,
    case: Case,
    sheet: Sheet,
    workshop: Workshop,
    known: Mapping[str, Misconception],
    challenge: Outcome | None,
    *,
    is_challenged: bool,
) -> SubmissionResult:
    observed, kept = case.observed, submission.kept
    measurement = case.measurement
    # Who earned nothing gained nothing.
    found = signs(observed, case.candidate, measurement) if sheet.score else []
    is_measured = measurement is not None and measurement.why_not is None
    provenance = provenance_of(found, challenge, is_measured=is_measured)
    doubts = [
        *_doubts(case, sheet),
        *contradictions(observed, case.candidate),
        *doubts_of(provenance, challenge, is_asked=is_challenged and bool(sheet.score)),
    ]
    if case.candidate is None or not case.candidate.fits:
        measurement = None  # of random weights there is nothing to say
    notes = [*doubts, *_notes(observed), *kept.notes]
    misconceptions = recognise(sheet.checks, known, by_chance=workshop.manifest.bounds)
    is_failed = any(check.outcome == "failed" for check in sheet.checks)
    if known and is_failed and not misconceptions:
        notes.append(UNEXPLAINED)
    if provenance.signs and provenance.challenge == "passed":
        notes.append(
            f"run again with renamed classes, since {'; '.join(provenance.signs)}: "
            "it passed the same checks again"
        )
    if len(submission.attempts) > 1:
        notes.append(
            f"run {len(submission.attempts)} times with fresh seeds, since the first missed an "
            f"accuracy by chance or by little; attempt {observed.evidence.attempt + 1} counts"
        )
    return SubmissionResult(
        learner=kept.learner,
        file=kept.file,
        digest=kept.digest,
        status="needs-review" if doubts else "graded",
        score=sheet.score,
        max_score=workshop.max_score,
        train_accuracy=measurement.train_accuracy if measurement else None,
        test_accuracy=measurement.test_accuracy if measurement else None,
        checks=sheet.checks,
        misconceptions=misconceptions,
        notes=notes,
        details=Details(
            numbers=[NumberRow(label=label, value=value) for label, value in sheet.numbers.items()],
            curves=_curves(case),
            measurement=measurement,
            stops=_stops(observed),
            environment=_environment(observed.evidence, observed) | _second_box(case),
            limits=observed.evidence.limits,
            provenance=provenance,
        ),
    )


def _doubts(case: Case, sheet: Sheet) -> list[str]:
    """Why a person should look before the mark stands."""
    observed = case.observed
    doubts = [
        f"the check {check.id} could not decide ({check.saw}); its points are open"
        for check in sheet.checks
        if check.outcome == "broken"
    ]
    if observed.evidence.refused:
        doubts.append(
            f"{len(observed.evidence.refused)} parts of the evidence were refused, the first: "
            f"{observed.evidence.refused[0]}"
        )
    for remark in observed.remarks:
        if remark.topic == "hand-training":
            doubts.append(
                f"cell {remark.cell + 1}: {remark.text} Its training cannot be checked by rule."
            )
        elif remark.topic == "probe-error":
            doubts.append(
                f"cell {remark.cell + 1}: part of what happened was not seen ({remark.text})"
            )
        elif remark.topic == "cut":
            doubts.append(remark.text)
    measurement = case.measurement
    if measurement is not None and measurement.why_not and case.candidate and case.candidate.fits:
        doubts.append(f"the network's accuracy was not measured: {measurement.why_not}")
    return doubts


def _notes(observed: Observed) -> list[str]:
    notes = [
        f"cell {cell.index + 1} stopped: {cell.error_name}: {cell.error_message}"
        for cell in observed.cells
        if cell.status in ("error", "timeout")
    ]
    if observed.evidence.ending.message:
        notes.append(observed.evidence.ending.message)
    notes += [
        f"cell {remark.cell + 1}: {remark.text}"
        for remark in observed.remarks
        if remark.topic in ("weights-loaded", "file-found")
    ]
    if not observed.evidence.is_isolated and observed.evidence.sandbox != LIVE:
        notes.append("run without a sandbox: nothing kept the notebook from the machine it ran on")
    return notes


def _stops(observed: Observed) -> list[Stop]:
    return [
        Stop(
            cell=cell.index + 1,
            status=cell.status,
            error_name=cell.error_name,
            error_message=cell.error_message,
        )
        for cell in observed.cells
        if cell.status in ("error", "timeout")
    ]


def _curves(case: Case) -> list[Curve]:
    """The training history of the judged network, fit after fit."""
    series: dict[str, list[float | None]] = {}
    for fit in case.candidate.fits if case.candidate else ():
        for metric, values in fit.history.items():
            series.setdefault(metric, []).extend(
                value if isinstance(value, float) else None for value in values
            )
    return [Curve(metric=metric, values=values) for metric, values in series.items()]


def _second_box(case: Case) -> dict[str, str]:
    """Where the accuracy was measured, if it was not here."""
    second, candidate = case.observed.evidence.second, case.candidate
    is_measured = case.measurement is not None and case.measurement.test_accuracy is not None
    if second is None or second.ending is None or candidate is None or not is_measured:
        return {}
    if candidate.state.steps is not None:
        return {}
    return {"Accuracy": "measured with Keras in a second sandbox"}


def _environment(evidence: Evidence, observed: Observed) -> dict[str, str]:
    told: dict[str, str] = {}
    fact = observed.environment
    if fact is not None:
        told["Python"] = fact.python
        told |= fact.packages
        told["Seed"] = str(fact.seed)
        told["Threads"] = str(fact.threads)
    if observed.fits:
        fast = sum(fit.is_fast for fit in observed.fits)
        told["Training"] = (
            "many batches a call, bit-identical"
            if fast == len(observed.fits)
            else "one batch a call"
            if not fast
            else f"many batches a call in {fast} of {len(observed.fits)} fits, bit-identical"
        )
    told["Sandbox"] = evidence.sandbox
    told["Attempt"] = str(evidence.attempt + 1)
    return told
