"""
The starter notebook of a page.

Cells of code alternate with what the page says between them. Everything between two code cells is
one Markdown cell, and a heading of level 1 or 2 begins another. What continues a numbered step
after a code cell loses the indentation of that block, because nothing is left for it to be indented
under. Cell ids are counted, so the same page always gives the same bytes.
"""

from __future__ import annotations

import nbformat

from nbassay.labpage.page import Code, Page


def to_notebook(page: Page) -> nbformat.NotebookNode:
    """Make the starter notebook: the page's text, and the cells a learner would paste."""
    cells: list[dict[str, object]] = []
    for number, part in enumerate(page.parts, start=1):
        if isinstance(part, Code):
            cell = {"cell_type": "code", "id": f"code-{number:02}", "source": part.source}
            cells.append({**cell, "metadata": {}, "execution_count": None, "outputs": []})
        else:
            cell = {"cell_type": "markdown", "id": f"text-{number:02}", "source": part.text}
            cells.append({**cell, "metadata": {}})
    notebook: nbformat.NotebookNode = nbformat.from_dict(
        {
            "cells": cells,
            "metadata": {
                "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                "language_info": {"name": "python"},
            },
            "nbformat": 4,
            "nbformat_minor": 5,  # the first with cell ids; not whatever nbformat calls newest
        }
    )
    return notebook
