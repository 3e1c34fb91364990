"""
Evidence of the control samples, kept from class to class: in an equal environment they run once.

What is equal is what evidence is of (see `nbassay.running.evidence_key`): code, data, limits, the
sandbox, Python, every installed package, the kind of processor. Kept is what came out as expected;
it is decoded like any evidence, and judged anew in every class.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from nbassay.store import EXECUTED_FILE, evidence_folder, has_evidence, read_key

CACHE_VARIABLE = "NBASSAY_CACHE"
"""Environment variable: the folder for what is kept; if it is empty, nothing is."""
MOST_KEPT = 20
"""Runs; the oldest make place. Each takes one or two megabytes."""

_log = logging.getLogger(__name__)


class KeptControls:
    """A folder of runs, one folder each, that only their owner can write to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def known(self) -> Iterator[tuple[str, Path]]:
        """Key and folder of the evidence of each run."""
        if not self._is_safe():
            return
        for run in self._runs():
            evidence = evidence_folder(run, 0)
            key = read_key(evidence)
            if key is not None:
                yield key, evidence

    def keep(self, control: Path) -> None:
        """
        Keep the first run of a *control*'s folder; what goes wrong is no harm but time lost.
        """
        key = read_key(evidence_folder(control, 0))
        if key is None:
            return
        name = hashlib.sha256(key.encode()).hexdigest()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._is_safe() and not has_evidence(evidence_folder(self._folder / name, 0), key):
                shutil.rmtree(self._folder / name, ignore_errors=True)
                self._copy(control, self._folder / name)
        except OSError as error:
            _log.info("the run of a control could not be kept: %s", error)

    def _copy(self, control: Path, target: Path) -> None:
        beside = Path(tempfile.mkdtemp(prefix=".", dir=self._folder))
        try:
            shutil.copy(control / EXECUTED_FILE, beside)
            evidence = evidence_folder(control, 0)
            shutil.copytree(evidence, beside / evidence.name)
            beside.rename(target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        for old in self._runs()[MOST_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def _runs(self) -> list[Path]:
        """The newest first."""
        found = [run for run in self._folder.iterdir() if not run.name.startswith(".")]
        return sorted(found, key=lambda run: run.stat().st_mtime, reverse=True)

    def _is_safe(self) -> bool:
        """Whether nobody but us could have laid something in."""
        with contextlib.suppress(OSError):
            found = self._folder.lstat()
            if not stat.S_ISDIR(found.st_mode):
                return False
            if os.name != "posix":
                return True
            return found.st_uid == os.getuid() and not found.st_mode & 0o022
        return False


def kept_controls() -> KeptControls | None:
    """Those of this user; None where nothing is to be kept."""
    told = os.environ.get(CACHE_VARIABLE)
    if told == "":
        return None
    folder = Path(told) if told else platformdirs.user_cache_path("nbassay")
    return KeptControls(folder / "controls")
