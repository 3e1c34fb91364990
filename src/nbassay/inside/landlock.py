"""
A domain of Landlock's around the executor and all that it starts.

In an ordinary user's box the first process is bwrap's own, of the same user, without our filter and
limits: who could write its memory would be rid of both. A process in a domain may not look into one
outside it, and in ours no file of ``/proc`` can be opened to be written, whichever process it
tells of; nothing else changes. Linux 5.19 or later; without it, the other walls stand.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every processor
_VERSION = 1
_PATH_BENEATH = 1
_WRITE_FILE = 1 << 1
_REFER = 1 << 13
"""To rename between folders: refused in every domain unless a rule allows it."""


def enter_domain() -> bool:
    """Enter a domain that allows every file outside ``/proc``; return whether this system can."""
    if sys.platform != "linux":
        return False
    call = ctypes.CDLL(None, use_errno=True).syscall
    if call(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION) < 2:
        return False
    handled = struct.pack("=Q", _WRITE_FILE | _REFER)
    ruleset = call(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0)
    if ruleset < 0:
        return False
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, ruleset)
        # Rules only ever allow, so each folder beside /proc has one of its own.
        folders = [path for path in Path("/").iterdir() if path.is_dir() and path.name != "proc"]
        for path, allowed in [(Path("/"), _REFER), *((path, _WRITE_FILE) for path in folders)]:
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
            stack.callback(os.close, opened)
            rule = struct.pack("=Qi", allowed, opened)
            if call(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0) != 0:
                return False
        return bool(call(_RESTRICT_SELF, ruleset, 0) == 0)
