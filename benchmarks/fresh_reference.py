"""
How often right work fails: the reference graded again and again, every time with other seeds.

    python benchmarks/fresh_reference.py -o OUT [-n 200] [-j 2] [--figures reference/trust.json]

Seeds come from the digest of the code. Each run gets the reference with a number in a comment:
other code, the same work. Evidence is kept in OUT, so a second call runs only what is missing. With
``--keep-earlier`` runs that an earlier nbassay made, or the same beside other libraries than the
lab's, stay, too, if Python and the lab's packages were these: they are scored with today's checks
and bounds, and counted apart. Exit code 0 when no run lost a point.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import platform
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench import ROOT, Progress, origin, write_figures

from nbassay.calibrating import versions
from nbassay.calibration import read_calibration
from nbassay.classrun import default_jobs
from nbassay.errors import EvidenceError
from nbassay.evidence import read_evidence
from nbassay.intervals import share
from nbassay.notebook import decode_notebook
from nbassay.pipeline import RunOptions, grade_class
from nbassay.pristine import data_digest, read_pristine
from nbassay.records import EnvironmentFact, SubmissionResult
from nbassay.running import evidence_key, seed_of
from nbassay.sandbox.choose import choose
from nbassay.scoring import score
from nbassay.store import Scorable, evidence_folder, read_submissions
from nbassay.submissions import Submission
from nbassay.trust import Trust, asked
from nbassay.workshop import Workshop, read_workshop


def reference_again(reference: bytes, number: int) -> bytes:
    """The reference with other code that does the same: *number* in a comment of its first cell."""
    notebook = json.loads(reference)
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    first["source"] = f"# fresh run {number}\n" + "".join(first["source"])
    return json.dumps(notebook, ensure_ascii=False, indent=1).encode() + b"\n"


def submissions_of(workshop: Workshop, runs: int) -> list[Submission]:
    """The reference as a class of *runs* learners."""
    reference = workshop.path(workshop.manifest.reference).read_bytes()
    return [
        Submission(
            learner=f"fresh-{number:04}",
            file=f"fresh-{number:04}.ipynb",
            read=functools.partial(reference_again, reference, number),
        )
        for number in range(runs)
    ]


def refuse_known_seeds(workshop: Workshop, submissions: Sequence[Submission]) -> None:
    """
    End when two runs would share a first seed, or one were the calibration's.

    Raises:
        SystemExit: With the seeds.
    """
    seeds = Counter(seed_of(decode_notebook(one.read()).code_digest, 0) for one in submissions)
    if workshop.manifest.calibration is not None:
        calibration = read_calibration(workshop.path(workshop.manifest.calibration))
        seeds.update(run.seed for run in calibration.runs)
    twice = [seed for seed, times in seeds.items() if times > 1]
    if twice:
        sys.exit(f"seeds that are not fresh: {twice}")


def earlier_runs(submissions: Sequence[Submission], options: RunOptions) -> set[str]:
    """
    Those whose whole evidence lies in OUT, with this Python and these packages of the lab, but of
    another nbassay, or beside other libraries.
    """
    usual = (platform.python_version(), versions(options.workshop))
    found = set()
    for one in submissions:
        folder = evidence_folder(options.out / "learners" / one.learner, 0)
        code = decode_notebook(one.read()).code_digest
        key = evidence_key(
            code, options.workshop, options.walls, 0, is_fast=options.shortcuts.is_fast
        )
        with contextlib.suppress(EvidenceError):
            evidence, _blobs = read_evidence(folder)
            told = [fact for fact in evidence.facts if isinstance(fact, EnvironmentFact)]
            ran_as_usual = bool(told) and all(usual == (at.python, at.packages) for at in told)
            if evidence.notebook == code and evidence.key != key and ran_as_usual:
                found.add(one.learner)
    return found


def seeds_used(runs: Sequence[Scorable]) -> list[int]:
    """Seeds that the kernels say they ran with, attempt by attempt."""
    return [
        seed
        for run in runs
        for attempt in run.attempts
        for seed in {
            fact.seed for fact in attempt.evidence.facts if isinstance(fact, EnvironmentFact)
        }
    ]


def first_attempts(runs: Sequence[Scorable], workshop: Workshop) -> list[SubmissionResult]:
    """The sheets that the runs would have got without a repeat."""
    first = [dataclasses.replace(run, attempts=run.attempts[:1]) for run in runs]
    return score(first, workshop=workshop, pristine=read_pristine(workshop))


def lost_checks(result: SubmissionResult) -> set[str]:
    """Checks that were not passed; all that there are when nothing was graded."""
    return {check.id for check in result.checks if check.outcome != "passed"}


def main() -> int:
    """Read the arguments, grade, tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--workshop", type=Path, default=ROOT)
    parser.add_argument("-n", "--runs", type=int, default=200)
    parser.add_argument("-j", "--jobs", type=int, default=None)
    parser.add_argument(
        "--keep-earlier",
        action="store_true",
        help="do not run again what an earlier nbassay ran with the same packages",
    )
    parser.add_argument("--figures", type=Path, help="file to write the figures to")
    given = parser.parse_args()
    workshop = read_workshop(given.workshop)
    submissions = submissions_of(workshop, given.runs)
    refuse_known_seeds(workshop, submissions)
    given.output.mkdir(parents=True, exist_ok=True)
    options = RunOptions(
        workshop=workshop,
        out=given.output,
        jobs=given.jobs or default_jobs(),
        sandbox=choose("auto"),
        progress=Progress(),
        is_fresh=False,
    )
    earlier = earlier_runs(submissions, options) if given.keep_earlier else set()
    to_run = [one for one in submissions if one.learner not in earlier]
    results = grade_class(options, to_run, controls=[])
    wanted = {one.learner for one in submissions}  # an earlier call may have made more
    graded = [one for one in results.submissions if one.learner in wanted]
    not_run = [one.learner for one in graded if one.status == "not-run"]
    if not_run:
        sys.exit(f"not run: {', '.join(not_run)}; the same command tries again")
    kept = read_submissions(given.output / "learners", {}, data=data_digest(workshop))
    runs = [one for one in kept if one.kept.learner in wanted]
    trust = figures_of(
        graded,
        runs,
        workshop=workshop,
        command=f"python benchmarks/fresh_reference.py -o OUT -n {given.runs}"
        + (" --keep-earlier" if given.keep_earlier else ""),
        earlier=len(earlier),
    )
    seeds = seeds_used(runs)
    print(f"seeds: {len(seeds)}, {len(set(seeds))} of them different; the first: {seeds[:3]}")
    tell(trust)
    if given.figures is not None:
        write_figures(given.figures, trust)
    return 1 if trust.lost.count else 0


