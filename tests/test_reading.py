"""Reading what people hand in and what a workshop says, in every odd form."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import ROOT, TINY
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nbassay.errors import ManifestError, NotebookError, SubmissionError
from nbassay.executed import MOST_CHARACTERS, executed_notebook
from nbassay.files import write_whole
from nbassay.notebook import decode_notebook
from nbassay.submissions import find_submissions, slug_of
from nbassay.workshop import find_workshop, read_workshop


def notebook_bytes(*cells: object, **top: object) -> bytes:
    return json.dumps(
        {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells), **top}
    ).encode()


def code(source: object, **more: object) -> dict[str, object]:
    return {
        "cell_type": "code",
        "source": source,
        "outputs": [],
        "metadata": {},
        "execution_count": None,
        **more,
    }


def read_or_reason(raw: bytes) -> dict[str, Any] | str:
    """The notebook's content, or the reason that a learner would be told."""
    try:
        return decode_notebook(raw).content
    except NotebookError as error:
        return str(error)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_notebook_or_a_reason(raw: bytes) -> None:
    """
    Reading never fails in another way than with a reason for the learner.
    """
    assert read_or_reason(raw)


KEYS = ["cells", "cell_type", "source", "metadata", "nbformat", "outputs", "worksheets"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
        ),
        max_leaves=15,
    )
)
def test_any_json_is_a_notebook_or_a_reason(value: object) -> None:
    """
    What is read can be run: valid nbformat 4, whatever the file looked like.
    """
    content = read_or_reason(json.dumps(value).encode())

    assert content
    if isinstance(content, dict):
        nbformat.validate(nbformat.from_dict(content))


@pytest.mark.parametrize(
    ("cell", "note"),
    [
        (code(["a = 1\n", "b = 2"]), None),
        (code(7), "holds no text"),
        ("stray", "is no cell"),
        ({"cell_type": "heading", "source": "x"}, "heading"),
        ({"cell_type": "html", "source": "x"}, "unknown type"),
    ],
)
def test_odd_cells_are_mended_with_a_note(cell: object, note: str | None) -> None:
    """
    A cell out of shape is mended, and the note says which.
    """
    notes = decode_notebook(notebook_bytes(cell)).notes

    assert [note is not None and note in text and "cell 1" in text for text in notes] == (
        [] if note is None else [True]
    )


def test_outputs_of_somebody_else_are_dropped() -> None:
    """
    Saved outputs never reach the run.
    """
    cell = code("1", outputs=[{"output_type": "stream", "name": "stdout", "text": "accuracy 0.99"}])

    assert decode_notebook(notebook_bytes(cell)).content["cells"][0]["outputs"] == []


@given(st.text(max_size=120))
def test_learner_names_make_safe_folder_names(name: str) -> None:
    """
    A slug is never empty, never hidden, never a path, and the same each time.
    """
    slug = slug_of(name)

    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,89}", slug)
    assert slug not in (".", "..")
    assert slug == slug_of(name)


def test_names_that_collide_stay_apart(tmp_path: Path) -> None:
    """
    Two learners whose names make the same slug keep a folder each.
    """
    for name in ("Zoë", "Zoe"):
        (tmp_path / f"{name}.ipynb").write_bytes(notebook_bytes())

    assert len({one.learner for one in find_submissions([tmp_path])}) == 2


def test_a_name_that_is_no_text_can_be_told(tmp_path: Path) -> None:
    """
    A file whose name is in another encoding, as zips of other systems leave them, stops nobody.
    """
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/Zo\xeb.ipynb")).write_bytes(notebook_bytes())
    (one,) = find_submissions([tmp_path])

    assert (one.learner, one.file) == ("Zo", "Zo?.ipynb")


def archive(path: Path, name: str, how: int) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(name, notebook_bytes(), how)
    return path


def test_a_zip_with_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """
    An archive whose names cannot be read is refused as a whole, not with a traceback.
    """
    path = archive(tmp_path / "class.zip", "é.ipynb", zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))

    with pytest.raises(SubmissionError, match="not a zip archive that can be read"):
        find_submissions([path])


def test_a_member_without_a_name_is_left_out(tmp_path: Path) -> None:
    """
    A name that begins with NUL is empty to Python, and no notebook.
    """
    path = archive(tmp_path / "class.zip", "x.ipynb", zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"x.ipynb", b"\0.ipynb"))

    with pytest.raises(SubmissionError, match="no notebook"):
        find_submissions([path])


def test_a_file_packed_in_an_unusual_way_is_not_unpacked(tmp_path: Path) -> None:
    """
    Only what is unpacked in bounded steps is unpacked at all.
    """
    path = archive(tmp_path / "class.zip", "ann.ipynb", zipfile.ZIP_LZMA)
    (one,) = find_submissions([path])

    with pytest.raises(NotebookError, match="by method 14; expected one of stored, deflated"):
        one.read()


