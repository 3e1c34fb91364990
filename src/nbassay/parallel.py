"""Boxes side by side: results as they end, and a clean stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

STACK_BYTES = 16 << 20
"""Of a thread: JSON nested as deep as Python allows takes 4 MB, and a system may give less."""


def side_by_side(
    items: Sequence[Item], work: Callable[[Item], Result], *, jobs: int, stop: threading.Event
) -> Generator[tuple[Item, Result], None, None]:
    """
    Do *work* on each item, *jobs* at once, and yield item and result as each ends.

    Args:
        stop: Set when the caller leaves early (an error, Ctrl-C): work that runs should end, what
            has not begun never does. The caller goes on once all of it has ended.
    """
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        usual = threading.stack_size(STACK_BYTES)
        try:
            waiting = {pool.submit(work, item): item for item in items}
        finally:
            threading.stack_size(usual)
        try:
            while waiting:
                finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield waiting.pop(future), future.result()
        finally:
            if waiting:
                stop.set()
            for future in waiting:
                future.cancel()
