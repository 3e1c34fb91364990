"""
Scripts in forks of one process that has imported the libraries: what a warm start can gain at most.

    python benchmarks/warm_forks.py JOBS SCRIPT...

No sandbox, no notebook, nothing is looked at: the limit beside which ``speed.py`` puts nbassay.
Each script finds the name of a file for its weights in the variable that ``speed.py`` names.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

KEEP_IN = "SPEED_WEIGHTS"


def run(script: Path) -> None:
    """Run *script* as a Python started with it would."""
    os.environ[KEEP_IN] = str(script.with_suffix(".txt"))
    exec(compile(script.read_bytes(), script, "exec"), {"__name__": "__main__"})  # noqa: S102


def main() -> int:
    """Run all scripts, some at once; the number of those that failed."""
    jobs, scripts = int(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
    # Imports only: a process that has computed something with TensorFlow cannot be forked.
    import idx2numpy  # noqa: F401
    import keras  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import tensorflow  # noqa: F401

    failed = running = 0
    while scripts or running:
        if scripts and running < jobs:
            script = scripts.pop(0)
            if os.fork() == 0:
                run(script)
                sys.exit(0)
            running += 1
            continue
        failed += os.waitstatus_to_exitcode(os.wait()[1]) != 0
        running -= 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
