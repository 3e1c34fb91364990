"""``gunzip`` and ``gzip``: the system's, but for data files that are there already unpacked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from nbassay.inside.stand_ins.arguments import take_apart
from nbassay.inside.stand_ins.lab_files import lab_file

WITH_VALUE = "-S --suffix"
WRITES_ANYHOW = ("-c", "--stdout", "--to-stdout", "-f", "--force", "-t", "--test", "-l", "--list")


def gunzip(arguments: Sequence[str]) -> int:
    """``gunzip ARGUMENT…``."""
    return gzip(["-d", *arguments])


def gzip(arguments: Sequence[str]) -> int:
    """
    ``gzip ARGUMENT…``.

    The lab's files lie in the folder both packed and unpacked, where the real program would ask
    whether it may overwrite, and nobody is there to say so.
    """
    program = shutil.which("gzip", path=os.defpath)
    if program is None:
        print("gzip: there is no gzip here.", file=sys.stderr)
        return 127
    told = take_apart(arguments, WITH_VALUE)
    unpacks = told.has("-d", "--decompress", "--uncompress") and not told.has(*WRITES_ANYHOW)
    there = [word for word in told.words if unpacks and _is_there(word)]
    for word in there:
        print(f"gunzip: {word} is already unpacked.", file=sys.stderr)
    if there and len(there) == len(told.words):
        return 0
    left = [word for word in arguments if word not in there]
    return subprocess.run([program, *left], check=False).returncode


def _is_there(word: str) -> bool:
    """Whether *word* names a data file of the lab that lies unpacked where it would be put."""
    target = Path(word.removesuffix(".gz"))
    return lab_file(target) is not None and target.is_file()
