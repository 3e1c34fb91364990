"""What the host sees of a box's processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from nbassay.sandbox.usage import Families, tree_of

CHILD = "import sys; print('up', flush=True); sys.stdin.read()"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {CHILD!r}]).wait()"


@pytest.fixture
def parent() -> Iterator[psutil.Popen]:
    """A process with a child of its own, both up."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with psutil.Popen([sys.executable, "-c", PARENT], **pipes) as process:
        assert process.stdout.readline() == b"up\n"
        yield process
        process.stdin.close()


def test_children_of_children_are_found(parent: psutil.Popen) -> None:
    """
    A tree is the process and all its descendants, and of nobody once it is gone.
    """
    (child,) = parent.children()

    assert tree_of(parent.pid) == [parent.pid, child.pid]
    assert {parent.pid, child.pid} < set(tree_of(os.getpid()))
    child.kill()
    parent.wait()
    assert tree_of(parent.pid) == []


def test_boxes_that_look_at_about_the_same_time_share_a_look(
    parent: psutil.Popen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What was found out a moment ago is used again, and no longer.
    """
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    looks: list[None] = []
    ask = psutil.pids
    monkeypatch.setattr("psutil.pids", lambda: looks.append(None) or ask())
    families = Families()
    (child,) = parent.children()
    looks.clear()

    together = families.trees_of([parent.pid, os.getpid()])
    again = families.trees_of([parent.pid])
    assert len(looks) == 1
    now = 101.0
    later = families.trees_of([parent.pid])

    assert again == later == [parent.pid, child.pid]
    assert len(looks) == 2
    assert sorted(set(together)) == sorted(together)
