"""
Keeps a process ready, with libraries imported, of which boxes start as forks.

The process (`nbassay.inside.zygote`) has a box of its own, without network or anything of a class.
A learner's box is made by bwrap as always, with the same options and mounts; but below the zygote's
process namespace and, for an ordinary user, its user namespace, so that a fork of the zygote may
join it. What bwrap runs in it only waits until that fork has ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from nbassay.errors import SandboxError
from nbassay.inside.zygote import OK
from nbassay.sandbox import Box

_READY_S = 120.0  # for imports, on a machine that has much else to do
_JOIN_S = 30.0

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """What a fork is to run."""

    argv: Sequence[str]
    env: Mapping[str, str]
    workdir: str
    limits: Sequence[tuple[int, int]]
    """RLIMIT_* and its value."""
    uid: int | None
    """User to be; None to stay who the box's user namespace says."""


class Guest:
    """A process that joined a box: a child of the zygote's, seen from outside."""

    def __init__(self, process_fd: int, reply: socket.socket) -> None:
        self._process_fd = process_fd
        self._reply = reply

    @property
    def pid(self) -> int | None:
        """Its id; None when it is gone."""
        return _pid_of(self._process_fd)

    def wait(self, timeout_s: float) -> bool:
        """
        Wait until the process that told of it has ended, too: then nothing holds the box.

        Returns:
            Whether it did within *timeout_s*.
        """
        self._reply.settimeout(max(0.1, timeout_s))
        try:
            is_gone = not self._reply.recv(1)
        except TimeoutError:
            is_gone = False
        self._reply.close()
        os.close(self._process_fd)
        return is_gone


class Zygote:
    """
    A started zygote.

    Args:
        process: bwrap around it.
        control: Our end of the socket that requests go by; it ends when that closes.
        errors: File that its standard error goes to.

    Raises:
        SandboxError: It did not get ready, or cannot be used; the message says why.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], control: socket.socket, errors: int
    ) -> None:
        self._process = process
        self._control = control
        self._namespaces: dict[str, int] = {}
        self._process_fd: int | None = None
        try:
            self._control.settimeout(_READY_S)
            try:
                said, descriptors, _flags, _address = socket.recv_fds(control, 4096, 1)
            except TimeoutError as error:
                raise SandboxError(f"it was not ready after {_READY_S:g} s") from error
            if said != OK:
                os.lseek(errors, 0, os.SEEK_SET)
                raise SandboxError(
                    (said or os.read(errors, 4096)).decode(errors="replace") or "it gave no reason"
                )
            pid = _pid_of(descriptors[0])
            for name in ("pid", "user"):
                self._namespaces[name] = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY)
            if pid is None or _pid_of(descriptors[0]) != pid:
                raise SandboxError("it ended when it was ready")
            self._process_fd = descriptors[0]
        except BaseException:
            self.close()
            raise
        finally:
            os.close(errors)

    @property
    def is_there(self) -> bool:
        return self._process.poll() is None

    def namespaces(self, *, with_user: bool) -> dict[str, int]:
        """Name, as an option of nsenter → descriptor of the namespace that boxes lie below."""
        return {
            name: descriptor
            for name, descriptor in self._namespaces.items()
            if with_user or name != "user"
        }

    def fork(self, program: Program, descriptors: Sequence[int]) -> Guest:
        """
        Let a fork join a box and run *program*.

        Args:
            descriptors: A pidfd of the box's first process; the program's standard input, output,
                error and frames; the filter for its calls; where the status of its end goes, as
                a line.

        Raises:
            SandboxError: It could not join.
            OSError: The zygote is gone.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                request = json.dumps(dataclasses.asdict(program)).encode()
                socket.send_fds(self._control, [request], [*descriptors, theirs.fileno()])
            ours.settimeout(_JOIN_S)
            said, found, _flags, _address = socket.recv_fds(ours, 4096, 1)
            if said != OK:
                raise SandboxError(said.decode(errors="replace") or "the zygote is gone")
        except BaseException:
            ours.close()
            raise
        return Guest(found[0], ours)

    def close(self) -> None:
        """End it, and every box that still runs below it."""
        self._control.close()
        for descriptor in self._namespaces.values():
            os.close(descriptor)
        self._namespaces = {}
        if self._process_fd is not None:
            # With it ends the first process of its box, and every box below.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process_fd, signal.SIGKILL)  # type: ignore[attr-defined, unused-ignore]
            os.close(self._process_fd)
            self._process_fd = None
        self._process.wait()


class Zygotes:
    """
    Those that a provider keeps, one for each kind of box; asked from several threads at once.

    Args:
        start: Starts one for boxes like this; raises what `Zygote` does.
    """

    def __init__(self, start: Callable[[Box], Zygote]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._kept: dict[object, Zygote | None] = {}
        self.why_not: str | None = None
        """Why none could be used, the last time that this happened."""

    def get(self, box: Box) -> Zygote | None:
        """One for *box*; None when this machine's libraries cannot be forked."""
        kind = (box.ahead, tuple(sorted(box.env.items())), tuple(box.writable), box.workdir)
        with self._lock:
            zygote = self._kept.get(kind)
            if zygote is not None and not zygote.is_there:
                zygote.close()
                del self._kept[kind]
            if kind not in self._kept:
                try:
                    self._kept[kind] = self._start(box)
                except (OSError, SandboxError) as error:
                    self.tell(str(error))
                    self._kept[kind] = None
            return self._kept[kind]

    def tell(self, why_not: str) -> None:
        """Note why a box starts in a fresh process instead."""
        self.why_not = why_not
        _log.info("a box starts in a fresh process: %s", why_not)

    def close(self) -> None:
        """End them; the next box that asks starts another."""
        with self._lock:
            for zygote in self._kept.values():
                if zygote is not None:
                    zygote.close()
            self._kept = {}


def keep(
    start: Callable[..., subprocess.Popen[bytes]], *arguments: Any, **options: Any
) -> subprocess.Popen[bytes]:
    """
    Start a process in a thread that lives as long as it does.

    What dies with its parent dies with the thread that started it: one that only serves a class's
    notebooks for a while would take the process along.
    """
    started: Future[subprocess.Popen[bytes]] = Future()

    def stay() -> None:
        try:
            process = start(*arguments, **options)
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(process)
        process.wait()

    threading.Thread(target=stay, name="zygote", daemon=True).start()
    return started.result()


def _pid_of(process_fd: int) -> int | None:
    """The process's number here; None when it has ended and was waited for."""
    with contextlib.suppress(OSError), Path(f"/proc/self/fdinfo/{process_fd}").open() as lines:
        for line in lines:
            if line.startswith("Pid:"):
                pid = int(line.split()[1])
                return pid if pid > 0 else None
    return None
