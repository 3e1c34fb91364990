"""Reading another program's command line as far as a stand-in needs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """A command line, taken apart."""

    words: list[str]
    """All that is no option, ``-`` included."""
    options: list[tuple[str, str]]
    """Options in their order with their values; "" for those that have none."""

    def has(self, *names: str) -> bool:
        """Whether one of *names* was given."""
        return any(name in names for name, _value in self.options)

    def values(self, *names: str) -> list[str]:
        """Values of the options called one of *names*, in their order."""
        return [value for name, value in self.options if name in names]


def take_apart(arguments: Sequence[str], with_value: str) -> Arguments:
    """
    Take a command line apart; an option that nobody knows is one without a value.

    Args:
        with_value: Options that take a value, apart by spaces: ``-o --output``. Letters may stand
            together (``-fsSLo FILE``), and a value may follow at once (``-oFILE``,
            ``--output=FILE``).
    """
    takes_value = set(with_value.split())
    words: list[str] = []
    options: list[tuple[str, str]] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word == "--":
            words += left
            break
        if word.startswith("--"):
            name, is_joined, value = word.partition("=")
            if not is_joined and name in takes_value and left:
                value = left.pop(0)
            options.append((name, value))
        elif word.startswith("-") and word != "-":
            letters = word[1:]
            while letters:
                name, letters = f"-{letters[0]}", letters[1:]
                if name not in takes_value:
                    options.append((name, ""))
                    continue
                options.append((name, letters or (left.pop(0) if left else "")))
                break
        else:
            words.append(word)
    return Arguments(words=words, options=options)
