"""
What lies in the output folder of a class, and how it is read again.

::

    OUT/run.json                           when, where, on what
    OUT/learners/ID/submission.json        what was handed in
                    evidence/              what the run showed
                    evidence-2/, -3/       of repeats with fresh seeds
                    challenge/             of a run with renamed classes
                    executed.ipynb, report.html
    OUT/controls/ID/…                      the same of the control samples
    OUT/measured/DIGEST                    what one network answered to the rows of one set
    OUT/results.json
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np

from nbassay.errors import EvidenceError, ManifestError, OutputError
from nbassay.evidence import EVIDENCE_FILE, read_evidence
from nbassay.files import MARK, refuse_link, why_not_written, write_whole
from nbassay.records import Ending, Evidence, Record, Results, SecondBox, SubmissionResult

SUBMISSION_FILE = "submission.json"
RESULTS_FILE = "results.json"
EXECUTED_FILE = "executed.ipynb"
LEARNERS = "learners"
MEASURED = "measured"
OUR_FAILURES = ("could-not-start", "killed-outside", "interrupted")
"""Endings of a box that say nothing of the notebook."""
MOST_ATTEMPTS = 3
"""A run and up to two repeats with fresh seeds."""
CHALLENGE = MOST_ATTEMPTS
"""Attempt number of the run with renamed classes: its seeds are none of the others'."""

Intern = dict[bytes, np.ndarray]
"""Equal arrays, held once for a whole class."""


class Kept(Record, frozen=True, kw_only=True):
    """``submission.json``: what the run stage knows of a submission besides its evidence."""

    learner: str
    file: str
    digest: str
    notes: list[str]
    unreadable: str | None
    code: str | None = None
    """Digest of the code cells and their places; None when they could not be read."""


# Made before there are threads, see `nbassay.evidence`.
_decode_kept = msgspec.json.Decoder(Kept).decode


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
    trouble: str | None = None
    """Why there is none, when that is not the learner's doing."""
    challenge: Attempt | None = None
    """The run with renamed classes, if there was one."""


def evidence_folder(folder: Path, attempt: int) -> Path:
    """Where the evidence of an attempt lies: 0 is the first run."""
    if attempt == CHALLENGE:
        return folder / "challenge"
    return folder / ("evidence" if attempt == 0 else f"evidence-{attempt + 1}")


def keep(folder: Path, kept: Kept) -> None:
    """Write what was handed in."""
    write_whole(folder / SUBMISSION_FILE, msgspec.json.format(msgspec.json.encode(kept)) + b"\n")


