"""
Scripts in forks of one process that has imported the libraries: what a warm start can gain at most.

    python benchmarks/warm_forks.py JOBS SCRIPT...

No sandbox, no notebook, nothing is looked at: the limit beside which ``speed.py`` puts nbassay.
Each script finds the name of a file for its weights in the variable `KEEP_IN`. What each of its
cells took, and all of it, goes into the files beside it that `cells_file` and `whole_file` name.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

KEEP_IN = "SPEED_WEIGHTS"
CELL = "\n\n# %%\n"
"""Between two cells of a script."""


def cells_file(script: Path) -> Path:
    """Holds the seconds of its cells, as JSON."""
    return script.with_suffix(".cells.json")


def whole_file(script: Path) -> Path:
    """Holds the seconds from its fork to its end, as JSON."""
    return script.with_suffix(".whole.json")


def run(script: Path) -> None:
    """Run *script* as a Python started with it would."""
    os.environ[KEEP_IN] = str(script.with_suffix(".txt"))
    scope = {"__name__": "__main__"}
    seconds = []
    for cell in script.read_text("utf-8").split(CELL):
        began = time.monotonic()
        exec(compile(cell, script, "exec"), scope)  # noqa: S102 - a benchmark's own
        seconds.append(time.monotonic() - began)
    cells_file(script).write_text(json.dumps(seconds))


def main() -> int:
    """Run all scripts, some at once; the number of those that failed."""
    jobs, scripts = int(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
    # Imports only: a process that has computed something with TensorFlow cannot be forked.
    import idx2numpy  # noqa: F401
    import keras  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import tensorflow  # noqa: F401

    failed = 0
    running: dict[int, tuple[Path, float]] = {}
    while scripts or running:
        if scripts and len(running) < jobs:
            script, began = scripts.pop(0), time.monotonic()
            pid = os.fork()
            if pid == 0:
                run(script)
                sys.exit(0)
            running[pid] = script, began
            continue
        pid, status = os.wait()
        script, began = running.pop(pid)
        whole_file(script).write_text(json.dumps(time.monotonic() - began))
        failed += os.waitstatus_to_exitcode(status) != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
