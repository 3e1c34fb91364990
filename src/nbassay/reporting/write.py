"""The files of a graded class; each appears whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec
import numpy as np
from numpy.typing import NDArray

from nbassay.errors import AssayError, OutputError, our_failure
from nbassay.files import write_whole
from nbassay.records import Results, SubmissionResult
from nbassay.reporting.gradebook import render_gradebook
from nbassay.reporting.html import render_class, render_student
from nbassay.reporting.junit import render_junit
from nbassay.reporting.pictures import pictures_of
from nbassay.reporting.student import MOST_PICTURES

PristineRows = Callable[[int], NDArray[np.uint8]]
"""Position in the pristine test set → its pixels, uint8, any shape with width × width values."""

_log = logging.getLogger(__name__)

_NO_TITLES: Mapping[int, str] = MappingProxyType({})


def write_reports(
    results: Results,
    *,
    workshop_title: str,
    reports_dir: Path,
    pristine_rows: PristineRows | None,
    out: Path,
    step_titles: Mapping[int, str] = _NO_TITLES,
) -> Results:
    """
    Write the class page, every learner's report, the gradebook and the JUnit file.

    A report that we fail at is written with less, and its sheet needs a review: a mistake of ours
    with one sheet costs nobody else the report.

    Args:
        results: A graded class.
        workshop_title: Over every page.
        reports_dir: The workshop's reports folder; the engine's templates where it has none.
        pristine_rows: Pixels of a test image, for the pictures; None leaves them out.
        out: The class's output folder; made if it is missing.
        step_titles: Step → its title; steps without one are told by number.

    Returns:
        *results* with the sheets as they were written.

    Raises:
        OutputError: A learner's id is no file name, or a file cannot be written.
    """

    def write(one: SubmissionResult) -> None:
        write_student_report(
            one,
            results=results,
            workshop_title=workshop_title,
            reports_dir=reports_dir,
            pristine_rows=pristine_rows,
            path=_folder_of(one, out) / "report.html",
            step_titles=step_titles,
        )

    written: list[SubmissionResult] = []
    for one in results.submissions:
        sheet = one
        try:
            write(sheet)
        except AssayError:
            raise
        except Exception as error:
            _log.exception("the report of %s could not be written", one.learner)
            sheet = _with_less(one, our_failure(error, "showing this sheet"))
            write(sheet)
        written.append(sheet)
    results = msgspec.structs.replace(results, submissions=written)
    write_whole(out / "gradebook.csv", render_gradebook(results))
    write_whole(out / "junit.xml", render_junit(results))
    # Last, so that a class page never links to a report that is not there yet.
    write_whole(
        out / "index.html",
        render_class(
            results,
            workshop_title=workshop_title,
            step_titles=step_titles,
            reports_dir=reports_dir,
        ),
    )
    return results


def write_student_report(
    one: SubmissionResult,
    *,
    results: Results,
    workshop_title: str,
    reports_dir: Path,
    pristine_rows: PristineRows | None,
    path: Path,
    step_titles: Mapping[int, str] = _NO_TITLES,
) -> None:
    """Write one report to *path*; the other arguments are those of `write_reports`."""
    measurement = one.details.measurement if one.details else None
    indexes = [row.index for row in measurement.wrong[:MOST_PICTURES]] if measurement else []
    write_whole(
        path,
        render_student(
            one,
            reference=results.reference,
            controls=results.controls,
            workshop_title=workshop_title,
            pictures=pictures_of(indexes, pristine_rows) if pristine_rows else {},
            step_titles=step_titles,
            fresh_runs=results.fresh_runs,
            reports_dir=reports_dir,
        ),
    )


def _with_less(one: SubmissionResult, why: str) -> SubmissionResult:
    """The sheet without what a report shows beside the checks."""
    return msgspec.structs.replace(
        one,
        status="needs-review" if one.status == "graded" else one.status,
        notes=[why, *one.notes],
        details=None,
    )


def _folder_of(one: SubmissionResult, out: Path) -> Path:
    name = one.learner
    # Ids are made safe where submissions are found; a hand-edited results.json is not.
    if name in ("", ".", "..") or Path(name).name != name or "\\" in name or "\0" in name:
        raise OutputError(f"results.json: learner: expected a file name, found {name!r}")
    return out / "learners" / name
