"""What is read from a notebook's code before any of it runs."""

from __future__ import annotations

import pytest

from nbassay.inside.source import MOST_NAMES, read_code


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("model.fit(x, y)", "fit"),
        ("getattr(model, 'fit')(x, y)", "fit"),
        ("%time model.fit(x, y)", "fit"),
        ("%%time\nmodel.fit(x, y)", "fit"),
        ("!python -c 'import train; train.fit()'", "fit"),
        ("from keras.models import load_model as anything", "load_model"),
        ("open('/proc/self/mem')", "/proc/self/mem"),
        ("def treinar(модель): модель.fit()", "модель"),
    ],
)
def test_names(source: str, name: str) -> None:
    """
    What the code names is found in Python, in magics and in short texts, in any script.
    """
    assert name in read_code([source]).names


def test_extensions_name_nothing() -> None:
    """
    Loading an extension is no use of its package; importing it is.
    """
    assert "nbassay" not in read_code(["%load_ext nbassay"]).names
    assert "nbassay" in read_code(["import nbassay.inside.channel"]).names
    assert "nbassay" in read_code(["from nbassay.records import Rows"]).names


def test_comments_name_nothing() -> None:
    """
    A word in a comment is not used.
    """
    assert read_code(["x = 1  # then model.fit(x)"]).names == ["x"]


@pytest.mark.parametrize(
    ("source", "replaced"),
    [
        ("keras.Model.fit = mine", ["keras.Model.fit"]),
        ("class Mine(keras.Model):\n    def fit(self, x, y): ...", ["Mine.fit"]),
        ("model.fit(x)\nfit = model.fit", []),
        ("def fit(x): ...", []),
    ],
)
def test_replaced(source: str, replaced: list[str]) -> None:
    """
    Methods of libraries that something else is put behind are told; calling them is not.
    """
    assert read_code([source]).replaced == replaced


@pytest.mark.parametrize(
    ("source", "least", "most"),
    [
        ("x = 1 / 255", 8, 8),
        ("w = '" + "z" * 5000 + "'", 5000, 5000),
        ("w = b'" + "z" * 5000 + "'", 5000, 5000),
        ("w = [" + "0.25, " * 2000 + "]", 8000, 8000),
        ("w = 0x" + "f" * 20000, 9000, 11000),
    ],
)
def test_constants(source: str, least: int, most: int) -> None:
    """
    Constants that could hold a network are counted by what they can hold.
    """
    assert least <= read_code([source]).literal_bytes <= most


def test_imports() -> None:
    """
    Packages are told by their first name, however they are imported.
    """
    code = read_code(["import a.b as c", "def f():\n    from d.e import g"])

    assert code.imports == ["a", "d"]


@pytest.mark.parametrize(
    "source", ["if (", "\x00", "(" * 5000, "x = " + "-" * 20000 + "1", "f(" * 150 + ")" * 150]
)
def test_what_is_no_python(source: str) -> None:
    """
    Cells that no parser takes are counted or read, and the others are read all the same.
    """
    code = read_code([source, "model.fit()"])

    assert code.unread_cells <= 1
    assert {"model", "fit"} <= set(code.names)


def test_many_names_are_cut() -> None:
    """
    Thousands of names are cut, which is told.
    """
    code = read_code([f"name_{number} = 1" for number in range(MOST_NAMES + 1)])

    assert len(code.names) == MOST_NAMES
    assert code.was_cut
