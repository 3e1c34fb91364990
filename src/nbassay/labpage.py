"""
A LiveLabs page, read as the notebook that a learner would make of it.

The page is parsed by a Markdown parser, so a fence inside a numbered step, a fence inside a longer
fence and the word ``<copy>`` in a sentence are what they look like. The rule:

- A fenced block whose language is Python holds what a learner pastes, between ``<copy>`` and
  ``</copy>``. Each pair of tags becomes one code cell: tags and common indentation removed. Text
  of the block outside the tags is not pasted, and a Python block without tags is only shown.
- Any other fenced block (``bash`` and friends, expected output, no language) stays in the text: a
  learner runs its commands in a terminal. Its tags are removed.
- Everything between two code cells is one Markdown cell, and a heading of level 1 or 2 begins
  another. What continues a numbered step after a code cell loses the indentation of that block,
  because nothing is left for it to be indented under.

Cell ids are counted, so the same page always gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import itertools
import textwrap
from collections.abc import Iterator, Sequence

import nbformat
from markdown_it import MarkdownIt
from markdown_it.token import Token

from nbassay.errors import AssayError

PYTHON_FENCES = frozenset({"python", "python3", "py", "ipython", "ipython3"})
OPEN, CLOSE = "<copy>", "</copy>"


class PageError(AssayError):
    """A lab page cannot be read; *line* is where, 1 first."""

    slug = "lab-page"

    def __init__(self, line: int, *, expected: str, found: str) -> None:
        super().__init__(f"lab page: line {line}: expected {expected}, found {found}")
        self.line = line


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prose:
    """What the page says between two blocks of code."""

    line: int
    """Where it begins in the page, 1 first."""
    text: str
    """Markdown, without blank lines around it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Code:
    """What a learner pastes into one cell."""

    line: int
    """Where its fenced block begins in the page, 1 first."""
    source: str
    """Python, without tags and without the indentation of the page."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """A lab page in reading order."""

    title: str
    """The first heading of level 1; empty when there is none."""
    parts: tuple[Prose | Code, ...]


def read_page(text: str) -> Page:
    """
    Read the text of a LiveLabs page.

    Raises:
        PageError: A fenced block has a ``<copy>`` without its ``</copy>`` or the other way round.
    """
    tokens = MarkdownIt("commonmark").parse(text)
    lines = _lines(text)
    prose: list[str | None] = list(lines)  # None: a line that no Markdown cell shows
    cells: dict[int, list[str]] = {}  # first line of a pasted block: its pieces
    for token in tokens:
        if token.type != "fence":
            continue
        start, end = _span(token)
        pieces = _copied(token)
        if pieces and _language(token) in PYTHON_FENCES:
            cells[start] = pieces
            prose[start:end] = [None] * (end - start)
            for index in range(end, _end_of_list(tokens, start)):
                prose[index] = lines[index][_shift(lines[index], by=lines[start]) :]
        else:
            prose[start:end] = [_without_tags(line) for line in prose[start:end]]
    breaks = _headings(tokens)
    return Page(title=_title(tokens), parts=tuple(_parts(prose, cells=cells, breaks=breaks)))


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


def _parts(
    prose: Sequence[str | None], *, cells: dict[int, list[str]], breaks: frozenset[int]
) -> Iterator[Prose | Code]:
    """Cut the page where code was and where a heading begins."""
    start = 0
    for index in sorted({*cells, *breaks, len(prose)}):
        yield from _prose(prose, start, index)
        for source in cells.get(index, ()):
            yield Code(line=index + 1, source=source)
        start = index


def _prose(prose: Sequence[str | None], start: int, end: int) -> Iterator[Prose]:
    """Yield what is still shown of a stretch of lines, unless that is blank."""
    shown = [(number, line) for number, line in enumerate(prose[start:end], start + 1) if line]
    text = [line for line in prose[start:end] if line is not None]
    if shown:
        yield Prose(line=shown[0][0], text="\n".join(text).strip("\n"))


def _copied(fence: Token) -> list[str]:
    """Return what stands between the tags of a block, one piece a pair."""
    line = _span(fence)[0] + 1
    pieces: list[str] = []
    rest = textwrap.dedent(fence.content)
    while True:
        before, opened, rest = rest.partition(OPEN)
        if CLOSE in before:
            raise PageError(line, expected=f"{OPEN} before {CLOSE}", found=CLOSE)
        if not opened:
            return pieces
        piece, closed, rest = rest.partition(CLOSE)
        if not closed or OPEN in piece:
            raise PageError(line, expected=f"{CLOSE} after {OPEN}", found=OPEN if piece else "end")
        pieces.append(_trimmed(piece))


def _trimmed(piece: str) -> str:
    """Drop the blank lines a tag on a line of its own leaves, and common indentation."""
    return textwrap.dedent(piece).strip("\n").rstrip()


def _without_tags(line: str | None) -> str | None:
    """Return a shown line without tags; None when there was nothing else on it."""
    if line is None or (OPEN not in line and CLOSE not in line):
        return line
    bare = line.replace(OPEN, "").replace(CLOSE, "").rstrip()
    return bare if bare.strip() else None


def _end_of_list(tokens: Sequence[Token], line: int) -> int:
    """Return where the outermost list item around a line ends; the line itself outside lists."""
    items = (token for token in tokens if token.type == "list_item_open")
    spans = [_span(item) for item in items]
    return max((end for start, end in spans if start <= line < end), default=line)


def _headings(tokens: Sequence[Token]) -> frozenset[int]:
    """Return the lines on which a heading of level 1 or 2 begins, outside lists and quotes."""
    return frozenset(
        _span(token)[0]
        for token in tokens
        if token.type == "heading_open" and token.tag in ("h1", "h2") and token.level == 0
    )


def _title(tokens: Sequence[Token]) -> str:
    """Return the text of the first heading of level 1."""
    for token, following in itertools.pairwise(tokens):
        if token.type == "heading_open" and token.tag == "h1":
            return following.content
    return ""


def _language(fence: Token) -> str:
    """Return the first word after the fence, lower case."""
    words = fence.info.split()
    return words[0].lower() if words else ""


def _span(token: Token) -> tuple[int, int]:
    """Return the lines of a block token, first and one past the last, 0 first."""
    if token.map is None:
        raise ValueError(f"{token.type} is not a block token")
    return token.map[0], token.map[1]


def _shift(line: str, *, by: str) -> int:
    """Return how far a line moves left when *by*, the line it continues, moves to the margin."""
    return min(len(line) - len(line.lstrip(" ")), len(by) - len(by.lstrip(" ")))


def _lines(text: str) -> list[str]:
    """Return the lines as Markdown counts them (``splitlines`` cuts at more), blank ones empty."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line if line.strip() else "" for line in lines]
