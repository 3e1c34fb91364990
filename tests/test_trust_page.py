"""docs/trust.md: rendered from committed figures, and readable whatever they are."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
from bench import FIGURES, ROOT
from markdown_it import MarkdownIt
from tally import Confusion, Verdicts
from trust_page import PAGE, TrustPage, read_page, render

from nbassay.drift import find_drift
from nbassay.intervals import share
from nbassay.trust import Trust, asked
from nbassay.workshop import read_workshop

WORKSHOP = read_workshop(ROOT)
COMMITTED = read_page(WORKSHOP, FIGURES)

ORIGIN = {"date": "2026-01-01", "packages": {"keras": "3.15.1"}, "made_with": {"nbassay": "0.1.0"}}
UNLUCKY = Trust(
    command="python benchmarks/fresh_reference.py -o OUT -n 200",
    **ORIGIN,  # type: ignore[arg-type]
    bounds={"accuracy.train": 0.9},
    lost=share(1, 200),
    lost_by_check={"accuracy.test": 1},
    first_below=share(4, 200),
    first_below_by_check={"accuracy.train": share(1, 200), "accuracy.test": share(3, 200)},
    repeated=4,
)
IMPERFECT = Verdicts(
    command="python benchmarks/verdicts.py -o OUT",
    **ORIGIN,  # type: ignore[arg-type]
    is_whole=True,
    right_lost=share(1, 90),
    right_lost_by_check={"prep.scaling": share(1, 90), "model.layers": share(0, 90)},
    right_to_a_person=share(0, 90),
    right_named=share(1, 90),
    undecided_kept=share(1, 4),
    wrong_passed=share(1, 87),
    wrong_caught=share(85, 87),
    wrong_unintended=share(1, 87),
    wrong_named=share(84, 87),
    naming={"first": 83, "among": 1, "other": 1, "unknown": 2},
    confusions=[
        Confusion(way="wrong-sgd", named=["rmsprop", "sgd"]),
        Confusion(way="wrong-empty", named=[]),
    ],
    missed={"wrong-sgd": ["model.compiled"]},
    unintended={"right-float16": ["prep.scaling"], "wrong-tanh": ["train.data", "train.epochs"]},
)


def full() -> TrustPage:
    """A page with every section, and errors in all of them."""
    calibration = COMMITTED.calibration
    lower = [
        msgspec.structs.replace(run, train_accuracy=run.train_accuracy - 0.005)
        for run in calibration.runs[:60]
    ]
    line = msgspec.structs.replace(calibration, packages={"keras": "3.4.1"}, runs=lower)
    drift = find_drift(line, calibrated=calibration, bounds=WORKSHOP.manifest.bounds)
    return dataclasses.replace(
        COMMITTED, trust=UNLUCKY, is_trust_stale=True, verdicts=IMPERFECT, lines=(drift,)
    )


def tables(text: str) -> list[list[int]]:
    """Cells of each row, table by table."""
    found: list[list[int]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append(0)
        elif token.type in ("td_open", "th_open"):
            found[-1][-1] += 1
    return found


def test_the_page_is_what_the_figures_say() -> None:
    """
    docs/trust.md is rendered from the committed figures, letter by letter.
    """
    assert render(COMMITTED) == PAGE.read_text("utf-8"), "run: python benchmarks/trust_page.py"


def test_figures_in_reports_are_of_todays_bounds() -> None:
    """
    The workshop's fresh runs were graded under the bounds that its calibration gives today.
    """
    assert COMMITTED.trust is not None
    assert COMMITTED.trust.bounds == asked(WORKSHOP), "run benchmarks/fresh_reference.py again"


@pytest.mark.parametrize(
    ("page", "rows"),
    [
        (full(), [8, 3, 3, 3, 4]),
        (dataclasses.replace(COMMITTED, trust=None, verdicts=None, lines=()), [3, 3, 2]),
    ],
    ids=["everything", "nothing measured"],
)
def test_tables_are_whole(page: TrustPage, rows: list[int]) -> None:
    """
    No row is lost between a loop's lines, and all rows of a table have as many cells.
    """
    found = tables(render(page))

    assert [len(table) for table in found] == rows
    assert all(len(set(table)) == 1 for table in found)


@pytest.mark.parametrize(
    "words",
    [
        "1 of 200 fresh runs of the solution (0.0 % to 2.8 %)",
        "4 of 200 first runs lay below a bound (0.5 % to 5.0 %): 1 below `accuracy.train`, 3 below",
        "1 of 200 lost a point in the end (0.0 % to 2.8 %): 1 on `accuracy.test`",
        "at most once in 7,800 notebooks (with 95 % confidence), by these counts once in 120,000.",
        "under other bounds than today's",
        "`prep.scaling` failed 1 (0.0 % to 6.0 %)",
        "    * `wrong-sgd` passed `model.compiled`\n",
        "    * `wrong-tanh` failed `train.data`, `train.epochs`\n",
        "| `wrong-sgd` | `rmsprop`, `sgd` |",
        "| `wrong-empty` | not known |",
        "| keras 3.4.1 | 60 | 0 of 60 | `accuracy.train` |",
        "| **yes** |",
    ],
)
def test_nothing_unpleasant_is_left_out(words: str) -> None:
    """
    Errors are listed one by one, in the page's own words.
    """
    assert words in render(full()).replace("\N{NO-BREAK SPACE}", " ")
