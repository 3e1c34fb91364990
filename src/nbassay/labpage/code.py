"""
What a fenced block puts into a learner's notebook.

* LiveLabs gives a block with ``<copy>`` one button. It copies what stands between the tags; of
  several pairs the texts, one below the other. So a block is one cell, however many pairs it has.
* A block whose language is Python is a cell if it has tags. Without tags it is only shown, unless
  no Python block of the page has any: then all of them are cells.
* A block without language is a cell if it has tags and reads as Python (`reads_as_python`); on a
  page with neither tags nor languages, if it holds a statement of Python. Where other blocks are
  Python, one that does not parse is a cell if a line can be nothing else (`_means_python`): its
  author would want to know. ``text`` is no language.
* A block in any other language is a cell if a learner would paste it into a notebook all the same:
  tagged, and every line begins with ``!`` or ``%``, or the first with ``%%``. Otherwise it is for
  a terminal or only shown. On a page of SQL and no Python, ``!`` is SQL*Plus's, unless
  for ``pip`` and its kin.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import functools
import re
import textwrap
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from nbassay.labpage.markdown import CLOSE, OPEN
from nbassay.labpage.source import Flaw, Place

PYTHON = frozenset(
    {"python", "python2", "python3", "py", "py3", "ipython", "ipython3", "ipynb", "jupyter"}
    | {"notebook", "code-cell"}
)
NO_LANGUAGE = frozenset({"", "text", "txt", "plain", "plaintext", "nohighlight", "none"})
MOST_MAGICS = 200
"""Lines of a cell that IPython translates; it takes seconds for more."""

Role = Literal["cell", "shown"]

_LANGUAGE = re.compile(r"\{?\.?([\w+#-]+)")
_TAG = re.compile("</?copy>")
_ENTITY = re.compile(r"&(lt|gt|amp|quot|#39);")
_ENTITIES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "#39": "'"}
_ESCAPED = re.compile(r"^\s*(?:[\w.]+\s*=\s*)?[%!]", re.MULTILINE)
_SETTING = re.compile(r"""(?:export\s+)?[A-Z][A-Z0-9_]*=(?:"[^"]*\$[^"]*"|\S*)""")
_ONLY_PYTHON = re.compile(
    r"(?:import [\w.]+(?: as \w+)?(?:, *[\w.]+(?: as \w+)?)*|from [\w.]+ import\b.*"
    r"|def \w+\(.*|class \w+(?:\(.*\))?:|for [\w, ]+ in .*:|with .+ as \w+:)\s*"
)
_CALLED_OR_SET = re.compile(r"([A-Za-z_]\w*)(?:[.\[(]| [-+*/]?= )")
_SET_TO = re.compile(r"[\w.\[\], ]+ = ")
_AUTOCALL = re.compile(r"^\s*[/,;]", re.MULTILINE)
"""What IPython takes for a call in short: ``/exit`` and ``/u01/run.sh``, too."""
_OTHER_PARAGRAPH = re.compile(
    r"%(?:md\b|(?:r|sql|script|conda|sh|html|scala|spark|java|[\w-]*(?<!python)-pgx)\s*(?:\n|\Z))"
)
"""How notebooks of the Zeppelin kind begin a paragraph that is not Python."""
_SQL = re.compile(r"(?i)\s*(?:SQL>|sqlplus\b|(?:select|alter|create|connect|show|begin)\s)")
_INSTALLS = re.compile(r"[!%]\s*(?:pip3?|conda|mamba|uv|python3?|jupyter)\b|%%")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page."""

    place: Place
    end: int
    """Index of the first line after it."""
    language: str
    """Lower case; empty when none is named."""
    text: str
    """Between the fences, without the indentation of the page."""
    copied: str | None
    """What its button copies; None when it has none."""
    is_closed: bool
    role: Role = "shown"

    @property
    def pasted(self) -> str:
        """The source of its cell, whether it is one or not."""
        return clean(self.text if self.copied is None else self.copied)


def language_of(info: str) -> str:
    """The language that follows a fence: ``python`` of ``{.python}`` and ``Python title=x``."""
    match = _LANGUAGE.match(info)
    return match[1].lower() if match else ""


def copied_of(text: str) -> str | None:
    """
    What the button of a block copies; None when it has none.

    A ``<copy>`` without its end reaches to the next one or the block's end; a lost ``</copy>``
    says nothing.
    """
    pieces: list[str] = []
    opened: int | None = None
    for match in _TAG.finditer(text):
        if opened is not None:
            pieces.append(text[opened : match.start()])
        opened = match.end() if match[0] == OPEN else None
    if opened is not None:
        pieces.append(text[opened:])
    if not pieces:
        return None
    return "\n".join(_trimmed(piece) for piece in pieces)


