"""Boxes side by side: results as they end, and a clean stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
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
    waiting: dict[Future[Result], Item] = {}
    ended: SimpleQueue[Future[Result]] = SimpleQueue()
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            usual = threading.stack_size(STACK_BYTES)
            try:
                for item in items:
                    future = pool.submit(work, item)
                    waiting[future] = item
                    future.add_done_callback(ended.put)
            finally:
                threading.stack_size(usual)
            while waiting:
                future = ended.get()
                yield waiting.pop(future), future.result()
        except BaseException:  # also GeneratorExit: the caller has left
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
