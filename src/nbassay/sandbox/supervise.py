"""
Watches one box from outside: feeds its input, hands over its frames, and ends it at its limits.

Everything that comes through the pipe was written by strangers. At most one frame is held at a
time, and its announced size is checked before any of it is kept.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from typing import Literal, Protocol

from nbassay.records import Ending
from nbassay.sandbox import Limits, OnFrame
from nbassay.sandbox.usage import (
    measure_share,
    measure_shared_mappings,
    measure_usage,
)

FRAME_HEADER = struct.Struct("!4sQ")
MAX_FRAME_BYTES = 32 << 20
"""Largest single frame, whatever ``evidence_mb`` says: what the host holds at a time."""

_LEAST_CHARGE = 256  # of one frame, bytes: or 64 MB would be five million empty ones
_LOOK_S = 0.1  # between two looks at memory, processor time and should_stop
_MOST_FILES = 200_000  # of a box, the empty ones too: each takes about a kilobyte of the kernel's
_READ_BYTES = 1 << 16
_KEPT_ERRORS = 4096  # bytes of standard error, for messages
_MB = 1 << 20

_log = logging.getLogger(__name__)

_Reason = Literal[
    "wall-time",
    "cpu-time",
    "memory",
    "evidence-size",
    "crashed",
    "killed-outside",
    "interrupted",
]


class Running(Protocol):
    """A started box, as its provider hands it over."""

    process: subprocess.Popen[bytes]
    """Its standard input and standard error are pipes. So is its standard output if the provider
    says there with one byte that the box is up; without, it is up from the start."""
    frames_fd: int
    """The end of the pipe to read frames from; closed by the caller."""
    is_out_of_reach: bool
    """Whether nothing in the box can signal *process*: then a signal that ends it is not its."""

    def pids(self) -> list[int]:
        """Ids of all processes of the box."""
        ...

    def files(self) -> int:
        """How many files the box holds in memory; 0 where they are on the host's disk."""
        ...

    def end(self) -> None:
        """Kill all of them, and return when none is left."""
        ...


class _Stop(Exception):
    """A limit was reached; the box has to end."""

    def __init__(self, reason: _Reason, message: str) -> None:
        super().__init__(message)
        self.reason: _Reason = reason
        self.message = message


def supervise(
    running: Running,
    *,
    stdin: bytes,
    limits: Limits,
    on_frame: OnFrame,
    should_stop: Callable[[], bool],
) -> Ending:
    """
    See a started box to its end, whatever it does; see `nbassay.sandbox.Sandbox.run`.

    Returns:
        How it ended. No process of the box is left then, nor when this raises.

    Raises:
        SandboxError: A process of the box could not be ended.
    """
    return _Supervision(running, stdin, limits, on_frame, should_stop).run()


def could_not_start(message: str, *, seconds: float = 0.0) -> Ending:
    """The ending of a box that never came up; *message* says why, and is cut to a decent length."""
    message = " ".join(message.split())
    return Ending(
        reason="could-not-start",
        message=f"The sandbox could not start: {message[:1000] or 'it gave no reason'}",
        seconds=seconds,
        peak_memory_bytes=0,
    )


