"""
A process with libraries imported, of which boxes start as forks.

Started in a box of its own by `nbassay.sandbox.warm`, as ``python -m nbassay.inside.zygote``. It
runs nothing of a learner's and computes nothing: whoever forks after TensorFlow has computed
something gets a process that hangs. A request brings a descriptor of the box's first process; a
fork joins its namespaces, another becomes a process in them and gives up what it may, as bwrap's
own program does. What it shares with other forks is memory that none can change for the others.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import os
import resource
import runpy
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from nbassay.inside import ahead
from nbassay.inside.ahead import UnfitError, import_ahead, why_not_forkable

CONTROL = "NBASSAY_CONTROL"
"""Environment variable: descriptor of the socket that requests come by."""
MOST_REQUEST = 1 << 20
OK = b"ok"
FRAMES = 3

_NAMESPACES = 0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x2000_0000 | 0x4000_0000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWPID, NEWNET."""
_NEW_USER = 0x1000_0000
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_READ, _PR_CAPBSET_DROP = 4, 22, 23, 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x2008_0522
_MOST_CAPABILITIES = 64

Program = Callable[[], None]

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Import, tell that it is done or why not, and fork on request."""
    control = socket.socket(fileno=int(os.environ.pop(CONTROL)))
    told = json.loads(sys.argv[1])
    try:
        for name in told["modules"]:
            importlib.import_module(name)
        for name in told["programs"]:  # each fork runs them as its main module
            sys.modules.pop(name, None)
        hidden = import_ahead(told["libraries"], told["writable"])
        why_not = why_not_forkable()
        if why_not is not None:
            raise UnfitError(why_not)
    except UnfitError as error:
        control.send(str(error).encode()[:1000])
        return
    hidden.hide()
    gc.collect()
    gc.freeze()
    socket.send_fds(control, [OK], [os.pidfd_open(os.getpid())])
    program = _serve(control)
    if program is not None:  # in a fork: to be run, and ended, as a Python's main program
        program()


def _serve(control: socket.socket) -> Program | None:
    """Fork on request; returns in each fork, and at the end of our host's interest."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that join
    while True:
        request, descriptors, _flags, _address = socket.recv_fds(control, MOST_REQUEST, 16)
        if not request:
            return None
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # out of the way of those that the program is to have
            high = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 16) for each in descriptors]
            return _join(json.loads(request), high)
        for each in descriptors:
            os.close(each)


def _join(request: dict[str, Any], descriptors: Sequence[int]) -> Program:
    """
    Join the box and start a process in it; this one stays outside and tells how that ends.

    Returns in that process only.
    """
    box, *streams, rules, status, answer = descriptors
    reply = socket.socket(fileno=answer)
    try:
        user = 0 if request["uid"] is not None else _NEW_USER
        _check(_libc.setns(box, _NAMESPACES | user), "setns")
        child = os.fork()
    except OSError as error:
        reply.send(str(error).encode()[:1000])
        os._exit(1)
    if child == 0:
        _become(request, streams, rules)
        return _program(request["argv"])
    for each in (box, *streams, rules):
        os.close(each)
    socket.send_fds(reply, [OK], [os.pidfd_open(child)])
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # the box is gone already
        os.write(status, b"%d\n" % (code if code >= 0 else 128 - code))
    os._exit(0)


def _become(request: dict[str, Any], streams: Sequence[int], rules: int) -> None:
    """Be the box's program: its streams, limits, user and filter, and no way back."""
    os.setsid()
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    with open(rules, "rb", closefd=False) as file:
        file.seek(0)
        instructions = file.read()
    os.closerange(FRAMES + 1, 1 << 20)
    for which, value in request["limits"]:
        resource.setrlimit(which, (value, value))
    os.environ.clear()
    os.environ.update(request["env"], NBASSAY_FD=str(FRAMES))
    os.chdir(request["workdir"])
    _give_up(request["uid"])
    _filter_calls(instructions)
    tempfile.tempdir = None
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # or all forks would draw the same
    ahead.is_used = True
    os.write(1, b".")  # the box is up
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)


def _give_up(uid: int | None) -> None:
    """Every capability, and root."""
    for capability in range(_MOST_CAPABILITIES):
        if _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 1:
            _check(_libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "capabilities")
    _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "capabilities")
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    head, none = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), bytes(24)
    _check(_libc.capset(head, none), "capabilities")
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "privileges")
    # Like a process that was started: its files in /proc are its own.
    _check(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0), "privileges")


def _filter_calls(instructions: bytes) -> None:
    """Refuse the calls that the box's filter names, from now on."""
    kept = ctypes.create_string_buffer(instructions, len(instructions))
    program = struct.pack("@HP", len(instructions) // 8, ctypes.addressof(kept))
    _check(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0), "filter")


def _check(returned: int, what: str) -> None:
    if returned != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _program(argv: Sequence[str]) -> Program:
    """What a fresh ``python -I`` with these arguments would run (see `can_run`)."""
    at = next(at for at, argument in enumerate(argv) if argument in ("-c", "-m"))
    how, what = argv[at], argv[at + 1]

    def run() -> None:
        sys.argv = [how, *argv[at + 2 :]]
        sys.orig_argv = list(argv)
        if how == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
            return
        module = ModuleType("__main__")
        sys.modules["__main__"] = module
        exec(compile(what, "<string>", "exec"), vars(module))  # noqa: S102

    return run


def can_run(argv: Sequence[str]) -> bool:
    """Whether *argv* is ``python -I [-S] (-m MODULE | -c CODE) …`` with our own Python."""
    rest = [argument for argument in argv[1:4] if argument != "-S"]
    return argv[0] == sys.executable and rest[:1] == ["-I"] and rest[1:2] in (["-m"], ["-c"])


if __name__ == "__main__":
    main()
