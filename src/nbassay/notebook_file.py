"""
The bytes of a submitted file: which JSON they hold, or in plain words what they are instead.

Only the few values that grading needs are made into objects. Outputs are most of a large notebook
and are skipped where they stand, so that 100 MB of them cost next to nothing. What is no strict
JSON is read once more, leniently and within narrower bounds, since there every value costs memory.
"""

from __future__ import annotations

import codecs
import json
import re
import threading
from typing import Any

import msgspec
from msgspec import Raw, Struct

from nbassay.errors import NotebookError

MOST_BYTES = 100 << 20
MOST_CELLS = 5000
MOST_CODE_BYTES = 5 << 20
"""Of all cells' sources together; all weights of the lab's network as text are 0.3 MB."""
MOST_MENDED_BYTES = 20 << 20
"""Of a file that has to be read leniently: it is in memory several times over."""
MOST_MENDED_VALUES = 500_000
"""Of the same: an empty list takes two bytes of a file and sixty of memory."""

_MOST_SPEC_BYTES = 100_000  # of a kernelspec; a real one has a hundred
_HEAD_BYTES = 4096

_OTHER_KINDS: tuple[tuple[bytes, str], ...] = (
    (rb"PK\x03\x04", "a zip archive named .ipynb; unpack it and hand in the notebook inside"),
    (rb"\x1f\x8b", "a gzip archive named .ipynb; unpack it and hand in the notebook inside"),
    (
        rb"version https://git-lfs",
        "a pointer of Git LFS, not the notebook; run `git lfs pull` and hand in the notebook",
    ),
    (
        rb"# Databricks notebook source|#\s?%%",
        "a script with cell markers, not a notebook; export it as IPython notebook (.ipynb)",
    ),
    (
        rb"#|import\s|from\s|\"\"\"",
        "a Python script, not a notebook; put its code into a notebook and hand that in",
    ),
    (rb"%PDF", "a PDF, not a notebook; hand in the .ipynb itself"),
    (rb"\{\\rtf", "a text document (RTF), not a notebook; hand in the .ipynb itself"),
    (
        rb"<(?!<{6})",
        "a web page, not a notebook; download the .ipynb itself and hand that in",
    ),
)
_CONFLICT = re.compile(r"^(?:<{7}|={7}|>{7})(?= |$)", re.MULTILINE)


def read_notebook_file(raw: bytes, notes: list[str]) -> dict[str, Any]:
    """
    The notebook that *raw* holds: a JSON object that has ``cells`` or ``worksheets``.

    Args:
        raw: The file.
        notes: What was mended is added, in plain words.

    Returns:
        Its values of any type: nothing but the syntax was looked at. Cells keep what grading
        needs; of two equal keys the last counts, as in Jupyter.

    Raises:
        NotebookError: It is no notebook, or too large; the message says what it is instead and
            what to do.
    """
    if len(raw) > MOST_BYTES:
        raise NotebookError(
            f"the file has {len(raw) >> 20} MB; notebooks of up to {MOST_BYTES >> 20} MB are "
            "graded: clear the outputs and save again"
        )
    _refuse_other_kinds(raw[:_HEAD_BYTES])
    found = _read_strictly(raw)
    if found is not None:
        return found
    return _unwrap(_read_leniently(raw, notes), notes)


def _refuse_other_kinds(head: bytes) -> None:
    for pattern, what in _OTHER_KINDS:
        if re.match(rb"(?:\xef\xbb\xbf)?\s*(?:" + pattern + rb")", head):
            raise NotebookError(f"the file is {what}")


# ---------------------------------------------------------------- strict JSON, most of it skipped


class _CellMetadata(Struct):
    vscode: Raw = Raw()


class _Cell(Struct):
    cell_type: Raw = Raw()
    source: Raw = Raw()
    input: Raw = Raw()  # the source of a code cell before version 4
    level: Raw = Raw()  # of a heading, before version 4
    language: Raw = Raw()  # before version 4
    execution_count: Raw = Raw()
    metadata: _CellMetadata = msgspec.field(default_factory=_CellMetadata)

    def __post_init__(self) -> None:
        """Called as each cell is read: a file of nothing but braces never is in memory whole."""
        _seen.cells += 1
        if _seen.cells > MOST_CELLS:
            raise _TooManyCells


