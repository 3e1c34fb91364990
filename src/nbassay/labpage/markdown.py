"""
Markdown as LiveLabs pages use it: CommonMark with tables, front matter and other fences.

A fence may stand at any indentation and hold lines left of it, four backticks may be closed by
three, and ``</copy>`` may stand before the closing ones. A block that is never closed ends where
its author most likely meant it to; its token says so (``meta["is_closed"]``). Deep indentation
makes no code, comments are tokens of their own, and other HTML is text.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from markdown_it import MarkdownIt
from markdown_it.ruler import RuleOptionsType
from markdown_it.rules_block import StateBlock, lheading, paragraph
from mdit_py_plugins.front_matter import front_matter_plugin

OPEN, CLOSE = "<copy>", "</copy>"
Rule = Callable[[StateBlock, int, int, bool], bool]

_OPENER = re.compile(r"(`{3,})([^`]*)|(~{3,})(.*)")
_CLOSER = re.compile(r"(`{3,}|~{3,})[ \t]*")
_CLOSER_AFTER_TAG = re.compile(r"(.*</copy>)[ \t]*(`{3,}|~{3,})[ \t]*")
_NEXT_STEP = re.compile(r"\d{1,4}[.)]\s|#{2,6}\s")
"""What ends a block left of its list item, for it is no Python."""


def parser() -> MarkdownIt:
    """A parser for lab pages."""
    markdown = MarkdownIt("commonmark").enable("table").use(front_matter_plugin)
    markdown.disable(["code", "html_block"])
    markdown.normalizeLink = _as_written  # type: ignore[method-assign, assignment]
    ends: RuleOptionsType = {"alt": ["paragraph", "reference", "blockquote", "list"]}
    markdown.block.ruler.at("fence", _fence, ends)
    markdown.block.ruler.before("fence", "comment", _comment, ends)
    markdown.block.ruler.at("lheading", _ended_by_fences(lheading), {"alt": []})
    markdown.block.ruler.at("paragraph", _ended_by_fences(paragraph), {"alt": []})
    return markdown


def _as_written(target: str) -> str:
    """A link's target as the page has it, not as a browser would ask for it."""
    return target


def _fence(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A fenced block."""
    opener = _OPENER.fullmatch(_line(state, start))
    if opener is None:
        return False
    if silent:
        return True
    markup, info = (opener[1], opener[2]) if opener[1] else (opener[3], opener[4])
    stop, is_closed, tail = _end(state, start, end, markup)
    info, tag, head = info.partition(OPEN)
    indent = min([state.sCount[start], *_indentations(state, start + 1, stop)])
    content = state.getLines(start + 1, stop, indent, True)
    if tag:
        content = f"{tag}{head}\n{content}"
    token = state.push("fence", "code", 0)
    token.info = info.strip()
    token.content = content + tail
    token.markup = markup
    token.map = [start, stop + is_closed]
    token.meta = {"is_closed": is_closed}
    state.line = stop + is_closed
    return True


def _end(state: StateBlock, start: int, end: int, markup: str) -> tuple[int, bool, str]:
    """First line that is not of the block's content, whether it closes it, and what is before."""
    shorter: int | None = None
    tagged: int | None = None  # the line after the last </copy>
    stop = end
    for number in range(start + 1, end):
        text = _line(state, number)
        if CLOSE in text:
            tagged = number + 1
        after_tag = _CLOSER_AFTER_TAG.fullmatch(text)
        if after_tag is not None and after_tag[2][0] == markup[0]:
            return number, True, after_tag[1] + "\n"
        if text and state.sCount[number] < state.blkIndent and _NEXT_STEP.match(text):
            stop = number
            break
        closer = _CLOSER.fullmatch(text)
        if closer is not None and closer[1][0] == markup[0]:
            if _opens_the_next(state, number, end, tagged):
                stop = number
                break
            if len(closer[1]) >= len(markup):
                return number, True, ""
            shorter = number if shorter is None else shorter
            continue
        opener = _OPENER.fullmatch(text)
        if opener is not None and (opener[1] or opener[3]) == markup:
            stop = number
            break
    if shorter is not None:
        return shorter, True, ""
    if tagged is not None:
        return tagged, False, ""
    for number in range(start + 1, stop):
        if _line(state, number) and state.sCount[number] < state.blkIndent:
            return number, False, ""
    return stop, False, ""


def _indentations(state: StateBlock, start: int, stop: int) -> list[int]:
    """How far lines are indented that hold more than tags: code may stand left of its fence."""
    lines = ((number, _line(state, number)) for number in range(start, stop))
    return [state.sCount[number] for number, text in lines if text not in ("", OPEN, CLOSE)]


def _opens_the_next(state: StateBlock, number: int, end: int, tagged: int | None) -> bool:
    """Whether a bare fence opens another block: text since the last tag, a new tag after it."""
    if tagged is None or not any(_line(state, one) for one in range(tagged, number)):
        return False
    following = next((_line(state, one) for one in range(number + 1, end) if _line(state, one)), "")
    return following.startswith(OPEN)


def _ended_by_fences(rule: Rule) -> Rule:
    """A rule for paragraphs that ends at a fence however deep, where CommonMark goes on."""

    def ended(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        last = state.lineMax
        for number in range(start + 1, last):
            if state.isEmpty(number):
                break
            if _OPENER.fullmatch(_line(state, number)):
                state.lineMax = number
                break
        try:
            return rule(state, start, min(end, state.lineMax), silent)
        finally:
            state.lineMax = last

    return ended


def _comment(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A comment that begins a line and ends somewhere."""
    if not _line(state, start).startswith("<!--"):
        return False
    for number in range(start, end):
        text = _line(state, number)
        if "-->" in (text[4:] if number == start else text):
            if silent:
                return True
            token = state.push("comment", "", 0)
            token.map = [start, number + 1]
            token.content = state.getLines(start, number + 1, state.blkIndent, True)
            state.line = number + 1
            return True
    return False


def _line(state: StateBlock, number: int) -> str:
    """A line without indentation and blanks behind."""
    return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]].rstrip()
