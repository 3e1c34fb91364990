"""Work side by side: results as they end, errors at once, a clean stop."""

from __future__ import annotations

import signal
import threading
from contextlib import closing

import pytest

from nbassay.parallel import side_by_side


def test_results_come_as_they_end() -> None:
    """
    What ends first comes first, whatever was asked for first.
    """
    may_end = threading.Event()

    def work(name: str) -> str:
        if name == "long":
            assert may_end.wait(60)
        return name.upper()

    told = side_by_side(["long", "short"], work, jobs=2, stop=threading.Event())

    assert next(told) == ("short", "SHORT")
    may_end.set()
    assert list(told) == [("long", "LONG")]


def test_a_large_class_comes_whole() -> None:
    """
    Tens of thousands of items come, each once, and none of them stops the others.
    """
    stop = threading.Event()

    told = list(side_by_side(range(30_000), str, jobs=2, stop=stop))

    assert sorted(told) == [(number, str(number)) for number in range(30_000)]
    assert not stop.is_set()


def test_an_error_stops_the_rest() -> None:
    """
    An error comes out as it is; work that runs is told to stop, and what has not begun never does.
    """
    stop, begun = threading.Event(), []

    def work(number: int) -> bool:
        begun.append(number)
        if number == 1:
            raise ValueError("one")
        return stop.wait(60)

    with pytest.raises(ValueError, match="one"):
        list(side_by_side(range(1_000), work, jobs=2, stop=stop))

    assert {0, 1} <= set(begun)
    assert len(begun) < 1_000
    assert stop.is_set()


def test_who_leaves_early_waits_for_what_runs() -> None:
    """
    When the caller has had enough, what runs ends before the caller goes on.
    """
    stop, running = threading.Event(), set()

    def work(number: int) -> int:
        if number:
            running.add(number)
            assert stop.wait(60)
            running.remove(number)
        return number

    with closing(side_by_side(range(1_000), work, jobs=3, stop=stop)) as told:
        assert next(told) == (0, 0)

    assert stop.is_set()
    assert not running


@pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="Windows sends no signals to threads"
)
def test_ctrl_c_ends_the_waiting() -> None:
    """
    Ctrl-C is heard while nothing ends, and stops what runs.
    """
    stop, was_stopped = threading.Event(), []
    main = threading.get_ident()

    def work(number: int) -> None:
        signal.pthread_kill(main, signal.SIGINT)
        was_stopped.append(stop.wait(60))

    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(side_by_side([1], work, jobs=1, stop=stop))
    finally:
        signal.signal(signal.SIGINT, usual)

    assert stop.is_set()
    assert was_stopped in ([], [True])  # none yet: it was heard while the thread began
