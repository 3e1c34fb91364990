"""
What lies in the output folder of a class, and how it is read again.

::

    OUT/run.json                           when, where, on what
    OUT/learners/ID/submission.json        what was handed in
                    evidence/              what the run showed
                    evidence-2/, -3/       of repeats with fresh seeds
                    executed.ipynb, report.html
    OUT/controls/ID/…                      the same of the control samples
    OUT/results.json
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np

from nbassay.errors import EvidenceError, OutputError
from nbassay.evidence import read_evidence
from nbassay.files import MARK, write_whole
from nbassay.records import Evidence, Record, Results

SUBMISSION_FILE = "submission.json"
RESULTS_FILE = "results.json"
EXECUTED_FILE = "executed.ipynb"
MOST_ATTEMPTS = 3
"""A run and up to two repeats with fresh seeds."""

Intern = dict[bytes, np.ndarray]
"""Equal arrays, held once for a whole class."""


class Kept(Record, frozen=True, kw_only=True):
    """``submission.json``: what the run stage knows of a submission besides its evidence."""

    learner: str
    file: str
    digest: str
    notes: list[str]
    unreadable: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """One run's evidence and the arrays it names."""

    evidence: Evidence
    blobs: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scorable:
    """One submission as the run stage left it."""

    kept: Kept
    attempts: tuple[Attempt, ...]
    """First run first; empty when there is no evidence that can be read."""


def evidence_folder(folder: Path, attempt: int) -> Path:
    """Where the evidence of an attempt lies: 0 is the first run."""
    return folder / ("evidence" if attempt == 0 else f"evidence-{attempt + 1}")


def keep(folder: Path, kept: Kept) -> None:
    """Write what was handed in."""
    write_whole(folder / SUBMISSION_FILE, msgspec.json.format(msgspec.json.encode(kept)) + b"\n")


def forget_evidence(folder: Path, *, first: int = 0) -> None:
    """Remove the evidence of attempt *first* and all later ones."""
    for attempt in range(first, MOST_ATTEMPTS):
        shutil.rmtree(evidence_folder(folder, attempt), ignore_errors=True)
    if first == 0:
        (folder / EXECUTED_FILE).unlink(missing_ok=True)


def has_evidence(folder: Path, attempt: int, key: str) -> bool:
    """Whether evidence of the same run is there; one that our side failed at is tried again."""
    try:
        evidence, _blobs = read_evidence(evidence_folder(folder, attempt))
    except EvidenceError:
        return False
    return evidence.key == key and evidence.ending.reason != "could-not-start"


def members(out: Path) -> set[str]:
    """
    Who is in the class that was run last; folders of earlier classes are left alone.

    Raises:
        OutputError: *out* is no graded class.
    """
    try:
        return set(msgspec.json.decode((out / MARK).read_bytes())["learners"])
    except (OSError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise OutputError(
            f"{out / MARK}: cannot be read ({error}); is this a graded class?"
        ) from error


def read_submissions(folder: Path, intern: Intern) -> Iterator[Scorable]:
    """
    Submissions below *folder*, by name.

    Raises:
        OutputError: A submission.json cannot be read.
    """
    for path in sorted(folder.glob(f"*/{SUBMISSION_FILE}")):
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=Kept)
        except (OSError, msgspec.DecodeError) as error:
            raise OutputError(f"{path}: cannot be read: {error}; run this class again") from error
        attempts = () if kept.unreadable is not None else tuple(_attempts(path.parent, intern))
        yield Scorable(kept=kept, attempts=attempts)


def _attempts(folder: Path, intern: Intern) -> Iterator[Attempt]:
    for attempt in range(MOST_ATTEMPTS):
        try:
            evidence, blobs = read_evidence(evidence_folder(folder, attempt))
        except EvidenceError:
            return  # not there, or our failure: then it is not-run, and run again next time
        shared = {ref: _interned(array, intern) for ref, array in blobs.items()}
        yield Attempt(evidence=evidence, blobs=shared)


def _interned(array: np.ndarray, intern: Intern) -> np.ndarray:
    head = f"{array.dtype} {array.shape}".encode()
    return intern.setdefault(hashlib.sha256(head + array.tobytes()).digest(), array)


def write_results(out: Path, results: Results) -> None:
    """Write ``results.json``; the same results give the same bytes."""
    text = msgspec.json.format(msgspec.json.encode(results), indent=1)
    write_whole(out / RESULTS_FILE, text + b"\n")


def read_results(out: Path) -> Results:
    """
    Read ``results.json``.

    Raises:
        OutputError: It is missing or of another version.
    """
    try:
        return msgspec.json.decode((out / RESULTS_FILE).read_bytes(), type=Results)
    except (OSError, msgspec.DecodeError) as error:
        raise OutputError(
            f"{out / RESULTS_FILE}: no results that can be read ({error}); "
            f"`nbassay score {out}` makes them"
        ) from error
