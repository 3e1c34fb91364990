"""``executed.ipynb``: what the learner's notebook showed, with everything active removed."""

from __future__ import annotations

import base64
import binascii
import io
import json
from typing import Any

from PIL import Image

from nbassay.notebook import Notebook
from nbassay.reporting.text import visible

MOST_TEXT = 100_000
"""Characters of one output that are kept."""
MOST_PIXELS = 25_000_000
"""Of all pictures together: a small PNG can hold a great many."""
KEPT_MODES = ("1", "L", "LA", "RGB", "RGBA")


def executed_notebook(notebook: Notebook, outputs: dict[int, list[dict[str, Any]]]) -> str:
    """
    The notebook with the outputs of its run, as nbformat 4.5 JSON.

    Only text and re-encoded PNG pictures are kept: no HTML, no SVG, no JavaScript, no widgets, no
    terminal control sequences. Markdown cells become plain text, since a viewer renders markup in
    them.
    """
    cells, pictures = [], _Pictures()
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
                    kept for output in outputs.get(index, []) if (kept := _clean(output, pictures))
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


def _clean(output: dict[str, Any], pictures: _Pictures) -> dict[str, Any] | None:
    kind = output.get("output_type")
    if kind == "stream":
        return {
            "output_type": "stream",
            "name": "stderr" if output.get("name") == "stderr" else "stdout",
            "text": _text(output.get("text")),
        }
    if kind == "error":
        traceback = output.get("traceback")
        lines = traceback if isinstance(traceback, list) else []
        return {
            "output_type": "error",
            "ename": _text(output.get("ename"))[:200],
            "evalue": _text(output.get("evalue"))[:4000],
            "traceback": [_text(line)[:4000] for line in lines[:200]],
        }
    if kind in ("display_data", "execute_result"):
        data = output.get("data")
        kept: dict[str, Any] = {}
        if isinstance(data, dict):
            if "text/plain" in data:
                kept["text/plain"] = _text(data["text/plain"])
            picture = pictures.again(data.get("image/png"))
            if picture is not None:
                kept["image/png"] = picture
        if kept:
            return {"output_type": "display_data", "data": kept, "metadata": {}}
    return None


def _text(value: Any) -> str:
    if isinstance(value, list):
        value = "".join(part for part in value if isinstance(part, str))
    return visible(value, limit=MOST_TEXT) if isinstance(value, str) else ""


class _Pictures:
    """Decodes and encodes PNGs again, within one budget of pixels for the whole notebook."""

    def __init__(self) -> None:
        self._left = MOST_PIXELS

    def again(self, value: Any) -> str | None:
        """A PNG that is nothing but pixels; None for what is none, or beyond the budget."""
        if not isinstance(value, str):
            return None
        try:
            raw = base64.b64decode(value, validate=False)
            with Image.open(io.BytesIO(raw), formats=["PNG"]) as image:
                self._left -= image.width * image.height
                if self._left < 0:
                    return None
                pixels = image.copy() if image.mode in KEPT_MODES else image.convert("RGBA")
        except (binascii.Error, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None
        pixels.info = {}  # texts and profiles that came along
        encoded = io.BytesIO()
        pixels.save(encoded, "PNG")
        return base64.b64encode(encoded.getvalue()).decode()
