"""Names: what code uses before it defines it, and what the text names that no code has."""

from __future__ import annotations

import ast
import bisect
import builtins
import difflib
import functools
import importlib.util
import keyword
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from pyflakes.checker import Checker
from pyflakes.messages import UndefinedLocal, UndefinedName

from nbassay.labpage import Page, Place
from nbassay.labpage.code import NO_LANGUAGE, defined_names, python_of, transformed
from nbassay.regress.report import Finding, finding

OF_IPYTHON = frozenset({"get_ipython", "display", "In", "Out", "_", "__", "___", "exit", "quit"})
ALIKE = 0.8
"""How alike a word and a name must be for the one to be the other misspelt, 0..1."""
MOST_SLIPS = 2
"""Characters that may be wrong, missing or too many in it; two that changed places are two."""
MOST_LIBRARY_BYTES = 60 << 20

_IDENTIFIER = re.compile(r"([A-Za-z_]\w*)((?:\.\w+)*)(?:\(.*\)|\[.*\])*")
_FILE = re.compile(
    r"\.(?:conf|csv|env|html?|ipynb|json|log|md|png|py|sh|sql|toml|txt|xml|ya?ml|zip)$"
)
_WORD = re.compile(r"[A-Za-z_]\w*")


def code_findings(page: Page) -> Iterator[Finding]:
    """Code that does not parse, and names that it uses before they are defined."""
    lines: list[str] = []
    cell_of: dict[int, int] = {}  # line of the whole → cell, 0 first
    defined: list[set[str]] = []
    for number, cell in enumerate(page.cells):
        tree = python_of(cell.source)
        if tree is None:
            yield finding("code-syntax", cell.place, _syntax_error(cell.source), cell=number + 1)
            defined.append(set())
            continue
        defined.append(set(defined_names(tree)))
        text = ast.unparse(tree)
        for _line in text.split("\n"):
            lines.append(_line)
            cell_of[len(lines)] = number
    try:
        checker = Checker(ast.parse("\n".join(lines)), builtins=OF_IPYTHON)
    except (RecursionError, ValueError, SyntaxError):  # more than pyflakes can take
        return
    told: set[tuple[int, str]] = set()
    for message in sorted(checker.messages, key=lambda one: one.lineno):
        if not isinstance(message, (UndefinedName, UndefinedLocal)):
            continue
        name = str(message.message_args[0])
        number = cell_of.get(message.lineno, 0)
        if (number, name) in told:
            continue
        told.add((number, name))
        later = next(
            (one + 1 for one in range(number + 1, len(defined)) if name in defined[one]), None
        )
        why = f"only cell {later} defines it" if later else "no cell defines it"
        yield finding(
            "name-undefined",
            page.cells[number].place,
            f"cell {number + 1} uses {name}, but {why}",
            cell=number + 1,
            change=name,
        )


def text_findings(page: Page) -> Iterator[Finding]:
    """
    Names between backticks in the text that no code has.

    A misspelt name is told wherever it stands. One that nothing has is told only where the text can
    hardly mean anything but Python: no file and not all capitals, below a heading that has cells
    and no code in another language (or, where the page has no other language, like a name of the
    code), on a page whose libraries are all there to be searched. Most of what the texts of labs
    name are tables, columns, settings and tools.
    """
    defined: set[str] = set()
    known: set[str] = {*dir(builtins), *keyword.kwlist, *OF_IPYTHON}
    imported: set[str] = set()
    for cell in page.cells:
        tree = python_of(cell.source)
        if tree is not None:
            defined |= set(defined_names(tree))
            imported |= set(_imported(tree))
    for block in page.blocks:
        known |= set(_WORD.findall(block.text))
    are_installed = all(_is_installed(module) for module in imported)
    of_python = _is_of_python(page, defined)
    told: set[str] = set()
    for paragraph in page.paragraphs:
        for piece in paragraph.pieces:
            match = _IDENTIFIER.fullmatch(piece.text.strip()) if piece.kind == "code" else None
            if match is None:
                continue
            name = match[1]
            words = {name, *match[2].split(".")} - {""}
            if words <= known | defined or name in told or name in imported:
                continue
            unknown = next(
                word
                for word in (name, *match[2].split("."))
                if word and word not in known | defined
            )
            if unknown == name and (close := _close(name, defined)):
                told.add(name)
                yield finding(
                    "name-misspelt",
                    piece.place,
                    f"the text names {name}; the code has {close}",
                    change=piece.text,
                )
            elif (
                _looks_like_a_name(unknown)
                and not unknown.isupper()
                and not _FILE.search(piece.text.strip())
                and are_installed
                and of_python(piece.place, unknown)
                and unknown not in _library_words(tuple(sorted(imported)))
            ):
                told.add(name)
                yield finding(
                    "name-in-text",
                    piece.place,
                    f"the text names {unknown}, which no code of the page and none of the "
                    "libraries that it imports has",
                    change=piece.text,
                )


