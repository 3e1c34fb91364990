"""What makes evidence old: whatever a run depends on, and nothing else."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY

import nbassay

ASK = """
import sys
from pathlib import Path
from nbassay.running import evidence_key
from nbassay.sandbox.unboxed import Unboxed
from nbassay.workshop import read_workshop
print(evidence_key("sha256:0", read_workshop(Path(sys.argv[1])), Unboxed(), 0, is_fast=True))
"""


@functools.cache
def key_with(*folders: Path) -> str:
    """The key that a fresh process names when *folders* are searched before all others."""
    asked = subprocess.run(
        [sys.executable, "-c", ASK, str(TINY)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))},
        check=True,
        capture_output=True,
        text=True,
    )
    return asked.stdout


def installed(folder: Path, name: str, version: str) -> Path:
    """A folder in which a package of this name and version is installed."""
    told = folder / f"{name}-{version}.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder


def changed(folder: Path, module: str, old: str, new: str) -> Path:
    """A folder with nbassay's sources, and *new* for *old* in one of them."""
    package = Path(nbassay.__file__).parent
    shutil.copytree(package, folder / "nbassay", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "nbassay" / module
    source = path.read_text("utf-8")
    assert old in source
    path.write_text(source.replace(old, new, 1), "utf-8")
    return folder


def test_any_library_counts(tmp_path: Path) -> None:
    """
    Another version of a package that the workshop does not name makes evidence old, however its
    name is spelt; another version of nbassay alone does not.
    """
    first, again, other = (
        key_with(installed(tmp_path / where, name, version))
        for where, name, version in (
            ("first", "Idx2.Reader", "1.0"),
            ("again", "idx2_reader", "1.0"),
            ("other", "idx2_reader", "1.1"),
        )
    )

    assert first == again
    assert len({key_with(), first, other}) == 3
    assert key_with(installed(tmp_path / "newer", "nbassay", "99.0")) == key_with()


def test_a_package_without_a_name_is_left_out(tmp_path: Path) -> None:
    """
    What an uninstallation left behind neither counts nor stops a class.
    """
    (tmp_path / "broken-1.0.dist-info").mkdir()

    assert key_with(tmp_path) == key_with()


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("running.py", '"OMP_NUM_THREADS": "1"', '"OMP_NUM_THREADS": "2"'),
        ("running.py", "[:8], 16) >> 1", "[:8], 16) >> 2"),
        ("sandbox/supervise.py", "\n", "\n# another wall\n"),
        ("inside/kernel.py", "\n", "\n# another probe\n"),
    ],
    ids=["threads", "seeds", "sandbox", "probe"],
)
def test_what_runs_a_notebook_counts(module: str, old: str, new: str, tmp_path: Path) -> None:
    """
    Another environment, other seeds, another sandbox or another probe make evidence old.
    """
    assert key_with(changed(tmp_path, module, old, new)) != key_with()


def test_how_a_report_looks_does_not_count(tmp_path: Path) -> None:
    """
    What only scores and renders can change without running a notebook again.
    """
    assert key_with(changed(tmp_path, "reporting/text.py", "\n", "\n# other words\n")) == key_with()
