"""
Render ``docs/lines.md``: on which lines of TensorFlow and Keras the lab's page holds what it says.

    python benchmarks/lines_page.py [--check]

It reads ``benchmarks/figures/regress/``, one report for each line, which ``tox -e regress-tf…``
writes; nothing on the page is written by hand. With ``--check`` nothing is written; exit code 1
when the page is not what the reports say.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
from bench import FIGURES, ROOT
from packaging.version import Version

from nbassay.files import write_whole
from nbassay.regress.report import Report
from nbassay.reporting.text import NO_BREAK_SPACE

PAGE = ROOT / "docs" / "lines.md"
REPORTS = FIGURES / "regress"

HEAD = """\
# Lines of TensorFlow and Keras

Where the lab's page holds what it says: one run of [`nbassay regress`](regress.md) on each line
that was tried. `tox -e regress-tf216` (`218`, `220`, `221`) runs one, where it installs, and
`python benchmarks/lines_page.py` makes this page.

"""
COLUMNS = (
    *("TensorFlow", "Keras", "NumPy", "Python", "holds", "checks", "claims", "training", "test"),
    *("warnings", "slowest cell", "page"),
)


def read_reports(folder: Path = REPORTS) -> list[Report]:
    """
    All reports, oldest line first.

    Raises:
        msgspec.DecodeError: A file is none.
    """
    found = [msgspec.json.decode(path.read_bytes(), type=Report) for path in folder.glob("*.json")]
    return sorted(found, key=lambda one: Version(one.environment.get("tensorflow", "0")))


def render(reports: Sequence[Report]) -> str:
    """The page."""
    lines = [_row(COLUMNS), _row(["---"] * len(COLUMNS)), *(_row(_cells(one)) for one in reports)]
    parts = [HEAD, "\n".join(lines), "\n"]
    if reports:
        bands = ", ".join(
            f"`{check}` {low:.4f} to {high:.4f}" for check, (low, high) in reports[-1].bands.items()
        )
        parts.append(f"\nAccuracies are measured by the grader; right solutions reach: {bands}.\n")
    for one in reports:
        if one.findings:
            parts.append(f"\n## With TensorFlow {one.environment.get('tensorflow', '?')}\n\n")
            parts += [f"* `{x.file}:{x.line}` {x.kind}: {x.text}\n" for x in one.findings]
    return "".join(parts)


def _cells(report: Report) -> list[str]:
    versions = report.environment
    outcomes = Counter(one.outcome for one in report.claims)
    seconds = max((one.seconds for one in report.cells), default=0.0)
    warnings = sum(len(one.warnings) for one in report.cells)
    return [
        *(versions.get(name, "–") for name in ("tensorflow", "keras", "numpy", "python")),
        "no" if report.hurting else "yes",
        f"{sum(one.outcome == 'passed' for one in report.checks)} of {len(report.checks)}",
        f"{outcomes['holds']} of {len(report.claims)}",
        *(f"{report.accuracies.get(f'{name}_accuracy', 0):.4f}" for name in ("train", "test")),
        str(warnings or "none"),
        f"{seconds:.0f}{NO_BREAK_SPACE}s",
        f"{report.seconds:.0f}{NO_BREAK_SPACE}s",
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1] if __doc__ else None)
    parser.add_argument("--check", action="store_true")
    told = parser.parse_args()
    text = render(read_reports())
    if told.check:
        return int(not PAGE.exists() or PAGE.read_text("utf-8") != text)
    write_whole(PAGE, text)
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
