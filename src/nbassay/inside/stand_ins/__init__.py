"""
What notebooks' set-up cells ask for, answered without a network.

``pip``, ``conda``, ``wget``, ``curl`` and ``gunzip`` succeed where what they ask for is already
there and fail with the reason where it is not; Python's downloads and Colab's modules likewise.
Commands are started by launchers that `nbassay.inside.workspace` puts on the notebook's PATH::

    python -I -m nbassay.inside.stand_ins NAME ARGUMENT…
"""

NO_NETWORK = "the grader has no network"
"""What every refusal says."""
