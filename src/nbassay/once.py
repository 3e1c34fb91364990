"""Equal runs are made once: whoever asks for evidence that somebody else has gets a copy."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path


class Once:
    """Folders of evidence by key; asked from several threads."""

    def __init__(self, known: Iterable[tuple[str, Path]] = ()) -> None:
        self._folders = dict(known)
        self._turns: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def turn(self, key: str) -> Iterator[Path | None]:
        """
        Wait for whoever makes this evidence now.

        Yields:
            A folder that may hold it; None when nobody has made it: the block should, and `add` it.
        """
        with self._lock:
            turn = self._turns.setdefault(key, threading.Lock())
        with turn:
            yield self._folders.get(key)

    def add(self, key: str, folder: Path) -> None:
        """Tell that *folder* holds the evidence with this key."""
        self._folders[key] = folder
