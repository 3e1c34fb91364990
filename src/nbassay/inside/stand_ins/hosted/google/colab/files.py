"""Uploads and downloads, with nobody to choose a file."""

from __future__ import annotations

import os
from pathlib import Path


def upload(*_arguments: object, **_options: object) -> dict[str, bytes]:
    """Name → content of the lab's files, which are in the working folder already."""
    lab = os.environ.get("NBASSAY_LAB")
    return {file.name: file.read_bytes() for file in sorted(Path(lab).iterdir())} if lab else {}


def download(filename: str, *_arguments: object, **_options: object) -> None:
    """Nobody is there to take it."""
    print(f"{filename}: there is no browser to download it to")
