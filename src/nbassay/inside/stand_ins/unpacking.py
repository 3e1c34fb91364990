"""``gunzip`` and ``gzip -d``: files that are there already unpacked are left as they are."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from nbassay.inside.stand_ins.arguments import tolerant_parser, words


def gunzip(arguments: Sequence[str]) -> int:
    """``gunzip [-ck] FILE…``; a target that is there counts as unpacked."""
    parser = tolerant_parser(flags="dfNnqrtv123456789")
    parser.add_argument("-c", "--stdout", "--to-stdout", action="store_true")
    parser.add_argument("-k", "--keep", action="store_true")
    parser.add_argument("-S", "--suffix", default=".gz")
    asked, left_over = parser.parse_known_args(arguments)
    status = 0
    for word in words(left_over):
        packed = Path(word if word.endswith(asked.suffix) else word + asked.suffix)
        target = packed.with_name(packed.name.removesuffix(asked.suffix))
        try:
            if asked.stdout:
                with gzip.open(packed) as file:
                    shutil.copyfileobj(file, sys.stdout.buffer)
            elif target.exists():
                print(f"gunzip: {target} is already there.", file=sys.stderr)
            else:
                with gzip.open(packed) as file, target.open("wb") as into:
                    shutil.copyfileobj(file, into)
                if not asked.keep:
                    packed.unlink()
        except (OSError, EOFError) as error:
            why = getattr(error, "strerror", None) or str(error)
            print(f"gunzip: {word}: {why}", file=sys.stderr)
            status = 1
    return status


def gzip_command(arguments: Sequence[str]) -> int:
    """``gzip ARGUMENT…``: unpacks as `gunzip` does; all else is the system's gzip."""
    options = [word for word in arguments if word.startswith("-")]
    unpacks = {"--decompress", "--uncompress"} & set(options) or any(
        "d" in word for word in options if not word.startswith("--")
    )
    if unpacks:
        known = [word for word in arguments if word not in ("--decompress", "--uncompress")]
        return gunzip(known)
    program = shutil.which("gzip", path=os.defpath)
    if program is None:
        print("gzip: there is no gzip here.", file=sys.stderr)
        return 127
    return subprocess.run([program, *arguments], check=False).returncode
