"""
What cells of ours call inside the kernel of a page's run; imports no more than it must.

Each prints one line that begins with `MARK`, the rest of it JSON.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import types
from collections.abc import Sequence
from typing import Any

MARK = "nbassay-answers "
MOST_TEXT = 2000
MOST_ITEMS = 200
MOST_REPR = 100_000

PLAIN = (bool, int, float, complex, str, bytes, list, tuple, dict, set, type(None))


def ask(asked: Sequence[tuple[str, str]]) -> None:
    """Print the values, or shapes, of expressions in the notebook's namespace."""
    space = _namespace()
    answers: list[list[Any]] = []
    for kind, expression in asked:
        try:
            value = eval(expression, space)  # noqa: S307 - of the page's own author, in the box
            shape = kind == "shape"
            answers.append([True, [int(n) for n in value.shape] if shape else plain(value)])
        except Exception as error:
            answers.append([False, _told(error)])
    print(MARK + json.dumps(answers))


def again(names: Sequence[str], source: str) -> None:
    """
    Run a cell's source again and print which of *names* are something else then, and the error.

    What they named is put back as far as it can be copied.
    """
    space = _namespace()
    before = _marks(names, space)
    kept = {}
    for name, mark in before.items():
        if mark is not None and not hasattr(space[name], "layers"):
            with contextlib.suppress(Exception):
                kept[name] = copy.deepcopy(space[name])
    error = None
    try:
        shell = _shell()
        exec(compile(shell.transform_cell(source), "<again>", "exec"), space)  # noqa: S102
    except Exception as raised:
        error = _told(raised)
    after = _marks(names, space)
    space.update(kept)
    changed = [name for name, mark in before.items() if mark is not None and after[name] != mark]
    print("\n" + MARK + json.dumps([changed, error]))


def plain(value: Any, depth: int = 0) -> Any:
    """A value as JSON has it; of what JSON has no form for, its representation."""
    if hasattr(value, "numpy"):
        value = value.numpy()
    if hasattr(value, "tolist"):
        value = value.tolist() if getattr(value, "size", 1) <= MOST_ITEMS else repr(value)
    if isinstance(value, (list, tuple)) and depth < 4 and len(value) <= MOST_ITEMS:
        return [plain(one, depth + 1) for one in value]
    if isinstance(value, str):
        return value[:MOST_TEXT]
    is_finite = not isinstance(value, float) or (value == value and abs(value) != float("inf"))
    if value is None or (isinstance(value, (bool, int, float)) and is_finite):
        return value
    return repr(value)[:MOST_TEXT]


def _marks(names: Sequence[str], space: dict[str, Any]) -> dict[str, Any]:
    """Name → something that is equal as long as what it names is; None if that cannot be told."""
    found: dict[str, Any] = {}
    for name in names:
        try:
            found[name] = _mark(space[name]) if name in space else None
        except Exception:
            found[name] = None
    return found


def _mark(value: Any) -> Any:
    if isinstance(value, (types.ModuleType, type)):
        return None
    if hasattr(value, "layers"):  # a network: its weights change by training, which is no fault
        return [type(one).__name__ for one in value.layers]
    if hasattr(value, "to_numpy"):  # a table
        return [[str(one) for one in getattr(value, "columns", [])], _mark(value.to_numpy())]
    if hasattr(value, "numpy"):
        value = value.numpy()
    if hasattr(value, "tobytes") and hasattr(value, "dtype"):
        if value.dtype.hasobject:
            return repr(value.tolist())[:MOST_REPR]
        digest = hashlib.sha256(value.tobytes()).hexdigest()
        return [[int(n) for n in value.shape], str(value.dtype), digest]
    return repr(value)[:MOST_REPR] if isinstance(value, PLAIN) else None


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:MOST_TEXT]


def _shell() -> Any:
    from IPython.core.getipython import get_ipython

    return get_ipython()


def _namespace() -> dict[str, Any]:
    space: dict[str, Any] = _shell().user_ns
    return space
