"""Matplotlib's list of fonts: made once on the host, lent to every box."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import subprocess
import sys
from pathlib import Path

_log = logging.getLogger(__name__)


@functools.cache
def font_lists() -> tuple[Path, ...]:
    """
    Files ``fontlist-*.json`` of this user's Matplotlib, made first if there is none.

    Making one takes a few seconds, once; that it fails is no loss but time.
    """
    found = _find()
    if not found and importlib.util.find_spec("matplotlib") is not None:
        try:
            subprocess.run(
                [sys.executable, "-I", "-c", "import matplotlib.font_manager"],
                capture_output=True,
                timeout=60,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            _log.debug("no list of fonts: %s", error)
        found = _find()
    return found


def _find() -> tuple[Path, ...]:
    """Look where Matplotlib does, without importing it."""
    if "MPLCONFIGDIR" in os.environ:
        folder = Path(os.environ["MPLCONFIGDIR"])
    elif "XDG_CACHE_HOME" in os.environ:
        folder = Path(os.environ["XDG_CACHE_HOME"]) / "matplotlib"
    else:
        folder = Path(os.path.expanduser("~/.cache/matplotlib"))  # noqa: PTH111
    return tuple(sorted(folder.glob("fontlist-*.json")))
