"""Numbers as texts write them: ``60,000``, ``0.96``, ``96 %``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

_NUMBER = re.compile(
    r"(?<!\w)(?<!\w[.,])[-+−]?(?P<digits>\d{1,3}(?:[,\u00a0\u202f]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
    r"(?P<percent>[\s\u00a0\u202f]?(?:%|per ?cent\b))?(?![\w]|\.\d|,\d)"
)
_NOT_A_CLAIM = re.compile(
    r"(?i)\b(?:task|step|lab|part|exercise|figure|table|chapter|section|version|python|keras|"
    r"tensorflow|numpy)\s*$"
)
"""What before a number makes it a name: “Task 5”, “Python 3.10”."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Number:
    """A number in a text."""

    text: str
    """As it is written."""
    value: float
    step: float
    """One in its last place: 0.01 for ``0.96`` and ``96 %``, 1 for ``60,000``."""

    def is_about(self, value: float) -> bool:
        """Whether *value*, rounded to as many places, is this number."""
        return abs(self.value - value) <= self.step / 2 + 1e-9 * max(1.0, abs(value))


def numbers_in(text: str) -> Iterator[Number]:
    """Numbers of a text, those aside that are part of a name or count tasks."""
    for match in _NUMBER.finditer(text):
        if _NOT_A_CLAIM.search(text[: match.start()]):
            continue
        yield number_of(match[0].strip())


def number_of(text: str) -> Number:
    """
    One number.

    Raises:
        ValueError: It is none.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no number")
    digits = re.sub("[,\u00a0\u202f]", "", match["digits"])
    places = len(digits.partition(".")[2])
    sign = -1 if text[0] in "-−" else 1
    scale = 0.01 if match["percent"] else 1.0
    return Number(
        text=text, value=round(sign * float(digits) * scale, 12), step=10.0**-places * scale
    )
