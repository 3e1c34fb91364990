"""The lab's data files by name, wherever a notebook looks for them."""

from __future__ import annotations

import builtins
import io
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import wrapt

FOLDER = "NBASSAY_LAB"
"""Environment variable with the folder of the lab's data files."""


def lab_file(path: object) -> Path | None:
    """
    The lab's file whose name *path* ends in; ``train-images.idx3-ubyte`` is a name of
    ``train-images-idx3-ubyte`` (some programs unpack it so).

    Args:
        path: A path of any system, or the path of a URL.
    """
    folder = os.environ.get(FOLDER)
    if folder is None or not isinstance(path, (str, bytes, os.PathLike)):
        return None
    name = re.split(r"[/\\]", os.fsdecode(path))[-1]
    if not name:
        return None
    try:
        files = sorted(Path(folder).iterdir())
    except OSError:
        return None
    return next((file for file in files if _plain(file.name) == _plain(name)), None)


def _plain(name: str) -> str:
    return re.sub(r"[._ -]+", "-", name).lower()


def find_by_name(roots: Sequence[Path], tell: Callable[[str], None], interactiveshell: Any) -> None:
    """
    Let ``open`` read the lab's own file where a notebook names one in a subfolder that is not here.

    Somebody kept the files in ``data/`` or in a folder of a mounted drive: no mistake in the lab.

    A cell's own ``open`` is IPython's, which took its ``io_open`` before.

    Args:
        roots: Only paths below one of these are answered so.
        tell: Called with each path that was.
        interactiveshell: IPython's module of that name.
    """

    def opened(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        try:
            return wrapped(*args, **kwargs)
        except FileNotFoundError:
            path = args[0] if args else kwargs.get("file")
            mode = args[1] if len(args) > 1 else kwargs.get("mode", "r")
            if not (isinstance(mode, str) and set(mode) <= set("rbt") and _is_below(path, roots)):
                raise
            found = lab_file(path)
            if found is None:
                raise
            tell(os.fsdecode(path))
            options = {name: value for name, value in kwargs.items() if name != "file"}
            return wrapped(found, *args[1:], **options)

    for module, name in ((builtins, "open"), (io, "open"), (interactiveshell, "io_open")):
        wrapt.wrap_function_wrapper(module, name, opened)


def _is_below(path: Any, roots: Sequence[Path]) -> bool:
    if not isinstance(path, (str, bytes, os.PathLike)):
        return False
    full = Path(os.path.normpath(Path.cwd() / os.fsdecode(path)))
    return any(full.is_relative_to(root) for root in roots)
