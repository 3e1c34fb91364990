"""
The notebook's kernel: IPython's own, with the probe listening.

Started by the executor as ``python -m nbassay.inside.kernel -f CONNECTION_FILE``.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from nbassay.inside.arrays import Recognition
from nbassay.inside.channel import Channel
from nbassay.inside.observer import Observer
from nbassay.inside.stand_ins.lab_files import find_by_name
from nbassay.inside.stand_ins.magics import register_magics
from nbassay.inside.stand_ins.network import answer_downloads
from nbassay.inside.workspace import home_folders
from nbassay.records import EnvironmentFact

DEBUGGER = "debugpy"
INTERACTIVE_SHELL = "IPython.core.interactiveshell"


class ProbeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the probe is told; holds nothing that is right or wrong."""

    nonce: str
    """Hexadecimal, 32 bytes."""
    widths: list[int]
    levels: int
    seed: int
    facts: str
    """File that takes the frames."""
    budget_bytes: int
    cells: list[int]
    """Positions of the code cells that will be run, in order."""
    packages: list[str]
    """Whose versions to tell."""
    attempt: int = 0
    """0 first; after that it is added to the seeds that the notebook sets."""
    loaders: dict[str, list[list[str]]] = {}
    """Function that would fetch the lab's data → files that answer it, one list a tuple."""
    typed: str = ""
    """What ``input()`` returns: nobody sits at the keyboard."""
    is_fast: bool = True
    """Whether ``fit`` may run many batches a call where that is the same."""


class Probe:
    """Looks at the kernel after every cell and sends what it sees."""

    def __init__(self, settings: ProbeSettings, shell: Any) -> None:
        self._settings = settings
        self._shell = shell
        descriptor = os.open(settings.facts, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._channel = Channel(descriptor, settings.budget_bytes)
        recognition = Recognition(
            nonce=bytes.fromhex(settings.nonce),
            widths=tuple(settings.widths),
            levels=settings.levels,
        )
        self._observer = Observer(
            self._channel, recognition, shell, lambda: self.cell, is_fast=settings.is_fast
        )
        self._listener = self._observer.listener
        self._runs = 0
        self._depth = 0
        self.cell = settings.cells[0] if settings.cells else 0

    def install(self) -> None:
        """Listen to cells and libraries; seed what draws random numbers; answer what asks."""
        random.seed(self._settings.seed)
        np.random.seed(self._settings.seed)
        self._listener.install(self._settings.seed, self._settings.attempt, self._settings.loaders)
        self._shell.enable_tip = False  # choosing one draws a number each time a client says hello
        self._shell.kernel.raw_input = self._type
        find_by_name(home_folders(), self._tell_of_file, sys.modules[INTERACTIVE_SHELL])
        answer_downloads()
        register_magics(self._shell)
        see_modules_of_the_notebook()
        with self._listener.guard("environment"):
            self._tell_environment()  # again at the end, with what it took, if the end comes
        self._shell.events.register("pre_run_cell", self._before)
        self._shell.events.register("post_run_cell", self._after)

    def _type(self, prompt: Any = "") -> str:
        """Answer ``input()`` and show the question and the answer, as a person would see them."""
        print(f"{prompt}{self._settings.typed}")
        return self._settings.typed

    def _tell_of_file(self, path: str) -> None:
        self._listener.remark(
            "file-found", f"{path[:200]!r} is not there: the lab's own file of that name was read."
        )

    def _before(self, _info: Any = None) -> None:
        if self._depth == 0:
            cells = self._settings.cells
            self.cell = cells[min(self._runs, len(cells) - 1)] if cells else 0
            self._runs += 1
        self._depth += 1

    def _after(self, _result: Any = None) -> None:
        self._depth -= 1
        if self._depth:
            return
        self._observer.look()
        if self._runs == len(self._settings.cells):
            with self._listener.guard("environment"):
                self._tell_environment()

    def _tell_environment(self) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        packages = {}
        for name in self._settings.packages:
            try:
                packages[name] = metadata.version(name)[:200]
            except metadata.PackageNotFoundError:
                continue
        self._channel.fact(
            EnvironmentFact(
                python=sys.version.split()[0],
                packages=packages,
                seed=self._settings.seed,
                threads=int(os.environ.get("OMP_NUM_THREADS") or 0),
                cpu_seconds=round(usage.ru_utime + usage.ru_stime, 3),
                peak_memory_bytes=usage.ru_maxrss * 1024,
            )
        )


def see_modules_of_the_notebook() -> None:
    """
    Let a notebook import files of its working folder, before installed packages, as in Jupyter.

    IPython leaves that folder out of an isolated Python; ours is isolated until it has started.
    """
    if "" not in sys.path:
        installed = (i for i, path in enumerate(sys.path) if Path(path).name == "site-packages")
        sys.path.insert(next(installed, 0), "")


@contextlib.contextmanager
def _without_debugger() -> Iterator[None]:
    """Let the kernel start without the debugger of a front end, whose import takes longest."""
    assert DEBUGGER not in sys.modules
    sys.modules[DEBUGGER] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[DEBUGGER]


def main() -> None:
    """Start the kernel with a probe in it."""
    from ipykernel.kernelapp import IPKernelApp

    path = Path(os.environ.pop("NBASSAY_PROBE"))
    settings = msgspec.json.decode(path.read_bytes(), type=ProbeSettings)
    path.unlink()
    # Said again, since a fork has read its default before it had this parent.
    parent = int(os.environ.get("JPY_PARENT_PID") or 0)
    application = IPKernelApp.instance(parent_handle=parent)
    with _without_debugger():
        application.initialize()
    Probe(settings, application.shell).install()
    application.start()


if __name__ == "__main__":
    main()
