"""Broken notebooks: mended with a note where the intent is certain, refused with the reason."""

from __future__ import annotations

import gzip
import io
import json
import threading
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import nbformat
import pytest
from conftest import RIGHT_CELLS, ROOT, Nbassay

from nbassay.errors import NotebookError
from nbassay.notebook import Notebook, decode_notebook
from nbassay.notebook_file import MOST_BYTES, MOST_CELLS, MOST_CODE_BYTES
from nbassay.parallel import side_by_side
from nbassay.records import Results


def cell(source: object, kind: str = "code", **more: object) -> dict[str, Any]:
    own = {"outputs": [], "execution_count": None} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {}, "source": source, **own, **more}


def notebook(*cells: object, **top: object) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells), **top}


def saved(*cells: object, **top: object) -> str:
    return json.dumps(notebook(*cells, **top), indent=1, ensure_ascii=False)


def sources(read: Notebook) -> list[str]:
    return [one["source"] for one in read.content["cells"]]


A = saved(cell("a = 'é'"))
SHEETS = {
    "metadata": {"name": "old"},
    "worksheets": [
        {
            "cells": [
                {"cell_type": "heading", "level": 2, "source": "Data"},
                {
                    "cell_type": "code",
                    "language": "python",
                    "input": "a = 1",
                    "prompt_number": 1,
                    "outputs": [],
                },
                {"cell_type": "markdown", "source": ["two\n", "lines"]},
            ]
        },
        {"cells": [{"cell_type": "code", "language": "python", "input": ["b", " = 2"]}]},
    ],
}

# ---------------------------------------------------------------- mended

