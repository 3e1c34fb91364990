"""The run stage over a class, with a sandbox that does as it is told."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, write_notebook

from nbassay.classrun import FAILED, Task, run_tasks
from nbassay.errors import OutputError
from nbassay.places import here
from nbassay.records import Ending
from nbassay.sandbox import Box, OnFrame
from nbassay.store import Kept, read_submissions
from nbassay.submissions import find_submissions
from nbassay.workshop import read_workshop


class Failing:
    """A sandbox that ends at once, and fails at the notebooks that say so."""

    name = mode = "failing"
    is_isolated = True

    def __init__(self, error: Exception) -> None:
        self._error = error

    def run(self, box: Box, on_frame: OnFrame, *, should_stop: Callable[[], bool]) -> Ending:
        if b"# fails" in box.stdin:
            raise self._error
        return Ending(reason="finished", message=None, seconds=0.0, peak_memory_bytes=0)

    def close(self) -> None: ...


class Told:
    """Keeps what is said of progress."""

    def __init__(self) -> None:
        self.how: dict[str, str] = {}

    def start(self, total: int) -> None: ...

    def done(self, name: str, how: str) -> None:
        self.how[name] = how

    def close(self) -> None: ...


@pytest.fixture
def tasks(tmp_path: Path) -> list[Task]:
    for name, source in {"ann": "1", "bad": "# fails", "zoe": "2"}.items():
        write_notebook(tmp_path / "class" / f"{name}.ipynb", source)
    return [
        Task(item=item, folder=tmp_path / "out" / item.learner)
        for item in find_submissions([tmp_path / "class"])
    ]


def run(tasks: list[Task], error: Exception) -> tuple[int, dict[str, str]]:
    told = Told()
    workshop = read_workshop(TINY)
    with here(workshop, Failing(error)) as place:
        class_run = run_tasks(tasks, workshop=workshop, place=place, jobs=1, progress=told)
    return class_run.not_run, told.how


def test_a_mistake_of_ours_costs_one_notebook_its_run(
    tasks: list[Task], caplog: pytest.LogCaptureFixture
) -> None:
    """
    An unexpected error at one notebook leaves it to be run again; the others are done.
    """
    not_run, how = run(tasks, TypeError("ours"))
    kept = read_submissions(tasks[0].folder.parent, {}, data="")
    (bad,) = [one.kept for one in kept if one.kept.learner == "bad"]

    assert (not_run, how) == (1, {"ann": "done", "bad": FAILED, "zoe": "done"})
    assert isinstance(bad, Kept)
    assert "nbassay itself failed at this notebook (TypeError)" in bad.notes[0]
    assert bad.unreadable is None
    assert "ours" in caplog.text


def test_a_disk_that_fails_costs_nobody_the_mark(
    tasks: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A file that this machine fails to read is not run and tried again; it is no unreadable notebook.
    """
    opened = Path.open

    def failing(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == "bad.ipynb":
            raise OSError(errno.EIO, "Input/output error")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", failing)
    not_run, how = run(tasks, TypeError("not reached"))
    kept = read_submissions(tasks[0].folder.parent, {}, data="")
    (bad,) = [one.kept for one in kept if one.kept.learner == "bad"]

    assert (not_run, how) == (1, {"ann": "done", "bad": "could-not-start", "zoe": "done"})
    assert bad.unreadable is None
    assert "could not be read on this machine (Input/output error)" in bad.notes[0]


def test_an_error_that_the_operator_can_act_on_ends_the_class(tasks: list[Task]) -> None:
    """
    A full disk is told at once, not once for each learner.
    """
    with pytest.raises(OutputError, match="full"):
        run(tasks, OutputError("the disk is full"))
