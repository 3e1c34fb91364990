"""
Cells that give something else when they are run a second time in the same kernel.

A learner runs a cell twice sooner or later: ``x /= 255`` then divides twice. Only cells that may do
that are tried: those that read a name of an earlier cell and set it, or change what it names. In a
run of their own they run twice, with what was there kept aside, and what they read from before is
compared: arrays, numbers, texts, lists, tables, and the layers of networks.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from nbassay.labpage.code import defined_names, python_of
from nbassay.regress.pagerun import INKERNEL, Lab, answers_in, shown_texts

CHANGING = frozenset({"shuffle", "sort", "put", "fill", "place", "copyto", "resize", "heappush"})
"""Functions of libraries that change what they are given."""
FILES = frozenset({"mkdir", "makedirs", "rename", "remove", "unlink", "rmdir", "move"})
"""Functions that fail when what they do is done, unless told otherwise."""
TRAINING = frozenset({"fit", "fit_generator", "train_on_batch"})
"""Training goes on where it stopped, which is what it is for; and it takes long."""


def twice(cells: Sequence[str], lab: Lab) -> dict[int, tuple[list[str], str | None]]:
    """
    Run cells that may not bear it a second time.

    Returns:
        Cell (0 first) → names that were something else afterwards, and the error that the second
        time ended with; only cells for which there is either.
    """
    tried = dict(suspicious(cells))
    if not tried:
        return {}
    sources: list[str] = []
    ours: dict[int, int] = {}
    for number, source in enumerate(cells[: max(tried) + 1]):
        sources.append(source)
        if number in tried:
            ours[len(sources)] = number
            sources.append(f"{INKERNEL}.again({tried[number]!r}, {source!r})")
    run = lab.run(sources)
    failed = {
        fact.index
        for fact in run.evidence.facts
        if getattr(fact, "status", "ok") != "ok" and hasattr(fact, "index")
    }
    found: dict[int, tuple[list[str], str | None]] = {}
    for index, number in ours.items():
        answer = answers_in(shown_texts(run.outputs.get(index, [])))
        if index - 1 in failed or len(answer) != 2:
            continue  # it did not even run once
        changed, error = answer
        if changed or error:
            found[number] = (
                [str(name) for name in changed],
                None if error is None else str(error),
            )
    return found


def suspicious(cells: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Cells that may not bear a second run, and the names of earlier cells that they read."""
    earlier: set[str] = set()
    modules: set[str] = set()
    for number, source in enumerate(cells):
        tree = python_of(source)
        if tree is None:
            continue
        nodes = list(ast.walk(tree))
        modules |= {
            (alias.asname or alias.name).partition(".")[0]
            for node in nodes
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        read = set(_read_from_before(tree))
        names = sorted((read & earlier) - modules)
        changes = bool(names) and _may_change(nodes, set(names), modules)
        if (changes or _calls(nodes, FILES)) and not _calls(nodes, TRAINING):
            yield number, names
        earlier |= set(defined_names(tree))


def _read_from_before(tree: ast.Module) -> Iterator[str]:
    """Names that a cell reads before it sets them itself."""
    own: set[str] = set()
    for statement in tree.body:
        if isinstance(statement, (ast.For, ast.AsyncFor)):
            own |= set(defined_names(statement.target))
        for node in ast.walk(statement):
            match node:
                case ast.AugAssign(target=ast.Name(id=name)) if name not in own:
                    yield name
                case ast.Name(id=name, ctx=ast.Load() | ast.Del()) if name not in own:
                    yield name
        own |= set(defined_names(statement))


def _calls(nodes: Sequence[ast.AST], functions: frozenset[str]) -> bool:
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in functions
        for node in nodes
    )


def _may_change(nodes: Sequence[ast.AST], names: set[str], modules: set[str]) -> bool:
    for node in nodes:
        match node:
            case ast.AugAssign(target=target) if _root(target) in names:
                return True
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) if name in names:
                return True
            case ast.Subscript(ctx=ast.Store() | ast.Del(), value=value) if _root(value) in names:
                return True
            case ast.Attribute(ctx=ast.Store(), value=value) if _root(value) in names:
                return True
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=value, attr=attr))):
                root = _root(value)
                if root in names and root not in modules:
                    return True
                if attr in CHANGING:
                    return True
    return False


def _root(node: ast.AST) -> str | None:
    """``x`` of ``x[0].y``."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None
