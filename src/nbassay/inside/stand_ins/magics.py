"""Line magics of hosted notebooks, and Colab's package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HOSTED = Path(__file__).parent / "hosted"
"""``google.colab``, for where no real one is installed."""


def register_magics(shell: Any) -> None:
    """
    Let ``%conda`` and ``%mamba`` reach the stand-in, and ``%tensorflow_version`` choose nothing.

    IPython's own ``%conda`` raises outside of a conda environment; ``%pip`` works as it is.
    """

    def conda(line: str) -> None:
        """Run conda's stand-in."""
        shell.system(f"conda {line}")

    def tensorflow_version(_line: str) -> None:
        """Colab chose between TensorFlow 1 and 2 with it."""

    shell.register_magic_function(conda, magic_name="conda")
    shell.register_magic_function(conda, magic_name="mamba")
    shell.register_magic_function(tensorflow_version)
    sys.path.append(str(HOSTED))
