"""
Evidence of the control samples, kept from class to class: they run once a day in an environment.

Controls show that checks, packages and machine do what they should. Evidence is of code, data,
limits, the sandbox, Python and every installed package (see `nbassay.running.evidence_key`): while
these are equal, and so is the machine, another run gives the same bits. What changes a machine
without a trace in them is why it is a day and no longer. Kept is what came out as expected; it is
decoded like any evidence, and judged anew in every class.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from nbassay.evidence import EVIDENCE_FILE
from nbassay.store import EXECUTED_FILE, evidence_folder, read_key

CACHE_VARIABLE = "NBASSAY_CACHE"
"""Environment variable: the folder for what is kept; if it is empty, nothing is."""
MOST_KEPT = 20
"""Runs; the oldest make place. Each takes one or two megabytes."""
LASTS_S = 24 * 3600.0
"""Seconds that a run counts."""

_log = logging.getLogger(__name__)


class KeptControls:
    """
    A folder of runs, one folder each, that only their owner can write to.

    Args:
        machine: Names the one that runs the controls: several may share the folder.
    """

    def __init__(self, folder: Path, machine: str) -> None:
        self._folder = folder
        self._machine = machine

    def known(self) -> Iterator[tuple[str, Path]]:
        """Key and folder of the evidence of each run of the last day."""
        if not self._is_safe():
            return
        for run, made in self._runs():
            if not run.name.startswith(self._machine) or not 0 <= time.time() - made < LASTS_S:
                continue
            evidence = evidence_folder(run, 0)
            key = read_key(evidence)
            if key is not None:
                yield key, evidence

    def keep(self, control: Path) -> None:
        """
        Keep the first run of a *control*'s folder; what goes wrong is no harm but time lost.
        """
        target = self._place_of(control)
        if target is None:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._is_safe():
                shutil.rmtree(target, ignore_errors=True)
                self._copy(control, target)
        except OSError as error:
            _log.info("the run of a control could not be kept: %s", error)

    def forget(self, control: Path) -> None:
        """Keep no run like the first one of a *control*'s folder."""
        target = self._place_of(control)
        if target is not None and self._is_safe():
            shutil.rmtree(target, ignore_errors=True)

    def _place_of(self, control: Path) -> Path | None:
        key = read_key(evidence_folder(control, 0))
        if key is None:
            return None
        return self._folder / f"{self._machine}-{hashlib.sha256(key.encode()).hexdigest()}"

    def _copy(self, control: Path, target: Path) -> None:
        beside = Path(tempfile.mkdtemp(prefix=".", dir=self._folder))
        try:
            shutil.copy(control / EXECUTED_FILE, beside)
            evidence = evidence_folder(control, 0)
            shutil.copytree(evidence, beside / evidence.name)
            beside.rename(target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        runs = self._runs()
        for run, _ in runs[MOST_KEPT:]:
            shutil.rmtree(run, ignore_errors=True)
        for half in self._folder.glob(".*"):  # of a copy that was killed, if it is not just made
            with contextlib.suppress(OSError):
                if half.stat().st_mtime < time.time() - LASTS_S:
                    shutil.rmtree(half, ignore_errors=True)

    def _runs(self) -> list[tuple[Path, float]]:
        """Folder of each run and when it was made, in seconds of `time.time`; the newest first."""
        found = []
        for run in self._folder.glob("[!.]*"):
            with contextlib.suppress(OSError):  # another command may be removing it
                found.append((run, (evidence_folder(run, 0) / EVIDENCE_FILE).stat().st_mtime))
        return sorted(found, key=lambda one: one[1], reverse=True)

    def _is_safe(self) -> bool:
        """Whether nobody but us could have laid something in."""
        try:
            found = self._folder.lstat()
        except OSError:
            return False
        is_safe = stat.S_ISDIR(found.st_mode) and (
            os.name != "posix" or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
        )
        if not is_safe:
            _log.warning("%s: not used, since others could write to it", self._folder)
        return is_safe


def kept_controls() -> KeptControls | None:
    """Those of this user; None where nothing is to be kept."""
    told = os.environ.get(CACHE_VARIABLE)
    if told == "":
        return None
    folder = Path(told) if told else platformdirs.user_cache_path("nbassay")
    return KeptControls(folder / "controls", _machine())


def _machine() -> str:
    """Names this machine and its kind."""
    told = [platform.node(), platform.system(), platform.release(), _processor()]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _processor() -> str:
    """What Linux calls the processor; elsewhere what `platform` does suffices."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return ""
    first = text.partition("\n\n")[0]
    kinds = ("vendor_id", "cpu family", "model", "flags", "CPU ", "Features")
    return "\n".join(line for line in first.splitlines() if line.startswith(kinds))