HOSTILE = [
    {
        "output_type": "display_data",
        "metadata": {},
        "data": {
            "text/html": "<script>alert(1)</script>",
            "image/svg+xml": "<svg onload=alert(1)>",
            "application/javascript": "alert(1)",
            "text/plain": "\x1b[31mred\x1b[0m",
            "application/vnd.jupyter.widget-view+json": {"model_id": "x"},
        },
    },
    {"output_type": "display_data", "metadata": {}, "data": {"image/png": "bm90IGEgcGljdHVyZQ=="}},
    {"output_type": "stream", "name": "stdout", "text": "\x1b]0;title\x07ok"},
    {"output_type": "nonsense"},
    {"output_type": "error", "ename": 5, "evalue": None, "traceback": "not a list"},
]


def test_executed_notebook_holds_nothing_active() -> None:
    """
    Only text and re-encoded pictures survive; markdown is kept as plain text; the file is valid.
    """
    markdown = {"cell_type": "markdown", "source": "<img src=x onerror=alert(1)>", "metadata": {}}
    text = executed_notebook(
        decode_notebook(notebook_bytes(code("show()"), markdown)), {0: HOSTILE}
    )
    notebook = nbformat.reads(text, 4)
    nbformat.validate(notebook)

    assert [cell.cell_type for cell in notebook.cells] == ["code", "raw"]
    kinds = [
        kind for output in notebook.cells[0].outputs for kind in output.get("data", {"text": 1})
    ]
    assert set(kinds) == {"text/plain", "text"}
    assert "\\u001b" not in text


def png(width: int, height: int) -> str:
    picture = io.BytesIO()
    Image.new("1", (width, height)).save(picture, "PNG")
    return base64.b64encode(picture.getvalue()).decode()


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        ([(640, 480)] * 3, [0, 1, 2]),
        ([(10_000, 1000), (5, 5)], [1]),
        ([(2000, 3900)] * 5, [0, 1, 2]),
    ],
    ids=["usual", "one too large", "too many"],
)
def test_pictures_stay_within_a_budget(sizes: list[tuple[int, int]], kept: list[int]) -> None:
    """
    A picture of few bytes and many pixels is left out before it is decoded.
    """
    outputs = [
        {"output_type": "display_data", "data": {"text/plain": str(turn), "image/png": png(*size)}}
        for turn, size in enumerate(sizes)
    ]
    text = executed_notebook(decode_notebook(notebook_bytes(code("show()"))), {0: outputs})

    assert [
        int(output.data["text/plain"])
        for output in nbformat.reads(text, 4).cells[0].outputs
        if "image/png" in output.data
    ] == kept


def test_texts_stay_within_a_budget() -> None:
    """
    Texts of thousands of outputs do not add up to a file that nobody can open.
    """
    outputs = [{"output_type": "stream", "text": "\x7f" * 90_000}] * 100
    text = executed_notebook(decode_notebook(notebook_bytes(code("show()"))), {0: outputs})

    assert len(text) < 2 * MOST_CHARACTERS


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('title = "Tiles"', "", "missing required field `title`"),
        ('title = "Tiles"', 'title = "Tiles"\ncolour = "red"', "unknown field `colour`"),
        ('checks = "checks"', 'checks = "nowhere"', "checks: expected a path that exists"),
        ("levels = 255", "levels = 0", "levels"),
        ('fails = ["tiles.scaled"]', 'fails = ["tiles.bent"]', "not in the rubric"),
        ('features = "tiles-idx3-ubyte"', 'features = "../secret"', "expected one of"),
        ("[data.files.tiles-idx3-ubyte]", '[data.files."../x"]', "expected"),
        ("memory_mb = 1024", "memory_mb = -1", "memory_mb"),
        ("[limits]", "[limits", "workshop.toml"),
    ],
)
def test_a_manifest_that_cannot_be_used_says_where(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    """
    Every mistake in workshop.toml is told with its place, before anything runs.
    """
    for part in ("checks", "reference", "lab"):
        (tmp_path / part).symlink_to(TINY / part)
    text = (TINY / "workshop.toml").read_text()
    assert old in text
    (tmp_path / "workshop.toml").write_text(text.replace(old, new, 1))

    with pytest.raises(ManifestError, match=re.escape(words)):
        read_workshop(tmp_path)


def test_the_nearest_workshop_is_found(tmp_path: Path) -> None:
    """
    A workshop is found from any folder inside it, and its absence is an error with the option.
    """
    assert find_workshop(ROOT / "examples" / "submissions") == ROOT
    with pytest.raises(ManifestError, match="--workshop"):
        find_workshop(tmp_path)


def test_points_add_up_to_a_hundred() -> None:
    """
    The rubric of the MNIST workshop has 17 checks and 100 points.
    """
    workshop = read_workshop(ROOT)

    assert (len(workshop.manifest.rubric), workshop.max_score) == (17, 100)


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """
    A pipe, or a device such as /dev/null, is written into and stays what it is.
    """
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    write_whole(pipe, "one")

    assert os.read(reader, 10) == b"one"
    os.close(reader)
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_files_appear_whole(tmp_path: Path) -> None:
    """
    A file is replaced at once and nothing is left beside it.
    """
    write_whole(tmp_path / "deep" / "a.txt", "one")
    write_whole(tmp_path / "deep" / "a.txt", "two")

    assert (tmp_path / "deep" / "a.txt").read_text() == "two"
    assert len(list((tmp_path / "deep").iterdir())) == 1