class _TooManyCells(Exception):
    pass


class _Seen(threading.local):
    cells = 0


_seen = _Seen()


class _Worksheet(Struct):
    cells: list[_Cell] = []


class _Metadata(Struct):
    kernelspec: Raw = Raw()
    language_info: Raw = Raw()


class _Top(Struct):
    nbformat: Raw = Raw()
    nbformat_minor: Raw = Raw()
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    cells: list[_Cell] | None = None
    worksheets: list[_Worksheet] | None = None


_decode_top = msgspec.json.Decoder(_Top).decode


def _read_strictly(raw: bytes) -> dict[str, Any] | None:
    """The notebook, or None when the file is none of the usual shape."""
    body: bytes | memoryview = memoryview(raw)[3:] if raw.startswith(codecs.BOM_UTF8) else raw
    _seen.cells = 0
    try:
        top = _decode_top(body)
        if top.cells is None and top.worksheets is None:
            return None
        cells = [*(top.cells or ()), *(cell for one in top.worksheets or () for cell in one.cells)]
        size = sum(len(memoryview(cell.source)) + len(memoryview(cell.input)) for cell in cells)
        refuse_much_code(size)
        plain: dict[str, Any] = _plain(top)
        return plain
    except _TooManyCells:
        raise NotebookError(
            f"more than {MOST_CELLS} cells; notebooks of up to {MOST_CELLS} are graded: "
            "delete the cells that the lab does not need"
        ) from None
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError, json.JSONDecodeError):
        return None


def refuse_much_code(size: int) -> None:
    """
    Raise `NotebookError` when all sources together have too many bytes.

    Args:
        size: Bytes.
    """
    if size > MOST_CODE_BYTES:
        raise NotebookError(
            f"the cells hold {size >> 20} MB of text and code; up to {MOST_CODE_BYTES >> 20} MB "
            "are graded: read large data from a file instead of writing them into a cell"
        )


def _plain(value: Any) -> Any:
    """Records as objects of JSON, without the fields that the file lacks."""
    if isinstance(value, Raw):
        return _loads(bytes(value).decode("utf-8"))
    if isinstance(value, list):
        return [_plain(item) for item in value]
    fields = {name: getattr(value, name) for name in value.__struct_fields__}
    return {
        name: _plain(field)
        for name, field in fields.items()
        if field is not None and not _is_left_out(name, field)
    }


def _is_left_out(name: str, field: Any) -> bool:
    if not isinstance(field, Raw):
        return False
    size = len(memoryview(field))
    return size == 0 or (size > _MOST_SPEC_BYTES and name not in ("source", "input"))


# ---------------------------------------------------------------- everything else


def _read_leniently(raw: bytes, notes: list[str]) -> Any:
    if not raw.strip(b"\0 \t\r\n"):
        what = "holds nothing but NUL bytes, as after a full disk" if raw.strip() else "is empty"
        raise NotebookError(f"the file {what}; save the notebook again and hand it in anew")
    if len(raw) > MOST_MENDED_BYTES:
        raise NotebookError(
            f"the file has {len(raw) >> 20} MB and is not quite a notebook (expected strict JSON "
            f"in UTF-8); up to {MOST_MENDED_BYTES >> 20} MB are mended: clear the outputs and "
            "save again in Jupyter"
        )
    text = _text(raw, notes)
    _refuse_other_kinds(text[:_HEAD_BYTES].encode(errors="replace"))
    if sum(map(text.count, ",[{")) > MOST_MENDED_VALUES:
        raise NotebookError(
            f"the file is not quite a notebook and has more than {MOST_MENDED_VALUES} values, the "
            "most that are mended: clear the outputs and save again in Jupyter"
        )
    try:
        value = _loads(text)
    except json.JSONDecodeError as error:
        raise NotebookError(_why_no_json(text, error)) from None
    except RecursionError:
        raise _too_deep() from None
    return value


