"""
A domain of Landlock's around the executor and all that it starts.

In an ordinary user's box the first process is bwrap's own, of the same user, without our filter and
limits: who could write its memory would be rid of both. A process in a domain may not look into one
outside it; nothing else changes. Linux 5.19 or later; without it, the other walls stand.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every processor
_VERSION = 1
_PATH_BENEATH = 1
_REFER = 1 << 13
"""To rename between folders: refused in every domain unless a rule allows it."""


def enter_domain() -> bool:
    """Enter a domain that allows every file; return whether this system has them."""
    if sys.platform != "linux":
        return False
    call = ctypes.CDLL(None, use_errno=True).syscall
    if call(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION) < 2:
        return False
    ruleset = call(_CREATE_RULESET, struct.pack("=Q", _REFER), ctypes.c_size_t(8), 0)
    if ruleset < 0:
        return False
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", _REFER, root)
        if call(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0) != 0:
            return False
        return bool(call(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(root)
        os.close(ruleset)
