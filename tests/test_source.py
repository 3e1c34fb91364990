"""What is read from a notebook's code before any of it runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        ("import a.b as c", "a"),
        ("def f():\n    from d.e import g", "d"),
        ("open('/proc/self/mem')", "/proc/self/mem"),
        ("glob.glob('/run/*/facts-*')", "/run/*/facts-*"),
        ("sys.modules['nbassay.records']", "nbassay"),
        ("dict(weights=1)", "weights"),
        ("%%time\n" + "# so\n" * 200 + "import gc; gc.get_objects()", "get_objects"),
        ("%%writefile m.py\nimport gc; gc.get_objects()", "get_objects"),
        ("%%capture out\nmodel.fit(x)", "fit"),
        ("x = !ls /run/nbassay", "/run/nbassay"),
        ("def treinar(модель): модель.fit()", "модель"),
    ],
)
def test_names(source: str, name: str) -> None:
    """
    What the code names is found in Python, in magics and in short texts, in any script.
    """
    assert name in read_code([source]).names


@pytest.mark.parametrize(
    ("source", "is_named"),
    [
        ("%load_ext nbassay", False),
        ("%pip install nbassay", False),
        ("!pip install -q nbassay", False),
        ("print('checked with nbassay')", False),
        ("import nbassay.inside.channel", True),
        ("from nbassay.records import Rows", True),
        ("__import__('nbassay.records')", True),
        ("A.run_line_magic('load_ext', exec('import nbassay'))", False),
    ],
)
def test_naming_the_grader(source: str, is_named: bool) -> None:
    """
    Installing and loading an extension is no use of its package, nor is prose; importing it is.
    """
    assert ("nbassay" in read_code([source]).names) is is_named


def test_only_ipythons_own_magics_are_let_through() -> None:
    """
    What only looks like a magic hides nothing.
    """
    assert "exec" in read_code(["A.run_line_magic('load_ext', exec('import x'))"]).names
    assert "exec" in read_code(["get_ipython().run_line_magic('load_ext', exec('x'))"]).names


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
        ("class Mine(keras.Model):\n    train_step = other", ["Mine.train_step"]),
        ("setattr(keras.Model, 'evaluate', mine)", ["keras.Model.evaluate"]),
        ("(keras.Model.fit, a) = mine, 1", ["keras.Model.fit"]),
        ("for keras.Model.fit in [mine]: ...", ["keras.Model.fit"]),
        ("model.fit(x)\nfit = model.fit", []),
        ("class Scaler:\n    def fit(self, x): self.value = 0", []),
        ("def fit(x): ...", []),
    ],
)
def test_replaced(source: str, replaced: list[str]) -> None:
    """
    Methods of libraries that something else is put behind are told; calling them is not.
    """
    assert read_code([source]).replaced == replaced


def test_what_code_can_bring_along() -> None:
    """
    However numbers are written, they take the room that they need; long prose takes little.
    """
    rng = np.random.default_rng(0)
    weights = rng.normal(size=5000).round(2)
    letters = [chr(ord("a") + int(abs(value * 6)) % 26) for value in weights]

    assert read_code(["model.fit(x, y)\n" * 500]).packed_bytes < 200
    assert read_code([f'"""{"The quick brown fox jumps. " * 400}"""']).packed_bytes < 300
    for source in (
        f"w = {weights.tolist()}",
        f"w = [{', '.join(letters)}]",
        f"dict({''.join(letters)}=1)",
        f"# {''.join(letters)}",
        f"%%time\n# {''.join(letters)}",
    ):
        assert read_code([source]).packed_bytes > 2000, source[:40]


@pytest.mark.parametrize(
    "source",
    [
        *("if (", "\x00", "(" * 5000, "x = " + "-" * 20000 + "1", "f(" * 150 + ")" * 150),
        *("x" + ".a" * 900 + ".fit = 1", "!ls\n" * 600, "%%time\n" * 50, "%%time\nif ("),
    ],
)
def test_what_cannot_be_read(source: str) -> None:
    """
    A cell that no parser takes costs no other cell, and no minute.
    """
    code = read_code([source, "model.fit()"])

    assert code.unread_cells <= 1
    assert {"model", "fit"} <= set(code.names)


@given(st.lists(st.text() | st.text("()[]{}%!?='\"\\\n\t .:,aif", max_size=60), max_size=4))
def test_any_text(sources: list[str]) -> None:
    """
    Any text is read or counted, never raised.
    """
    assert "model" in read_code([*sources, "model.fit()"]).names


def test_many_names_are_cut() -> None:
    """
    Thousands of names are cut, which is told.
    """
    code = read_code([f"name_{number} = 1" for number in range(MOST_NAMES + 1)])

    assert len(code.names) == MOST_NAMES
    assert code.was_cut
