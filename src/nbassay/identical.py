"""Whose code is the same, character by character."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from nbassay.notebook import NO_CODE
from nbassay.records import SubmissionResult
from nbassay.store import read_kept, submission_files


def identical_learners(folder: Path, learners: Collection[str]) -> list[list[str]]:
    """
    Groups of *learners* below *folder* with the same code cells in the same places, by name.

    Raises:
        OutputError: A submission.json cannot be read.
    """
    by_code: dict[str, list[str]] = {}
    for file in submission_files(folder):
        kept = read_kept(file.parent)
        if kept.code not in (None, NO_CODE) and kept.learner in learners:
            by_code.setdefault(kept.code, []).append(kept.learner)
    return [group for group in by_code.values() if len(group) > 1]


def with_notes_of_same_code(
    sheets: Sequence[SubmissionResult], identical: Sequence[Sequence[str]]
) -> list[SubmissionResult]:
    """*sheets* with a note where the code is somebody else's too; a report names nobody else."""
    others = {learner: len(group) - 1 for group in identical for learner in group}
    return [
        msgspec.structs.replace(sheet, notes=[*sheet.notes, _note(others[sheet.learner])])
        if sheet.learner in others
        else sheet
        for sheet in sheets
    ]


def _note(others: int) -> str:
    whose = "another submission" if others == 1 else f"{others} other submissions"
    # Not that it did: they may have been run apart, before an upgrade or after a failure of ours.
    return f"its code cells are those of {whose} of this class, too: one run may serve for all"
