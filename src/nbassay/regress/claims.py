"""
Claims: what the author of a page marked as testable, in comments that begin with ``nbassay:``.

::

    You should see `(60000, 784)`.   <!-- nbassay: shape x_train = (60000, 784) -->

A comment is about the last cell before it. It may hold several claims, one a line or between
semicolons. docs/regress.md has all kinds.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

from nbassay.labpage import Page, PageError, Place
from nbassay.labpage.page import CLAIM, Paragraph, is_claim
from nbassay.regress.numbers import Number, number_of, numbers_in
from nbassay.regress.report import Finding, Unchecked, finding

ClaimKind = Literal["shape", "value", "output", "accuracy", "time", "picture", "once", "known"]

TIMES: dict[str, float] = {
    "a moment": 2,
    "a few seconds": 15,
    "half a minute": 40,
    "under a minute": 60,
    "a minute": 90,
    "a few minutes": 300,
    "ten minutes": 720,
    "half an hour": 2100,
}
"""Running time class → seconds that it may take at most on the machine at hand."""
SLOWER = 3.0
"""How much longer than a time in seconds a cell may take: machines differ."""

FORMS = {
    "shape": "shape NAME = (60000, 784)",
    "value": "value EXPRESSION = 0.96, or … = 0.96 ± 0.01",
    "output": 'output "float32 0.0 1.0"',
    "accuracy": "accuracy CHECK, or accuracy CHECK = 0.96",
    "time": f"time 20 s, or time and one of: {', '.join(TIMES)}",
    "picture": "picture",
    "once": "once",
    "known": "known",
}
_OPENED = re.compile(rf"(?i)<!--\s*{CLAIM}")
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)\s*(?:s|seconds?)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim, parsed."""

    kind: ClaimKind
    place: Place
    cell: int | None
    """Which pasted cell it is about, 0 first; None for ``known``."""
    text: str
    """As it is written."""
    subject: str = ""
    """An expression, the id of a check, the text of an output, a running time class."""
    expected: Any = None
    """A shape, a value, seconds."""
    tolerance: float | None = None
    """Half the width of what a value may be; None: it must be equal, or round to what is given."""

    @property
    def numbers(self) -> list[Number]:
        """The numbers that the claim is about."""
        if self.kind == "output":
            return [*numbers_in(self.subject)]
        if self.kind == "time" or self.expected is None:
            return []
        if isinstance(self.expected, float):
            _left, _equals, right = self.text.rpartition("=")
            return [*numbers_in(right.replace("+-", "±").partition("±")[0])][:1]
        values = self.expected if isinstance(self.expected, (tuple, list)) else [self.expected]
        return [
            Number(text=str(one), value=float(one), step=1.0)
            for one in values
            if isinstance(one, (int, float)) and not isinstance(one, bool)
        ]


def read_claims(page: Page, *, checks: Collection[str]) -> list[Claim]:
    """
    All claims of a page, in reading order.

    Args:
        checks: Ids that ``accuracy`` may name.

    Raises:
        PageError: One does not parse, or has no cell to be about.
    """
    claims: list[Claim] = []
    for paragraph in page.paragraphs:
        for place, text in _texts(paragraph):
            claims.append(_claim(text, place, page, checks))
    return claims


def _texts(paragraph: Paragraph) -> Iterator[tuple[Place, str]]:
    """
    Each claim's text in the comments of a paragraph.

    Raises:
        PageError: A comment is never closed.
    """
    for piece in paragraph.pieces:
        if piece.kind == "text" and _OPENED.search(piece.text):
            raise PageError(piece.place, expected="--> after a claim", found="none below it")
        if piece.kind != "comment" or not is_claim(piece.text):
            continue
        body = piece.text.strip().removeprefix("<!--")
        body = body[body.lower().index(CLAIM) + len(CLAIM) :]
        skipped = piece.text[: piece.text.index(body)].count("\n") if body in piece.text else 0
        body = body.partition("-->")[0]
        for number, line in enumerate(body.split("\n")):
            place = dataclasses.replace(
                piece.place,
                line=piece.place.line + skipped + number,
                index=piece.place.index + skipped + number,
            )
            for text in _between_semicolons(line):
                if text.strip():
                    yield place, " ".join(text.split())


