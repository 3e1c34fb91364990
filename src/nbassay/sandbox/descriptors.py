"""Descriptors that are handed to a box's processes: pipes, files in memory."""

from __future__ import annotations

import contextlib
import io
import os
import select
from typing import IO


def new_pipe(stack: contextlib.ExitStack) -> tuple[io.FileIO, io.FileIO]:
    """Both ends of a new pipe, to read and to write, closed with *stack*."""
    out, into = os.pipe()
    return (
        stack.enter_context(io.FileIO(out, "r")),
        stack.enter_context(io.FileIO(into, "w")),
    )


def file_of(content: bytes) -> IO[bytes]:
    """A file in memory, to be read from its start by descriptor: no disk that might be full."""
    file = os.fdopen(os.memfd_create("nbassay"), "w+b")
    file.write(content)
    file.seek(0)  # also flushes
    return file


def is_readable(fd: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, timeout_s) * 1000))


def read_now(fd: int) -> bytes:
    """What is there to be read, without waiting for more."""
    return os.read(fd, 4096) if is_readable(fd, 0) else b""
