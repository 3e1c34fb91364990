"""What a notebook finds around it: the lab's data in its folders, commands on its PATH."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from nbassay.inside.stand_ins.__main__ import COMMANDS
from nbassay.inside.stand_ins.lab_files import FOLDER

LAB = "lab"
"""Folder in the scratch folder that holds the lab's data files, read-only."""
FOLDERS = "NBASSAY_DATA_FOLDERS"
"""Environment variable: folders besides the working folder in which notebooks look for them."""
PIP = "from nbassay.inside.stand_ins.packages import pip\nimport sys\nsys.exit(pip(sys.argv[1:]))\n"


def furnish(scratch: Path) -> dict[str, str]:
    """
    Lay the data into the folders and the stand-ins onto the PATH.

    The data are copies, which a notebook may move, remove or overwrite like files that it
    downloaded.

    Args:
        scratch: A folder that can be written and is not the notebook's.

    Returns:
        What the kernel's environment must have besides.
    """
    _copy((scratch / LAB).iterdir() if (scratch / LAB).is_dir() else (), [Path.cwd(), *_told()])
    commands = scratch / "bin"
    commands.mkdir()
    python = shlex.quote(sys.executable)
    for name in COMMANDS:
        launcher = commands / name
        launcher.write_text(
            f'#!/bin/sh\nexec {python} -I -m nbassay.inside.stand_ins {name} "$@"\n', "utf-8"
        )
        launcher.chmod(0o755)
    # `python -m pip` and %pip start a Python of their own; the kernel is isolated and never looks.
    modules = scratch / "modules"
    (modules / "pip").mkdir(parents=True)
    (modules / "pip" / "__init__.py").touch()
    (modules / "pip" / "__main__.py").write_text(PIP, "utf-8")
    return {
        "PATH": f"{commands}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(modules),
        FOLDER: str(scratch / LAB),
        # for who calls pip's own modules: fail at once instead of trying again and again
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def home_folders() -> list[Path]:
    """Folders in which a notebook's own files may lie: its home and where it looks for data."""
    return [Path.home(), Path.cwd(), *_told()]


def _told() -> list[Path]:
    return [Path(name) for name in os.environ.get(FOLDERS, "").split(os.pathsep) if name]


def _copy(files: Iterable[Path], folders: Iterable[Path]) -> None:
    sources = list(files)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for source in sources:
            shutil.copyfile(source, folder / source.name)
