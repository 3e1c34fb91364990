"""Which folders of the host a box needs so that this Python runs inside, read-only."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import nbassay

_BROAD = {
    Path("/", name)
    for name in ("", "etc", "home", "mnt", "opt", "root", "run", "srv", "tmp", "var")
}


@functools.cache
def python_paths() -> tuple[Path, ...]:
    """
    Folders and files without which ``sys.executable -I`` does not run, outermost first.

    They are what an isolated interpreter says itself, so neither the current folder nor
    ``PYTHONPATH`` (an instructor's checkout, say) is among them; a folder that a ``.pth`` file of
    an editable install names is. This package's own folder always is.

    Raises:
        subprocess.SubprocessError: The interpreter does not start, even here.
    """
    said = subprocess.run(
        [sys.executable, "-I", "-c", "import json, sys; print(json.dumps(sys.path))"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    wanted = [Path(sys.base_prefix), Path(sys.prefix)]
    wanted += [Path(entry) for entry in json.loads(said.stdout)]
    wanted += _hops(Path(sys.executable))
    wanted.append(Path(nbassay.__file__).parent)
    # A link inside one of them may lead through its target's own name.
    wanted += [path.resolve() for path in wanted]
    return tuple(_outermost(path for path in wanted if path.exists() and not _is_too_broad(path)))


def _hops(executable: Path) -> list[Path]:
    """The links that lead from *executable* to the file itself, and that file."""
    hops = [executable]
    while hops[-1].is_symlink() and len(hops) < 40:
        hops.append(Path(os.path.normpath(hops[-1].parent / hops[-1].readlink())))
    return hops


def _is_too_broad(path: Path) -> bool:
    """Whether a folder holds more than a Python: the root, a home, a folder of anything."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  # Path.home() raises without one
    return path == home or path in home.parents or path in _BROAD


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """Sorted, without what lies below another of them or below /usr, which every box has."""
    kept: list[Path] = [Path("/usr")]
    for path in sorted(set(paths), key=lambda path: (len(path.parts), path)):
        if not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return kept[1:]
