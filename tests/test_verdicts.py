"""Known right and wrong ways: their files, and a few of them graded for real.

``benchmarks/verdicts.py`` grades all of them; that takes most of an hour.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import ROOT
from verdicts import grade_ways, read_ways

from nbassay.errors import ManifestError
from nbassay.misconceptions import (
    Misconception,
    Variant,
    build_notebook,
    read_misconceptions,
    read_variants,
)
from nbassay.notebook import decode_notebook
from nbassay.workshop import read_workshop

WORKSHOP = read_workshop(ROOT)
REFERENCE = WORKSHOP.path(WORKSHOP.manifest.reference).read_bytes()
WRONG = read_misconceptions(ROOT / "reference" / "misconceptions")
RIGHT = read_variants(ROOT / "tests" / "variants")

CODE = re.compile(r"[(){}\[\]=_`\"'\\]|\bimport\b|\.\w+\(")
"""What a sentence for people has no use for."""
SENTENCE_END = re.compile(r"[.?!](?= |$)")

GRADED = [
    "right-lab-idioms",
    "right-names-in-another-script",
    "right-main-function",
    "wrong-scaled-twice",
    "wrong-never-fitted",
    "wrong-not-flattened",
]
"""The first rows of both halves of the decision table, and what stops half-way."""


def test_there_are_enough_wrong_ways() -> None:
    """
    At least forty wrong ways are known, and no two say the same.
    """
    assert len(WRONG) >= 40
    assert len({way.title for way in WRONG.values()}) == len(WRONG)
    assert len({way.hint for way in WRONG.values()}) == len(WRONG)


@pytest.mark.parametrize("way", WRONG.values(), ids=WRONG)
def test_wrong_ways_name_checks_of_the_workshop(way: Misconception) -> None:
    """
    What a wrong way must fail and may fail are checks of the rubric.
    """
    assert {*way.must_fail, *way.may_fail} <= set(WORKSHOP.manifest.rubric)


@pytest.mark.parametrize("way", WRONG.values(), ids=WRONG)
def test_hints_are_short_and_hold_no_code(way: Misconception) -> None:
    """
    A hint is one or two sentences that a learner reads, without a line of the solution.
    """
    assert not CODE.search(way.hint.replace("network's", "").replace("lab's", ""))
    assert 1 <= len(SENTENCE_END.findall(way.hint)) <= 2


def test_every_check_is_failed_by_some_wrong_way() -> None:
    """
    No check is there that no known wrong way must fail.
    """
    assert {check for way in WRONG.values() for check in way.must_fail} == set(
        WORKSHOP.manifest.rubric
    )


@pytest.mark.parametrize(
    "way", [*WRONG.values(), *RIGHT.values()], ids=[*WRONG, *(f"right-{name}" for name in RIGHT)]
)
def test_every_way_becomes_a_notebook(way: Misconception | Variant) -> None:
    """
    Each is a notebook that can be graded, the same bytes every time.
    """
    raw = build_notebook(way, REFERENCE)

    assert decode_notebook(raw).notes == ()
    assert raw == build_notebook(way, REFERENCE)


def test_changes_are_made_where_they_are_named() -> None:
    """
    A cell is replaced, left out, put before or after; all others stay as the reference has them.
    """
    way = Variant(
        title="t",
        cells={"load": "a = 1", "show": ""},
        before={"load": "b = 2"},
        after={"load": "c = 3"},
        outputs={"load": "printed"},
    )

    cells = json.loads(build_notebook(way, REFERENCE))["cells"]
    sources = {cell["id"]: cell["source"] for cell in cells}

    assert list(sources)[:4] == ["imports", "before-load", "load", "after-load"]
    assert [sources[name] for name in ("before-load", "load", "after-load")] == [
        "b = 2",
        "a = 1",
        "c = 3",
    ]
    assert "show" not in sources
    assert sources["train"] == "history = model.fit(x_train, y_train, epochs=10)"
    assert cells[2]["outputs"][0]["text"] == "printed"


def test_scripts_are_split_at_their_marks() -> None:
    """
    A script's cells are what stands between the marks; empty ones are left out.
    """
    way = Variant(title="t", script="\n# %%\na = 1\n# %% a title\nb = 2\n\nc = 3\n# %%\n")

    cells = json.loads(build_notebook(way, REFERENCE))["cells"]

    assert [cell["source"] for cell in cells] == ["a = 1", "b = 2\n\nc = 3"]


WRONG_FILES = {
    "unknown key": ('titel = "t"', "titel"),
    "no title": ("", "title"),
    "no check to fail": ('title = "t"\nhint = "h"\nmust_fail = []', "must_fail"),
    "no hint": ('title = "t"\nmust_fail = ["a"]', "hint"),
    "in both lists": (
        'title = "t"\nhint = "h"\nmust_fail = ["a"]\nmay_fail = ["a"]',
        "in both",
    ),
    "script and cells": (
        'title = "t"\nhint = "h"\nmust_fail = ["a"]\nscript = "1"\n[cells]\nload = ""',
        "found both",
    ),
    "no TOML": ("title =", "Invalid value"),
}


@pytest.mark.parametrize(("text", "named"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_files_with_mistakes_are_refused(tmp_path: Path, text: str, named: str) -> None:
    """
    A file that is no misconception is refused, with its path and what is wrong.
    """
    (tmp_path / "a-way.toml").write_text(text, "utf-8")

    with pytest.raises(ManifestError, match=r"a-way\.toml") as refused:
        read_misconceptions(tmp_path)

    assert named in str(refused.value)


def test_odd_names_are_refused(tmp_path: Path) -> None:
    """
    A file's name is an id; one with capitals or spaces is refused.
    """
    (tmp_path / "A way.toml").write_text('title = "t"')

    with pytest.raises(ManifestError, match="small letters"):
        read_variants(tmp_path)


def test_unknown_cells_are_refused() -> None:
    """
    A change to a cell that the reference does not have is refused, not left out in silence.
    """
    with pytest.raises(ManifestError, match="laod"):
        build_notebook(Variant(title="t", cells={"laod": ""}), REFERENCE)


@pytest.mark.kernel
@pytest.mark.tensorflow
def test_some_ways_get_their_verdict(tmp_path: Path) -> None:
    """
    Right ways lose nothing, wrong ones fail on what they must and on nothing else, and each is
    called by its own name first.
    """
    ways = {name: way for name, way in read_ways().items() if name in GRADED}

    found = grade_ways(ways, workshop=WORKSHOP, out=tmp_path, jobs=2, is_fresh=False)

    assert {one.name: (one.missed, one.unintended) for one in found} == {
        name: (set(), set()) for name in GRADED
    }
    assert {one.name: one.named for one in found} == {
        name: [name.removeprefix("wrong-")] if name.startswith("wrong-") else [] for name in GRADED
    }
