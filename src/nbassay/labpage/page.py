"""A whole lab page in reading order: its text, cells, headings, steps, links and comments."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

from markdown_it.token import Token

from nbassay.labpage.code import Block, copied_of, language_of, tag_flaws, with_roles
from nbassay.labpage.markdown import CLOSE, OPEN, parser
from nbassay.labpage.source import Flaw, PageError, Place, Source, read_source, source_of

CLAIM = "nbassay:"
"""Begins the comments that are for us; they do not come into a notebook."""

_TASK = re.compile(r"(?i)(task|step|part|exercise)\s*(\d+)\s*([a-z]?)\b")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prose:
    """What the page says between two blocks of code."""

    place: Place
    text: str
    """Markdown, without blank lines around it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Code:
    """What a learner pastes into one cell."""

    place: Place
    """Where its fenced block begins."""
    source: str
    """Python with IPython's magics, without tags and without the indentation of the page."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heading:
    """A heading."""

    place: Place
    level: int
    text: str
    """Without markup."""

    @property
    def task(self) -> tuple[str, int, str] | None:
        """Of ``Task 2a: …``, ``**STEP 2:** …``: the word in lower case, number and letter."""
        match = _TASK.match(self.text.strip())
        return (match[1].lower(), int(match[2]), match[3].lower()) if match else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """An item of a numbered list."""

    place: Place
    number: int
    """As it is written."""
    depth: int
    """Lists that it is in; 1 for a step of a task."""
    run: int
    """Which list it is of, counted over the page."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
    """A link or an image."""

    place: Place
    kind: Literal["link", "image"]
    target: str
    text: str
    """Of an image: what is read to those who do not see it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of a paragraph."""

    place: Place
    kind: Literal["text", "code", "comment"]
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paragraph:
    """A paragraph, a table cell or a list item's text; a comment on lines of its own."""

    place: Place
    pieces: tuple[Piece, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """A lab page in reading order."""

    source: Source
    title: str
    """The first heading of level 1; empty when there is none."""
    parts: tuple[Prose | Code, ...]
    blocks: tuple[Block, ...]
    headings: tuple[Heading, ...]
    steps: tuple[Step, ...]
    references: tuple[Reference, ...]
    paragraphs: tuple[Paragraph, ...]
    flaws: tuple[Flaw, ...]

    @property
    def cells(self) -> tuple[Code, ...]:
        """The cells that a learner pastes."""
        return tuple(part for part in self.parts if isinstance(part, Code))

    def place_of(self, cell: Code, line: int) -> Place:
        """Where a line of a cell's source (0 first) stands; the cell's own place if unsure."""
        wanted = cell.source.split("\n")[line].strip()
        (end,) = (block.end for block in self.blocks if block.place == cell.place)
        for index in range(cell.place.index + 1, end):
            text = self.source.lines[index].text.replace(OPEN, "").replace(CLOSE, "")
            if wanted and text.strip() == wanted:
                return self.source.place(index)
        return cell.place


def open_page(path: Path, *, variant: str | None = None, manifest_file: Path | None = None) -> Page:
    """
    Read a LiveLabs page with what it includes (see `nbassay.labpage.source.read_source`).

    Raises:
        PageError: It cannot be read.
    """
    return _page(read_source(path, variant=variant, manifest_file=manifest_file))


def read_page(text: str, *, variant: str | None = None) -> Page:
    """
    Read the text of a LiveLabs page; what it includes is not known.

    Raises:
        PageError: It has no such variant.
    """
    return _page(source_of(text, variant=variant))


def require_cells(page: Page) -> None:
    """
    Make sure that there is something to run.

    Raises:
        PageError: The page has no cell.
    """
    if not page.cells:
        raise PageError(
            page.source.place(0),
            expected="a block that a learner pastes into a notebook: ```python with <copy> in it",
            found=f"{len(page.blocks)} fenced blocks, none of them such a cell",
        )


def _page(source: Source) -> Page:
    tokens = parser().parse(source.text)
    lines = [line.text if line.text.strip() else "" for line in source.lines]
    blocks = with_roles([_block(token, source) for token in tokens if token.type == "fence"])
    prose: list[str | None] = list(lines)  # None: a line that no Markdown cell shows
    items = _list_items(tokens)
    cells: dict[int, Code] = {}
    for block in blocks:
        start = block.place.index
        if block.role == "cell":
            cells[start] = Code(place=block.place, source=block.pasted)
            prose[start : block.end] = [None] * (block.end - start)
            for index in range(block.end, _end_of_item(items, start)):
                prose[index] = lines[index][_shift(lines[index], by=lines[start]) :]
        else:
            prose[start : block.end] = [_without_tags(one) for one in prose[start : block.end]]
    for token in tokens:
        if token.type == "front_matter" or (token.type == "comment" and is_claim(token.content)):
            start, end = _span(token)
            prose[start:end] = [None] * (end - start)
    for line, child in _inline(tokens):
        if child.type == "html_inline" and is_claim(child.content):
            _take_out(prose, line, child.content)
    headings = list(_headings(tokens, source))
    breaks = {one.place.index for one in headings if one.level <= 2}
    return Page(
        source=source,
        title=next((one.text for one in headings if one.level == 1), ""),
        parts=tuple(_parts(prose, cells=cells, breaks=breaks, source=source)),
        blocks=tuple(blocks),
        headings=tuple(headings),
        steps=tuple(_steps(tokens, source)),
        references=tuple(_references(tokens, source)),
        paragraphs=tuple(_paragraphs(tokens, source)),
        flaws=(*source.flaws, *(flaw for block in blocks for flaw in tag_flaws(block))),
    )


def is_claim(comment: str) -> bool:
    """Whether a comment is for us."""
    return comment.strip().removeprefix("<!--").lstrip().lower().startswith(CLAIM)


def _block(token: Token, source: Source) -> Block:
    start, end = _span(token)
    return Block(
        place=source.place(start),
        end=end,
        language=language_of(token.info),
        text=token.content,
        copied=copied_of(token.content),
        is_closed=bool(token.meta["is_closed"]),
    )


def _parts(
    prose: Sequence[str | None], *, cells: dict[int, Code], breaks: set[int], source: Source
) -> Iterator[Prose | Code]:
    """Cut the page where code was and where a heading begins."""
    start = 0
    for index in sorted({*cells, *breaks, len(prose)}):
        yield from _prose(prose, start, index, source)
        if index in cells:
            yield cells[index]
        start = index


def _prose(prose: Sequence[str | None], start: int, end: int, source: Source) -> Iterator[Prose]:
    """Yield what is still shown of a stretch of lines, unless that is blank."""
    shown = [index for index in range(start, end) if prose[index]]
    text = [line for line in prose[start:end] if line is not None]
    if shown:
        yield Prose(place=source.place(shown[0]), text="\n".join(text).strip("\n"))


def _without_tags(line: str | None) -> str | None:
    """Return a shown line without tags; None when there was nothing else on it."""
    if line is None or (OPEN not in line and CLOSE not in line):
        return line
    bare = line.replace(OPEN, "").replace(CLOSE, "").rstrip()
    return bare if bare.strip() else None


def _take_out(prose: list[str | None], line: int, text: str) -> None:
    """Take a text that begins on a line out of it and the following ones."""
    for number, part in enumerate(text.split("\n"), start=line):
        shown = prose[number]
        if shown is not None:
            bare = shown.replace(part.strip(), "", 1).rstrip()
            prose[number] = bare if bare.strip() else None


def _list_items(tokens: Sequence[Token]) -> list[tuple[int, int]]:
    """Return the lines of the outermost list items, in order."""
    spans: list[tuple[int, int]] = []
    for token in tokens:
        if token.type == "list_item_open":
            start, end = _span(token)
            if not spans or start >= spans[-1][1]:
                spans.append((start, end))
    return spans


def _end_of_item(items: Sequence[tuple[int, int]], line: int) -> int:
    """Return where the list item around a line ends; the line itself outside lists."""
    number = bisect.bisect_right(items, line, key=lambda item: item[0]) - 1
    return max(line, items[number][1]) if number >= 0 else line


def _headings(tokens: Sequence[Token], source: Source) -> Iterator[Heading]:
    """Yield headings outside lists and quotes."""
    for token, inline in itertools.pairwise(tokens):
        if token.type == "heading_open" and token.level == 0:
            text = "".join(child.content for child in inline.children or ())
            start = _span(token)[0]
            yield Heading(place=source.place(start), level=int(token.tag[1]), text=text)


def _steps(tokens: Sequence[Token], source: Source) -> Iterator[Step]:
    """Yield the items of numbered lists."""
    open_lists: list[tuple[bool, int]] = []
    count = 0
    for token in tokens:
        if token.type in ("ordered_list_open", "bullet_list_open"):
            count += 1
            open_lists.append((token.type == "ordered_list_open", count))
        elif token.type in ("ordered_list_close", "bullet_list_close"):
            open_lists.pop()
        elif token.type == "list_item_open" and open_lists[-1][0]:
            yield Step(
                place=source.place(_span(token)[0]),
                number=int(token.info),
                depth=len(open_lists),
                run=open_lists[-1][1],
            )


def _inline(tokens: Sequence[Token]) -> Iterator[tuple[int, Token]]:
    """Yield what paragraphs are made of, each with its line."""
    for token in tokens:
        if token.type != "inline" or token.map is None:
            continue
        line = token.map[0]
        for child in token.children or ():
            yield line, child
            line += child.type in ("softbreak", "hardbreak")
            line += child.content.count("\n")


def _references(tokens: Sequence[Token], source: Source) -> Iterator[Reference]:
    for line, token in _inline(tokens):
        if token.type == "image":
            yield Reference(
                place=source.place(line),
                kind="image",
                target=str(token.attrs.get("src", "")),
                text=token.content,
            )
        elif token.type == "link_open":
            yield Reference(
                place=source.place(line),
                kind="link",
                target=str(token.attrs.get("href", "")),
                text="",
            )
        elif token.type == "html_inline":
            tag = _Tag()
            tag.feed(token.content)
            if tag.target is not None:
                yield Reference(
                    place=source.place(line), kind=tag.kind, target=tag.target, text=tag.text
                )


class _Tag(HTMLParser):
    """A tag of HTML that shows an image or links to something."""

    kind: Literal["link", "image"] = "link"
    target: str | None = None
    text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag == "img":
            self.kind, self.target, self.text = "image", told.get("src"), told.get("alt") or ""
        elif tag == "a":
            self.target = told.get("href")


def _paragraphs(tokens: Sequence[Token], source: Source) -> Iterator[Paragraph]:
    for token in tokens:
        if token.type == "comment":
            place = source.place(_span(token)[0])
            piece = Piece(place=place, kind="comment", text=token.content)
            yield Paragraph(place=place, pieces=(piece,))
        elif token.type == "inline" and token.map is not None:
            pieces = tuple(
                Piece(place=source.place(line), kind=kind, text=child.content)
                for line, child in _inline([token])
                if (kind := _kind(child)) is not None
            )
            yield Paragraph(place=source.place(token.map[0]), pieces=pieces)


def _kind(token: Token) -> Literal["text", "code", "comment"] | None:
    if token.type == "text":
        return "text"
    if token.type == "code_inline":
        return "code"
    if token.type == "html_inline" and token.content.startswith("<!--"):
        return "comment"
    return None


def _span(token: Token) -> tuple[int, int]:
    """Return the lines of a block token, first and one past the last, 0 first."""
    if token.map is None:
        raise ValueError(f"{token.type} is not a block token")
    return token.map[0], token.map[1]


def _shift(line: str, *, by: str) -> int:
    """Return how far a line moves left when *by*, the line it continues, moves to the margin."""
    return min(len(line) - len(line.lstrip(" \t")), len(by) - len(by.lstrip(" \t")))
