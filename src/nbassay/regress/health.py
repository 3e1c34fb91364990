"""The health of a page: numbering, images, links, fences and tags."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from nbassay.labpage import Page, Place
from nbassay.labpage.page import Heading, Reference, Step
from nbassay.labpage.source import inside, is_remote
from nbassay.regress.report import Finding, finding

_SCHEMES = re.compile(r"(?i)(https?|mailto|youtube|videohub|video|include|var|data|ftp):|//|\?")
_NOT_IN_ANCHOR = re.compile(r"[^[A-Za-z0-9:?()]+")
"""What LiveLabs takes out of a heading to make its anchor."""


NEXT = "next"
"""The anchor that LiveLabs makes a link to the next lab of."""


def health(page: Page) -> Iterator[Finding]:
    """
    What is wrong with a page before any of it runs.

    Raises:
        PageError: A link leaves the folder of the workshop.
    """
    for flaw in page.flaws:
        yield finding(flaw.kind, flaw.place, flaw.text)
    yield from _tasks(page)
    yield from _steps(page)
    for reference in page.references:
        yield from _reference(reference, page)


def _tasks(page: Page) -> Iterator[Finding]:
    numbered = [one for one in page.headings if one.task is not None]
    if sum(one.level == 1 for one in numbered) == 1:  # “Part 3: Networks” titles the page
        numbered = [one for one in numbered if one.level > 1]
    level = min((one.level for one in numbered), default=0)
    seen: list[Heading] = [one for one in numbered if one.level == level]
    for before, this in zip([None, *seen], seen, strict=False):
        told = _odd_number(before, this)
        if told is not None:
            yield finding("task-numbers", this.place, told)


def _odd_number(before: Heading | None, this: Heading) -> str | None:
    word, number, letter = this.task or ("", 0, "")
    if before is None:
        return None if number <= 1 else f"the first {word} has number {number}"
    _word, last, last_letter = before.task or ("", 0, "")
    if number == last + 1 or (number == last and letter > last_letter):
        return None
    if number == last:
        return f"{word} {number}{letter} comes twice"
    return f"{word} {number} comes after {last}"


def _steps(page: Page) -> Iterator[Finding]:
    """Numbers of steps: below one heading for those of a task, within one list for inner ones."""
    ends = [one.place.index for one in page.headings if one.level <= 2]
    inner = [one.place.index for one in page.headings if one.level > 2]
    groups: dict[tuple[int, int], list[Step]] = {}
    for step in page.steps:
        section = sum(end <= step.place.index for end in ends)
        key = (section, 0) if step.depth == 1 else (section, step.run)
        groups.setdefault(key, []).append(step)
    for steps in groups.values():
        yield from _numbering(steps, inner)


def _numbering(steps: Sequence[Step], inner: Sequence[int]) -> Iterator[Finding]:
    """Numbers of one list; below an inner heading they may go on or begin again."""
    numbers = [step.number for step in steps]
    if len(numbers) > 1 and set(numbers) == {1} and len({step.run for step in steps}) == 1:
        return  # 1. 1. 1.: Markdown counts by itself
    if numbers[0] not in (0, 1):
        yield finding(
            "step-numbers", steps[0].place, f"the first step here has number {numbers[0]}, not 1"
        )
    for before, this in itertools.pairwise(steps):
        begins_again = this.number == 1 and any(
            before.place.index < one < this.place.index for one in inner
        )
        if this.number == before.number + 1 or begins_again:
            continue
        if this.number == before.number:
            told = f"step {this.number} comes twice"
        elif this.number == 1 and before.run != this.run:
            told = f"numbering starts again at 1 after step {before.number}"
        else:
            told = f"step {this.number} comes after step {before.number}"
        yield finding("step-numbers", this.place, told)


def _reference(reference: Reference, page: Page) -> Iterator[Finding]:
    target, place = reference.target, reference.place
    if reference.kind == "image" and not reference.text.strip():
        yield finding("alt-text", place, f"the image {target} has no alternative text")
    if _SCHEMES.match(target) or is_remote(target) or page.source.path is None:
        return
    path, _, anchor = target.partition("#")
    path = unquote(path.partition("?")[0]).replace("\\", "/")
    if not path:
        if anchor and not _has_anchor(page, anchor):
            yield finding("link-broken", place, f"no heading of the page has the anchor #{anchor}")
        return
    if path.startswith("/"):
        return  # of the server that the page will be on
    folder = Path(place.file).resolve().parent
    goal = inside(page.source.root, folder, path, place)
    yield from _file(reference, goal, place)


def _file(reference: Reference, goal: Path, place: Place) -> Iterator[Finding]:
    is_image = reference.kind == "image"
    other = _other_case(goal)
    if other is not None:
        yield finding(
            "image-case" if is_image else "link-broken",
            place,
            f"{reference.target} is spelt {other} on disk; it is found only where case does not "
            "matter",
            change=reference.target,
        )
    elif not goal.exists():
        what = "image" if is_image else "link"
        yield finding(
            f"{what}-missing" if is_image else "link-broken",
            place,
            f"the {what} {reference.target} leads to no file",
            change=reference.target,
        )


def _other_case(goal: Path) -> str | None:
    """How a path is really spelt, if it is there in other case only; None otherwise."""
    path = Path(goal.anchor)
    differs = False
    for part in goal.parts[1:]:
        try:
            names = {one.name for one in path.iterdir()}
        except OSError:
            return None
        if part not in names:
            alike = sorted(name for name in names if name.casefold() == part.casefold())
            if not alike:
                return None
            part, differs = alike[0], True
        path /= part
    return path.name if differs else None


def _has_anchor(page: Page, anchor: str) -> bool:
    """Whether a heading has this anchor, as LiveLabs or as GitHub makes it."""
    wanted = unquote(anchor)
    if wanted == NEXT:
        return True
    for heading in page.headings:
        github = re.sub(r"[^\w\- ]", "", heading.text.lower()).replace(" ", "-")
        if wanted in (github, _NOT_IN_ANCHOR.sub("", heading.text)):
            return True
    return False