MENDED: dict[str, tuple[bytes, list[str], str]] = {
    # name: file, sources, words of the note ("" for none)
    "UTF-8 BOM": (A.encode("utf-8-sig"), ["a = 'é'"], ""),
    "UTF-16 BOM": (A.encode("utf-16"), ["a = 'é'"], "UTF-16"),
    "UTF-16 without BOM": (A.encode("utf-16-le"), ["a = 'é'"], "UTF-16-LE"),
    "UTF-32": (A.encode("utf-32-be"), ["a = 'é'"], "UTF-32-BE"),
    "Latin-1": (A.encode("latin-1"), ["a = 'é'"], "read as Windows-1252"),
    "damaged byte": (
        saved(cell("a = 'éèà?'")).encode().replace(b"?", b"\xff"),
        ["a = 'éèà\ufffd'"],
        "1 bytes of the file are damaged",
    ),
    "NUL bytes at the end": (A.encode() + b"\0" * 4096, ["a = 'é'"], "NUL bytes at the end"),
    "line ends within strings": (
        A.replace("a = ", "a =\n").encode(),
        ["a =\n'é'"],
        "",
    ),
    "NaN in metadata": (
        json.dumps(notebook(cell("a"), metadata={"x": float("nan")})).encode(),
        ["a"],
        "",
    ),
    "Infinity in outputs": (
        saved(cell("a", outputs=[{"data": {"x": float("-inf")}}])).encode(),
        ["a"],
        "",
    ),
    "duplicate keys": (
        A.replace('"cells"', '"cells": [], "cells"').encode(),
        ["a = 'é'"],
        "",
    ),
    "lone surrogate": (
        json.dumps(notebook(cell("a = '\ud83d'"))).encode(),
        ["a = '\ufffd'"],
        "cell 1 holds halves of characters",
    ),
    "surrogates of two lines": (
        json.dumps(notebook(cell(["'\ud83d", "\ude00'"]))).encode(),
        ["'😀'"],
        "cell 1 holds halves of characters",
    ),
    "lone surrogate in an output": (
        json.dumps(notebook(cell("a", outputs=[{"text": "\ud83d"}]))).encode(),
        ["a"],
        "",
    ),
    "no source": (
        json.dumps(notebook({"cell_type": "code"}, cell("b"))).encode(),
        ["", "b"],
        "cell 1 holds no text",
    ),
    "source of odd things": (
        saved(cell(["a = 1\n", None, 7, {"x": []}, "b = 2"])).encode(),
        ["a = 1\nb = 2"],
        "cell 1 holds parts that are no text",
    ),
    "many odd cells": (
        saved(*[cell(5)] * 8).encode(),
        [""] * 8,
        "cells 1, 2, 3, 4, 5 and 3 more: each holds no text",
    ),
    "no type but run": (
        saved({"source": "a = 1", "execution_count": 3}).encode(),
        ["a = 1"],
        "read as code, since it was run",
    ),
    "heading in format 4": (
        saved(cell("Data", "heading", level=3)).encode(),
        ["### Data"],
        "heading",
    ),
    "cell made text": (
        saved(cell("# read\nimport numpy as np", "raw"), cell("x = 1", "markdown")).encode(),
        ["# read\nimport numpy as np", "x = 1"],
        "cells 1, 2: each is a text cell that looks like code",
    ),
    "no metadata, no ids": (
        json.dumps({"nbformat": 4, "cells": [{"cell_type": "code", "source": "a"}]}).encode(),
        ["a"],
        "",
    ),
    "metadata of another type": (saved(cell("a", metadata=[]), metadata=7).encode(), ["a"], ""),
    "equal ids": (saved(cell("a", id="x"), cell("a", id="x")).encode(), ["a", "a"], ""),
    "no version": (json.dumps({"cells": [cell("a")]}).encode(), ["a"], "names no format version"),
    "version as text": (saved(cell("a"), nbformat="4", nbformat_minor=2.0).encode(), ["a"], ""),
    "minor version of the future": (
        saved(cell("a"), nbformat_minor=99).encode(),
        ["a"],
        "notebook format 4.99 is newer than 4.5",
    ),
    "format 3": (
        json.dumps({"nbformat": 3, "nbformat_minor": 0, **SHEETS}).encode(),
        ["## Data", "a = 1", "two\nlines", "b = 2"],
        "notebook format 3 was brought to version 4",
    ),
    "format 2": (
        json.dumps({"nbformat": 2, **SHEETS}).encode(),
        ["## Data", "a = 1", "two\nlines", "b = 2"],
        "notebook format 2 was brought to version 4",
    ),
    "sheets named format 4": (
        json.dumps({"nbformat": 4, **SHEETS}).encode(),
        ["## Data", "a = 1", "two\nlines", "b = 2"],
        "heading",
    ),
    "in a list": (f"[{A}]".encode(), ["a = 'é'"], "within a list"),
    "in Jupyter's answer": (
        json.dumps({"name": "lab.ipynb", "type": "notebook", "content": json.loads(A)}).encode(),
        ["a = 'é'"],
        "answer of Jupyter's server",
    ),
    "bare cells": (json.dumps([cell("a"), cell("b")]).encode(), ["a", "b"], "bare list of cells"),
    "conflict inside a cell": (
        saved(cell("<<<<<<< ours\na = 1\n=======\na = 2\n>>>>>>> theirs")).encode(),
        ["<<<<<<< ours\na = 1\n=======\na = 2\n>>>>>>> theirs"],
        "",
    ),
    "NUL inside a cell": (saved(cell("a = 1\0")).encode(), ["a = 1\0"], ""),
    "Colab": (
        saved(
            cell("#@title Data { display-mode: 'form' }", metadata={"id": "x", "cellView": "form"}),
            nbformat_minor=0,
            metadata={
                "colab": {"provenance": []},
                "kernelspec": {"name": "python3", "display_name": "Python 3"},
                "language_info": {"name": "python"},
            },
        ).encode(),
        ["#@title Data { display-mode: 'form' }"],
        "",
    ),
    "JupyterLite": (
        saved(
            cell("a", metadata={"trusted": True}),
            nbformat_minor=4,
            metadata={
                "kernelspec": {
                    "name": "python",
                    "display_name": "Python (Pyodide)",
                    "language": "python",
                },
                "language_info": {
                    "name": "python",
                    "codemirror_mode": {"name": "python", "version": 3},
                },
            },
        ).encode(),
        ["a"],
        "",
    ),
    "VS Code, another language": (
        saved(
            cell("pip install x", metadata={"vscode": {"languageId": "shellscript"}}),
            cell("%%bash\nls", metadata={"vscode": {"languageId": "shellscript"}}),
            cell("a", metadata={"vscode": {"languageId": "python"}}),
        ).encode(),
        ["pip install x", "%%bash\nls", "a"],
        "cell 1 is marked as shellscript, not as Python, and was not run",
    ),
}


