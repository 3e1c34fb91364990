"""Reading a learner's notebook: bytes in, an nbformat 4 notebook or a plain reason out."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import uuid
from typing import Any

import msgspec

from nbassay.errors import NotebookError
from nbassay.notebook_file import MOST_CELLS, read_notebook_file, refuse_much_code
from nbassay.reporting.text import one_line

PYTHON_LANGUAGES = {"python", "python3", "ipython", "ipython3", "pyspark"}
OLDEST_FORMAT = 2
NEWEST_FORMAT = (4, 5)
SHOWN_CELLS = 5
MOST_NOTES = 20

# The first line of code that somebody put into a text cell; prose does not begin like this.
_CODE = re.compile(
    r"(?:[^\S\n]*(?:#[^\n]*)?\n)*"
    r"(?:import \w|from [\w.]+ import \w|\w+(?:\.\w+|\[[^\]\n]*\])* ?[-+*/]?= ?[^=\s]|\w+\.\w+\()"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Notebook:
    """A notebook that can be run."""

    digest: str
    """``sha256:…`` of the file as submitted."""
    content: dict[str, Any]
    """nbformat 4.5, outputs removed; every text can be encoded as UTF-8."""
    notes: tuple[str, ...]
    """What was mended, in plain words."""

    @property
    def code_cells(self) -> list[tuple[int, str]]:
        """Position and source of the code cells that hold code."""
        return [
            (index, cell["source"])
            for index, cell in enumerate(self.content["cells"])
            if cell["cell_type"] == "code" and cell["source"].strip()
        ]

    @property
    def code_digest(self) -> str:
        """``sha256:…`` of the code cells and their places: all that a run depends on."""
        return digest_of(msgspec.json.encode(self.code_cells))

    @property
    def runnable(self) -> dict[str, Any]:
        """*content* without the texts of cells that are not run: a box is not sent them."""
        cells = [
            cell if cell["cell_type"] == "code" else {**cell, "source": ""}
            for cell in self.content["cells"]
        ]
        return {**self.content, "cells": cells}


def digest_of(raw: bytes) -> str:
    """``sha256:…`` of a submitted file."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


NO_CODE = digest_of(b"[]")
"""`Notebook.code_digest` of a notebook whose cells hold none."""


def decode_notebook(raw: bytes) -> Notebook:
    """
    Decode a submitted file: mend it where what was meant is certain, and say so.

    Raises:
        NotebookError: It cannot be run; the message is for the learner and the instructor.
    """
    notes: list[str] = []
    data = read_notebook_file(raw, notes)
    _check_language(data)
    _check_format(data, notes)
    cells = _cells_of(data)
    mended = _Mended()
    content: dict[str, Any] = {
        "nbformat": NEWEST_FORMAT[0],
        "nbformat_minor": NEWEST_FORMAT[1],
        "metadata": {},
        "cells": [_mend_cell(cell, index, mended) for index, cell in enumerate(cells)],
    }
    refuse_much_code(sum(len(cell["source"]) for cell in content["cells"]))
    return Notebook(digest=digest_of(raw), content=content, notes=(*notes, *mended.notes()))


class _Mended:
    """Which cells were mended how: one note a kind, however many cells."""

    def __init__(self) -> None:
        self._cells: dict[str, list[int]] = {}

    def add(self, index: int, what: str) -> None:
        """Note of the cell at *index* (0 first) that it *what*."""
        if len(self._cells) >= MOST_NOTES and what not in self._cells:
            what = "was mended in yet another way"
        self._cells.setdefault(what, []).append(index + 1)

    def notes(self) -> list[str]:
        """The notes, cells counted from 1."""
        return [self._note(what, numbers) for what, numbers in self._cells.items()]

    def _note(self, what: str, numbers: list[int]) -> str:
        if len(numbers) == 1:
            return f"cell {numbers[0]} {what}"
        shown = ", ".join(map(str, numbers[:SHOWN_CELLS]))
        more = len(numbers) - SHOWN_CELLS
        return f"cells {shown}{f' and {more} more' if more > 0 else ''}: each {what}"


def _check_language(data: dict[str, Any]) -> None:
    metadata = data.get("metadata")
    if not isinstance(metadata, dict):
        return
    for part, key in (("language_info", "name"), ("kernelspec", "language")):
        section = metadata.get(part)
        language = section.get(key) if isinstance(section, dict) else None
        if isinstance(language, str) and language and not _is_python(language):
            raise NotebookError(
                f"the notebook is written in {one_line(language, limit=40)}; this lab is in Python"
            )


def _is_python(language: str) -> bool:
    return language.lower() in PYTHON_LANGUAGES