def tag_flaws(block: Block) -> Iterator[Flaw]:
    """What is wrong with a block's fences and tags."""
    if not block.is_closed:
        yield Flaw(
            kind="unclosed-fence",
            place=block.place,
            text="the block that begins here is never closed: expected a line of ``` after it",
        )
    is_open = False
    for match in _TAG.finditer(block.text):
        if (match[0] == OPEN) == is_open:
            what = f"{OPEN} inside {OPEN}" if is_open else f"{CLOSE} without {OPEN}"
            yield Flaw(
                kind="copy-tags", place=block.place, text=f"the block that begins here has {what}"
            )
        is_open = match[0] == OPEN
    if is_open:
        yield Flaw(
            kind="copy-tags",
            place=block.place,
            text=f"the block that begins here has {OPEN} without {CLOSE}",
        )


def with_roles(blocks: Sequence[Block]) -> list[Block]:
    """Blocks that know whether they are cells, by the rules above."""
    python = [block for block in blocks if block.language in PYTHON]
    any_tags = any(block.copied is not None for block in blocks)
    python_tags = any(block.copied is not None for block in python)
    bare = not any_tags and not any(block.language for block in blocks)
    is_python_page = bool(python) or any(
        _says_python(block.pasted) for block in blocks if block.language in NO_LANGUAGE
    )
    is_sql_page = not is_python_page and any(
        block.language in ("sql", "plsql") or _SQL.match(block.pasted) for block in blocks
    )
    known: set[str] = set()
    ready = []
    for block in blocks:
        is_cell = False
        source = block.pasted
        if not source.strip():
            pass
        elif block.language in PYTHON:
            is_cell = block.copied is not None or not python_tags
        elif block.copied is not None:
            is_cell = _is_escaped(source, is_sql_page=is_sql_page) or (
                block.language in NO_LANGUAGE
                and (
                    reads_as_python(source, known=known, is_python_page=is_python_page)
                    or (is_python_page and _means_python(source, known=known))
                )
            )
        elif bare and python_of(source) is None:
            is_cell = is_python_page and _means_python(source, known=known)
        elif bare:
            is_cell = _has_statement(source, ast.stmt) and reads_as_python(
                source, known=known, is_python_page=is_python_page
            )
        if is_cell:
            tree = python_of(source)
            known |= set() if tree is None else {*defined_names(tree), *_stars(tree)}
        ready.append(dataclasses.replace(block, role="cell" if is_cell else "shown"))
    return ready


def reads_as_python(source: str, *, known: set[str], is_python_page: bool) -> bool:
    """
    Whether a block without language is Python, not a command, a query or some output.

    It must parse as IPython would run it, and say something: a statement, or an expression of
    names that earlier cells define. ``ls -l`` and ``{"a": 1}`` parse, too, but are none.
    """
    if _OTHER_PARAGRAPH.match(source) or (not is_python_page and _ends_in_semicolons(source)):
        return False
    tree = python_of(source)
    if tree is None or not tree.body or (_AUTOCALL.search(source) and _parsed(source) is None):
        return False
    if source.lstrip().startswith("%"):
        return True
    if _is_settings(source, known=known) or (not is_python_page and _sets_of(tree, known)):
        return False
    defined = set(defined_names(tree))
    says = False
    for statement in tree.body:
        if isinstance(statement, ast.AnnAssign) and statement.value is None:
            continue  # key: value
        if not isinstance(statement, (ast.Expr, ast.Delete)):
            says = True
        elif not _is_of(statement, known | defined, is_python_page=is_python_page):
            return False
        else:
            says = says or not _is_constant(statement)
    return says


@functools.lru_cache(maxsize=10_000)
def python_of(source: str) -> ast.Module | None:
    """A cell as Python, its magics translated; None when it is none. Not to be changed."""
    plain = _parsed(source)
    if plain is not None or len(_ESCAPED.findall(source)) > MOST_MAGICS:
        return plain
    try:
        return _parsed(transformed(source))
    except SyntaxError:
        return None


