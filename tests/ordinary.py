"""Running tests again as an ordinary user, when root runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

USER = 64000

# The interpreter may lie below a home that is root's alone. In a mount namespace of our own that
# home is an empty folder with nothing in it but the interpreter; the host's is not touched.
_OPENED = """
keep=$(mktemp -d)
mount --bind "$1" "$keep"
mount -t tmpfs -o mode=755 tmpfs "$2"
mkdir -p "$1"
mount --bind "$keep" "$1"
umount "$keep"
rmdir "$keep"
shift 2
exec "$@"
"""


def ordinary_user() -> list[str] | None:
    """How an ordinary user can run this Python with our packages; None if there is no way."""
    given_up = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    environment = [
        "env",
        "-i",
        f"PATH={os.environ['PATH']}",
        "HOME=/nonexistent",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1",
        f"PYTHONPATH={os.pathsep.join(path for path in sys.path if path)}",
    ]
    prefix = Path(sys.base_prefix).resolve()
    opened = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", _OPENED, "sh"]
    opened += [str(prefix), str(Path(*prefix.parts[:2]))]
    ways = [
        [*given_up, *environment, sys.executable, "-B"],
        [*opened, *given_up, *environment, sys.executable, "-B"],
    ]
    if prefix.parts[1] in ("usr", "opt", "lib", "etc", "tmp"):
        ways.pop()  # nothing private there, and much that has to stay
    for command in ways:
        try:
            subprocess.run(
                [*command, "-c", "import msgspec, nbassay.records, psutil, pytest"],
                check=True,
                capture_output=True,
                cwd="/",
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return command
    return None
