"""
How far verdicts can be trusted: every known right and wrong way, graded with real training.

    python benchmarks/verdicts.py -o OUT [--only PATTERN] [--fresh] [-j 2] [--figures FILE]

Evidence is kept in OUT, so a second call runs only what is new or changed and scores all of it
again. Exit code 0 when every verdict is as its file says. `trust_page.py` renders the figures.
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import sys
from pathlib import Path

from bench import ROOT, Progress, origin, write_figures
from tally import Verdict, tally, told

from nbassay.classrun import default_jobs
from nbassay.misconceptions import (
    Misconception,
    Variant,
    build_notebook,
    read_misconceptions,
    read_variants,
)
from nbassay.pipeline import RunOptions, grade_class
from nbassay.sandbox.choose import choose
from nbassay.submissions import Submission
from nbassay.workshop import Workshop, read_workshop


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
    not_run = [name for name in ways if by_name[name].status == "not-run"]
    if not_run:  # our failure says nothing of a verdict
        sys.exit(f"not run: {', '.join(not_run)}; the same command tries again")
    return [
        Verdict(id=name.partition("-")[2], way=way, result=by_name[name])
        for name, way in ways.items()
    ]


def tell(verdict: Verdict) -> None:
    """Print one verdict, check by check."""
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
    if verdict.is_misnamed:
        print(f"    misnamed    {', '.join(verdict.named) or 'not known'}")
    for note in result.notes:
        print(f"    note        {note}")


def main() -> int:
    """Read the arguments, grade, tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-j", "--jobs", type=int, default=None)
    parser.add_argument(
        "--only", action="append", help="names like this only: 'wrong-*scaled*'; may be repeated"
    )
    parser.add_argument("--fresh", action="store_true", help="run even what was run before")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell of every way")
    parser.add_argument("--figures", type=Path, help="file to write the figures to")
    asked = parser.parse_args()
    workshop = read_workshop(ROOT)
    known = read_ways()
    patterns = asked.only or ["*"]
    ways = {
        name: way
        for name, way in known.items()
        if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    }
    verdicts = grade_ways(
        ways,
        workshop=workshop,
        out=asked.output,
        jobs=asked.jobs or default_jobs(),
        is_fresh=asked.fresh,
    )
    for verdict in verdicts:
        if asked.verbose or not verdict.is_as_it_should_be:
            tell(verdict)
    only = "".join(f" --only '{pattern}'" for pattern in asked.only or ())
    figures = tally(
        verdicts,
        checks=workshop.manifest.rubric,
        is_whole=len(ways) == len(known),
        origin=origin(workshop, f"python benchmarks/verdicts.py -o OUT{only}"),
    )
    for line in told(figures):
        print(line)
    if asked.figures is not None:
        write_figures(asked.figures, figures)
    return 0 if all(verdict.is_as_it_should_be for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