@pytest.mark.parametrize(("raw", "expected", "words"), MENDED.values(), ids=MENDED)
def test_mended(raw: bytes, expected: list[str], words: str) -> None:
    """
    The learner's code is read as it was meant, and what was done about the file is said.
    """
    read = decode_notebook(raw)

    assert sources(read) == expected
    nbformat.validate(nbformat.from_dict(read.content))
    assert any(words in note for note in [*read.notes, ""])
    assert bool(read.notes) == bool(words)


def test_cells_of_another_language_are_text() -> None:
    """
    A cell that VS Code marks as no Python is not run; one whose magic says what runs it is.
    """
    read = decode_notebook(MENDED["VS Code, another language"][0])

    assert [one["cell_type"] for one in read.content["cells"]] == ["raw", "code", "code"]


def test_notes_are_few() -> None:
    """
    A notebook of thousands of odd cells fills no report.
    """
    odd = [cell("a", metadata={"vscode": {"languageId": f"language {one}"}}) for one in range(4000)]
    notes = decode_notebook(saved(*odd).encode()).notes

    assert len(notes) == 21
    assert notes[-1] == (
        "cells 21, 22, 23, 24, 25 and 3975 more: each was mended in yet another way"
    )


@pytest.mark.parametrize("version", [2, 3])
def test_old_formats_are_read_as_nbformat_reads_them(version: int) -> None:
    """
    Types and sources of an old notebook's cells are those that nbformat's own upgrade gives.
    """
    raw = json.dumps({"nbformat": version, "nbformat_minor": 0, **SHEETS})
    for sheet in (old := nbformat.from_dict(json.loads(raw))).worksheets:
        for one in sheet.cells:
            one.setdefault("outputs", [])
            one.setdefault("collapsed", False)
    theirs = nbformat.convert(old, 4)

    assert [
        (one["cell_type"], one["source"]) for one in decode_notebook(raw.encode()).content["cells"]
    ] == [(one.cell_type, "".join(one.source)) for one in theirs.cells]


def test_notebooks_of_the_project_need_no_mending() -> None:
    """
    Nothing is said of a notebook that is whole.
    """
    paths = [
        *ROOT.glob("lab/*.ipynb"),
        *ROOT.glob("reference/**/*.ipynb"),
        *ROOT.glob("examples/**/*.ipynb"),
    ]

    assert len(paths) >= 8
    assert {path.name: decode_notebook(path.read_bytes()).notes for path in paths} == {
        path.name: () for path in paths
    }


# ---------------------------------------------------------------- refused


def zipped() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("lab.ipynb", A)
    return packed.getvalue()


CONFLICT = A.replace(' "cells": [', '<<<<<<< HEAD\n "cells": [\n=======\n "cells": [ \n>>>>>>> b')

REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty; save the notebook again"),
    "blank": (b" \n", "the file is empty"),
    "only NUL bytes": (b"\0" * 9000, "nothing but NUL bytes, as after a full disk"),
    "NUL bytes in the middle": (
        A.encode()[:40] + b"\0" * 30 + A.encode()[70:],
        "found NUL bytes from line",
    ),
    "zip": (zipped(), "zip archive named .ipynb; unpack it"),
    "gzip": (gzip.compress(A.encode()), "gzip archive named .ipynb"),
    "web page": (b"<!DOCTYPE html><html>Sign in</html>", "web page, not a notebook"),
    "web page in UTF-16": ("<html></html>".encode("utf-16"), "web page, not a notebook"),
    "PDF": (b"%PDF-1.7 ...", "a PDF"),
    "RTF": (rb"{\rtf1\ansi {", "text document (RTF)"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "percent script": (b"# %%\nimport numpy\n", "script with cell markers"),
    "Databricks source": (b"# Databricks notebook source\nx = 1\n", "script with cell markers"),
    "Python script": (b"import numpy as np\nx = 1\n", "a Python script"),
    "merge conflict": (
        CONFLICT.encode(),
        "merge-conflict markers of git (<<<<<<< in line 5; all in lines 5, 7, 9); choose one",
    ),
    "merge conflict from the first line": (
        f"<<<<<<< HEAD\n{A}\n=======\n{A}\n>>>>>>> main".encode(),
        "(<<<<<<< in line 1;",
    ),
    "cut": (A.encode()[:-5], "ends in the middle (truncated), line"),
    "trailing words": (A.encode() + b"oops}", "expected JSON, found 'oops}', line"),
    "text": (b"accuracy 0.96", "expected JSON, found 'accuracy 0.96', line 1, column 1"),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "found byte 0x89 at 0"),
    "two notebooks": (f"[{A}, {A}]".encode(), "found a list of 2; hand in one notebook a file"),
    "another object": (b'{"doc_id": 1, "url": ""}', "found an object with 'doc_id', 'url'"),
    "number": (b"4", "expected a JSON object, found int"),
    "cells of text": (saved(cells="none").encode(), "expected a list of cells, found str"),
    "format 5": (saved(cell("a"), nbformat=5).encode(), "format 5 is newer than version 4"),
    "format 1": (saved(cell("a"), nbformat=1).encode(), "format 1 is older than version 2"),
    "R": (saved(metadata={"language_info": {"name": "R"}}).encode(), "written in R;"),
    "hostile language": (
        json.dumps(notebook(metadata={"kernelspec": {"language": "\ud800\x1b[31m"}})).encode(),
        "written in ⟨U+D800⟩;",
    ),
    "deep JSON": (b'{"cells": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    "deep output": (
        saved(cell("a", outputs=["@"])).replace('"@"', "[" * 90_000 + "]" * 90_000).encode(),
        "nested too deeply",
    ),
    "deep JSON in a wrapper": (b"[" * 100_000, "nested too deeply"),
    "long number": (b'[{"cells": [], "nbformat": ' + b"9" * 5000 + b"}", "expected JSON, found"),
    "too many cells": (
        saved(*[cell("a")] * (MOST_CELLS + 1)).encode(),
        f"more than {MOST_CELLS} cells",
    ),
    "too many cells, wrapped": (
        json.dumps([notebook(*[cell("a")] * (MOST_CELLS + 1))]).encode(),
        f"{MOST_CELLS + 1} cells; notebooks of up to {MOST_CELLS}",
    ),
    "too much code": (saved(cell("a" * (MOST_CODE_BYTES + 1))).encode(), "5 MB of text and code"),
    "too many values to mend": (b"[" + b"[]," * 600_000 + b"[]]", "more than 500000 values"),
}