class _FrameReader:
    """Cuts the pipe's bytes into frames and hands each over as soon as it is whole."""

    def __init__(self, limits: Limits, on_frame: OnFrame) -> None:
        self._on_frame = on_frame
        self._limit_mb = limits.evidence_mb
        self._left = limits.evidence_mb * _MB
        self._buffer = bytearray()
        self._kind = b""
        self._size: int | None = None  # of the payload under way

    def feed(self, data: bytes) -> None:
        """
        Take the next bytes.

        Raises:
            _Stop: A frame is too large, or all together are.
        """
        view = memoryview(data)
        while len(view):
            if self._size is None:
                view = self._fill(view, FRAME_HEADER.size)
                if len(self._buffer) < FRAME_HEADER.size:
                    return
                self._kind, size = FRAME_HEADER.unpack(self._buffer)
                self._accept(size)
                self._buffer.clear()
                self._size = size
            view = self._fill(view, self._size)
            if len(self._buffer) == self._size:
                payload = bytes(self._buffer)
                self._buffer = bytearray()
                self._size = None
                self._on_frame(self._kind, payload)

    def _fill(self, view: memoryview, wanted: int) -> memoryview:
        """Move bytes into the buffer until it holds *wanted*; return the rest."""
        count = wanted - len(self._buffer)
        self._buffer += view[:count]
        return view[count:]

    def _accept(self, size: int) -> None:
        """Charge a frame whose header announces *size* bytes, before any of them is read."""
        if size > MAX_FRAME_BYTES:
            raise _Stop(
                "evidence-size",
                f"The notebook sent one result larger than {MAX_FRAME_BYTES // _MB} MB"
                " and was stopped.",
            )
        self._left -= max(FRAME_HEADER.size + size, _LEAST_CHARGE)
        if self._left < 0:
            raise _Stop(
                "evidence-size",
                f"The notebook sent more than {self._limit_mb} MB of results and was stopped.",
            )


