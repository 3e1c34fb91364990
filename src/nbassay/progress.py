"""How far a class is, told on standard error: a bar in a terminal, lines in a log, or nothing."""

from __future__ import annotations

import time

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from nbassay.classrun import Progress


class BarProgress:
    """A bar with the time left, for a terminal."""

    def __init__(self, console: Console) -> None:
        self._bar = RichProgress(
            TextColumn("running notebooks"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[last]}"),
            console=console,
            transient=True,
        )

    def start(self, total: int) -> None:
        self._bar.start()
        self._task = self._bar.add_task("", total=total, last="")

    def done(self, name: str, how: str) -> None:
        self._bar.update(self._task, advance=1, last=f"{name}: {how}")

    def close(self) -> None:
        self._bar.stop()


class LineProgress:
    """A plain line a notebook, with the time left, for a pipe or a log."""

    def start(self, total: int) -> None:
        self._total, self._done, self._started = total, 0, time.monotonic()

    def done(self, name: str, how: str) -> None:
        self._done += 1
        left = time_left(time.monotonic() - self._started, self._done, self._total)
        click.echo(f"[{self._done}/{self._total}{left}] {name}: {how}", err=True)

    def close(self) -> None: ...


def time_left(seconds: float, done: int, total: int) -> str:
    """How long the rest of *total* takes if it goes on like the *done*: ``, about 12 min left``."""
    left = seconds / done * (total - done)
    if left < 60:
        return ""
    minutes = round(left / 60)
    return f", about {minutes} min left" if minutes < 120 else f", about {minutes / 60:.0f} h left"


class NoProgress:
    """Says nothing."""

    def start(self, total: int) -> None: ...

    def done(self, name: str, how: str) -> None: ...

    def close(self) -> None: ...


def progress(is_quiet: bool) -> Progress:
    """What tells of a class here."""
    console = Console(stderr=True)
    if is_quiet:
        return NoProgress()
    return BarProgress(console) if console.is_terminal else LineProgress()
