"""
Temporary folders of a run; what a killed run leaves of them, the next one removes.

Each is locked as long as its run lives, and the system gives a lock back whatever ends a process.
So a folder without its lock is nobody's, and one of another run that lives is never touched.
Windows locks no folders: there what a killed run leaves stays, in the user's own temporary folder.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nbassay.errors import OutputError
from nbassay.files import FULL
from nbassay.locks import lock

PREFIX = "nbassay-tmp-"
"""All our temporary folders begin with it, and no other file of ours does."""

_TRIES = 5
_ADVICE = "make room, or name another place for temporary files with TMPDIR"

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def scratch(what: str) -> Iterator[Path]:
    """
    A temporary folder for as long as the block runs; only this user can open it.

    The first of a process removes those of killed runs.

    Args:
        what: A word for its name, that tells a person what it is.

    Raises:
        OutputError: It cannot be made, or there is no room left in it.
    """
    if sys.platform == "win32":
        folder, held = _new(what), None
    else:
        _remove_left_behind_once()
        folder, held = _made(what)
    try:
        yield folder
    except OSError as error:
        if error.errno in FULL:
            raise OutputError(f"{folder.parent}: {error.strerror}; {_ADVICE}") from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)  # last: until here, nobody else removes it


def remove_left_behind() -> list[Path]:
    """Remove this user's temporary folders whose run is dead, and name them."""
    removed = []
    for folder in sorted(_place().glob(f"{PREFIX}*")):
        held = _locked(folder)
        if held is None:
            continue
        try:
            shutil.rmtree(folder)
            removed.append(folder)
        except OSError as error:
            _log.debug("%s: left behind, and not removed: %s", folder, error)
        finally:
            os.close(held)
    return removed


def is_in_use(folder: Path) -> bool:
    """Whether the run that made this temporary folder lives."""
    held = _locked(folder)
    if held is not None:
        os.close(held)
    return held is None and folder.exists()


_remove_left_behind_once = functools.cache(remove_left_behind)


def _made(what: str) -> tuple[Path, int]:
    """A new folder and its lock."""
    for _ in range(_TRIES):
        folder = _new(what)
        held = _locked(folder)
        if held is not None and folder.exists():
            return folder, held
        if held is not None:
            os.close(held)  # another run found it before it was locked, and removed it
    raise OutputError(f"{_place()}: its folders cannot be locked; name another place with TMPDIR")


def _new(what: str) -> Path:
    """
    A new folder.

    Raises:
        OutputError: It cannot be made.
    """
    try:
        return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{what}-", dir=_place()))
    except OSError as error:
        raise OutputError(
            f"{_place()}: no temporary folder can be made there: {error.strerror}; {_ADVICE}"
        ) from error


def _place() -> Path:
    """
    Where temporary files go on this machine.

    Raises:
        OutputError: None of the usual places can be written.
    """
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise OutputError(f"{error.strerror}; {_ADVICE}") from error


def _locked(folder: Path) -> int | None:
    """A lock on a folder of this user's; None when there is none to be had."""
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(held).st_uid == os.geteuid():
            lock(held)
            return held
    except OSError:
        pass
    os.close(held)
    return None
