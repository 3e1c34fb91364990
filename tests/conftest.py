"""What the tests share: the command as a user runs it, and notebooks made on the spot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from hypothesis import HealthCheck, settings

from nbassay.kept_controls import CACHE_VARIABLE

ROOT = Path(__file__).parent.parent
TINY = Path(__file__).parent / "workshops" / "tiny"

os.environ[CACHE_VARIABLE] = ""  # no test takes its controls from another

collect_ignore = ["workshops"]
"""Their checks are for learners' evidence; nbassay runs them."""

Nbassay = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def nbassay() -> Nbassay:
    """
    Run the command line in a process of its own: ``nbassay("grade", path)``.

    *file_bytes* is the largest file that it may write.
    """

    def run(
        *arguments: object,
        cwd: Path = TINY,
        python: tuple[str, ...] = (),
        file_bytes: int | None = None,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        limits = [] if file_bytes is None else ["prlimit", f"--fsize={file_bytes}:{file_bytes}"]
        return subprocess.run(
            [*limits, sys.executable, *python, "-m", "nbassay", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    return run


def tiny_with_checks(folder: Path, name: str, checks: str, **points: int) -> Path:
    """
    The tiny workshop in *folder*, with *checks* in a file *name* in place of its own, no controls.

    *points* are the rubric, ``net_first=20`` for the check ``net.first``. pytest does not read a
    module again that has the *name* of one that it read before.
    """
    shutil.copytree(TINY, folder)
    (folder / "checks" / "test_tiles.py").unlink()
    (folder / "checks" / name).write_text(checks)
    manifest = (folder / "workshop.toml").read_text()
    start, end = manifest.index("[rubric]"), manifest.index("[data]")
    rubric = "".join(f'"{key.replace("_", ".")}" = {value}\n' for key, value in points.items())
    rest = manifest[end : manifest.index("[[controls]]")]
    (folder / "workshop.toml").write_text(f"{manifest[:start]}[rubric]\n{rubric}\n{rest}")
    return folder


def write_notebook(path: Path, *cells: str) -> Path:
    """A notebook with these code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


RIGHT_CELLS = (
    "import idx2numpy\n"
    "tiles = idx2numpy.convert_from_file('tiles-idx3-ubyte')\n"
    "labels = idx2numpy.convert_from_file('labels-idx1-ubyte')",
    "tiles = tiles.reshape(40, 16) / 255",
)
"""All that the tiny workshop asks for."""

# Machines that run tests are slow and busy at times; how long an example takes says nothing.
settings.register_profile("nbassay", deadline=None)
# For `tests/test_fuzz.py`, which goes on until its time is over; large examples are the point.
settings.register_profile(
    "long", deadline=None, max_examples=500, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "nbassay"))
