"""
How far verdicts can be trusted: every known right and wrong way, graded with real training.

    python benchmarks/verdicts.py -o OUT [--only PATTERN] [--fresh] [-j 2]

Evidence is kept in OUT, so a second call runs only what is new or changed and scores all of it
again. Exit code 0 when every verdict is as its file says.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import functools
import sys
import time
from pathlib import Path

from nbassay.classrun import default_jobs
from nbassay.misconceptions import (
    Misconception,
    Variant,
    build_notebook,
    read_misconceptions,
    read_variants,
)
from nbassay.pipeline import RunOptions, grade_class
from nbassay.records import SubmissionResult
from nbassay.sandbox.choose import choose
from nbassay.submissions import Submission
from nbassay.workshop import Workshop, read_workshop

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a way should get beside what it got."""

    name: str
    way: Misconception | Variant
    result: SubmissionResult

    @property
    def lost(self) -> set[str]:
        """Checks that were not passed."""
        return {check.id for check in self.result.checks if check.outcome != "passed"}

    @property
    def missed(self) -> set[str]:
        """Checks that should have failed and passed."""
        return set(self.way.must_fail) - self.lost if isinstance(self.way, Misconception) else set()

    @property
    def unintended(self) -> set[str]:
        """Checks that failed and should have passed."""
        if isinstance(self.way, Misconception):
            return self.lost - {*self.way.must_fail, *self.way.may_fail}
        return self.lost if self.way.status == "graded" else set()

    @property
    def has_wrong_status(self) -> bool:
        """Whether a person was asked to look for nothing, or not asked where none can decide."""
        if isinstance(self.way, Misconception):
            return self.result.status not in ("graded", "needs-review")
        return self.result.status != self.way.status

    @property
    def is_as_it_should_be(self) -> bool:
        """Whether nothing is wrong with this verdict."""
        return not (self.missed or self.unintended or self.has_wrong_status)


class Progress:
    """One line a notebook."""

    def start(self, total: int) -> None:
        """Begin."""
        self._total, self._done, self._started = total, 0, time.monotonic()

    def close(self) -> None: ...

    def done(self, name: str, how: str) -> None:
        """Tell of one notebook."""
        self._done += 1
        if how != "already run":
            seconds = time.monotonic() - self._started
            print(f"{self._done}/{self._total} {seconds:5.0f} s  {name}: {how}", file=sys.stderr)


def read_ways() -> dict[str, Misconception | Variant]:
    """All ways by name: ``right-…`` and ``wrong-…``."""
    right = read_variants(ROOT / "tests" / "variants")
    wrong = read_misconceptions(ROOT / "reference" / "misconceptions")
    return {
        **{f"right-{way_id}": way for way_id, way in right.items()},
        **{f"wrong-{way_id}": way for way_id, way in wrong.items()},
    }


def grade_ways(
    ways: dict[str, Misconception | Variant],
    *,
    workshop: Workshop,
    out: Path,
    jobs: int,
    is_fresh: bool,
) -> list[Verdict]:
    """Grade *ways* into *out* as a class and hold each result beside what it should be."""
    reference = workshop.path(workshop.manifest.reference).read_bytes()
    submissions = [
        Submission(
            learner=name,
            file=f"{name}.ipynb",
            read=functools.partial(build_notebook, way, reference),
        )
        for name, way in ways.items()
    ]
    out.mkdir(parents=True, exist_ok=True)
    options = RunOptions(
        workshop=workshop,
        out=out,
        jobs=jobs,
        sandbox=choose("auto"),
        progress=Progress(),
        is_fresh=is_fresh,
    )
    results = grade_class(options, submissions, controls=[])
    by_name = {result.learner: result for result in results.submissions}
    return [Verdict(name=name, way=way, result=by_name[name]) for name, way in ways.items()]


def tell(verdicts: list[Verdict], *, is_verbose: bool) -> None:
    """Print what is wrong, then the figures."""
    for verdict in verdicts:
        if is_verbose or not verdict.is_as_it_should_be:
            _tell_one(verdict)
    right = [v for v in verdicts if isinstance(v.way, Variant) and v.way.status == "graded"]
    undecided = [v for v in verdicts if isinstance(v.way, Variant) and v.way.status != "graded"]
    wrong = [v for v in verdicts if isinstance(v.way, Misconception)]
    print(f"right ways: {len(right)}, lost a point: {sum(bool(v.lost) for v in right)}")
    print(f"right ways sent to a person: {sum(v.has_wrong_status for v in right)}")
    print(
        f"undecided ways: {len(undecided)}, not sent: {sum(v.has_wrong_status for v in undecided)}"
    )
    print(f"wrong ways: {len(wrong)}, passed: {sum(not v.lost for v in wrong)}")
    print(f"intended checks missed: {sum(len(v.missed) for v in wrong)}")
    print(f"unintended checks failed: {sum(len(v.unintended) for v in wrong)}")


def _tell_one(verdict: Verdict) -> None:
    result = verdict.result
    accuracies = [
        f"{accuracy:.4f}" if accuracy is not None else "-"
        for accuracy in (result.train_accuracy, result.test_accuracy)
    ]
    print(f"{verdict.name}: {result.score} {result.status}, measured {' '.join(accuracies)}")
    for check in result.checks:
        if check.id in verdict.missed:
            print(f"    missed      {check.id}: {check.saw}")
        elif check.id in verdict.unintended:
            print(f"    unintended  {check.id} {check.outcome}: {check.saw}")
        elif check.outcome != "passed":
            print(f"    as intended {check.id} {check.outcome}: {check.saw}")
    for note in result.notes:
        print(f"    note        {note}")


def main() -> int:
    """Read the arguments, grade, tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-j", "--jobs", type=int, default=None)
    parser.add_argument("--only", default="*", help="names like this only: 'wrong-*scaled*'")
    parser.add_argument("--fresh", action="store_true", help="run even what was run before")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell of every way")
    told = parser.parse_args()
    ways = {name: way for name, way in read_ways().items() if fnmatch.fnmatch(name, told.only)}
    verdicts = grade_ways(
        ways,
        workshop=read_workshop(ROOT),
        out=told.output,
        jobs=told.jobs or default_jobs(),
        is_fresh=told.fresh,
    )
    tell(verdicts, is_verbose=told.verbose)
    return 0 if all(verdict.is_as_it_should_be for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
