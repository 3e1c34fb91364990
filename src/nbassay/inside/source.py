"""
What a notebook's code says, read before any of it runs.

The executor reads it and tells it by itself, so no cell can change what is told. Whether what the
code says fits what the run showed is for `nbassay.provenance` to decide.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from nbassay.records import CodeFact

MOST_NAMES = 3000
MOST_REPLACED = 100
MOST_NAME = 100
LONGEST_TEXT = 400
"""Characters of a text constant in which words are looked for: a shell line, a magic's code."""
NUMBER_BYTES = 4
DOORS = frozenset(
    {
        *("fit", "evaluate", "predict", "train_step", "test_step"),
        *("get_weights", "set_weights", "numpy", "value", "__array__"),
    }
)
"""Methods through which Keras and NumPy hand over what decides marks."""

_WORD = re.compile(r"[^\W\d]\w*")
_PATH = re.compile(r"/[\w./-]{1,99}")


def read_code(sources: Iterable[str]) -> CodeFact:
    """
    What the code cells *sources* name, hold and replace.

    Cells that are no Python even after IPython's magics were translated are counted, and their
    words are names.
    """
    names: set[str] = set()
    imports: set[str] = set()
    replaced: set[str] = set()
    literal = size = unread = 0
    for source in sources:
        size += len(source.encode(errors="replace"))
        tree = _parsed(source)
        if tree is None:
            unread += 1
            names.update(_WORD.findall(source))
            continue
        found = [*_without_extensions(tree)]
        brought = set(_imports(found))
        imports.update(brought)
        names.update(_names(found))
        replaced.update(_replaced(found))
        literal += sum(map(_literal_bytes, found))
    kept = sorted(name[:MOST_NAME] for name in names)
    return CodeFact(
        names=kept[:MOST_NAMES],
        imports=sorted(name[:MOST_NAME] for name in imports)[:MOST_NAMES],
        replaced=sorted(name[:MOST_NAME] for name in replaced)[:MOST_REPLACED],
        code_bytes=size,
        literal_bytes=literal,
        unread_cells=unread,
        was_cut=len(kept) > MOST_NAMES,
    )


def _parsed(source: str) -> ast.Module | None:
    """The cell as IPython would run it; None when it would not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes: the kernel will tell of them
            try:
                return ast.parse(source)
            except SyntaxError:
                from IPython.core.inputtransformer2 import TransformerManager  # slow to import

                manager: Any = TransformerManager()  # type: ignore[no-untyped-call]
                translated: str = manager.transform_cell(source)
                return ast.parse(translated)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _without_extensions(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes but those of ``%load_ext NAME``: a notebook may load what checks it."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        match node:
            case ast.Call(
                func=ast.Attribute(attr="run_line_magic"),
                args=[ast.Constant(value="load_ext" | "reload_ext"), *_],
            ):
                continue
        yield node
        waiting.extend(ast.iter_child_nodes(node))


def _names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Identifiers, and words and paths in short texts: ``getattr(model, "fit")`` names it too."""
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
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value[:LONGEST_TEXT]
            yield from _WORD.findall(text)
            yield from _PATH.findall(text)


def _imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Top-level packages that are imported."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _replaced(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """
    Doors of libraries that the code puts something else behind: ``keras.Model.fit = mine``, or a
    subclass that defines one.
    """
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)) and part.name in DOORS:
                    yield f"{node.name}.{part.name}"
        elif isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Attribute) and target.attr in DOORS:
                    yield ast.unparse(target)[:MOST_NAME]


def _literal_bytes(node: ast.AST) -> int:
    """About how many bytes a constant brings along."""
    if not isinstance(node, ast.Constant):
        return 0
    if isinstance(node.value, str):
        return len(node.value.encode(errors="replace"))
    if isinstance(node.value, bytes):
        return len(node.value)
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        return max(NUMBER_BYTES, node.value.bit_length() // 8)
    return NUMBER_BYTES if isinstance(node.value, (float, complex)) else 0