def _text(raw: bytes, notes: list[str]) -> str:
    """The file's characters, whatever it is encoded in; NUL bytes at its end are left out."""
    encoding = json.detect_encoding(raw)
    if encoding.startswith(("utf-16", "utf-32")):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError as error:
            raise NotebookError(
                f"not a notebook: expected UTF-8 text, found damaged {encoding} at byte "
                f"{error.start}; save the notebook again and hand it in anew"
            ) from None
        notes.append(f"the file was written as {encoding.upper()}, not as UTF-8, and read as such")
        return text
    if raw.endswith(b"\0"):
        raw = raw.rstrip(b"\0")
        notes.append("NUL bytes at the end of the file were left out")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = raw.decode("utf-8-sig", "replace")
        lost = text.count("\ufffd")
        if lost <= sum(character > "\x7f" for character in text) - lost:
            notes.append(f"{lost} bytes of the file are damaged (no UTF-8) and were read as \ufffd")
            return text
        if b"\0" in raw:
            raise NotebookError(
                f"not a notebook: expected UTF-8 text, found byte 0x{raw[error.start]:02x} at "
                f"{error.start}; save the notebook again and hand it in anew"
            ) from None
        notes.append(
            "the file was not written as UTF-8 and was read as Windows-1252; "
            "letters beyond ASCII may be wrong"
        )
        return raw.decode("cp1252", "replace")


def _loads(text: str) -> Any:
    """JSON as Python reads it: NaN is a number, and a line may end within a string."""
    return json.loads(text, strict=False, parse_int=_integer)


def _integer(digits: str) -> int | None:
    """None of a number that nothing in a notebook needs, and that takes long to read."""
    return int(digits) if len(digits) < 20 else None


def _why_no_json(text: str, error: json.JSONDecodeError) -> str:
    where = f"line {error.lineno}, column {error.colno}"
    markers = list(_CONFLICT.finditer(text))
    if any(marker.group()[0] in "<>" for marker in markers):
        lines = [str(text.count("\n", 0, marker.start()) + 1) for marker in markers[:6]]
        return (
            f"not a notebook: it holds merge-conflict markers of git ({markers[0].group()} in line "
            f"{lines[0]}; all in lines {', '.join(lines)}{', …' if len(markers) > 6 else ''}); "
            "choose one of the two versions (`git checkout --ours FILE` or `--theirs`), look at it "
            "in Jupyter and hand it in anew"
        )
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        return (
            f"not a notebook: expected JSON, found NUL bytes from line {line} on; the file was "
            "damaged when it was saved or copied: save the notebook again and hand it in anew"
        )
    end = len(text.rstrip())
    is_cut = text.lstrip().startswith("{") and (error.pos >= end or text[end - 1] != "}")
    what = (
        "the file ends in the middle (truncated)"
        if is_cut
        else f"expected JSON, found {text[error.pos : error.pos + 20]!a}"
    )
    return (
        f"not a notebook: {what}, {where}; save the notebook again in Jupyter and hand it in anew"
    )


def _too_deep() -> NotebookError:
    return NotebookError(
        "not a notebook: lists within lists, nested too deeply; clear the outputs and save again"
    )


def _unwrap(value: Any, notes: list[str]) -> dict[str, Any]:
    """Take the notebook out of what programs wrap around it."""
    if isinstance(value, list) and value and all(map(_is_cell, value)):
        notes.append("the file is a bare list of cells; read as a notebook of these")
        return {"nbformat": 4, "cells": value}
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
        notes.append("the notebook stood within a list and was taken out")
    elif isinstance(value, list):
        raise NotebookError(
            f"not a notebook: expected one JSON object, found a list of {len(value)}; "
            "hand in one notebook a file"
        )
    if isinstance(value, dict) and not _is_notebook(value) and _is_notebook(value.get("content")):
        value = value["content"]
        notes.append("the notebook stood within an answer of Jupyter's server and was taken out")
    if not isinstance(value, dict):
        raise NotebookError(
            f"not a notebook: expected a JSON object, found {type(value).__name__}; "
            "hand in the .ipynb that Jupyter saves"
        )
    if not _is_notebook(value):
        names = ", ".join(sorted(map(ascii, value))[:5])[:200]
        raise NotebookError(
            f"not a notebook: expected a list of cells, found an object with "
            f"{names or 'nothing in it'}; hand in the .ipynb that Jupyter saves"
        )
    return value


def _is_notebook(value: Any) -> bool:
    return isinstance(value, dict) and ("cells" in value or "worksheets" in value)


def _is_cell(value: Any) -> bool:
    return isinstance(value, dict) and "cell_type" in value
