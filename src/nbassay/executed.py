"""``executed.ipynb``: what the learner's notebook showed, with everything active removed."""

from __future__ import annotations

import base64
import io
import json
import struct
from pathlib import Path
from typing import Any

from PIL import Image

from nbassay.notebook import Notebook
from nbassay.reporting.text import visible

MOST_TEXT = 100_000
"""Characters of one cell's code, or of one value that is shown, that are kept."""
MOST_STREAM = 1_000_000
"""Of what a cell prints until it shows something else."""
MOST_CHARACTERS = 10_000_000
"""Of all outputs together."""
MOST_PIXELS = 25_000_000
"""Of all pictures together: a small PNG can hold a great many."""
MOST_PICTURE_PIXELS = 8_000_000
"""Of one, which is in memory up to three times, at four bytes a pixel."""
PNG_HEAD = struct.Struct("!8s4x4sII")
"""Signature, name of the first chunk, width and height."""
KEPT_MODES = ("1", "L", "LA", "RGB", "RGBA")


def executed_notebook(notebook: Notebook, outputs: dict[int, list[dict[str, Any]]]) -> str:
    """
    The notebook with the outputs of its run, as nbformat 4.5 JSON.

    Only text and re-encoded PNG pictures are kept: no HTML, no SVG, no JavaScript, no widgets, no
    terminal control sequences. Markdown cells become plain text, since a viewer renders markup in
    them.
    """
    cells, budget = [], _Budget()
    for index, cell in enumerate(notebook.content["cells"]):
        if cell["cell_type"] != "code":
            cells.append(
                {
                    "cell_type": "raw",
                    "id": cell["id"],
                    "metadata": {},
                    "source": visible(cell["source"], limit=MOST_TEXT),
                }
            )
            continue
        cells.append(
            {
                **cell,
                "source": visible(cell["source"], limit=MOST_TEXT),
                "outputs": [
                    kept for output in outputs.get(index, []) if (kept := _clean(output, budget))
                ],
            }
        )
    content = {
        **notebook.content,
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def read_outputs(path: Path) -> dict[int, list[dict[str, Any]]] | None:
    """Outputs by cell of a notebook that `executed_notebook` made; None when it is none."""
    try:
        cells = json.loads(path.read_bytes())["cells"]
        return {
            index: list(cell["outputs"])
            for index, cell in enumerate(cells)
            if cell["cell_type"] == "code"
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _clean(output: dict[str, Any], budget: _Budget) -> dict[str, Any] | None:
    kind = output.get("output_type")
    if kind == "stream":
        return {
            "output_type": "stream",
            "name": "stderr" if output.get("name") == "stderr" else "stdout",
            "text": budget.text(output.get("text"), limit=MOST_STREAM),
        }
    if kind == "error":
        traceback = output.get("traceback")
        lines = traceback if isinstance(traceback, list) else []
        return {
            "output_type": "error",
            "ename": budget.text(output.get("ename"), limit=200),
            "evalue": budget.text(output.get("evalue"), limit=4000),
            "traceback": [budget.text(line, limit=4000) for line in lines[:200]],
        }
    if kind in ("display_data", "execute_result"):
        data = output.get("data")
        kept: dict[str, Any] = {}
        if isinstance(data, dict):
            if "text/plain" in data:
                kept["text/plain"] = budget.text(data["text/plain"])
            picture = budget.picture(data.get("image/png"))
            if picture is not None:
                kept["image/png"] = picture
        if kept:
            return {"output_type": "display_data", "data": kept, "metadata": {}}
    return None


class _Budget:
    """What is kept of one notebook: cleaned texts, and pictures that were decoded and encoded."""

    def __init__(self) -> None:
        self._characters = MOST_CHARACTERS
        self._pixels = MOST_PIXELS

    def text(self, value: Any, *, limit: int = MOST_TEXT) -> str:
        """At most *limit* characters of a text; none of what is no text, or beyond the budget."""
        if isinstance(value, list):
            value = "".join(part for part in value if isinstance(part, str))
        if not isinstance(value, str) or self._characters <= 0:
            return ""
        shown = visible(value, limit=min(limit, self._characters))
        self._characters -= len(shown)
        return shown

    def picture(self, value: Any) -> str | None:
        """A PNG that is nothing but pixels; None for what is none, or beyond the budget."""
        if not isinstance(value, str):
            return None
        try:
            raw = base64.b64decode(value, validate=False)
            _signature, _chunk, width, height = PNG_HEAD.unpack_from(raw)
            # Before Pillow sees it: what it has against large pictures is told on standard error.
            if not 0 < width * height <= min(self._pixels, MOST_PICTURE_PIXELS):
                return None
            with Image.open(io.BytesIO(raw), formats=["PNG"]) as image:
                if image.size != (width, height):  # told twice
                    return None
                self._pixels -= width * height
                pixels = image.copy() if image.mode in KEPT_MODES else image.convert("RGBA")
        except Exception:  # a decoder of hostile bytes raises what it likes: then it is no picture
            return None
        pixels.info = {}  # texts and profiles that came along
        encoded = io.BytesIO()
        pixels.save(encoded, "PNG")
        return base64.b64encode(encoded.getvalue()).decode()
