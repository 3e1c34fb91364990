"""Where notebooks run: on this machine, or on the workers of a cluster (`nbassay.cluster`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

from nbassay.notebook import Notebook
from nbassay.running import Run, Shortcuts, run_notebook
from nbassay.sandbox import Sandbox, Walls
from nbassay.workbench import Workbench, workbench
from nbassay.workshop import Workshop


class NotRunError(Exception):
    """A notebook could not be run, and that says nothing of it; the message says why."""


class Place(Protocol):
    """A place to run notebooks; asked from several threads at once."""

    @property
    def walls(self) -> Walls:
        """What keeps notebooks from the machines they run on."""
        ...

    def run(
        self,
        notebook: Notebook,
        *,
        attempt: int,
        shortcuts: Shortcuts,
        should_stop: Callable[[], bool],
    ) -> Run:
        """
        Run *notebook* in a box (see `nbassay.running.run_notebook`).

        Raises:
            NotRunError: It could not be run there.
            AssayError: The place is not usable.
        """
        ...


class Here:
    """This machine."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench

    @property
    def walls(self) -> Walls:
        return self._bench.sandbox

    def run(
        self,
        notebook: Notebook,
        *,
        attempt: int,
        shortcuts: Shortcuts,
        should_stop: Callable[[], bool],
    ) -> Run:
        """Run *notebook* in a box of this machine."""
        return run_notebook(
            notebook,
            self._bench,
            attempt=attempt,
            shortcuts=shortcuts,
            should_stop=should_stop,
        )


@contextlib.contextmanager
def here(workshop: Workshop, sandbox: Sandbox) -> Iterator[Here]:
    """
    This machine with the workshop's data laid out, for as long as the block runs.

    Raises:
        DataError: Lab data are missing or not the pinned ones.
    """
    with workbench(workshop, sandbox) as bench:
        yield Here(bench)