def _is_of_python(page: Page, defined: set[str]) -> Callable[[Place, str], bool]:
    """
    Tells of a place and a name there whether it can hardly be of another language.

    Its heading has cells, and no code in another one; or no heading has, and the name begins or
    ends as one that the page defines.
    """
    headings = [heading.place.index for heading in page.headings]

    def section(place: Place) -> int:
        return bisect.bisect_right(headings, place.index)

    ends = set().union(*map(_ends, defined))
    has_cells = {section(cell.place) for cell in page.cells}
    has_others = {
        section(block.place)
        for block in page.blocks
        if block.role != "cell" and (block.copied is not None or block.language not in NO_LANGUAGE)
    }
    return lambda place, name: (
        section(place) in has_cells - has_others or (not has_others and bool(ends & _ends(name)))
    )


def _close(name: str, defined: set[str]) -> str | None:
    """The name of the code that a word is most likely meant to be."""
    if len(name) < 4:
        return None
    found = difflib.get_close_matches(name, sorted(defined - {name}), n=1, cutoff=ALIKE)
    if found and _slips(name, found[0]) <= MOST_SLIPS and not _differ_by_meaning(name, found[0]):
        return found[0]
    return None


def _slips(name: str, other: str) -> int:
    changes = difflib.SequenceMatcher(None, name, other, autojunk=False).get_opcodes()
    return sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in changes if tag != "equal")


def _differ_by_meaning(name: str, other: str) -> bool:
    """Whether two names differ by a number or case only; or an ordinary word begins the other."""
    return (
        re.sub(r"\d", "", name) == re.sub(r"\d", "", other)
        or name.casefold() == other.casefold()
        or (
            not _looks_like_a_name(name)
            and (other.startswith(name) or name.rstrip("s") == other.rstrip("s"))
        )
    )


def _looks_like_a_name(word: str) -> bool:
    """Whether it can hardly be an ordinary word: ``x_valid``, ``myModel``."""
    return "_" in word.strip("_") or re.match(r"[a-z]+[A-Z]", word) is not None


def _ends(name: str) -> set[str]:
    """The first and the last part of a name: ``x`` and ``train`` of ``x_train``."""
    parts = name.strip("_").split("_")
    return {parts[0], parts[-1]}


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


@functools.cache
def _library_words(modules: tuple[str, ...]) -> frozenset[str]:
    """All words in the sources of installed packages; nothing of them is imported."""
    words: set[str] = set()
    left = MOST_LIBRARY_BYTES
    for module in modules:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            continue
        if spec is None or spec.origin is None:
            continue
        origin = Path(spec.origin)
        files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
        for file in files:
            if "tests" in file.parts or left <= 0:
                continue
            try:
                text = file.read_text("utf-8", errors="ignore")
            except OSError:
                continue
            left -= len(text)
            words.update(_WORD.findall(text))
    return frozenset(words)


def _syntax_error(source: str) -> str:
    try:
        ast.parse(transformed(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        where = f" in its line {line}" if line else ""
        return f"the cell does not parse: {getattr(error, 'msg', None) or error}{where}"
    return "the cell has more magics than can be read"