def _between_semicolons(line: str) -> list[str]:
    """Parts of a line; a semicolon inside quotes parts nothing."""
    return re.findall(r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^;])+""", line)


def _claim(text: str, place: Place, page: Page, checks: Collection[str]) -> Claim:
    word, _, rest = text.partition(" ")
    rest = rest.strip()
    if word not in FORMS:
        raise PageError(
            place, expected=f"a claim that begins with {', '.join(FORMS)}", found=repr(text)
        )
    kind: ClaimKind = word  # type: ignore[assignment]
    before = [n for n, cell in enumerate(page.cells) if cell.place.index < place.index]
    if not before and kind != "known":
        raise PageError(place, expected="a cell before a claim", found=f"{text!r} before the first")
    bare = Claim(kind=kind, place=place, cell=None if kind == "known" else before[-1], text=text)
    try:
        return _filled(bare, rest, checks)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise PageError(
            place, expected=f"a claim of the form {FORMS[kind]!r}", found=f"{text!r} ({error})"
        ) from None


def _filled(bare: Claim, rest: str, checks: Collection[str]) -> Claim:
    """
    A claim with its parts.

    Raises:
        ValueError, SyntaxError: It has other parts.
    """
    match bare.kind:
        case "once" | "picture" | "known":
            if rest and bare.kind != "known":
                raise ValueError(f"{bare.kind} stands alone")
            return bare
        case "output":
            subject = _literal(rest)
            if not isinstance(subject, str) or not subject.strip():
                raise ValueError("no text between quotes")
            return dataclasses.replace(bare, subject=subject)
        case "time":
            return dataclasses.replace(bare, subject=rest, expected=_most_seconds(rest))
        case "accuracy":
            subject, equals, value = rest.partition("=")
            subject = subject.strip()
            if subject not in checks:
                raise ValueError(
                    f"no accuracy is called {subject!r}: {', '.join(checks) or 'none'}"
                )
            expected = number_of(value.strip()).value if equals else None
            return dataclasses.replace(bare, subject=subject, expected=expected)
    subject, equals, value = rest.rpartition(" = ")
    if not equals:
        raise ValueError("without ' = '")
    ast.parse(subject.strip(), mode="eval")
    value, between, width = value.replace("+-", "±").partition("±")
    tolerance = number_of(width.strip()).value if between else None
    expected = _expected(value.strip())
    if bare.kind == "shape" and not (
        isinstance(expected, tuple) and all(isinstance(one, int) for one in expected)
    ):
        raise ValueError(f"{value.strip()} is no shape")
    if tolerance is None and bare.kind == "value" and isinstance(expected, float):
        tolerance = number_of(value.strip()).step / 2
    return dataclasses.replace(
        bare, subject=subject.strip(), expected=expected, tolerance=tolerance
    )


def _expected(text: str) -> Any:
    try:
        number = number_of(text)
    except ValueError:
        return _literal(text)
    return int(number.value) if number.step >= 1 else number.value


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise ValueError("it is neither a number, a text in quotes, nor a list of them") from None


def _most_seconds(text: str) -> float:
    if text in TIMES:
        return TIMES[text]
    match = _SECONDS.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no running time")
    return float(match[1]) * SLOWER


# ---------------------------------------------------------------- claims and the text beside them


def beside(page: Page, claims: Sequence[Claim]) -> tuple[list[Finding], list[Unchecked]]:
    """
    Claims whose number the text beside them does not say, and numbers that no claim is about.

    Beside a claim is the paragraph that it stands in; if it stands alone, the one before it.
    """
    findings: list[Finding] = []
    unchecked: list[Unchecked] = []
    by_index: dict[int, list[Claim]] = {}
    for claim in claims:
        by_index.setdefault(claim.place.index, []).append(claim)
    for paragraph, about in _with_claims(page.paragraphs, by_index):
        told = [*_numbers(paragraph)]
        if any(claim.kind == "known" for claim in about):
            continue
        covered = [one for claim in about for one in (*claim.numbers, *_of_time(claim))]
        left = [one.text for one in told if not any(_says(one, claimed) for claimed in covered)]
        if not left:
            continue
        unchecked.append(
            Unchecked(
                file=paragraph.place.file,
                line=paragraph.place.line,
                numbers=list(dict.fromkeys(left)),
            )
        )
        for claim in about:
            missing = [
                one.text
                for one in claim.numbers
                if not any(_says(written, one) for written in told)
            ]
            if missing:
                findings.append(
                    finding(
                        "claim-not-in-text",
                        paragraph.place,
                        f"the text says {', '.join(left)}; the claim beside it is about "
                        f"{', '.join(missing)} ({claim.text})",
                        cell=None if claim.cell is None else claim.cell + 1,
                    )
                )
    return findings, unchecked


def _of_time(claim: Claim) -> list[Number]:
    """The seconds that a claim is about."""
    return [*numbers_in(claim.subject.replace("s", " "))] if claim.kind == "time" else []


def _says(told: Number, claimed: Number) -> bool:
    """Whether a number of the text is the claimed one, perhaps in fewer places."""
    return told.step >= claimed.step * 0.999 and told.is_about(claimed.value)


def _numbers(paragraph: Paragraph) -> Iterator[Number]:
    for piece in paragraph.pieces:
        if piece.kind != "comment":
            text = piece.text.replace(",", ", ") if piece.kind == "code" else piece.text
            yield from numbers_in(text)


def _with_claims(
    paragraphs: Sequence[Paragraph], by_index: dict[int, list[Claim]]
) -> Iterator[tuple[Paragraph, list[Claim]]]:
    """Each paragraph of text with the claims beside it."""
    last: tuple[Paragraph, list[Claim]] | None = None
    for paragraph in paragraphs:
        about = [
            claim
            for piece in paragraph.pieces
            if piece.kind == "comment"
            for offset in range(piece.text.count("\n") + 1)
            for claim in by_index.get(piece.place.index + offset, [])
        ]
        if all(piece.kind == "comment" for piece in paragraph.pieces) and paragraph.pieces:
            if last is not None:
                last[1].extend(about)
            continue
        if last is not None:
            yield last
        last = (paragraph, about)
    if last is not None:
        yield last
