"""
Words and numbers as a person reads them.

Everything that a learner wrote passes through `visible` before it reaches a page, a file or a
terminal. Escaping for the format itself (HTML, XML, CSV) is the format's own business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Context, Decimal

NO_BREAK_SPACE = "\u00a0"

# Colours and cursor movements of terminals: tracebacks are full of them, and they say nothing.
_ANSI = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: window titles, links
)
_UNSAFE = re.compile(
    "["
    r"\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but for tab and line end
    r"\ud800-\udfff"  # halves of characters
    # Letters cannot be told from what they pretend to be once these reorder the line.
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    # Nothing is seen of these, and two texts that look alike are not. The joiners U+200C and U+200D
    # stay: scripts and emoji are written with them.
    r"\u00ad\u180e\u200b\u2028\u2029\u2060-\u2064\ufeff"
    r"\U000e0000-\U000e007f"  # tags: a hidden alphabet
    + "".join(
        f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000)
    )
    + "]"  # the last two of each plane are no characters
)


def visible(text: str, *, limit: int = 4000) -> str:
    """
    Show what is there, and nothing that acts: no control character survives as itself.

    Args:
        text: Any text, learners' included.
        limit: Most characters that are kept; what follows is cut, and the cut is said.

    Returns:
        The text with terminal colours removed, line ends as ``\\n``, and control characters,
        direction overrides, invisible characters and lone surrogates by their number:
        ``⟨U+001B⟩``.
    """
    if len(text) <= limit and text.isprintable():  # nearly every text; nothing of the rest is
        return text
    text = _ANSI.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    was_cut = len(text) > limit
    shown = _UNSAFE.sub(_number_of, text[:limit])
    return f"{shown} … (cut)" if was_cut else shown


def one_line(text: str, *, limit: int = 1000) -> str:
    """Like `visible`, with every run of blanks and line ends as one space."""
    return " ".join(visible(text, limit=limit).split())


def _number_of(found: re.Match[str]) -> str:
    return f"⟨U+{ord(found.group()):04X}⟩"


def number(value: float, *, decimals: int = 2) -> str:
    """A number with at most *decimals* places and no needless zeros: ``97``, ``2.5``."""
    if not math.isfinite(value):
        return str(value)
    text = _rounded(_decimal(value), decimals)
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def percent(fraction: float, *, decimals: int = 2) -> str:
    """A fraction as a percentage with fixed places: 0.9641 is ``96.41 %``."""
    if not math.isfinite(fraction):
        return f"{fraction}{NO_BREAK_SPACE}%"
    return f"{_rounded(_decimal(fraction) * 100, decimals)}{NO_BREAK_SPACE}%"


# No float is so large that its digits and two places need more.
_PRECISE = Context(prec=400, rounding=ROUND_HALF_UP)


def _decimal(value: float) -> Decimal:
    """The number as it is written, not the binary fraction that is nearest to it."""
    return Decimal(repr(float(value)))


def _rounded(value: Decimal, decimals: int) -> str:
    """Halves go up, as everybody learned at school: 61.25 is 61.3."""
    return f"{value.quantize(Decimal(1).scaleb(-decimals), context=_PRECISE):f}"


def plural(count: float, one: str, many: str | None = None) -> str:
    """``1 point``, ``2 points``, ``0.5 points``."""
    word = one if count == 1 else many or f"{one}s"
    return f"{number(count)}{NO_BREAK_SPACE}{word}"


def with_article(class_number: int) -> str:
    """A class as it is said aloud: ``a 4``, ``an 8``, ``an 11``."""
    said = str(class_number)
    starts_with_vowel = said.startswith("8") or said in ("11", "18")
    return f"{'an' if starts_with_vowel else 'a'} {said}"


def listed(items: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


_UNITS = {"_s": "s", "_mb": "MB", "_bytes": "bytes"}
_LIMITS = {
    "cell": "one cell",
    "notebook": "whole notebook",
    "cpu": "processor time",
    "memory": "memory",
    "processes": "processes and threads",
    "file": "one file",
    "disk": "one writable folder",
    "output": "outputs",
    "evidence": "evidence",
}


def limit_text(name: str, value: float) -> tuple[str, str]:
    """
    One limit of the sandbox in words.

    Args:
        name: Key of the limits, with its unit at the end: ``notebook_s``, ``memory_mb``.
        value: In that unit.

    Returns:
        What is limited and to how much: ``("whole notebook", "900 s")``.
    """
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix):
            key = name[: -len(suffix)]
            return _limit_name(key), f"{number(value)}{NO_BREAK_SPACE}{unit}"
    return _limit_name(name), number(value)


def _limit_name(key: str) -> str:
    return _LIMITS.get(key, key.replace("_", " "))