def _check_format(data: dict[str, Any], notes: list[str]) -> None:
    version, minor = _whole(data.get("nbformat")), _whole(data.get("nbformat_minor"))
    if version is None:
        notes.append("the notebook names no format version; read as version 4")
    elif version > NEWEST_FORMAT[0]:
        raise NotebookError(
            f"notebook format {version} is newer than version {NEWEST_FORMAT[0]}, the newest "
            "known; save it in Jupyter as version 4"
        )
    elif version < OLDEST_FORMAT:
        raise NotebookError(
            f"notebook format {version} is older than version {OLDEST_FORMAT}, the oldest that is "
            "read; open it in Jupyter and save it"
        )
    elif version < NEWEST_FORMAT[0]:
        notes.append(f"notebook format {version} was brought to version 4")
    elif minor is not None and (version, minor) > NEWEST_FORMAT:
        notes.append(
            f"notebook format {version}.{minor} is newer than "
            f"{'.'.join(map(str, NEWEST_FORMAT))}, the newest known; read as that"
        )


def _whole(value: Any) -> int | None:
    """A whole number, however it is written: 4, 4.0, "4"."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if value == value // 1 and abs(value) < 1e9 else None


def _cells_of(data: dict[str, Any]) -> list[Any]:
    cells = data.get("cells")
    if cells is None:
        worksheets = data.get("worksheets")  # before version 4
        if isinstance(worksheets, list):
            parts = [one.get("cells") for one in worksheets if isinstance(one, dict)]
            cells = [cell for part in parts if isinstance(part, list) for cell in part]
    if not isinstance(cells, list):
        raise NotebookError(
            f"not a notebook: expected a list of cells, found {type(cells).__name__}; "
            "hand in the .ipynb that Jupyter saves"
        )
    if len(cells) > MOST_CELLS:
        raise NotebookError(
            f"{len(cells)} cells; notebooks of up to {MOST_CELLS} are graded: "
            "delete the cells that the lab does not need"
        )
    return cells


def _mend_cell(cell: Any, index: int, mended: _Mended) -> dict[str, Any]:
    if not isinstance(cell, dict):
        mended.add(index, "is no cell and was read as text")
        cell = {"cell_type": "raw", "source": cell if isinstance(cell, str) else ""}
    source = _source(cell, index, mended)
    kind = cell.get("cell_type")
    if kind == "heading":  # before version 4
        kind = "markdown"
        level = cell.get("level")
        source = f"{'#' * (level if level in (1, 2, 3, 4, 5, 6) else 1)} {source}"
        mended.add(index, "is a heading of an older format and was read as Markdown")
    elif kind not in ("code", "markdown", "raw"):
        was_run = isinstance(cell.get("execution_count"), int)
        kind = "code" if was_run else "raw"
        mended.add(
            index,
            "has an unknown type and was read as code, since it was run"
            if was_run
            else "has an unknown type and was read as text",
        )
    elif kind == "code":
        language = _language(cell)
        # A cell magic says itself what runs it, and in VS Code such cells are marked so.
        if not _is_python(language) and not source.lstrip().startswith(("%", "!")):
            kind = "raw"
            mended.add(
                index,
                f"is marked as {one_line(language, limit=40)}, not as Python, and was not run",
            )
    elif _CODE.match(source):
        mended.add(
            index, "is a text cell that looks like code, which is not run: make it a code cell"
        )
    mending: dict[str, Any] = {
        "cell_type": kind,
        "source": source,
        "metadata": {},
        "id": uuid.uuid5(uuid.NAMESPACE_OID, f"cell {index}").hex[:8],
    }
    if kind == "code":
        mending |= {"outputs": [], "execution_count": None}
    return mending


def _source(cell: dict[str, Any], index: int, mended: _Mended) -> str:
    source = cell.get("source", cell.get("input"))  # the latter before version 4
    if isinstance(source, list):
        parts = [part for part in source if isinstance(part, str)]
        if len(parts) < len(source):
            mended.add(index, "holds parts that are no text, which were left out")
        source = "".join(parts)
    if not isinstance(source, str):
        mended.add(index, "holds no text and was read as empty")
        return ""
    try:
        source.encode()
    except UnicodeEncodeError:
        mended.add(index, "holds halves of characters, which were read as \ufffd")
        return source.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return source


def _language(cell: dict[str, Any]) -> str:
    """What a code cell is marked as: by VS Code, or before version 4."""
    metadata = cell.get("metadata")
    vscode = metadata.get("vscode") if isinstance(metadata, dict) else None
    marked = vscode.get("languageId") if isinstance(vscode, dict) else cell.get("language")
    return marked if isinstance(marked, str) and marked else "python"
