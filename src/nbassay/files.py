"""Files that appear whole or not at all, and an output folder that one run owns at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nbassay.errors import OutputError
from nbassay.locks import lock

MARK = "run.json"
"""A folder that holds it, or nothing at all, is ours to write into."""
UNFINISHED = ".nbassay-unfinished-"
"""What is being written beside its place begins with it; a killed run leaves it behind."""

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
"""Windows has none; making a link takes an administrator there."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""How the system says that there is no room left."""
_FORBIDDEN = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def why_not_written(error: OSError) -> str:
    """What the system says, and what a person can do about it."""
    told = error.strerror or str(error)
    if error.errno in FULL:
        return f"{told}; make room there and give the same command again: what is done stays done"
    if error.errno in _FORBIDDEN:
        return f"{told}; give another place with -o, or the right to write there"
    return told


def write_whole(path: Path, content: str | bytes) -> None:
    """
    Write a file so that nobody ever sees half of it.

    What is there and no regular file, as ``/dev/null``, is written into and not replaced.

    Args:
        path: The file; its folder is made if it is missing.
        content: Its content; line ends are kept as they are.

    Raises:
        OutputError: It cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=UNFINISHED, dir=path.parent)
        beside = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # or a power cut after the renaming leaves an empty file
            beside.chmod(0o644)
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {why_not_written(error)}") from error


def is_graded_class(folder: Path) -> bool:
    """Whether *folder* is the output of a run."""
    try:
        with (folder / MARK).open("rb") as file:
            return b"nbassay/run/1" in file.read(200)
    except OSError:
        return False


def refuse_link(folder: Path) -> None:
    """
    Refuse to write into *folder* where it, or the one that holds it, is a link.

    Raises:
        OutputError: One is.
    """
    if folder.is_symlink() or folder.parent.is_symlink():
        raise OutputError(f"{folder}: a link; nothing is written through it")


@contextlib.contextmanager
def owned(out: Path, *, must_be_graded: bool = False) -> Iterator[None]:
    """
    Own an output folder while the block runs; what a killed run left unfinished is removed.

    Args:
        must_be_graded: Refuse a folder that nothing was graded into, and leave it as it is.

    Raises:
        OutputError: It holds something else than a graded class, another run owns it, or it
            cannot be written.
    """
    if must_be_graded and not is_graded_class(out):
        raise OutputError(
            f"{out}: is no graded class; `nbassay grade PATH -o {out}` makes one of it"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        strangers = [entry.name for entry in out.iterdir() if not entry.name.startswith(".")]
        if strangers and MARK not in strangers:
            raise OutputError(
                f"{out}: holds other files ({', '.join(sorted(strangers)[:3])}) and is no graded "
                "class; nothing was written: give another folder with -o"
            )
        held = os.open(out / ".lock", os.O_RDWR | os.O_CREAT | _NO_LINK, 0o644)
    except OSError as error:
        raise OutputError(f"{out}: cannot be used as output: {why_not_written(error)}") from error
    try:
        try:
            lock(held)
        except OSError:
            raise OutputError(
                f"{out}: another run writes into this folder; wait for it or give another with -o"
            ) from None
        try:
            _remove_unfinished(out)
        except OSError as error:
            raise OutputError(
                f"{error.filename}: left by a killed run, and cannot be removed: "
                f"{why_not_written(error)}"
            ) from error
        yield
    finally:
        os.close(held)


def _remove_unfinished(out: Path) -> None:
    """Remove what killed runs left; with the folder owned, nobody else is writing there."""
    for place, folders, names in os.walk(out):  # does not follow links
        for name in names:
            if name.startswith(UNFINISHED):
                (Path(place) / name).unlink(missing_ok=True)
        for name in [name for name in folders if name.startswith(UNFINISHED)]:
            folders.remove(name)
            shutil.rmtree(Path(place) / name)