def figures_of(
    graded: Sequence[SubmissionResult],
    runs: Sequence[Scorable],
    *,
    workshop: Workshop,
    command: str,
    earlier: int = 0,
) -> Trust:
    """Count: *graded* are the sheets after all repeats, *runs* the evidence of the same runs."""
    bounds = asked(workshop)
    first = [lost_checks(one) for one in first_attempts(runs, workshop)]
    lost = Counter(check_id for one in graded for check_id in lost_checks(one))
    return Trust(
        **origin(workshop, command),
        bounds=bounds,
        lost=share(sum(one.score != one.max_score for one in graded), len(graded)),
        lost_by_check=dict(sorted(lost.items())),
        first_below=share(sum(bool(one & set(bounds)) for one in first), len(first)),
        first_below_by_check={
            check_id: share(sum(check_id in one for one in first), len(first))
            for check_id in bounds
        },
        repeated=sum(len(run.attempts) > 1 for run in runs),
        earlier=earlier,
    )


def tell(trust: Trust) -> None:
    """Print the figures."""
    print(f"runs that lost a point after repeats: {trust.lost}")
    for check_id, count in trust.lost_by_check.items():
        print(f"    {check_id}: {count}")
    print(f"first attempts below a bound: {trust.first_below}")
    for check_id, below in trust.first_below_by_check.items():
        print(f"    {check_id} (bound {trust.bounds[check_id]:.4f}): {below}")
    print(f"runs that were repeated: {trust.repeated}")
    estimate, most = trust.chance
    print(f"chance of three attempts below a bound: {estimate:.1e}, at most {most:.1e}")


if __name__ == "__main__":
    sys.exit(main())
