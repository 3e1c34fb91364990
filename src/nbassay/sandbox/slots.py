"""User ids for boxes that root starts: one to a box at any time, on the whole machine."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nbassay.errors import SandboxError
from nbassay.locks import lock

FIRST_UID = 60_000
SLOTS = 256


@contextlib.contextmanager
def private_uid() -> Iterator[int]:
    """
    Take a user id that no account and no other box has, for as long as the block runs.

    Slots are files with a lock, so several processes of this program share them safely, and one
    that is killed gives its slots back.

    Raises:
        SandboxError: Every slot is taken, or the folder of slots is not root's own.
    """
    folder = _folder()
    for slot in range(SLOTS):
        uid = FIRST_UID + slot
        if _has_account(uid):
            continue
        held = os.open(folder / str(uid), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            lock(held)
        except BlockingIOError:
            os.close(held)
            continue
        try:
            yield uid
        finally:
            os.close(held)
        return
    raise SandboxError(f"all {SLOTS} user ids for boxes are taken ({folder})")


def _folder() -> Path:
    """Where the lock files are: /run, which a restart empties, else the temporary folder."""
    parent = Path("/run")
    if not os.access(parent, os.W_OK):
        parent = Path(tempfile.gettempdir())
    folder = parent / "nbassay-slots"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    # In a shared temporary folder somebody else may have been first.
    if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
        raise SandboxError(f"{folder} does not belong to this user; remove it")
    return folder


def _has_account(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
