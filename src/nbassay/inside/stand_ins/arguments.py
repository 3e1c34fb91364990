"""Reading another program's command line as far as a stand-in needs it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable


def tolerant_parser(*, with_value: Iterable[str] = (), flags: str = "") -> argparse.ArgumentParser:
    """
    A parser for ``parse_known_args``: what is left over are words and options nobody asked for.

    Args:
        with_value: Options whose value must not be taken for a word.
        flags: Letters of options without a value, so that they may stand together (``-fsSLO``).
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for number, option in enumerate(with_value):
        parser.add_argument(option, action="append", dest=f"with_value_{number}")
    for letter in flags:
        parser.add_argument(f"-{letter}", action="store_true", dest=f"flag_{ord(letter)}")
    return parser


def words(left_over: Iterable[str]) -> list[str]:
    """Of what a parser did not know: all that is no option."""
    return [word for word in left_over if not word.startswith("-")]
