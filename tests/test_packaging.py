"""What is shipped: the engine, its templates, and no lab content."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from conftest import ROOT, Nbassay

TEMPLATES = "reporting/templates"


def test_the_installed_package_holds_the_engine_only() -> None:
    """
    Every module and template of src is installed, and no solution, check or datum.
    """
    expected = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src" / "nbassay").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    files = {str(file) for file in metadata.files("nbassay") or [] if "dist-info" not in str(file)}
    installed = {file for file in files if not file.endswith(".pyc") and not file.startswith("..")}
    if all(file.endswith(".pth") for file in installed):
        pytest.skip("installed in place: nothing was copied; tox installs the wheel")

    assert installed == expected
    assert any(TEMPLATES in file for file in installed)


def test_importing_the_engine_starts_nothing_heavy() -> None:
    """
    The host never imports TensorFlow or Keras, not even through the probe's modules, and SciPy only
    to measure.
    """
    program = (
        "import sys, nbassay.cli, nbassay.inside.hooks, nbassay.inside.executor\n"
        "print(sorted({'tensorflow', 'keras', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )

    assert done.stdout.strip() == "[]"


def test_readme_shows_the_real_help(nbassay: Nbassay, tmp_path: Path) -> None:
    """
    The help text in README.md is the program's.
    """
    told = nbassay("--help", cwd=tmp_path, COLUMNS="80").stdout.strip()

    assert told in (ROOT / "README.md").read_text()