class _Supervision:
    """One box under way."""

    def __init__(
        self,
        running: Running,
        stdin: bytes,
        limits: Limits,
        on_frame: OnFrame,
        should_stop: Callable[[], bool],
    ) -> None:
        self._running = running
        self._process = running.process
        self._stdin = memoryview(stdin)
        self._limits = limits
        self._frames = _FrameReader(limits, on_frame)
        self._should_stop = should_stop
        self._is_up = running.process.stdout is None
        self._errors = b""
        self._peak_bytes = 0
        self._next_look = 0.0
        self._next_mapping_look = 0.0
        self._start = time.monotonic()
        self._selector = selectors.DefaultSelector()

    def run(self) -> Ending:
        stop: _Stop | None = None
        try:
            try:
                self._register()
                self._watch()
            except _Stop as caught:
                stop = caught
            finally:
                self._running.end()
            try:
                # What was sent before the end counts; with every writer gone, this is all of it.
                while self._read_frames():
                    pass
            except _Stop as caught:
                stop = stop or caught
            self._read_up()
            self._read_errors()
        finally:
            self._close()
        if self._errors:
            _log.debug("standard error of the box: %s", self._errors.decode(errors="replace"))
        return self._ending(stop)

    def _register(self) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stderr is not None
        self._on(process.stdin.fileno(), self._write_stdin, writes=True)
        self._on(process.stderr.fileno(), self._read_errors)
        self._on(self._running.frames_fd, self._read_frames)
        if process.stdout is not None:
            self._on(process.stdout.fileno(), self._read_up)

    def _on(self, fd: int, handler: Callable[[], bool], *, writes: bool = False) -> None:
        os.set_blocking(fd, False)
        event = selectors.EVENT_WRITE if writes else selectors.EVENT_READ
        self._selector.register(fd, event, handler)

    def _watch(self) -> None:
        """Serve the pipes until the first process has ended, or a limit is reached."""
        while self._process.poll() is None:
            self._look()
            # A short wait, and not one for the process: its end closes the pipes, which wakes us.
            for key, _ in self._selector.select(_LOOK_S):
                if not key.data():
                    self._selector.unregister(key.fd)
            if not self._selector.get_map():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_LOOK_S)

    def _look(self) -> None:
        """
        Compare with the limits, a few times a second.

        Raises:
            _Stop: One is reached, or the caller asked for the end.
        """
        now = time.monotonic()
        limits = self._limits
        if now - self._start >= limits.notebook_s:
            raise _Stop(
                "wall-time",
                f"The notebook ran longer than {limits.notebook_s:g} s and was stopped.",
            )
        if now < self._next_look:
            return
        if self._should_stop():
            raise _Stop("interrupted", "The run was interrupted before the notebook had ended.")
        self._look_at_usage(now)
        # Looking takes time when there are many processes; never spend all of it on that.
        self._next_look = time.monotonic() + max(_LOOK_S, time.monotonic() - now)

    def _look_at_usage(self, now: float) -> None:
        pids = self._running.pids()
        usage = measure_usage(pids)
        limit_bytes = self._limits.memory_mb * _MB
        used = usage.resident_bytes
        if used > limit_bytes:
            share = measure_share(pids)
            used = used if share is None else share
        if used <= limit_bytes < usage.reachable_bytes and now >= self._next_mapping_look:
            used = max(used, measure_shared_mappings(pids))
            self._next_mapping_look = time.monotonic() + 10 * _LOOK_S
        self._peak_bytes = max(self._peak_bytes, used)
        if used > limit_bytes:
            raise _Stop(
                "memory",
                f"The notebook used more than {self._limits.memory_mb} MB of memory"
                " and was stopped.",
            )
        # Before the box is up, its folders may still be the host's.
        if self._is_up and self._running.files() > _MOST_FILES:
            raise _Stop(
                "memory", f"The notebook made more than {_MOST_FILES} files and was stopped."
            )
        if usage.cpu_s >= self._limits.cpu_s:
            raise _Stop("cpu-time", self._cpu_message())

    def _cpu_message(self) -> str:
        return (
            f"The notebook used more than {self._limits.cpu_s:g} s of processor time"
            " and was stopped."
        )

    # Each handler returns False when its pipe is done with.

    def _write_stdin(self) -> bool:
        stream = self._process.stdin
        assert stream is not None
        try:
            self._stdin = self._stdin[os.write(stream.fileno(), self._stdin[:_READ_BYTES]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:  # it does not want to know; its own loss
            self._stdin = self._stdin[:0]
        if len(self._stdin):
            return True
        self._selector.unregister(stream.fileno())
        stream.close()
        return True  # no longer there to be unregistered

    def _read_frames(self) -> bool:
        data = _read(self._running.frames_fd)
        if data:
            self._frames.feed(data)
        return bool(data)

    def _read_up(self) -> bool:
        stream = self._process.stdout
        if stream is not None and _read(stream.fileno()):
            self._is_up = True
        return False  # one byte is all there is to say

    def _read_errors(self) -> bool:
        assert self._process.stderr is not None
        data = _read(self._process.stderr.fileno())
        # The beginning says why a box did not start; of a notebook's own flood it is enough, too.
        self._errors += data[: _KEPT_ERRORS - len(self._errors)]
        return bool(data)

    def _close(self) -> None:
        self._selector.close()
        os.close(self._running.frames_fd)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _ending(self, stop: _Stop | None) -> Ending:
        seconds = time.monotonic() - self._start
        status = self._process.returncode
        if not self._is_up and (stop is None or stop.reason != "interrupted"):
            why = self._errors.decode(errors="replace")
            if stop is not None:
                why = f"it was not up after {self._limits.notebook_s:g} s. {why}"
            return could_not_start(why, seconds=seconds)
        reason: _Reason
        if stop is not None:
            reason, message = stop.reason, stop.message
        elif status == 0:
            return Ending(
                reason="finished", message=None, seconds=seconds, peak_memory_bytes=self._peak_bytes
            )
        elif _signal_of(status) == signal.SIGXCPU:
            reason, message = "cpu-time", self._cpu_message()
        elif status < 0 and self._running.is_out_of_reach:
            reason = "killed-outside"
            message = f"The sandbox was killed from outside {_how(status)}; grade again."
        else:
            reason = "crashed"
            message = f"The notebook's process ended by itself {_how(status)}."
        return Ending(
            reason=reason, message=message, seconds=seconds, peak_memory_bytes=self._peak_bytes
        )


def _read(fd: int) -> bytes:
    """Bytes that are there to be read; none at the end or when nothing is there."""
    try:
        return os.read(fd, _READ_BYTES)
    except (BlockingIOError, OSError):
        return b""


def _signal_of(status: int) -> int | None:
    """The signal behind an exit status: negative for a child of ours, 128 + n told by a shell."""
    if status < 0:
        return -status
    return status - 128 if status > 128 else None


def _how(status: int) -> str:
    number = _signal_of(status)
    if number is not None:
        with contextlib.suppress(ValueError):
            return f"by signal {number} ({signal.Signals(number).name})"
    return f"with status {status}"
