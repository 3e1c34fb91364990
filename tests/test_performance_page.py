"""docs/performance.md and docs/scale.md: tables of committed figures, and the figures are whole."""

from __future__ import annotations

import msgspec
import pytest
import speed
from account import AROUND, OTHERS, PARTS, in_parts
from costs import Cost
from performance_page import (
    PAGES,
    classes_table,
    filled,
    read_account,
    read_cluster,
    read_growth,
    read_rescoring,
    read_speed,
    tables,
)


def test_the_pages_have_the_committed_figures() -> None:
    """
    Every table of a page is the one of the figures, with where they were taken.
    """
    found = tables()
    for page, names in PAGES.items():
        text = page.read_text("utf-8")
        filled_in = filled(text, {name: found[name] for name in names})
        assert text == filled_in, "run: python benchmarks/performance_page.py"


def test_every_tool_ran_the_same_classes_and_trained_the_same_weights() -> None:
    """
    No tool is missing, none was timed in another run, and all came to the same bits.
    """
    timed = read_speed().timed

    assert [(one.submissions, one.tool) for one in timed] == [
        (size, tool) for size in (1, 8) for tool in speed.TOOLS
    ]
    for size in (1, 8):
        weights = {tuple(one.weights) for one in timed if one.submissions == size}
        assert len(weights) == 1
        (digests,) = weights
        assert len(set(digests)) == size
        assert all(len(digest) == 64 for digest in digests)


def test_classes_of_every_size_were_measured() -> None:
    """
    The sizes that the page speaks of are those of its tables.
    """
    assert [(one.learners, one.jobs) for one in read_growth().grown] == [
        (size, jobs) for size in (1, 8, 32, 128) for jobs in (1, 2)
    ]
    assert [one.learners for one in read_rescoring().sizes] == [1, 8, 32, 128, 300, 1000]
    assert [one.learners for one in read_cluster().sent] == [2, 8]


def test_what_a_class_costs_on_a_cluster() -> None:
    """
    Workers are as fast as they are many, until the one machine that sends to them is not.
    """
    told = classes_table(box_s=12.0, command_s=0.1, score_s=0.2).splitlines()

    assert told[0] == "With *c* = 12.0, *h* = 0.10 and *s* = 0.20 seconds:"
    assert told[-3] == "| 300 | 4 | 1.0 | 15 min | 1 min | 16 min |"
    assert told[-1] == "| 30,000 | 200 | 100.0 | 50 min | 100 min | 2.5 h |"


def test_a_tool_that_trains_other_weights_is_told() -> None:
    """
    The table says of each tool how its speed, processor seconds and memory compare with nbassay's,
    if that ran as many submissions, and whether its weights are the same.
    """
    ours = speed.Timed(
        tool="nbassay grade",
        submissions=1,
        cost=Cost(seconds=10.0, processor_seconds=12.0, peak_mb=900.0),
        weights=["a" * 64],
    )
    slow = Cost(seconds=25.0, processor_seconds=30.0, peak_mb=800.0)
    other = msgspec.structs.replace(ours, tool="otter run", cost=slow, weights=["b" * 64])

    *_, first, second = speed.table([ours, other]).splitlines()

    assert first == "| 1 | nbassay grade | 10.0 | 6.0 | 1.00 | 12.0 | 1.00 | 900 MB | 1.00 | yes |"
    assert second == "| 1 | otter run | 25.0 | 2.4 | 0.40 | 30.0 | 2.50 | 800 MB | 0.89 | no |"
    assert speed.table([other]).endswith(
        "| 1 | otter run | 25.0 | 2.4 |  | 30.0 |  | 800 MB |  |  |\n"
    )


def test_the_account_adds_up() -> None:
    """
    Every second of a notebook is in one part, and both ways have the same parts.
    """
    cells = [("import keras", 1.0), ("model = keras.Sequential()", 0.25), ("x = 1", 0.5)]
    cells += [("model.fit(x, y)", 4.0), ("model.evaluate(x, y)", 0.5), ("print(model)", 0.25)]

    told = in_parts(cells, whole=8.0)

    assert told == {
        OTHERS: 1.75,
        "the network built and compiled": 0.25,
        "predicted and evaluated": 0.5,
        "the network trained": 4.0,
        AROUND: 1.5,
    }
    committed = read_account()
    for way in (committed.forks, committed.nbassay):
        assert set(way.parts) == {*PARTS, OTHERS, AROUND}
        assert way.learners <= way.cost.seconds * committed.cores


def test_a_page_without_a_marker_is_told() -> None:
    """
    A table that has no place on the page is not lost silently.
    """
    with pytest.raises(ValueError, match="<!-- speed -->"):
        filled("# Nothing\n", {"speed": "| a |\n"})