def read_kept(folder: Path) -> Kept:
    """
    Read what was handed in.

    Raises:
        OutputError: It cannot be read.
    """
    path = folder / SUBMISSION_FILE
    try:
        return _decode_kept(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise OutputError(f"{path}: cannot be read: {error}; run this class again") from error


def forget_evidence(folder: Path, *, first: int = 0) -> None:
    """
    Remove the evidence of attempt *first* and all later ones; of all, the challenge's too.

    Raises:
        OutputError: It cannot be removed.
    """
    attempts = [*range(first, MOST_ATTEMPTS), *([CHALLENGE] if first == 0 else [])]
    try:
        for attempt in attempts:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(evidence_folder(folder, attempt))
        if first == 0:
            (folder / EXECUTED_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{error.filename}: cannot be removed: {why_not_written(error)}"
        ) from error


def has_evidence(folder: Path, key: str) -> bool:
    """
    Whether *folder* holds evidence of the same run; one that our side failed at is tried again.
    """
    try:
        evidence, _blobs = read_evidence(folder)
    except EvidenceError:
        return False
    return evidence.key == key and not failed_on_our_side(evidence)


def evidence_by_key(learners: Path) -> Iterator[tuple[str, Path]]:
    """Key and folder of all evidence of submissions below *learners*."""
    for file in submission_files(learners):
        for attempt in (*range(MOST_ATTEMPTS), CHALLENGE):
            folder = evidence_folder(file.parent, attempt)
            key = read_key(folder)
            if key is not None:
                yield key, folder


def read_key(folder: Path) -> str | None:
    """The key of the evidence in *folder*; None when there is none that can be read."""
    try:
        return _decode_key((folder / EVIDENCE_FILE).read_bytes()).key
    except (OSError, msgspec.DecodeError):
        return None


class _Key(msgspec.Struct):
    """The part of evidence that says what run it is of."""

    key: str


_decode_key = msgspec.json.Decoder(_Key).decode


def failed_on_our_side(evidence: Evidence) -> bool:
    """Whether a box of that run could not start, or was interrupted: it says nothing."""
    endings = [evidence.ending, evidence.second.ending if evidence.second is not None else None]
    return any(ending is not None and ending.reason in OUR_FAILURES for ending in endings)


class Used(Record, frozen=True, kw_only=True):
    """What a learner's boxes took, all runs of the notebook together; for ``run.json``."""

    seconds: float
    """Wall time."""
    peak_memory_mb: float
    are_warm: bool
    """Whether all of them started as forks of a process that had imported the libraries."""


class _Endings(msgspec.Struct, frozen=True, kw_only=True):
    """Of ``evidence.json``, how its boxes ended."""

    ending: Ending
    second: SecondBox | None = None


_decode_endings = msgspec.json.Decoder(_Endings).decode


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """What ``run.json`` says of the class."""

    workshop: str
    """Its title."""
    learners: frozenset[str]
    """Those whose folder is there; who deletes one deletes the learner."""
    are_all_challenged: bool = False
    """Whether everybody is to run once more with renamed classes, signs or none."""


def read_mark(out: Path) -> Mark:
    """
    Read whose class lies in *out*.

    Raises:
        OutputError: *out* is no graded class.
    """
    try:
        record = msgspec.json.decode((out / MARK).read_bytes())
        return Mark(
            workshop=record["workshop"],
            learners=frozenset(
                learner for learner in record["learners"] if (out / LEARNERS / learner).is_dir()
            ),
            are_all_challenged=record.get("challenge") == "all",
        )
    except (OSError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise OutputError(
            f"{out / MARK}: cannot be read ({error}); `nbassay grade PATH -o {out}` makes one"
        ) from error


def lay_folders(out: Path, learners: Collection[str]) -> None:
    """
    Make a folder for each learner of a class, before anything is run: without it one was deleted.

    Raises:
        OutputError: One cannot be made.
    """
    for learner in learners:
        folder = out / LEARNERS / learner
        refuse_link(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be made: {why_not_written(error)}") from error


def forget_deleted(out: Path) -> None:
    """
    Take those out of ``run.json`` whose folder was deleted.

    Raises:
        OutputError: *out* is no graded class, or cannot be written.
    """
    there = read_mark(out).learners
    record = msgspec.json.decode((out / MARK).read_bytes())
    if there != set(record["learners"]):
        record["learners"] = sorted(there)
        record["used"] = {
            learner: used for learner, used in record.get("used", {}).items() if learner in there
        }
        write_whole(out / MARK, msgspec.json.format(msgspec.json.encode(record)) + b"\n")


def read_used(folder: Path) -> Used | None:
    """What the boxes took whose evidence lies in a learner's *folder*; None without any."""
    endings: list[Ending] = []
    for attempt in (*range(MOST_ATTEMPTS), CHALLENGE):
        path = evidence_folder(folder, attempt) / EVIDENCE_FILE
        with contextlib.suppress(OSError, msgspec.DecodeError):
            found = _decode_endings(path.read_bytes())
            second = found.second.ending if found.second is not None else None
            endings += [ending for ending in (found.ending, second) if ending is not None]
    if not endings:
        return None
    return Used(
        seconds=round(sum(ending.seconds for ending in endings), 3),
        peak_memory_mb=round(max(ending.peak_memory_bytes for ending in endings) / 1e6, 1),
        are_warm=all(ending.is_warm for ending in endings),
    )


def submission_files(folder: Path) -> list[Path]:
    """The ``submission.json`` of every submission below *folder*, by name."""
    return sorted(folder.glob(f"*/{SUBMISSION_FILE}"))


def read_submissions(
    folder: Path,
    intern: Intern,
    *,
    data: str,
    only: Collection[str] | None = None,
    expected: Collection[str] = (),
) -> Iterator[Scorable]:
    """
    Submissions below *folder*, by name; those *expected* that were not run yet come last.

    Args:
        data: Digest of the lab's data that evidence must refer to.
        only: Learner ids that are read; all when None.
        expected: Learner ids that must be among them.

    Raises:
        OutputError: A submission.json cannot be read.
    """
    seen = set()
    for path in submission_files(folder):
        if only is not None and path.parent.name not in only:
            continue
        kept = read_kept(path.parent)
        seen.add(kept.learner)
        if kept.unreadable is not None:
            yield Scorable(kept=kept, attempts=())
        else:
            yield _with_attempts(path.parent, kept, intern, data)
    for learner in sorted(set(expected) - seen):
        missing = Kept(learner=learner, file="", digest="", notes=[], unreadable=None)
        yield Scorable(kept=missing, attempts=(), trouble="it was not run yet; grade again")


def _with_attempts(folder: Path, kept: Kept, intern: Intern, data: str) -> Scorable:
    attempts: list[Attempt] = []
    trouble: str | None = None
    for attempt in range(MOST_ATTEMPTS):
        if attempt and not evidence_folder(folder, attempt).exists():
            break
        try:
            attempts.append(_attempt(folder, attempt, kept, intern, data))
        except EvidenceError as error:
            trouble = f"{error}; grade again"
            break
    challenge = None
    if attempts:
        trouble = None
        with contextlib.suppress(EvidenceError):
            challenge = _attempt(folder, CHALLENGE, kept, intern, data)
    return Scorable(kept=kept, attempts=tuple(attempts), trouble=trouble, challenge=challenge)


def _attempt(folder: Path, attempt: int, kept: Kept, intern: Intern, data: str) -> Attempt:
    """
    The evidence of one run of this very submission on the workshop's data.

    Raises:
        EvidenceError: There is none.
    """
    evidence, blobs = read_evidence(evidence_folder(folder, attempt))
    if evidence.notebook != (kept.code or kept.digest):
        raise EvidenceError("its evidence is of other code than was handed in")
    if evidence.data != data:
        raise EvidenceError("its evidence refers to other lab data than the workshop has now")
    shared = {ref: _interned(array, intern) for ref, array in blobs.items()}
    return Attempt(evidence=evidence, blobs=shared)


def _interned(array: np.ndarray, intern: Intern) -> np.ndarray:
    head = f"{array.dtype} {array.shape}".encode()
    return intern.setdefault(hashlib.sha256(head + array.tobytes()).digest(), array)


def read_sheet(path: Path) -> SubmissionResult:
    """
    The reference's sheet of a kit.

    Raises:
        ManifestError: It cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=SubmissionResult)
    except (OSError, msgspec.DecodeError) as error:
        raise ManifestError(f"{path}: no sheet of a reference that can be read: {error}") from error


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
