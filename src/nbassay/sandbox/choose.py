"""Finds a sandbox that works on this machine, or says what to install."""

from __future__ import annotations

import sys

from nbassay.errors import SandboxError
from nbassay.sandbox import Sandbox
from nbassay.sandbox.bubblewrap import Bubblewrap


def choose(name: str = "auto") -> Sandbox:
    """Temporary: bubblewrap only."""
    if sys.platform != "linux":
        raise SandboxError("no sandbox")
    return Bubblewrap()
