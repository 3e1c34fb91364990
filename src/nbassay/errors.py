"""
Errors that a person who runs the suite can act on.

::

    AssayError                exit 2
    ├── ManifestError         a value of workshop.toml cannot be used
    ├── DataError             lab data missing or not the pinned bytes
    ├── SubmissionError       nothing to grade where the caller pointed
    ├── NotebookError         a learner's file cannot be run; never fatal to a class
    ├── OutputError           the output folder cannot be used
    ├── EvidenceError         bytes that are not evidence, or evidence of another run
    ├── ClusterError          the machines that notebooks were to run on cannot be used
    ├── UsageError            options that do not go together, `python -O`
    └── SandboxError          exit 3: no wall to run strangers' code behind

Verdicts about a learner's work are never errors; they are outcomes on a sheet.
"""

from __future__ import annotations


class AssayError(Exception):
    """Base of every error an operator can act on; *slug* is its heading in docs/messages.md."""

    slug = "error"
    exit_code = 2


def our_failure(error: Exception, at: str) -> str:
    """What a sheet says of a bug of ours that met one submission only."""
    return f"nbassay itself failed at {at} ({type(error).__name__}); report it"


class ManifestError(AssayError):
    """``workshop.toml`` is missing, or a value in it cannot be used."""

    slug = "manifest"


class DataError(AssayError):
    """A data file of the workshop is missing or its bytes are not the pinned ones."""

    slug = "lab-data"


class SubmissionError(AssayError):
    """No notebook was found where the caller pointed."""

    slug = "no-submissions"


class NotebookError(AssayError):
    """One file is not a notebook that can be run; its submission becomes ``unreadable``."""

    slug = "unreadable-notebook"


class OutputError(AssayError):
    """The output folder is in use, holds something else, or cannot be written."""

    slug = "output-folder"


class EvidenceError(AssayError):
    """Bytes from a box or a file are not evidence; nothing of them is used."""

    slug = "evidence"


class ClusterError(AssayError):
    """A scheduler or its workers cannot be used; what is done stays done."""

    slug = "cluster"


class UsageError(AssayError):
    """Options that do not go together, or a Python that switches assertions off."""

    slug = "usage"


class SandboxError(AssayError):
    """No usable sandbox: nothing was run."""

    slug = "no-sandbox"
    exit_code = 3
