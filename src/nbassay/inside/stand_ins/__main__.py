"""One command, named by the first argument."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from nbassay.inside.stand_ins import downloads, packages, unpacking

COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "conda": packages.conda,
    "curl": downloads.curl,
    "gunzip": unpacking.gunzip,
    "gzip": unpacking.gzip,
    "mamba": packages.conda,
    "pip": packages.pip,
    "pip3": packages.pip,
    "wget": downloads.wget,
}
"""Name on the PATH → what it does with its arguments; returns the exit status."""


def main() -> int:
    """Run the command that the first argument names."""
    return COMMANDS[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