def _parsed(source: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd escapes: the kernel will tell of them
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def transformed(source: str) -> str:
    """
    A cell as IPython hands it to Python.

    Raises:
        SyntaxError: It is none.
    """
    from IPython.core.inputtransformer2 import TransformerManager  # slow to import

    manager: Any = TransformerManager()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of lines that end in odd ways
        try:
            text: str = manager.transform_cell(source)
        except tokenize.TokenError as error:
            raise SyntaxError(str(error)) from error
    return text


def defined_names(tree: ast.AST) -> Iterator[str]:
    """Names that code defines, wherever in it."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.alias(name="*"):
                continue
            case ast.alias():
                yield (node.asname or node.name).partition(".")[0]
            case ast.arg():
                yield node.arg
            case ast.ExceptHandler(name=str(name)):
                yield name


def _is_of(statement: ast.stmt, known: set[str], *, is_python_page: bool) -> bool:
    """Whether a bare expression is made of names that are known."""
    nodes = list(ast.walk(statement))
    loaded = {node.id for node in nodes if isinstance(node, ast.Name)}
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Name):
        return statement.value.id in known  # a builtin's name alone is a command: exit
    if loaded <= known | set(dir(builtins)):
        return True
    return is_python_page and any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) for node in nodes
    )


def _is_constant(statement: ast.stmt) -> bool:
    """Whether an expression is a literal: output, JSON, a text."""
    if not isinstance(statement, ast.Expr):
        return False
    try:
        ast.literal_eval(statement.value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _is_settings(source: str, *, known: set[str]) -> bool:
    """Whether it is for a shell or a file of settings: ``PORT=8080``, ``password=welcome1``."""
    if all(_SETTING.fullmatch(line.strip()) for line in source.splitlines() if line.strip()):
        return True
    tree = python_of(source)
    if tree is None or "*" in known:
        return False
    values = [one.value for one in tree.body if isinstance(one, ast.Assign)]
    words = {
        name.id
        for value in values
        for name in (value.elts if isinstance(value, ast.Tuple) else [value])
        if isinstance(name, ast.Name)
    }
    return len(values) == len(tree.body) and bool(
        words - known - set(defined_names(tree)) - set(dir(builtins))
    )


def _sets_of(tree: ast.Module, known: set[str]) -> bool:
    """Whether it sets something of what nothing before has made: ``resource.id = 'x'``."""
    names = known | set(defined_names(tree))
    used = {
        node.id
        for one in tree.body
        if isinstance(one, ast.Assign)
        for target in one.targets
        for node in ast.walk(target)
        if isinstance(node, ast.Name)
    }
    return "*" not in known and not used <= names


def _means_python(source: str, *, known: set[str]) -> bool:
    """Whether what does not parse is Python all the same, with a mistake in it."""
    if python_of(source) is not None or _OTHER_PARAGRAPH.match(source):
        return False
    for line in map(str.strip, source.splitlines()):
        if _ONLY_PYTHON.fullmatch(line):
            return True
        for part in (line, _SET_TO.sub("", line, count=1)):
            match = _CALLED_OR_SET.match(part)
            if match is not None and match[1] in known:
                return True
    return False


def _ends_in_semicolons(source: str) -> bool:
    """Whether every line ends as Java's and JavaScript's do."""
    lines = [line.rstrip() for line in source.splitlines() if line.strip()]
    return bool(lines) and all(line.endswith(";") for line in lines)


def _stars(tree: ast.AST) -> Iterator[str]:
    """``*`` if names come from who knows where."""
    if any(isinstance(node, ast.alias) and node.name == "*" for node in ast.walk(tree)):
        yield "*"


def _has_statement(source: str, *kinds: type[ast.stmt]) -> bool:
    tree = python_of(source)
    return tree is not None and any(
        isinstance(one, kinds) and not isinstance(one, ast.Expr) for one in tree.body
    )


def _says_python(source: str) -> bool:
    """Whether a block without language is Python wherever it stands."""
    if _ends_in_semicolons(source):
        return False
    return _has_statement(source, ast.Import, ast.ImportFrom, ast.FunctionDef) or (
        _has_statement(source, ast.Assign)
        and reads_as_python(source, known=set(), is_python_page=False)
    )


def _is_escaped(source: str, *, is_sql_page: bool) -> bool:
    """Whether it is for a notebook by its marks alone: a cell magic, or shell lines with ``!``."""
    if _OTHER_PARAGRAPH.match(source) or (is_sql_page and not _INSTALLS.match(source)):
        return False
    lines = [line.strip() for line in source.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    return bool(lines) and (
        lines[0].startswith("%%")
        or lines[0] == "%python"  # as notebooks of the Zeppelin kind begin a paragraph
        or all(line.startswith(("!", "%")) for line in lines)
    )


def _trimmed(piece: str) -> str:
    """Drop blank lines around and common indentation; LiveLabs makes tabs four spaces."""
    lines = piece.replace("\t", "    ").split("\n")
    while lines and not lines[0].strip():
        del lines[0]
    return textwrap.dedent("\n".join(lines)).rstrip()


def clean(text: str) -> str:
    """
    The source of a cell: what can be put right without doubt, and only then.

    A first line that stands further left or right than all others (a tag was before it), and
    characters written as HTML (``&lt;``) are put right if the cell is Python only then.
    """
    source = _trimmed(text)
    if not source or python_of(source) is not None:
        return source
    for candidate in _candidates(source):
        if python_of(candidate) is not None:
            return candidate
    return source


def _candidates(source: str) -> Iterator[str]:
    first, newline, rest = source.partition("\n")
    shifted = first.lstrip() + newline + textwrap.dedent(rest)
    yield shifted
    for text in (source, shifted):
        if _ENTITY.search(text):
            yield _ENTITY.sub(lambda match: _ENTITIES[match[1]], text)
