"""
What a notebook's code says, read before any of it runs.

The executor reads it and tells it by itself, so no cell can change what is told. Whether what the
code says fits what the run showed is for `nbassay.provenance` to decide.
"""

from __future__ import annotations

import ast
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from nbassay.records import CodeFact

MOST_NAMES = 3000
MOST_REPLACED = 100
MOST_NAME = 100
MOST_MAGICS = 100
"""Lines of a cell that IPython translates; it takes a minute for six hundred."""
MOST_CELL_BYTES = 1 << 20
LONGEST_REFERENCE = 100
"""Characters of a text that may name something: ``getattr(model, "fit")``."""
DOORS = frozenset(
    {
        *("fit", "evaluate", "predict", "train_step", "test_step"),
        *("get_weights", "set_weights", "numpy", "value", "__array__"),
    }
)
"""Methods through which Keras and NumPy hand over what decides marks."""

_WORD = re.compile(r"[^\W\d]\w*")
_REFERENCE = re.compile(r"\w+(?:\.\w+)*")
_PATH = re.compile(r"/[\w.*-]+(?:/[\w.*-]+)*")
_MAGIC = re.compile(r"^\s*(?:\w+\s*=\s*)?[%!?]", re.MULTILINE)
_INSTALLERS = ("pip", "conda")


def read_code(sources: Iterable[str]) -> CodeFact:
    """
    What the code cells *sources* name and replace, and how much they hold.

    Cells that are no Python even after IPython's magics were translated cannot run, and say
    nothing; those that cannot be read for another reason are counted.
    """
    names: set[str] = set()
    replaced: set[str] = set()
    packed = zlib.compressobj()
    size = unread = 0
    for source in sources:
        raw = source.encode(errors="replace")
        size += len(packed.compress(raw))
        try:
            if len(raw) > MOST_CELL_BYTES:
                raise ValueError("too long")
            found = [*_nodes(source)]
            names.update(_names(found))
            replaced.update(_replaced(found))
        except Exception:  # whatever a cell is made of, it costs no other cell
            unread += 1
    kept = sorted(name[:MOST_NAME] for name in names)
    return CodeFact(
        names=kept[:MOST_NAMES],
        replaced=sorted(name[:MOST_NAME] for name in replaced)[:MOST_REPLACED],
        packed_bytes=size + len(packed.flush()),
        unread_cells=unread,
        was_cut=len(kept) > MOST_NAMES,
    )


def _nodes(source: str) -> Iterator[ast.AST]:
    """
    All nodes of a cell as IPython would run it, those of code inside its magics too.

    Raises:
        ValueError, RecursionError, MemoryError: It cannot be read; the kernel may still run it.
    """
    waiting: list[ast.AST | str] = [source]
    while waiting:
        node = waiting.pop()
        if isinstance(node, str):
            waiting += _parsed(node)
            continue
        if isinstance(node, ast.Call) and _is_of_ipython(node.func):
            waiting += _of_magic(node)
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def _parsed(source: str) -> list[ast.AST]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd escapes: the kernel will tell of them
        try:
            return [ast.parse(source)]
        except SyntaxError:
            if len(_MAGIC.findall(source)) > MOST_MAGICS:
                raise ValueError("too many magics") from None
        from IPython.core.inputtransformer2 import TransformerManager  # slow to import

        manager: Any = TransformerManager()  # type: ignore[no-untyped-call]
        try:
            return [ast.parse(manager.transform_cell(source))]
        except SyntaxError:
            return []


def _is_of_ipython(function: ast.AST) -> bool:
    """``get_ipython().system`` and the like: what lines with ``!`` and ``%`` become."""
    match function:
        case ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython"), args=[], keywords=[])):
            return function.attr in ("run_line_magic", "run_cell_magic", "system", "getoutput")
    return False


def _of_magic(call: ast.Call) -> list[ast.AST | str]:
    """
    What a magic or a shell line runs: Python in it is read as such, of other text its words are
    names. Loading an extension and installing packages name nothing.
    """
    texts = [
        argument.value
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]
    others: list[ast.AST | str] = [
        argument
        for argument in [*call.args, *call.keywords]
        if not isinstance(argument, ast.Constant)
    ]
    if not texts or others:
        return others
    first, *bodies = texts
    if first in ("load_ext", "reload_ext", *_INSTALLERS):
        return [ast.Constant(value=path) for body in bodies for path in _PATH.findall(body)]
    if not bodies:  # a shell line
        if first.startswith(tuple(f"{name} " for name in _INSTALLERS)):
            return []
        bodies = [first]
    for body in bodies:
        read = _parsed(body)
        others += read or [ast.Constant(value=word) for word in _WORD.findall(body)]
        others += [ast.Constant(value=path) for path in _PATH.findall(body)]
    return others


def _names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Identifiers, short texts that may be some, and paths in any text."""
    for node in nodes:
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield from node.name.split(".")
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from node.module.split(".")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.arg, ast.keyword)) and node.arg:
            yield node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            yield from _PATH.findall(text)
            if len(text) <= LONGEST_REFERENCE and _REFERENCE.fullmatch(text):
                yield from text.split(".")


def _replaced(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """
    Doors of libraries that the code puts something else behind: ``keras.Model.fit = mine``, or a
    subclass that defines one.
    """
    for node in nodes:
        match node:
            case ast.ClassDef(bases=[_, *_]):
                yield from (f"{node.name}.{door}" for door in _doors_of(node))
            case ast.Attribute(ctx=ast.Store()) if node.attr in DOORS and not _is_own(node.value):
                yield f"{_dotted(node.value)}.{node.attr}"
            case ast.Call(
                func=ast.Name(id="setattr"), args=[target, ast.Constant(value=str(door)), _]
            ) if door in DOORS:
                yield f"{_dotted(target)}.{door}"


def _doors_of(definition: ast.ClassDef) -> Iterator[str]:
    for part in definition.body:
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)):
            defined = [part.name]
        elif isinstance(part, ast.Assign):
            defined = [target.id for target in part.targets if isinstance(target, ast.Name)]
        else:
            continue
        yield from (name for name in defined if name in DOORS)


def _is_own(target: ast.AST) -> bool:
    return isinstance(target, ast.Name) and target.id in ("self", "cls")


def _dotted(node: ast.AST) -> str:
    """``keras.Model`` of the node for it."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute) and len(parts) < 8:
        parts.append(node.attr)
        node = node.value
    parts.append(node.id if isinstance(node, ast.Name) else "…")
    return ".".join(reversed(parts))
