"""What the host tells the executor; apart from it, since the host needs none of its libraries."""

from __future__ import annotations

from typing import Any

import msgspec


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the host sends on standard input."""

    notebook: dict[str, Any]
    """nbformat 4, outputs removed."""
    cell_s: float
    output_bytes: int
    facts_bytes: int
    nonce: str
    widths: list[int]
    levels: int
    seed: int
    packages: list[str]
    attempt: int = 0
    """0 first; after that it is added to the seeds that the notebook sets."""
    loaders: dict[str, list[list[str]]] = {}
    """Function that would fetch the lab's data → files in the working folder that answer it."""
    is_fast: bool = True
    """Whether ``fit`` may run many batches a call where that is the same."""
    typed: str = ""
    """What ``input()`` returns."""
