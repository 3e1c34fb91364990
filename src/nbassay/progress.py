"""How far a class is, told on standard error: a bar in a terminal, lines in a log, or nothing."""

from __future__ import annotations

import time

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from nbassay.classrun import ALREADY, BEFORE, Progress


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
        self._bar.remove_task(self._task)
        self._bar.stop()


class LineProgress:
    """A plain line a notebook, with the time left, for a pipe or a log."""

    def start(self, total: int) -> None:
        self._total, self._done, self._run, self._started = total, 0, 0, time.monotonic()

    def done(self, name: str, how: str) -> None:
        self._done += 1
        if how.startswith((ALREADY, BEFORE)):  # says nothing of how long the others take
            self._started = time.monotonic() if not self._run else self._started
        else:
            self._run += 1
        spent = time.monotonic() - self._started
        left = time_left(spent, self._run, self._total - self._done)
        click.echo(f"[{self._done}/{self._total}{left}] {name}: {how}", err=True)

    def close(self) -> None: ...


def time_left(seconds: float, done: int, waiting: int) -> str:
    """How long those *waiting* take if it goes on like the *done*: ``, about 12 min left``."""
    left = seconds / done * waiting if done else 0.0
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
