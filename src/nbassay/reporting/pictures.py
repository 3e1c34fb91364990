"""
Small pictures of rows of the pristine test set, as ``data:`` addresses.

Pixels come from the workshop's own data, never from a learner: what the page shows is what the
network was asked.
"""

from __future__ import annotations

import base64
import functools
import io
import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MOST_HELD = 2048
"""Pictures, half a kilobyte each."""


def picture(row: NDArray[np.uint8]) -> str | None:
    """
    Encode one row of pixels as a PNG.

    Args:
        row: Grey levels 0..255, uint8, any shape; its length is width × width.

    Returns:
        A ``data:image/png`` address; None when the row is no square.
    """
    pixels = np.ascontiguousarray(row, dtype=np.uint8).reshape(-1)
    width = math.isqrt(pixels.size)
    if width == 0 or width * width != pixels.size:
        return None
    return _address(pixels.tobytes(), width)


@functools.lru_cache(maxsize=MOST_HELD)
def _address(pixels: bytes, width: int) -> str:
    """Digits that are hard to read are hard for many of a class: each is encoded once."""
    file = io.BytesIO()
    Image.frombytes("L", (width, width), pixels).save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def pictures_of(
    indexes: Iterable[int], pristine_rows: Callable[[int], NDArray[np.uint8]]
) -> dict[int, str]:
    """
    Encode some test images.

    Args:
        indexes: Positions in the test set.
        pristine_rows: Gives the pixels of one position.

    Returns:
        Position → ``data:`` address; positions whose row is no square are left out.
    """
    found = {index: picture(pristine_rows(index)) for index in indexes}
    return {index: address for index, address in found.items() if address is not None}
