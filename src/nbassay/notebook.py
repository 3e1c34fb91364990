"""Reading a learner's notebook: bytes in, an nbformat 4 notebook or a plain reason out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import uuid
import warnings
from typing import Any

import nbformat

from nbassay.errors import NotebookError

MOST_BYTES = 100 << 20
MOST_CELLS = 5000
PYTHON_LANGUAGES = {"python", "python3", "ipython", "ipython3"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Notebook:
    """A notebook that can be run."""

    digest: str
    """``sha256:…`` of the file as submitted."""
    content: dict[str, Any]
    """nbformat 4.5, outputs removed."""
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


def digest_of(raw: bytes) -> str:
    """``sha256:…`` of a submitted file."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def decode_notebook(raw: bytes) -> Notebook:
    """
    Decode a submitted file.

    Raises:
        NotebookError: It cannot be run; the message is for the learner and the instructor.
    """
    notes: list[str] = []
    if len(raw) > MOST_BYTES:
        raise NotebookError(
            f"the file has {len(raw) >> 20} MB; notebooks of up to {MOST_BYTES >> 20} MB are "
            "graded: clear the outputs and save again"
        )
    data = _load_json(raw)
    _check_language(data)
    data = _upgrade(data, notes)
    cells = data.get("cells")
    if not isinstance(cells, list):
        raise NotebookError("not a notebook: expected a list of cells, found none")
    if len(cells) > MOST_CELLS:
        raise NotebookError(f"{len(cells)} cells; notebooks of up to {MOST_CELLS} are graded")
    content = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {},
        "cells": [_mend_cell(cell, index, notes) for index, cell in enumerate(cells)],
    }
    return Notebook(digest=digest_of(raw), content=content, notes=tuple(dict.fromkeys(notes)))


def _load_json(raw: bytes) -> dict[str, Any]:
    if not raw.strip():
        raise NotebookError("the file is empty; save the notebook again and hand it in anew")
    if raw[:4] == b"PK\x03\x04":
        raise NotebookError(
            "the file is a zip archive named .ipynb; unpack it and hand in the notebook inside"
        )
    if raw.lstrip()[:1] == b"<":
        raise NotebookError(
            "the file is a web page, not a notebook; download the .ipynb itself and hand that in"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotebookError(
            f"not a notebook: expected UTF-8 text, found byte 0x{raw[error.start]:02x} "
            f"at {error.start}"
        ) from None
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        is_cut = text.lstrip().startswith("{") and not text.rstrip().endswith("}")
        what = "the file ends in the middle (truncated)" if is_cut else "not JSON"
        raise NotebookError(
            f"not a notebook: {what}, line {error.lineno}, column {error.colno}; "
            "save the notebook again and hand it in anew"
        ) from None
    except RecursionError:
        raise NotebookError("not a notebook: nested too deeply") from None
    if not isinstance(data, dict):
        raise NotebookError(f"not a notebook: expected a JSON object, found {type(data).__name__}")
    return data


def _check_language(data: dict[str, Any]) -> None:
    metadata = data.get("metadata")
    if not isinstance(metadata, dict):
        return
    for part, key in (("language_info", "name"), ("kernelspec", "language")):
        section = metadata.get(part)
        language = section.get(key) if isinstance(section, dict) else None
        if isinstance(language, str) and language and language.lower() not in PYTHON_LANGUAGES:
            raise NotebookError(
                f"the notebook is written in {language[:40]}; this lab is in Python"
            )


def _upgrade(data: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    version = data.get("nbformat")
    if isinstance(version, bool) or not isinstance(version, int):
        if "cells" in data:
            notes.append("the notebook names no format version; read as version 4")
            return data
        raise NotebookError("not a notebook: it names no nbformat version and has no cells")
    if version > 4:
        raise NotebookError(f"notebook format {version} is newer than version 4, the newest known")
    if version == 4:
        return data
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            upgraded = nbformat.convert(nbformat.from_dict(data), 4)
    except Exception as error:
        raise NotebookError(
            f"notebook format {version} could not be brought to version 4: {type(error).__name__}"
        ) from error
    notes.append(f"notebook format {version} was brought to version 4")
    return dict(upgraded)


def _mend_cell(cell: Any, index: int, notes: list[str]) -> dict[str, Any]:
    if not isinstance(cell, dict):
        notes.append(f"cell {index + 1} is no cell and was read as text")
        cell = {"cell_type": "raw", "source": str(cell)[:1000]}
    kind = cell.get("cell_type")
    if kind not in ("code", "markdown", "raw"):
        notes.append(f"cell {index + 1} has an unknown type and was read as text")
        kind = "raw"
    source = cell.get("source", "")
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    if not isinstance(source, str):
        notes.append(f"cell {index + 1} holds no text and was read as empty")
        source = ""
    mended: dict[str, Any] = {
        "cell_type": kind,
        "source": source,
        "metadata": {},
        "id": uuid.uuid5(uuid.NAMESPACE_OID, f"cell {index}").hex[:8],
    }
    if kind == "code":
        mended |= {"outputs": [], "execution_count": None}
    return mended
