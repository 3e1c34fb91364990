"""
For people who write checks: a check is a plain pytest test with an id.

::

    @check("prep.scaling", step=5, hint="Convert to float32, then divide by 255 once, both sets.")
    def test_pixels_are_scaled(observed, saw):
        \"\"\"Pixel values of both sets lie between 0.0 and 1.0.\"\"\"

The docstring says what is wanted. `Saw` notes what was found, whether the check passes or fails.
A fixture that skips makes the check *not-reached*; any exception but a failed assertion makes it
*broken*, which costs nobody a mark.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import pytest

Test = TypeVar("Test", bound=Callable[..., None])

__all__ = ["Saw", "check", "not_reached"]


def check(
    check_id: str, *, step: int, hint: str, is_lasting: bool = False
) -> Callable[[Test], Test]:
    """
    Mark a test as a check.

    Args:
        check_id: Stable and public, as in the workshop's rubric: ``prep.scaling``.
        step: The Task of the lab that it belongs to.
        hint: What a learner who fails should look at next; never the solution.
        is_lasting: Whether what it asks about is there to see at any time, as the layers of a
            network are. Where nbassay was loaded after some cells, other checks do not fail: what
            they miss may have been there.
    """

    def mark(test: Test) -> Test:
        marked: Test = pytest.mark.assay(id=check_id, step=step, hint=hint, is_lasting=is_lasting)(
            test
        )
        return marked

    return mark


def not_reached(reason: str) -> None:
    """Say that what a check asks about never came to be (raises)."""
    pytest.skip(reason)


@dataclasses.dataclass
class Saw:
    """Takes notes of what was found, in words a learner reads."""

    notes: list[str] = dataclasses.field(default_factory=list)
    numbers: dict[str, str] = dataclasses.field(default_factory=dict)

    def __call__(self, text: str) -> None:
        """Note one finding; notes are shown in this order."""
        self.notes.append(text)

    def number(self, label: str, value: str) -> None:
        """Note a figure that the report shows beside the reference's."""
        self.numbers[label] = value
