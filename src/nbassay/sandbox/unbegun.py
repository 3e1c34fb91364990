"""
Boxes that a killed run left before they had begun.

The process that is to become a box waits for a word of bwrap's before it asks the system to die
with it. When a grader is killed in those milliseconds, bwrap ends and that process waits for ever.
Nothing of a notebook is in it; the next run ends it.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Sequence

import psutil

from nbassay.sandbox.usage import is_first_process

BWRAP = "bwrap"


@functools.cache
def end_unbegun(*marks: str) -> None:
    """End those of this user, once a run; each of our boxes has one of *marks* as an argument."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if _is_ours(process, marks) and is_unbegun(process):
                process.kill()


def _is_ours(process: psutil.Process, marks: Sequence[str]) -> bool:
    is_bwrap = process.name() == BWRAP and process.uids().real == os.getuid()
    return is_bwrap and not {*marks}.isdisjoint(process.cmdline())


def is_unbegun(process: psutil.Process) -> bool:
    """Whether it is a box's first process that nothing has run in, and whose bwrap is gone."""
    parent = process.parent()
    return (
        is_first_process(process.pid)
        and not process.children()
        and (parent is None or parent.name() != BWRAP)
    )
