"""``nbassay calibrate``: how right solutions scatter, measured through the real path."""

from __future__ import annotations

import contextlib
import datetime
import platform
import threading
from importlib import metadata
from pathlib import Path

import msgspec

from nbassay.calibration import Calibration, CalibrationRun, read_calibration
from nbassay.checking.case import cases_of
from nbassay.classrun import Progress
from nbassay.errors import EvidenceError, ManifestError
from nbassay.files import write_whole
from nbassay.notebook import Notebook, decode_notebook
from nbassay.observed import Observed
from nbassay.parallel import side_by_side
from nbassay.running import run_notebook
from nbassay.sandbox import Sandbox
from nbassay.workbench import workbench
from nbassay.workshop import Workshop

MADE_BY = "nbassay calibrate: the reference in the sandbox, one seed a run"


def calibrate(
    workshop: Workshop,
    target: Path,
    *,
    sandbox: Sandbox,
    runs: int,
    first_seed: int,
    jobs: int,
    progress: Progress,
) -> Calibration:
    """
    Run the reference under many seeds and write the distribution to *target*.

    A calibration that is there and was made with the same packages is carried on; every run is
    written as soon as it ends, so that an interrupted call loses nothing.

    Args:
        runs: Runs in all, those that are there included.
        first_seed: Seeds count up from here.

    Raises:
        ManifestError: *target* holds runs of another reference, of other packages or of another
            maker.
        EvidenceError: The reference did not train a network that can be measured.
        KeyboardInterrupt: What is done is in *target*.
    """
    notebook = decode_notebook(workshop.path(workshop.manifest.reference).read_bytes())
    calibration = _carried_on(workshop, target, notebook.digest)
    done = {run.seed for run in calibration.runs}
    seeds = [seed for seed in range(first_seed, first_seed + runs) if seed not in done]
    seeds = seeds[: max(0, runs - len(done))]
    stop = threading.Event()
    progress.start(len(seeds))
    with workbench(workshop, sandbox) as bench:

        def one(seed: int) -> CalibrationRun:
            run = run_notebook(notebook, bench, seed=seed, should_stop=stop.is_set)
            observed = Observed(run.evidence, run.blobs, bench.pristine)
            return _measured(seed, notebook, observed, workshop)

        ended = side_by_side(seeds, one, jobs=jobs, stop=stop)
        with contextlib.closing(ended), contextlib.closing(progress):
            for seed, run in ended:
                calibration = _with(calibration, run, notebook.digest)
                _write(target, calibration)
                progress.done(f"seed {seed}", "done")
    return calibration


def versions(workshop: Workshop) -> dict[str, str]:
    """Packages of the workshop that are installed here, by name."""
    found = {}
    for name in workshop.manifest.packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def tool_versions() -> dict[str, str]:
    """What measures, beside the packages that are measured."""
    return {"nbassay": metadata.version("nbassay"), "python": platform.python_version()}


def today() -> str:
    """The day, UTC, as figures are dated."""
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def _carried_on(workshop: Workshop, target: Path, reference: str) -> Calibration:
    packages = versions(workshop)
    if not target.exists():
        return Calibration(
            schema="nbassay/calibration/1",
            packages=packages,
            made_by=MADE_BY,
            reference=reference,
            runs=[],
        )
    found = read_calibration(target)
    if found.reference not in (None, reference):
        raise ManifestError(
            f"{target}: expected runs of the reference as it is ({reference[:19]}…), found runs of "
            f"another ({found.reference[:19]}…); calibrate anew into another file with -o"
        )
    if found.packages != packages or found.made_by != MADE_BY:
        raise ManifestError(
            f"{target}: expected runs by this command with {packages}, found runs with "
            f"{found.packages} ({found.made_by}); give another file with -o"
        )
    return found


def _with(calibration: Calibration, run: CalibrationRun, reference: str) -> Calibration:
    return msgspec.structs.replace(
        calibration,
        runs=sorted([*calibration.runs, run], key=lambda one: one.seed),
        reference=reference,
        made_with=tool_versions(),
        date=today(),
    )


def _measured(
    seed: int, notebook: Notebook, observed: Observed, workshop: Workshop
) -> CalibrationRun:
    """Accuracies of the network that the reference trained last."""
    case = cases_of("calibration", observed, workshop)[-1]
    found = case.measurement
    if found is None or found.train_accuracy is None or found.test_accuracy is None:
        ending = observed.evidence.ending
        raise EvidenceError(
            f"the reference ({notebook.digest[:19]}…) gave nothing to measure under seed {seed}: "
            f"{(found.why_not if found else None) or ending.message or ending.reason}"
        )
    return CalibrationRun(
        seed=seed,
        train_accuracy=round(found.train_accuracy, 6),
        test_accuracy=round(found.test_accuracy, 6),
    )


def _write(target: Path, calibration: Calibration) -> None:
    """One run a line, so that a change can be read."""
    head = msgspec.json.encode(msgspec.structs.replace(calibration, runs=[])).decode()
    lines = ",\n".join(f" {msgspec.json.encode(run).decode()}" for run in calibration.runs)
    write_whole(target, head.replace('"runs":[]', f'"runs":[\n{lines}\n]') + "\n")
