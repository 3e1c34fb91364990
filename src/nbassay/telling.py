"""
Which notebooks could tell a process with libraries imported ahead from a fresh one.

They get a fresh one. What is looked for is written in the code: a setting that a library reads when
it is imported, a file that one reads then, a module of the notebook's own in place of an installed
one, a look at what is imported, a module that is only there because something else imported it.
Whatever cannot be read counts as such.
"""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

_WORDS = {
    "a variable that libraries read": re.compile(
        r"\b(?:TF2?|KERAS|XLA|OMP|MKL|KMP|OPENBLAS|NUMEXPR|CUDA|MPL|ABSL)_[A-Z]"
        r"|\bMPL(?:BACKEND|CONFIGDIR)\b|\bPYTHON[A-Z]{4,}\b"
    ),
    "the environment": re.compile(r"\b(?:environ\w*|putenv|unsetenv|set_env|dotenv)\b|%\s*env\b"),
    "a file that libraries read": re.compile(
        r"""keras\.json|[/\\"']\.keras\b(?![/\\]datasets)"""
        r"""|matplotlibrc|matplotlib\.rc\b(?!\s*\()|\.mplstyle|stylelib"""
    ),
    "what is imported": re.compile(r"\bmodules\b|\bmeta_path\b"),
    "Matplotlib's backend": re.compile(r"\b(?:matplotlib|mpl)\s*\.\s*use\b|\bimport\s+use\b"),
}
_OF_A_MODULE = re.compile(r"(?<!\w)(?<!\w/)((?:\w+/)*\w*)\.pyc?\b")
"""The name of a file with a module, and of the folders that it lies in as far as they are told."""
_OF_IPYTHON = re.compile(r"^\s*[%!].*$", re.MULTILINE)
_WHOLE = ("numpy", "tensorflow", "keras")
"""There with all their modules, however they are imported."""


def what_tells(sources: Iterable[str]) -> str | None:
    """What in the code cells *sources* could tell; None when nothing is seen that could."""
    text = "\n\n".join(sources)
    for what, pattern in _WORDS.items():
        if pattern.search(text):
            return what
    for place in {found.group(1) for found in _OF_A_MODULE.finditer(text)}:
        if any(not name or _is_installed(name) for name in place.split("/")):
            return f"a file {place}.py, which may be imported in place of an installed module"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes: the kernel will tell of them
            nodes = [*ast.walk(ast.parse(_OF_IPYTHON.sub(_passed, text)))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "code that is no plain Python"
    reached = next(_reached(nodes), None)
    return None if reached is None else f"{reached}, which it does not import"


def _passed(line: re.Match[str]) -> str:
    """A statement in place of a line for IPython, as deep as that was."""
    said = line.group()
    return said[: len(said) - len(said.lstrip())] + "pass"


def _reached(nodes: list[ast.AST]) -> Iterator[str]:
    """Modules that are used as attributes of their packages, and imported by nobody here."""
    packages: dict[str, str] = {}
    imported: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                imported.add(alias.name)
                if "." not in alias.name and alias.name not in _WHOLE:
                    packages[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module)
            imported.update(f"{node.module}.{alias.name}" for alias in node.names)
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            package = packages.get(node.value.id)
            module = f"{package}.{node.attr}"
            are_imported = any(f"{name}.".startswith(f"{module}.") for name in imported)
            if package and not are_imported and _is_module(package, node.attr):
                yield module


def _is_module(package: str, name: str) -> bool:
    """Whether an installed *package* has a module *name*; nothing is imported to find out."""
    spec = _found(package)
    folders = spec.submodule_search_locations if spec is not None else None
    return any(
        (Path(folder) / name).is_dir() or any(Path(folder).glob(f"{name}.*"))
        for folder in folders or ()
    )


def _is_installed(name: str) -> bool:
    """Whether ``import`` *name* finds something here; nothing is imported to find out."""
    return name in sys.stdlib_module_names or _found(name) is not None


def _found(name: str) -> ModuleSpec | None:
    """Where an import finds *name*; the current folder, of which no box knows, is left out."""
    here = Path.cwd()
    return PathFinder.find_spec(name, [entry for entry in sys.path if Path(entry) != here])