@pytest.mark.parametrize(("raw", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(raw: bytes, words: str) -> None:
    """
    What cannot be run is refused in words that say what it is and what to do.
    """
    with pytest.raises(NotebookError) as caught:
        decode_notebook(raw)

    assert words in str(caught.value)
    str(caught.value).encode()
    assert len(str(caught.value)) < 500


def test_deep_nesting_is_refused_in_a_thread() -> None:
    """
    Deep nesting ends with the reason in the threads that a class is read in, too.
    """
    names = ["deep JSON", "deep output", "deep JSON in a wrapper"]

    def read(name: str) -> str:
        with pytest.raises(NotebookError) as caught:
            decode_notebook(REFUSED[name][0])
        return str(caught.value)

    ended = dict(side_by_side(names, read, jobs=2, stop=threading.Event()))

    assert [name for name in names if "nested too deeply" in ended[name]] == names


# ---------------------------------------------------------------- bounds

BIG = 90 << 20
HUGE: dict[str, tuple[Callable[[], bytes], str, int]] = {
    # name: file, words of the refusal ("" when it is graded), MB beside the file
    "outputs of text": (
        lambda: saved(cell("a", outputs=["@"])).replace("@", "A" * BIG).encode(),
        "",
        1,
    ),
    "outputs of numbers": (
        lambda: (
            saved(cell("a", outputs=["@"])).encode().replace(b'"@"', b"0.5," * (BIG >> 2) + b"1")
        ),
        "",
        1,
    ),
    "cells of nothing": (
        lambda: b'{"nbformat":4,"cells":[' + b"{}," * (BIG // 3) + b"{}]}",
        "more than 5000 cells",
        5,
    ),
    "lists of nothing": (lambda: b"[" + b"[]," * (BIG // 3) + b"[]]", "save again", 1),
    "too large": (lambda: b"{" + b" " * MOST_BYTES, "the file has 100 MB", 1),
    "source of nothing": (
        lambda: b'{"nbformat":4,"cells":[{"source":[' + b'"",' * (BIG // 3) + b'""]}]}',
        "MB of text and code",
        1,
    ),
}


@pytest.mark.parametrize(("make", "words", "most_mb"), HUGE.values(), ids=HUGE)
def test_large_files_take_little_memory(
    make: Callable[[], bytes], words: str, most_mb: float
) -> None:
    """
    A file of 90 MB is graded or refused without ever being made into objects.
    """
    raw = make()
    tracemalloc.start()
    try:
        if words:
            with pytest.raises(NotebookError, match=words):
                decode_notebook(raw)
        else:
            assert sources(decode_notebook(raw)) == ["a"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < most_mb * (1 << 20)


# ---------------------------------------------------------------- through the public door

# Each earns what the code in it is worth.
HANDED_IN: dict[str, tuple[bytes, float | None, str]] = {
    # learner: file, mark, words of a note
    "utf16": (saved(*map(cell, RIGHT_CELLS)).encode("utf-16"), 100, "UTF-16"),
    "wrapped": (
        json.dumps({"content": notebook(*map(cell, RIGHT_CELLS))}).encode(),
        100,
        "answer of Jupyter's server",
    ),
    "halves": (
        json.dumps(notebook(*map(cell, RIGHT_CELLS), cell("'\ud83d'"))).encode(),
        100,
        "cell 3 holds halves of characters",
    ),
    "split": (
        saved(*(cell(line) for one in RIGHT_CELLS for line in one.splitlines())).encode(),
        100,
        "",
    ),
    "duplicated": (
        saved(*map(cell, (RIGHT_CELLS[0], *RIGHT_CELLS))).encode(),
        100,
        "",
    ),
    "retyped": (
        saved(cell(RIGHT_CELLS[0]), cell(RIGHT_CELLS[1], "markdown")).encode(),
        40,
        "cell 2 is a text cell that looks like code",
    ),
    "merged": (CONFLICT.encode(), None, "merge-conflict markers of git (<<<<<<< in line 5"),
    "language": (REFUSED["hostile language"][0], None, "written in ⟨U+D800⟩"),
    "page": (REFUSED["web page"][0], None, "web page, not a notebook"),
}


@pytest.mark.kernel
def test_a_class_of_broken_notebooks(nbassay: Nbassay, tmp_path: Path) -> None:
    """
    Mended notebooks earn what they are worth, the others say why not; every report tells it.
    """
    homework, out = tmp_path / "homework", tmp_path / "graded"
    homework.mkdir()
    for learner, (raw, _mark, _words) in HANDED_IN.items():
        (homework / f"{learner}.ipynb").write_bytes(raw)
    done = nbassay("grade", homework, "-o", out)
    assert done.returncode == 0, done.stderr
    results = msgspec.json.decode((out / "results.json").read_bytes(), type=Results)

    assert {one.learner: one.score for one in results.submissions} == {
        learner: mark for learner, (_raw, mark, _words) in HANDED_IN.items()
    }
    for one in results.submissions:
        words = HANDED_IN[one.learner][2]
        assert any(words in note for note in [*one.notes, ""])
        page = (out / "learners" / one.learner / "report.html").read_text("utf-8")
        assert words.split("'")[0].replace("<", "&lt;") in page
